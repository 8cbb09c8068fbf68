from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from drydock.bootstrap import client, official_images, services
from drydock.bootstrap.cache import Cache, hash_inputs
from drydock.errors import EngineError
from tests.unit.bootstrap.conftest import FakePrograms, free_port, web_server

ENGINE = "registry.dagger.io/engine:v0.19.10"
REFUSES = "exit 1"
HAS_IT = "exit 0"
CAN_GET_IT = '[ "$1 $2" != "image inspect" ]'
CANNOT_GET_IT = '[ "$1" = info ]'


@pytest.mark.parametrize(
    ("docker", "podman", "command", "calls"),
    [
        (HAS_IT, HAS_IT, "docker", ["docker info", f"docker image inspect {ENGINE}"]),
        (
            CAN_GET_IT,
            HAS_IT,
            "docker",
            ["docker info", f"docker image inspect {ENGINE}", f"docker pull --quiet {ENGINE}"],
        ),
        (
            CANNOT_GET_IT,
            HAS_IT,
            "podman",
            [
                *("docker info", f"docker image inspect {ENGINE}", f"docker pull --quiet {ENGINE}"),
                *("podman info", f"podman image inspect {ENGINE}"),
            ],
        ),
        (REFUSES, HAS_IT, "podman", ["docker info", "podman info", f"podman image inspect {ENGINE}"]),
        (None, HAS_IT, "podman", ["podman info", f"podman image inspect {ENGINE}"]),
        (REFUSES, REFUSES, None, ["docker info", "podman info"]),
        (None, None, None, []),
    ],
    ids=["has it", "can get it", "cannot get it", "does not run", "is not there", "neither runs", "neither is there"],
)
@pytest.mark.usefixtures("nothing_installed")
def test_the_first_that_runs_and_has_the_engine_or_can_get_it(
    cache: Cache, programs: FakePrograms, docker: str | None, podman: str | None, command: str | None, calls: list[str]
) -> None:
    for name, script in (("docker", docker), ("podman", podman)):
        if script:
            programs.add(name, script)
    assert official_images.find_runtime(cache) == command
    assert programs.words() == calls


def test_who_cannot_get_the_engine_is_named(cache: Cache, programs: FakePrograms, said: io.StringIO) -> None:
    programs.add("docker", CANNOT_GET_IT)
    assert official_images.find_runtime(cache) is None
    assert "    docker cannot pull it\n" in said.getvalue()


OWN_CLIENT = {"_EXPERIMENTAL_DAGGER_CLI_BIN": "/usr/local/bin/dagger"}


def inspects(engine: str, registry: str, otherwise: str = "") -> str:
    """A script of a Docker that knows the state of both containers, and of no container if it is empty."""
    answers = [
        f"*{name}) echo '{state}'; [ '{state}' ];; "
        for name, state in (("drydock-engine", engine), ("drydock-registry", registry))
    ]
    asked = f'if [ "$2" = inspect ]; then case "$*" in {"".join(answers)} esac; exit; fi'
    return f'[ "$1" != exec ] || exit 0\n{asked}\n{otherwise}'


def inputs_of(call: str) -> str:
    """The label by which a container that was started is known again."""
    return str(re.findall(r"--label dev\.drydock\.inputs=(\w{16}) ", call)[0])


def up(cache: Cache, programs: FakePrograms, script: str, command: str = "docker") -> list[str]:
    """What is done beside questions."""
    programs.add(command, script)
    official_images.up(cache, command, OWN_CLIENT)
    return [line for line in programs.words() if not re.search(" container inspect | exec ", line)]


def test_the_engine_and_the_registry_run_on_the_hosts_network(
    cache: Cache, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "REGISTRY", f"127.0.0.1:{(port := free_port())}")
    engine, registry = up(cache, programs, inspects("", ""))
    config = cache.root / "official-engine.json"
    assert json.loads(config.read_text()) == {"registries": {f"127.0.0.1:{port}": {"http": True}}}
    assert engine == (
        f"docker run --detach --name drydock-engine --label dev.drydock.inputs={inputs_of(engine)} "
        f"--privileged --network host --volume drydock-engine:/var/lib/dagger "
        f"--volume {config}:/etc/dagger/engine.json:ro "
        f"--volume {cache.root}/certificates:/usr/local/share/ca-certificates:ro "
        f"--label dev.drydock.certificates={hash_inputs({})} registry.dagger.io/engine:v0.19.10"
    )
    assert registry == (
        f"docker run --detach --name drydock-registry --label dev.drydock.inputs={inputs_of(registry)} --network host "
        f"--volume drydock-registry:/var/lib/registry --env REGISTRY_HTTP_ADDR=127.0.0.1:{port} "
        "docker.io/library/registry:2.8.3"
        "@sha256:a3d8aaa63ed8681a604f1dea0aa03f100d5895b6a58ace528858a7b332415373"
    )


