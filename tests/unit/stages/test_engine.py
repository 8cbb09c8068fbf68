"""What `stages` does without an engine; tests/engine has the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import dagger
import pytest
from dagger._exceptions import QueryErrorValue
from gql import GraphQLRequest

from drydock import stages
from drydock.checks import Approval
from drydock.errors import BuildError, EngineError, UsageError
from drydock.policy import Policy
from drydock.report import Model, Updates
from drydock.stages import host, oci_archive, signer, smoke
from drydock.stages.session import Session
from drydock.tools import predict_client
from tests.support import examples
from tests.support.http_server import Response, serve
from tests.unit.tools.test_model_contract import put


class Recorded:
    """An engine that does whatever it is asked, and notes each call; a stage makes these files and `links`."""

    def __init__(self, *artifacts: str, links: tuple[str, ...] = ()) -> None:
        self.artifacts = artifacts
        self.links = links
        self.calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = []

    def __getattr__(self, name: str) -> Callable[..., Recorded]:
        def called(*arguments: object, **named: object) -> Recorded:
            self.calls.append((name, arguments, named))
            return self

        return called

    def of(self, name: str) -> list[tuple[object, ...]]:
        return [arguments for called, arguments, _ in self.calls if called == name]

    def builds(self) -> list[tuple[object, dict[str, str]]]:
        """The target of each build, and what it was told."""
        return [
            (named["target"], {each.name: each.value for each in named["build_args"]})  # type: ignore[attr-defined]
            for called, _, named in self.calls
            if called == "docker_build"
        ]

    async def entries(self) -> list[str]:
        return [*self.artifacts, *self.links]

    async def exists(self, name: str, *, expected_type: dagger.ExistsType, do_not_follow_symlinks: bool) -> bool:
        assert (expected_type, do_not_follow_symlinks) == (dagger.ExistsType.REGULAR_TYPE, True)
        return name in self.artifacts

    async def export(self, path: str) -> None:
        names = {str(name) for name, *_ in self.of("with_file")}
        for name in names & {*self.artifacts, *self.links}:
            (Path(path) / name).write_text("new")

    async def sync(self) -> Recorded:
        self.calls.append(("sync", (), {}))
        return self

    async def contents(self) -> str:
        return "the words"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a model: its contract and its files, and one more of the user's."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    for name in ("model.json", "model.pkl", "model.forest", "training.npy", "reference.jsonl", "notes.txt"):
        (folder / name).write_text("old")
    return folder


def staged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Recorded, policy: Policy | None = None
) -> stages.EngineStages:
    monkeypatch.setattr("drydock.stages.engine.dag", engine)
    monkeypatch.setattr("drydock.stages.host.dag", engine)
    return stages.EngineStages(Session(print), examples.plan(tmp_path / "dist", policy=policy))


MODEL = Model(examples.CONTRACT, None, Path())
OF_A_BUILD = {
    "BUILDER": examples.OFFICIAL.builder,
    "BASE_IMAGE": examples.OFFICIAL.base,
    "MODEL_RUNTIME": "pandas",
    "MODEL": "embedded",
    "TRAIN": "make model",
}


def test_a_model_is_described_from_its_file_and_its_rows_and_put_where_the_policy_says(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Recorded("model.json", "model.pkl")
    policy = examples.policy(build={"runtime": "pandas"}, model={"path": "models/mine", "train": "make model"})
    staging = staged(tmp_path, monkeypatch, engine, policy)
    given = (tmp_path / "fitted.pkl", tmp_path / "rows.csv")
    assert anyio.run(staging.create_contract, *given, ["--name=mine", "--target=a price"]) == "the words"
    assert engine.of("with_file")[:2] == [("input/model.pkl", engine), ("input/data/rows.csv", engine)]
    # The order in which they are asked for is no matter.
    assert sorted(engine.of("file")) == sorted(
        [("fitted.pkl",), ("rows.csv",), ("/summary.txt",), ("model.json",), ("model.pkl",)]
    )
    assert engine.of("with_new_file") == [
        ("input/arguments.txt", "/input/data/rows.csv\n--name=mine\n--target=a price")
    ]
    assert engine.builds() == [("contract", OF_A_BUILD)]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "model.json": "new",
        "model.pkl": "new",
        "notes.txt": "old",
    }


def test_what_was_trained_leaves_no_file_of_another_model_beside_it_and_the_users_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Recorded("model.json", "model.forest")
    policy = examples.policy(build={"runtime": "pandas"}, model={"train": "make model"})
    anyio.run(staged(tmp_path, monkeypatch, engine, policy).train_to, folder)
    assert engine.builds() == [("train", OF_A_BUILD)]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "model.json": "new",
        "model.forest": "new",
        "notes.txt": "old",
    }


def test_a_model_that_was_given_is_taken_from_where_the_policy_says(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, contract=examples.REGRESSION)
    engine = Recorded()
    policy = examples.policy(build={"runtime": "sklearn"}, model={"path": "models/mine", "train": ""})
    model = anyio.run(staged(tmp_path, monkeypatch, engine, policy).train)
    assert model.contract.task == "regression"
    # The engine has it now, and the build takes it from there.
    assert [name for name, *_ in engine.calls] == ["host", "directory", "sync"]
    assert model.handle is engine


def test_a_given_model_that_is_changed_while_it_is_read_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, contract=examples.REGRESSION)

    async def changed(engine: Recorded) -> Recorded:
        put(folder, contract=examples.REGRESSION.model_copy(update={"name": "another"}))
        return engine

    monkeypatch.setattr(Recorded, "sync", changed)
    policy = examples.policy(build={"runtime": "sklearn"}, model={"path": "models/mine", "train": ""})
    with pytest.raises(BuildError) as refused:
        anyio.run(staged(tmp_path, monkeypatch, Recorded(), policy).train)
    assert refused.value.message == f"the model in {folder} was changed while it was read"


def test_what_is_built_is_the_model_that_was_trained_whatever_lies_in_the_report_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop(_: Recorded) -> str:
        raise BuildError("stop here", next_step="")

    engine = Recorded("model.json")
    staging = staged(tmp_path, monkeypatch, engine)
    monkeypatch.setattr(Recorded, "digest", stop, raising=False)
    model = Model(examples.CONTRACT, "what train returned", Path())
    with pytest.raises(BuildError, match="stop here"):
        anyio.run(staging.build, model)
    assert engine.of("with_directory") == [("artifacts", "what train returned")]


def test_the_held_out_rows_come_out_of_the_training_and_go_into_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def export(_: Recorded, path: str) -> None:
        Path(path).mkdir(parents=True)
        put(Path(path), contract=examples.CONTRACT)

    engine = Recorded("model.json", "model.pkl", "training.npy", "reference.jsonl")
    monkeypatch.setattr(Recorded, "export", export)
    policy = examples.policy(build={"runtime": "sklearn"}, model={"train": "make model"})
    model = anyio.run(staged(tmp_path, monkeypatch, engine, policy).train)
    assert model.directory == tmp_path / "dist" / "model"
    assert [name for name, *_ in engine.of("with_file")] == [
        # What is exported, and then what the image is built from.
        *("model.json", "model.pkl", "training.npy", "reference.jsonl"),
        *("model.json", "model.pkl"),
    ]


def test_a_link_that_training_made_is_not_put_on_this_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Recorded("model.json", "model.pkl", links=("notes.txt", "plots/"))
    policy = examples.policy(model={"train": "make model"})
    anyio.run(staged(tmp_path, monkeypatch, engine, policy).train_to, folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "model.json": "new",
        "model.pkl": "new",
        "notes.txt": "old",
    }


@pytest.mark.parametrize("name", ["model.json", "model.pkl", "training.npy", "model.pkl/"])
def test_a_model_that_training_left_as_a_link_is_refused(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Recorded("model.forest", links=(name,))
    policy = examples.policy(model={"train": "make model"})
    with pytest.raises(BuildError) as refused:
        anyio.run(staged(tmp_path, monkeypatch, engine, policy).train_to, folder)
    assert refused.value.message == f"what was trained has {name} as a link or a folder"
    assert {path.read_text() for path in folder.iterdir()} == {"old"}


def test_training_that_writes_a_hundred_files_beside_the_model_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Recorded(*(f"{number}.ckpt" for number in range(101)))
    policy = examples.policy(model={"train": "make model"})
    with pytest.raises(BuildError, match="training wrote 101 files beside the model, and 100 are the most"):
        anyio.run(staged(tmp_path, monkeypatch, engine, policy).train_to, folder)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("m [1].pkl", "m ?1?.pkl".replace(" ", "?")),
        ("!model.pkl", "?model.pkl"),
        ("größe.csv", "gr??e.csv"),
        ("a*", "a?"),
    ],
)
def test_a_file_is_taken_by_its_name_though_the_engine_takes_patterns(
    name: str, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Recorded("model.json", "model.pkl")
    staging = staged(tmp_path, monkeypatch, engine)
    staging._model_dir.mkdir(parents=True)
    anyio.run(staging.create_contract, tmp_path / name, tmp_path / "rows.csv", [])
    assert ("directory", (str(tmp_path),), {"include": [pattern], "exclude": ["*/*"]}) in engine.calls
    assert (name,) in engine.of("file")


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        *((f"a {each} b", each) for each in "*?[]^|"),
        ("a\\b", "\\"),
        ("trailing ", "a blank at its end"),
        ("latin\udcf6", "bytes that are no UTF-8"),
    ],
)
def test_a_folder_that_the_engine_cannot_read_is_said(
    name: str, unknown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    engine = Recorded()
    monkeypatch.setattr("drydock.stages.host.dag", engine)
    for named in (folder, tmp_path / "link"):
        for give in (lambda path: host.load_directory(path, ["*"]), lambda path: host.load_file(path / "model.pkl")):
            with pytest.raises(UsageError) as refused:
                give(named)
            assert refused.value.message == f"the engine cannot read the folder {folder}: its name has {unknown}"
            assert refused.value.next_step == "rename the folder, or move what is in it to another one"
    assert engine.calls == []


@pytest.mark.parametrize("name", ["a b", "größe", "{a}(b)+$", "!a", "a,b'c#d%e"])
def test_a_folder_whose_name_is_no_pattern_to_the_engine_is_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Recorded()
    monkeypatch.setattr("drydock.stages.host.dag", engine)
    host.load_directory(tmp_path / name, ["*"])
    assert ("directory", (str(tmp_path / name),), {"include": ["*"], "exclude": []}) in engine.calls


def test_what_is_signed_is_the_sbom_of_the_scan_that_was_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "sbom.cdx.json").write_text("of another run")
    attached: list[bytes] = []

    class Registry:
        async def attach(self, _: str, __: str, content: bytes, ___: object) -> str:
            attached.append(content)
            return ""

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[Registry]:
        yield Registry()

    monkeypatch.setattr("drydock.oci.registry.open_repository", opened)
    scan = examples.scan().model_copy(update={"sbom": "of this run"})
    staging = staged(tmp_path, monkeypatch, Recorded())
    approval = Approval(examples.archive(tmp_path), examples.MANIFEST_DIGEST)
    anyio.run(staging.attest, approval, examples.report(scan=scan))
    assert attached == [b"of this run"]
    assert "of this run" not in examples.report(scan=scan).model_dump_json()


def test_only_a_model_of_sklearn_is_compiled(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder)
    converted = tmp_path / "dist" / "model"
    converted.mkdir(parents=True)
    put(converted, contract=examples.LEAN)
    (converted / "model.forest").write_bytes((converted / "model.pkl").read_bytes())
    engine = Recorded("model.json", "model.forest")

    async def nothing(_: Recorded, path: str) -> None:
        """What the stage would have made is there already."""

    monkeypatch.setattr(Recorded, "export", nothing)
    policy = examples.policy(model={"path": "models/mine", "train": ""})
    assert anyio.run(staged(tmp_path, monkeypatch, engine, policy).train).contract.runtime == "compiled"
    assert [target for target, _ in engine.builds()] == ["convert"]
    assert engine.of("with_directory") == [("artifacts", engine)]


@pytest.mark.parametrize(
    ("given", "runtime"),
    [
        ("pandas", "compiled"),
        ("pandas", "sklearn"),
        ("sklearn", "pandas"),
        ("compiled", "sklearn"),
        ("compiled", "pandas"),
    ],
)
def test_a_model_for_another_runtime_is_refused_and_not_converted(
    given: str, runtime: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, contract=examples.CONTRACT.model_copy(update={"runtime": given}))
    engine = Recorded()
    policy = examples.policy(build={"runtime": runtime}, model={"path": "models/mine", "train": ""})
    with pytest.raises(BuildError) as refused:
        anyio.run(staged(tmp_path, monkeypatch, engine, policy).train)
    assert refused.value.message == (
        f"{folder}/model.json is of a model for the runtime {given}, and build.runtime is {runtime}"
    )
    assert refused.value.next_step == f'say runtime = "{given}" under [build], or train the model again'
    assert engine.calls == []


def test_a_model_of_which_no_contract_can_be_made_is_no_broken_dockerfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: Recorded) -> str:
        request = GraphQLRequest("{ container { id } }")
        raise dagger.QueryError([QueryErrorValue("exit code: 1\nthe data say maybe")], request)

    monkeypatch.setattr(Recorded, "contents", refused)
    staging = staged(tmp_path, monkeypatch, Recorded())
    with pytest.raises(BuildError) as broken:
        anyio.run(staging.create_contract, tmp_path / "fitted.pkl", tmp_path / "rows.csv", [])
    assert broken.value.message == "the contract of fitted.pkl did not build: exit code: 1"
    assert (
        broken.value.likely_cause
        == "the image lacks a package of the model, or the columns are not the model's features"
    )
    assert broken.value.next_step == "the log ends with what to change; then run again"


def secrets_of_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changed: object) -> dict[object, object]:
    """What a build may mount, by its id."""
    (tmp_path / "Dockerfile").write_text(
        "FROM a\nRUN --mount=type=secret,id=pip --mount=type=secret,id=ca make\n"
        "RUN --mount=type=secret,id=token,required make\n"
    )
    engine = Recorded("model.json")
    staging = staged(tmp_path, monkeypatch, engine)
    anyio.run(replace(staging, plan=replace(staging.plan, **changed)).train_to, tmp_path)  # type: ignore[arg-type]
    return dict(engine.of("set_secret"))  # type: ignore[arg-type]


def test_a_build_gets_the_secrets_of_the_policy_and_the_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = secrets_of_a_build(tmp_path, monkeypatch, certificates="PEM", build_secrets={"pip": "a", "token": "b"})
    assert given == {"pip": "a", "ca": "PEM", "token": "b"}


def test_an_optional_secret_that_nobody_gave_is_empty_since_the_engine_would_cache_no_step_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secrets_of_a_build(tmp_path, monkeypatch) == {"pip": "", "ca": ""}


def test_a_plan_shows_no_secret(tmp_path: Path) -> None:
    gathered = replace(examples.plan(tmp_path), build_secrets={"pip": "canary"}, certificates="canary")
    assert "canary" not in repr(gathered)


class Unasked:
    """An image's container, in which nothing can be asked: each question ends in `error`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def with_user(self, name: str) -> Unasked:
        return self

    def with_env_variable(self, name: str, value: str) -> Unasked:
        return self

    def with_exec(self, arguments: list[str], **options: object) -> Unasked:
        return self

    async def exit_code(self) -> int:
        raise self.error

    async def stdout(self) -> str:
        raise self.error


