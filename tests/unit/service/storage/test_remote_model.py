"""A server whose model lies outside: real processes, a real server that speaks S3, and HTTP that fails half-way."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from tests.support.flaky_server import TIMEOUT_SECONDS, FlakyServer, flaky_server
from tests.support.models import ENVIRONMENT, replace_model
from tests.unit.service.test_main import answer_of, free_port, started

pytestmark = pytest.mark.slow

BODY = {"features": [5.1, 3.5, 1.4, 0.2]}
SECRETS = ("geheim", "signature")


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def artifact_of(directory: Path) -> Path:
    return directory / str(json.loads((directory / "model.json").read_text())["artifact"]["file"])


@pytest.fixture
def source() -> Iterator[FlakyServer]:
    with flaky_server() as server:
        yield server


def offer(source: FlakyServer, directory: Path, folder: str = "/models/iris") -> None:
    """Serve a model and its contract."""
    for path in (directory / "model.json", artifact_of(directory)):
        source.files[f"{folder}/{path.name}"] = path.read_bytes()


@contextmanager
def outside(
    folder: Path, uri: str, sha256: str, **settings: str
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A server in `folder` that is told where its model is, and whoever asks it."""
    port = free_port()
    settings = {"DRYDOCK_CACHE_DIR": str(folder / "cache"), "DRYDOCK_DOWNLOAD_STALL_SECONDS": "20", **settings}
    with (
        started(folder, port, MODEL_URI=uri, MODEL_SHA256=sha256, **settings) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield process, client


def until(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def require_ready(process: subprocess.Popen[str], client: httpx.Client, label: str = "setosa") -> None:
    answer_of(client, "/healthz", process)
    until(lambda: client.get("/readyz").status_code == 200, process)
    predicted = client.post("/predict", json=BODY)
    assert (predicted.status_code, predicted.json()["predictions"][0]["label"]) == (200, label)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    return process.returncode, stdout, stderr


def test_a_server_listens_while_its_model_is_fetched_and_serves_it_then(
    served: Path, source: FlakyServer, tmp_path: Path
) -> None:
    offer(source, served)
    file = f"/models/iris/{artifact_of(served).name}"
    source.holds[file] = 10_000
    size = artifact_of(served).stat().st_size
    with outside(tmp_path, f"{source.url}/models/iris/", sha256_of(served / "model.json")) as (process, client):
        answer_of(client, "/healthz", process)
        until(lambda: "model_fetched_bytes 10000.0" in client.get("/metrics").text, process)
        assert f"model_size_bytes {float(size)}" in client.get("/metrics").text
        sentence = f"the model is being downloaded: 0.0 of {size / 1e6:.1f} MB"
        trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        answers = {
            path: client.request("POST" if path == "/predict" else "GET", path, headers=trace)
            for path in ("/healthz", "/readyz", "/predict", "/model", "/docs")
        }
        assert {path: (answer.status_code, answer.json()) for path, answer in answers.items()} == {
            "/healthz": (200, {"status": "alive"}),
            "/readyz": (503, {"status": "not ready", "error": sentence}),
            "/predict": (503, {"error": f"There is no model yet: {sentence}."}),
            "/model": (503, {"error": f"There is no model yet: {sentence}."}),
            "/docs": (503, {"error": f"There is no model yet: {sentence}."}),
        }
        assert {answer.headers["x-request-id"] for answer in answers.values()} == {"a" * 32}
        assert answers["/predict"].headers["retry-after"] == "5"
        source.go_on.set()
        require_ready(process, client)
        contract = json.loads((served / "model.json").read_text())
        del contract["golden"]
        assert client.get("/model").json()["contract"] == contract
        assert "model_load_seconds " in client.get("/metrics").text
        assert (
            f"| `MODEL_URI` | {source.url}/models/iris/ |" in client.get("/openapi.json").json()["info"]["description"]
        )
        process.send_signal(signal.SIGTERM)
        code, stdout, stderr = ended(process)
    assert (code, stderr) == (0, "")
    assert {json.loads(line)["level"] for line in stdout.splitlines()} == {"info"}


def test_a_kept_model_needs_no_network(compiled_artifacts: Path, tmp_path: Path) -> None:
    sha256 = sha256_of(compiled_artifacts / "model.json")
    with flaky_server() as source:
        offer(source, compiled_artifacts)
        uri = f"{source.url}/models/iris/model.json"
        with outside(tmp_path, uri, sha256) as (process, client):
            require_ready(process, client)
    with outside(tmp_path, uri, sha256) as (process, client):
        require_ready(process, client)


def test_a_model_is_gone_on_with_where_its_server_was_killed(
    breakable: Path, source: FlakyServer, tmp_path: Path
) -> None:
    # What follows a pickle is not read: a larger model, in which MB can be counted.
    replace_model(breakable, artifact_of(breakable).read_bytes() + bytes(3_000_000))
    offer(source, breakable)
    model = artifact_of(breakable)
    source.holds["/models/iris/model.pkl"] = 2_000_000
    told = (tmp_path, f"{source.url}/models/iris/model.json", sha256_of(breakable / "model.json"))
    part = tmp_path / "cache" / f"{sha256_of(model)}.part"
    with outside(*told) as (process, client):
        answer_of(client, "/healthz", process)
        until(lambda: part.exists() and part.stat().st_size == 2_000_000, process)
        assert client.get("/readyz").json()["error"] == "the model is being downloaded: 2.0 of 3.1 MB"
        process.kill()
        process.communicate()
    source.holds.clear()
    with outside(*told) as (process, client):
        require_ready(process, client)
    assert source.ranges_of("/models/iris/model.pkl") == ["", "bytes=2000000-"]
    assert not part.exists()


def test_sigterm_while_a_model_is_fetched_ends_it_at_once(
    compiled_artifacts: Path, source: FlakyServer, tmp_path: Path
) -> None:
    offer(source, compiled_artifacts)
    source.holds["/models/iris/model.forest"] = 100
    told = (tmp_path, f"{source.url}/models/iris/", sha256_of(compiled_artifacts / "model.json"))
    with outside(*told) as (process, client):
        answer_of(client, "/healthz", process)
        until(lambda: "model_fetched_bytes 100.0" in client.get("/metrics").text, process)
        client.close()
        process.send_signal(signal.SIGTERM)
        # Far from the 20 s that the source holds, and from those for which it would be waited for.
        stdout, stderr = process.communicate(timeout=5)
    assert (process.returncode, stderr) == (0, "")
    assert {json.loads(line)["level"] for line in stdout.splitlines()} == {"info"}


def test_sigterm_while_a_name_is_looked_up_ends_it_at_once(tmp_path: Path) -> None:
    """A lookup cannot be interrupted, and Python would wait for it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, socket, time\n"
        "def slow(*arguments, **more):\n"
        "    pathlib.Path('asked').touch()\n"
        "    time.sleep(60)\n"
        "socket.getaddrinfo = slow\n"
    )
    path = f"{tmp_path}:{ENVIRONMENT['PYTHONPATH']}"
    with outside(tmp_path, "http://models.example/model.json", "0" * 64, PYTHONPATH=path) as (process, client):
        answer_of(client, "/healthz", process)
        until((tmp_path / "asked").exists, process)
        client.close()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0


def canary(directory: Path, tripped: Path) -> None:
    """A pickle that leaves a file where it is loaded."""
    replace_model(directory, b"cos\nsystem\n(S'touch " + str(tripped).encode() + b"'\ntR.")


def test_a_wrong_model_ends_it_in_one_sentence_and_is_not_loaded(
    breakable: Path, source: FlakyServer, tmp_path: Path
) -> None:
    offer(source, breakable)
    told = sha256_of(breakable / "model.json")
    expected, size = sha256_of(artifact_of(breakable)), artifact_of(breakable).stat().st_size
    canary(breakable, tmp_path / "tripped")
    wrong = artifact_of(breakable).read_bytes().ljust(size, b"\0")
    source.files["/models/iris/model.pkl"] = wrong
    uri = f"http://ana:geheim@127.0.0.1:{source.server_port}/models/iris/model.json?signature=1"
    source.files = {f"{path}?signature=1": content for path, content in source.files.items()}
    with outside(tmp_path, uri, told) as (process, _):
        code, stdout, stderr = ended(process)
    assert (code, stderr) == (
        1,
        f"{source.url}/models/iris/model.pkl is not the expected file: expected sha256 {expected}, got "
        f"{hashlib.sha256(wrong).hexdigest()} ({size} bytes); nothing of it was loaded: put the right file there, "
        f"or correct MODEL_SHA256.\n",
    )
    assert "downloaded" in stdout
    assert [secret for secret in SECRETS if secret in stdout + stderr] == []
    # They were needed, and used.
    assert {headers["Authorization"] for headers in source.headers} == {"Basic YW5hOmdlaGVpbQ=="}
    assert not (tmp_path / "tripped").exists()
    assert [
        path.name for path in (tmp_path / "cache").iterdir() if expected in path.name and path.suffix != ".lock"
    ] == []


@pytest.mark.parametrize("where", ["beside the server", "in the cache"])
def test_a_canary_that_nothing_stops_goes_off(where: str, breakable: Path, source: FlakyServer, tmp_path: Path) -> None:
    """The test above would see it."""
    canary(breakable, tmp_path / "tripped")
    offer(source, breakable)
    uri = str(breakable / "model.json") if where == "beside the server" else f"{source.url}/models/iris/"
    with outside(tmp_path, uri, sha256_of(breakable / "model.json")) as (process, client):
        answer_of(client, "/healthz", process)
        until((tmp_path / "tripped").exists, process)


def test_a_contract_that_was_changed_is_refused(compiled_breakable: Path, source: FlakyServer, tmp_path: Path) -> None:
    """The model is right, and its labels are the wrong way round."""
    told = sha256_of(compiled_breakable / "model.json")
    text = (compiled_breakable / "model.json").read_text()
    changed = text.replace('"setosa"', '"x"').replace('"versicolor"', '"setosa"').replace('"x"', '"versicolor"')
    (compiled_breakable / "model.json").write_text(changed)
    offer(source, compiled_breakable)
    got = hashlib.sha256(changed.encode()).hexdigest()
    sentence = (
        f"/model.json is not the expected file: expected sha256 {told}, got {got} ({len(changed)} "
        "bytes); nothing of it was loaded: put the right file there, or correct MODEL_SHA256.\n"
    )
    for uri, shown in (
        (f"{source.url}/models/iris/", f"{source.url}/models/iris"),
        *[(str(compiled_breakable) + "/",) * 2],
    ):
        with outside(tmp_path, uri, told) as (process, _):
            code, _, stderr = ended(process)
        assert (code, stderr) == (1, shown.rstrip("/") + sentence)
    assert source.ranges_of("/models/iris/model.forest") == []


def test_the_models_hash_for_the_contract_is_refused_with_a_hint(
    compiled_artifacts: Path, source: FlakyServer, tmp_path: Path
) -> None:
    offer(source, compiled_artifacts)
    with outside(tmp_path, f"{source.url}/models/iris/", sha256_of(compiled_artifacts / "model.forest")) as (
        process,
        _,
    ):
        code, _, stderr = ended(process)
    assert code == 1
    assert stderr.endswith(
        "nothing of it was loaded: MODEL_SHA256 is the model's; set it to the hash of this contract.\n"
    )


def test_a_model_alone_has_the_contract_of_the_image(compiled_breakable: Path, source: FlakyServer) -> None:
    offer(source, compiled_breakable)
    model = artifact_of(compiled_breakable)
    sha256 = sha256_of(model)
    model.unlink()
    with outside(compiled_breakable.parent, f"{source.url}/models/iris/model.forest", sha256) as (process, client):
        require_ready(process, client)
    assert [path for path, _ in source.asked] == ["/models/iris/model.forest"]


def test_a_model_alone_that_is_not_the_images_is_refused_before_it_is_fetched(
    breakable: Path, compiled_artifacts: Path, source: FlakyServer
) -> None:
    offer(source, compiled_artifacts)
    sha256 = sha256_of(compiled_artifacts / "model.forest")
    with outside(breakable.parent, f"{source.url}/models/iris/model.forest", sha256) as (process, _):
        code, _, stderr = ended(process)
    assert (code, stderr) == (
        1,
        f"{source.url}/models/iris/model.forest is a model without a contract, and the image's contract is of "
        f"another one: sha256 {sha256_of(breakable / 'model.pkl')}, but MODEL_SHA256 is {sha256}. Let MODEL_URI "
        f"name the model.json "
        "beside the model, or their folder with a / at the end, and set MODEL_SHA256 to that file's hash.\n",
    )
    assert source.asked == []


@pytest.mark.parametrize("form", ["{}/model.json", "{}/", "file://{}/model.json"])
def test_a_model_of_this_machine_is_served_where_it_lies(form: str, served: Path, tmp_path: Path) -> None:
    with outside(tmp_path, form.format(served), sha256_of(served / "model.json")) as (process, client):
        require_ready(process, client)
    assert not (tmp_path / "cache").exists()


def test_a_model_of_this_machine_that_is_another_is_refused(breakable: Path, tmp_path: Path) -> None:
    told = sha256_of(breakable / "model.json")
    expected, size = sha256_of(breakable / "model.pkl"), (breakable / "model.pkl").stat().st_size
    (breakable / "model.pkl").write_bytes(b"another")
    with outside(tmp_path, str(breakable / "model.json"), told) as (process, _):
        code, _, stderr = ended(process)
    assert (code, stderr) == (
        1,
        f"model.pkl is not the recorded model: expected sha256 {expected} ({size} bytes), got "
        f"{hashlib.sha256(b'another').hexdigest()} (7 bytes); copy it again.\n",
    )


def test_an_image_with_its_model_inside_says_that_it_cannot_fetch(compiled_artifacts: Path, tmp_path: Path) -> None:
    # As in that image: there is no such package.
    (tmp_path / "fsspec.py").write_text("raise ModuleNotFoundError('no fsspec', name='fsspec')")
    uri, sha256 = "s3://models/iris/model.json", sha256_of(compiled_artifacts / "model.json")
    with outside(tmp_path, uri, sha256) as (process, _):
        code, _, stderr = ended(process)
    assert (code, stderr) == (
        1,
        "s3://models/iris/model.json cannot be downloaded by this image, whose model is embedded (fsspec is missing); "
        'build it with model = "remote" under [build] in pipeline.toml, or mount the model and name its path.\n',
    )


def test_one_prediction_fetches_its_model_too(compiled_artifacts: Path, source: FlakyServer, tmp_path: Path) -> None:
    offer(source, compiled_artifacts)
    told = {
        "MODEL_URI": f"{source.url}/models/iris/",
        "MODEL_SHA256": sha256_of(compiled_artifacts / "model.json"),
        "DRYDOCK_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "service.predict", "--features", "5.1", "3.5", "1.4", "0.2"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**ENVIRONMENT, **told}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "5.1, 3.5, 1.4, 0.2 → setosa (100%)\n"), done.stderr


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server that speaks S3, with a bucket `models`."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.put(f"http://{host}:{port}/models", trust_env=False).raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


def s3_settings(address: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "ana",
        "AWS_SECRET_ACCESS_KEY": "geheim",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def put(address: str, key: str, content: bytes) -> None:
    httpx.put(f"{address}/models/{key}", content=content, trust_env=False).raise_for_status()


def test_a_model_is_fetched_from_s3(served: Path, s3: str, tmp_path: Path) -> None:
    for path in (served / "model.json", artifact_of(served)):
        put(s3, f"iris/{artifact_of(served).suffix}/{path.name}", path.read_bytes())
    uri = f"s3://models/iris/{artifact_of(served).suffix}/model.json"
    with outside(tmp_path, uri, sha256_of(served / "model.json"), **s3_settings(s3)) as (process, client):
        require_ready(process, client)
        process.send_signal(signal.SIGTERM)
        code, stdout, stderr = ended(process)
    assert (code, stderr) == (0, "")
    assert [secret for secret in SECRETS if secret in stdout] == []


def test_of_a_model_in_s3_only_what_is_missing_is_fetched(compiled_artifacts: Path, s3: str, tmp_path: Path) -> None:
    content = (compiled_artifacts / "model.forest").read_bytes()
    put(s3, "half/model.json", (compiled_artifacts / "model.json").read_bytes())
    # Whoever fetched the first half too would have wrong bytes.
    put(s3, "half/model.forest", bytes(10_000) + content[10_000:])
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"{sha256_of(compiled_artifacts / 'model.forest')}.part").write_bytes(content[:10_000])
    sha256 = sha256_of(compiled_artifacts / "model.json")
    with outside(tmp_path, "s3://models/half/", sha256, **s3_settings(s3)) as (process, client):
        require_ready(process, client)


@pytest.mark.parametrize(
    ("key", "content", "sentence"),
    [
        ("nothing", None, "does not exist; check MODEL_URI, and that the file is where it says.\n"),
        ("wrong", b"{}", "(2 bytes); nothing of it was loaded: put the right file there, or correct MODEL_SHA256.\n"),
    ],
)
def test_what_is_wrong_in_s3_ends_it(key: str, content: bytes | None, sentence: str, s3: str, tmp_path: Path) -> None:
    if content:
        put(s3, f"{key}/model.json", content)
    with outside(tmp_path, f"s3://models/{key}/model.json", "0" * 64, **s3_settings(s3)) as (process, _):
        code, _, stderr = ended(process)
    assert code == 1
    assert stderr.startswith((f"s3://models/{key}/model.json is not ", f"s3://models/{key}/model.json does not "))
    assert stderr.endswith(sentence)


def test_without_credentials_nothing_is_tried_twice(s3: str, tmp_path: Path) -> None:
    nobody = {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with outside(tmp_path, "s3://models/iris/model.json", "0" * 64, **nobody) as (process, _):
        code, stdout, stderr = ended(process)
    assert (code, stderr) == (
        1,
        "s3://models/iris/model.json may not be read (NoCredentialsError); usually the credentials are missing or "
        "expired, or the file does not exist: check the variables that give them.\n",
    )
    assert "trying again" not in stdout


def mlflow(source: FlakyServer, directory: Path) -> None:
    """As MLflow 3.17.2 answers: version 1 was registered by the run that made it, version 2 is a model of its own."""
    api = "/api/2.0/mlflow"
    answers = {
        f"{api}/model-versions/get-download-uri?name=iris&version=1": {"artifact_uri": "runs:/8b6e/model"},
        f"{api}/model-versions/get-download-uri?name=iris&version=2": {
            "artifact_uri": "mlflow-artifacts:/1/models/m-39e8/artifacts"
        },
        f"{api}/model-versions/get-download-uri?name=iris&version=3": {"artifact_uri": "file:///mlruns/1"},
        f"{api}/registered-models/alias?name=iris&alias=champion": {"model_version": {"name": "iris", "version": "1"}},
        f"{api}/runs/get?run_id=8b6e": {"run": {"info": {"artifact_uri": "mlflow-artifacts:/1/8b6e/artifacts"}}},
    }
    source.files.update({path: json.dumps(answer).encode() for path, answer in answers.items()})
    offer(source, directory, "/api/2.0/mlflow-artifacts/artifacts/1/8b6e/artifacts/model")
    offer(source, directory, "/api/2.0/mlflow-artifacts/artifacts/1/models/m-39e8/artifacts")


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow:models:/iris/1",
        "mlflow:models:/iris/2",
        "mlflow:models:/iris@champion",
        "mlflow:runs:/8b6e/model",
        "mlflow:runs:/8b6e/model/model.json",
    ],
)
def test_a_model_is_fetched_from_where_mlflow_has_it(
    uri: str, compiled_artifacts: Path, source: FlakyServer, tmp_path: Path
) -> None:
    mlflow(source, compiled_artifacts)
    login = {
        "MLFLOW_TRACKING_URI": source.url,
        "MLFLOW_TRACKING_USERNAME": "ana",
        "MLFLOW_TRACKING_PASSWORD": "geheim",
    }
    with outside(tmp_path, uri, sha256_of(compiled_artifacts / "model.json"), **login) as (process, client):
        require_ready(process, client)
        process.send_signal(signal.SIGTERM)
        code, stdout, stderr = ended(process)
    assert (code, stderr) == (0, "")
    assert {headers.get("Authorization") for headers in source.headers} == {"Basic YW5hOmdlaGVpbQ=="}
    assert "geheim" not in stdout


@pytest.mark.parametrize(
    ("uri", "server", "sentence"),
    [
        (
            "mlflow:models:/iris/1",
            "",
            "MODEL_URI begins with mlflow:, so set MLFLOW_TRACKING_URI to the server, http(s)://….",
        ),
        (
            "mlflow:iris",
            "{}",
            "MODEL_URI cannot be mlflow:iris/model.json. It must be mlflow:models:/NAME/VERSION, "
            "mlflow:models:/NAME@ALIAS or mlflow:runs:/RUN/FOLDER.",
        ),
        (
            "mlflow:models:/iris/4",
            "{}",
            "mlflow:models:/iris/4/model.json does not exist; check MODEL_URI, and that the file is where it says.",
        ),
        (
            "mlflow:models:/iris/3",
            "{}",
            "MLflow has the model at file:///mlruns/1/model.json, and this image cannot read file: let its server "
            "pass artifacts on (--serve-artifacts).",
        ),
    ],
)
def test_what_mlflow_does_not_have_is_said(
    uri: str, server: str, sentence: str, compiled_artifacts: Path, source: FlakyServer, tmp_path: Path
) -> None:
    mlflow(source, compiled_artifacts)
    with outside(tmp_path, uri, "0" * 64, MLFLOW_TRACKING_URI=server.format(source.url)) as (process, _):
        code, _, stderr = ended(process)
    assert (code, stderr) == (1, f"{sentence}\n")
