"""An image without its model: judged with the model mounted, and fetching it where it runs."""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.integration.engine.conftest import copied
from tests.integration.engine.project import Finished
from tests.integration.engine.test_good_run import asked, free_port, podman
from tests.support.flaky_server import flaky_server


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    project = copied(tmp_path_factory.mktemp("remote") / "remote")
    project.edit("pipeline.toml", 'model = "embedded" ', 'model = "remote"')
    return project.run("--no-push")


def test_the_image_is_judged_with_its_model_and_does_not_have_it(outside: Finished, tmp_path: Path) -> None:
    assert outside.exit_code == 0, outside.output
    assert outside.row("answers /predict as trained")["measured"] == "12 of 12 rows"
    subprocess.run(["tar", "-x", "-C", tmp_path, "-f", outside.report_dir / "image.tar"], check=True)
    names = set[str]()
    for layer in outside.report["image"]["layers"]:
        blob = tmp_path / "blobs" / layer["digest"].replace(":", "/")
        names |= set(
            subprocess.run(["tar", "-tf", blob], capture_output=True, text=True, check=True).stdout.split("\n")
        )
    assert {name for name in names if name.startswith("app/artifacts/")} == {
        "app/artifacts/",
        "app/artifacts/model.json",
    }
    assert "opt/venv/lib/python3.13/site-packages/s3fs/core.py" in names
    assert sum(layer["size_bytes"] for layer in outside.report["image"]["layers"]) < 150_000_000


def test_the_image_fetches_its_model_where_it_runs(outside: Finished) -> None:
    model = (outside.report_dir / "model" / "model.forest").read_bytes()
    image = podman("load", "--quiet", "--input", str(outside.report_dir / "image.tar")).split()[-1]
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with flaky_server() as source:
        source.files["/model.forest"] = model
        source.cuts["/model.forest"] = [10_000]
        told = {
            "MODEL_URI": f"{source.url}/model.forest",
            "MODEL_SHA256": hashlib.sha256(model).hexdigest(),
            "DRYDOCK_LISTEN_PORT": str(port),
        }
        # As compose runs it; host networking and its own limits, as in test_good_run.
        container = podman(
            *("run", "--detach", "--network", "host", "--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp"),  # noqa: S108
            *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
            *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"),
            *(word for name, value in told.items() for word in ("--env", f"{name}={value}")),
            image,
        )
        try:
            deadline = time.monotonic() + 60
            while not answers(f"{address}/readyz"):
                assert time.monotonic() < deadline, podman("logs", container)
                time.sleep(0.1)
            predicted = asked(f"{address}/predict", {"features": [5.1, 3.5, 1.4, 0.2]})
            assert predicted["predictions"][0]["label"] == "setosa"
            assert len(source.asked) == 2
            contract = httpx.get(f"{address}/model").json()["contract"]
            assert contract["artifact"]["sha256"] == told["MODEL_SHA256"]
        finally:
            podman("stop", "--time", "10", container)
            podman("rm", container)
            podman("rmi", image)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