def asked_for_updates(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Updates:
    monkeypatch.setattr(oci_archive, "load_container", lambda *_: Unasked(error))
    plan = examples.plan(tmp_path)
    return anyio.run(stages.EngineStages(Session(print), plan).check_updates, examples.archive(tmp_path))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            dagger.QueryError([QueryErrorValue("exec: sh: not found\nmore")], GraphQLRequest("{ container { id } }")),
            "the image has no shell to ask in: exec: sh: not found",
        ),
        (TimeoutError(), "apt-get took longer than scan.timeout_seconds"),
    ],
)
def test_an_image_that_cannot_be_asked_for_its_updates_is_no_broken_engine(
    error: BaseException, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked_for_updates(error, tmp_path, monkeypatch) == Updates(reason=reason)


def test_an_engine_that_goes_away_while_an_image_is_asked_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = dagger.TransportError("gone")
    with pytest.raises(EngineError, match="the engine did not answer: gone"):
        asked_for_updates(gone, tmp_path, monkeypatch)
    with pytest.raises(EngineError, match="the engine did not answer: gone"):
        anyio.run(stages.EngineStages(Session(print), examples.plan(tmp_path)).smoke, examples.archive(tmp_path), MODEL)


def test_what_needs_cosign_says_how_to_get_it() -> None:
    with pytest.raises(UsageError, match=r"^cosign is not on this machine yet, "):
        signer._create_cosign("")


class Exposed:
    """A port that an image exposes."""

    def __init__(self, number: int, protocol: dagger.NetworkProtocol = dagger.NetworkProtocol.TCP) -> None:
        self._number, self._protocol = number, protocol

    async def port(self) -> int:
        return self._number

    async def protocol(self) -> dagger.NetworkProtocol:
        return self._protocol


class Tunnel:
    """A tunnel to whatever listens at `url`, and the container and the service that it leads to."""

    def __init__(self, url: str, *exposed: Exposed) -> None:
        self.url = url
        self.exposed = list(exposed)
        self.calls: list[tuple[str, object]] = []

    def __getattr__(self, name: str) -> Callable[..., Tunnel]:
        def called(*arguments: object, **_: object) -> Tunnel:
            self.calls.append((name, arguments[0] if arguments else None))
            return self

        return called

    async def exposed_ports(self) -> list[Exposed]:
        return self.exposed

    async def start(self) -> Tunnel:
        return self

    async def endpoint(self, scheme: str) -> str:
        return self.url

    async def stop(self, kill: bool) -> None: ...

    async def stdout(self) -> str:
        return f"{predict_client.SOCKETS}\n"

    async def stderr(self) -> str:
        return "no model here"

    async def exit_code(self) -> int:
        return 0

    async def entrypoint(self) -> list[str]:
        return ["serve"]

    async def default_args(self) -> list[str]:
        return []


def test_an_image_that_never_gets_ready_says_why_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = examples.plan(tmp_path, policy=examples.policy(limits={"start_seconds": 1}))
    with serve(lambda _: Response(503, b"the first golden row is wrong")) as host:
        tunnel = Tunnel(f"http://{host}")
        monkeypatch.setattr(oci_archive, "load_container", lambda *_: tunnel)
        monkeypatch.setattr(smoke, "dag", tunnel)
        smoked = anyio.run(stages.EngineStages(Session(print), plan).smoke, examples.archive(tmp_path), MODEL)
    assert (smoked.ready_seconds, smoked.uid, smoked.answers, smoked.log) == (None, None, (), "no model here")
    assert smoked.not_ready == (
        "/readyz answered 503: the first golden row is wrong; it was running after 5 s, and did not listen on port 8000"
    )


UDP = dagger.NetworkProtocol.UDP


@pytest.mark.parametrize(
    ("exposed", "port"),
    [
        ([], 8000),
        ([Exposed(8000)], 8000),
        ([Exposed(8080)], 8080),
        ([Exposed(9090), Exposed(8000)], 8000),
        ([Exposed(53, UDP)], 8000),
        ([Exposed(53, UDP), Exposed(8080)], 8080),
    ],
    ids=["none", "8000", "8080", "8000 and another", "UDP", "UDP and TCP"],
)
def test_an_image_is_asked_on_the_port_that_it_exposes(
    exposed: list[Exposed], port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(lambda _: Response(200, b"{}")) as host:
        tunnel = Tunnel(f"http://{host}", *exposed)
        monkeypatch.setattr(oci_archive, "load_container", lambda *_: tunnel)
        monkeypatch.setattr(smoke, "dag", tunnel)
        plan = examples.plan(tmp_path)
        smoked = anyio.run(stages.EngineStages(Session(print), plan).smoke, examples.archive(tmp_path), MODEL)
    assert smoked.ready_seconds is not None
    assert ("with_exposed_port", port) in tunnel.calls


def test_an_image_with_ports_of_which_any_may_answer_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnel = Tunnel("", Exposed(9090), Exposed(8080))
    monkeypatch.setattr(oci_archive, "load_container", lambda *_: tunnel)
    staging = stages.EngineStages(Session(print), examples.plan(tmp_path))
    smoked = anyio.run(staging.smoke, examples.archive(tmp_path), MODEL)
    assert (smoked.ready_seconds, smoked.not_ready) == (
        None,
        "it exposes the ports 8080, 9090, and any may answer: EXPOSE 8000, or one",
    )
    assert "as_service" not in [name for name, _ in tunnel.calls]


@pytest.mark.parametrize(
    ("repository", "inside", "host", "port"),
    [
        ("127.0.0.1:5000/owner/name", "registry:5000/owner/name", "127.0.0.1", 5000),
        ("localhost/name", "registry:80/name", "localhost", 80),
        ("ghcr.io/owner/name", "ghcr.io/owner/name", "ghcr.io", None),
        ("registry.example:5000/name", "registry.example:5000/name", "registry.example:5000", None),
    ],
)
def test_only_a_registry_of_this_machine_has_another_name_inside(
    repository: str, inside: str, host: str, port: int | None
) -> None:
    place = signer._RegistryEndpoint.from_repository(repository)
    assert (place.repository, place.host, place.port, place.is_local) == (inside, host, port, port is not None)