def test_what_runs_is_left_alone_and_what_stopped_is_started(cache: Cache, programs: FakePrograms) -> None:
    engine, registry = map(inputs_of, up(cache, programs, inspects("", ""), "podman"))
    done = up(cache, programs, inspects(f"true {engine}", f"false {registry}"), "podman")
    assert done == ["podman start drydock-registry"]


@pytest.mark.parametrize("running", ["true", "false"])
def test_a_container_that_was_made_from_something_else_is_replaced(
    cache: Cache, programs: FakePrograms, running: str
) -> None:
    _, registry = map(inputs_of, up(cache, programs, inspects("", "")))
    done = up(cache, programs, inspects(f"{running} {'0' * 16}", f"true {registry}"))
    assert done[0] == "docker rm --force drydock-engine"
    assert done[1].startswith("docker run --detach --name drydock-engine ")
    assert len(done) == 2


def test_the_engine_gets_the_certificates_of_the_machine_and_of_ssl_cert_file(
    cache: Cache, programs: FakePrograms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.CA_CERTIFICATES.mkdir()
    (services.CA_CERTIFICATES / "company.crt").write_text("the company's")
    before, _ = up(cache, programs, inspects("", ""))
    named = tmp_path / "named.pem"
    both = [f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n" for name in ("one", "two")]
    named.write_text(f"A comment\n{both[0]}\n{both[1]}")
    official_images.up(cache, "docker", {**OWN_CLIENT, "SSL_CERT_FILE": str(named)})
    folder = cache.root / "certificates"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "company.crt": "the company's",
        "ssl-cert-file-0.crt": both[0],
        "ssl-cert-file-1.crt": both[1],
    }
    # The engine reads them when it starts.
    (after,) = [line for line in programs.words() if " run --detach --name drydock-engine " in line]
    assert inputs_of(after) != inputs_of(before)

    official_images.up(cache, "docker", OWN_CLIENT)
    assert [path.name for path in folder.iterdir()] == ["company.crt"]
    # The system's own bundle has what the engine has already.
    monkeypatch.setattr(services, "BUNDLE", named)
    official_images.up(cache, "docker", {**OWN_CLIENT, "SSL_CERT_FILE": str(named)})
    assert [path.name for path in folder.iterdir()] == ["company.crt"]


def test_a_file_of_certificates_without_any_is_named(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for path in (tmp_path / "none.pem", tmp_path / "empty.pem"):
        with pytest.raises(EngineError, match=f"^SSL_CERT_FILE has no certificates: {path}$"):
            official_images.up(cache, "docker", {**OWN_CLIENT, "SSL_CERT_FILE": str(path)})


def test_a_registry_that_is_there_already_is_used(
    cache: Cache, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server(200) as registry:
        monkeypatch.setattr(services, "REGISTRY", registry)
        (engine,) = up(cache, programs, inspects("", ""))
    assert " --name drydock-engine " in engine


def test_an_engine_that_dies_at_its_start_says_why(cache: Cache, programs: FakePrograms) -> None:
    programs.add(
        "docker", 'case "$1" in exec) exit 1;; inspect) echo false;; logs) echo "no room for the state" >&2;; esac'
    )
    with pytest.raises(EngineError) as caught:
        official_images.up(cache, "docker", OWN_CLIENT)
    assert caught.value.message == "the engine did not start"
    assert caught.value.next_step == f"read {cache.log_path('engine')}, then run again"
    assert caught.value.log == "no room for the state"


@pytest.mark.parametrize("state", ["", "false"])
def test_a_container_that_does_not_start_is_quoted(cache: Cache, programs: FakePrograms, state: str) -> None:
    engine, registry = map(inputs_of, up(cache, programs, inspects("", "")))
    broken = "echo ' address already in use' >&2; exit 125"
    programs.add("docker", inspects(f"true {engine}", state and f"{state} {registry}", broken))
    with pytest.raises(EngineError) as caught:
        official_images.up(cache, "docker", OWN_CLIENT)
    assert caught.value.message == "docker could not start drydock-registry"
    assert caught.value.next_step == (
        "docker logs drydock-registry says why; drydock bootstrap down removes it, and up starts it again"
    )
    assert caught.value.log == "address already in use"


def test_down_removes_both_containers_and_no_volume(programs: FakePrograms) -> None:
    programs.add("docker")
    official_images.down("docker")
    assert programs.words() == ["docker rm --force drydock-engine drydock-registry"]


@pytest.mark.parametrize(
    ("command", "engine"),
    [
        ("docker", "docker-container://drydock-engine"),
        # As Dagger 0.19 names them: podman-container:// would be a scheme that it does not know.
        ("podman", "container+podman://drydock-engine"),
    ],
)
def test_a_shell_is_told_which_engine(cache: Cache, command: str, engine: str) -> None:
    named = {"_EXPERIMENTAL_DAGGER_RUNNER_HOST": engine, "DAGGER_NO_NAG": "1"}
    assert official_images.shell_environment(cache, command) == named
    program = client.cli_path(cache)
    program.parent.mkdir(parents=True)
    program.touch()
    assert official_images.shell_environment(cache, command) == {**named, "_EXPERIMENTAL_DAGGER_CLI_BIN": str(program)}
