from __future__ import annotations

import io
import json

import pytest

from bootstrap import official, services
from bootstrap.cache import Cache
from bootstrap.errors import BootstrapError
from tests.bootstrap.conftest import StandIns

ENGINE = "registry.dagger.io/engine:v0.19.10"
REGISTRY = "docker.io/library/registry:2.8.3@sha256:a3d8aaa63ed8681a604f1dea0aa03f100d5895b6a58ace528858a7b332415373"
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
    cache: Cache, stand_ins: StandIns, docker: str | None, podman: str | None, command: str | None, calls: list[str]
) -> None:
    for name, script in (("docker", docker), ("podman", podman)):
        if script:
            stand_ins.add(name, script)
    assert official.runtime(cache) == command
    assert stand_ins.words() == calls


def test_who_cannot_get_the_engine_is_named(cache: Cache, stand_ins: StandIns, said: io.StringIO) -> None:
    stand_ins.add("docker", CANNOT_GET_IT)
    assert official.runtime(cache) is None
    assert "    docker cannot get it\n" in said.getvalue()


def inspects(engine: str, registry: str, otherwise: str = "") -> str:
    """A script of a Docker that knows the state of both containers, and of no container where it is empty."""
    answers = [
        f"*{name}) echo '{state}'; [ '{state}' ];; "
        for name, state in (("drydock-engine", engine), ("drydock-registry", registry))
    ]
    return f'if [ "$1" = inspect ]; then case "$*" in {"".join(answers)} esac; exit; fi\n{otherwise}'


def test_the_engine_and_the_registry_run_on_the_hosts_network(
    cache: Cache, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "REGISTRY", "127.0.0.1:1234")
    stand_ins.add("docker", inspects("", ""))
    official.up(cache, "docker")
    config = cache.root / "official-engine.json"
    assert json.loads(config.read_text()) == {"registries": {"127.0.0.1:1234": {"http": True}}}
    assert stand_ins.words() == [
        "docker inspect --format {{.State.Running}} {{.Config.Image}} drydock-engine",
        "docker run --detach --name drydock-engine --privileged --network host "
        f"--volume drydock-engine:/var/lib/dagger --volume {config}:/etc/dagger/engine.json:ro "
        "registry.dagger.io/engine:v0.19.10",
        "docker inspect --format {{.State.Running}} {{.Config.Image}} drydock-registry",
        "docker run --detach --name drydock-registry --network host "
        "--volume drydock-registry:/var/lib/registry --env REGISTRY_HTTP_ADDR=127.0.0.1:1234 "
        "docker.io/library/registry:2.8.3"
        "@sha256:a3d8aaa63ed8681a604f1dea0aa03f100d5895b6a58ace528858a7b332415373",
    ]


def test_what_runs_is_left_alone_and_what_stopped_is_started(cache: Cache, stand_ins: StandIns) -> None:
    stand_ins.add("podman", inspects(f"true {ENGINE}", f"false {REGISTRY}"))
    official.up(cache, "podman")
    assert [line for line in stand_ins.words() if " inspect " not in line] == ["podman start drydock-registry"]


@pytest.mark.parametrize("running", ["true", "false"])
def test_a_container_of_another_image_is_replaced(cache: Cache, stand_ins: StandIns, running: str) -> None:
    stand_ins.add("docker", inspects(f"{running} registry.dagger.io/engine:v0.19.9", f"true {REGISTRY}"))
    official.up(cache, "docker")
    done = [line for line in stand_ins.words() if " inspect " not in line]
    assert done[0] == "docker rm --force drydock-engine"
    assert done[1].startswith("docker run --detach --name drydock-engine ")
    assert done[1].endswith(f" {ENGINE}")
    assert len(done) == 2


@pytest.mark.parametrize("state", ["", f"false {REGISTRY}"])
def test_a_container_that_does_not_start_is_quoted(cache: Cache, stand_ins: StandIns, state: str) -> None:
    stand_ins.add("docker", inspects(f"true {ENGINE}", state, "echo ' address already in use' >&2; exit 125"))
    with pytest.raises(BootstrapError) as caught:
        official.up(cache, "docker")
    assert caught.value.what == "docker could not start drydock-registry"
    assert caught.value.next_step == (
        "docker logs drydock-registry says why; python -m bootstrap down, then up, starts from nothing"
    )
    assert caught.value.log == "address already in use"


def test_down_removes_both_containers_and_no_volume(stand_ins: StandIns) -> None:
    stand_ins.add("docker")
    official.down("docker")
    assert stand_ins.words() == ["docker rm --force drydock-engine drydock-registry"]


@pytest.mark.parametrize(
    ("command", "engine"),
    [
        ("docker", "docker-container://drydock-engine"),
        # As Dagger 0.19 names them: podman-container:// would be a scheme that it does not know.
        ("podman", "container+podman://drydock-engine"),
    ],
)
def test_a_shell_is_told_which_engine(command: str, engine: str) -> None:
    assert official.environment(command) == {"_EXPERIMENTAL_DAGGER_RUNNER_HOST": engine, "DAGGER_NO_NAG": "1"}
