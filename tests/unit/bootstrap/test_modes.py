from __future__ import annotations

import fcntl
import io
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drydock.bootstrap import local_images, modes, services
from drydock.bootstrap.cache import Cache
from drydock.bootstrap.errors import BootstrapError
from tests.unit.bootstrap.conftest import StandIns, listener, wait_until, web_server

OWN_CLIENT = {"_EXPERIMENTAL_DAGGER_CLI_BIN": "/usr/local/bin/dagger"}
VARIABLE = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
# A Docker that has the engine, and no container yet.
DOCKER = '[ "$2" != inspect ] || [ "$1" = image ]'
STARTED = [
    "docker info",
    "docker image inspect registry.dagger.io/engine:v0.19.10",
    "docker container inspect --format",
    "docker run --detach --name drydock-engine",
    "docker exec drydock-engine buildctl dial-stdio",
    *["docker container inspect --format"] * 2,
    "docker run --detach --name drydock-registry",
]


def started(stand_ins: StandIns) -> list[str]:
    return [" ".join(call[: 4 if call[1] == "container" else 5]) for call in stand_ins.calls()]


def said_last(cache: Cache, name: str) -> None:
    """As an earlier `up` left it."""
    cache.root.mkdir(exist_ok=True)
    (cache.root / "world").write_text(name)


@pytest.fixture
def stand_in_ups(monkeypatch: pytest.MonkeyPatch) -> list[Cache]:
    """How often the stand-in world was brought up; making it is for test_standin.py."""
    ups: list[Cache] = []
    monkeypatch.setattr(local_images, "up", lambda cache, *, with_cosign: ups.append(cache))
    return ups


@pytest.mark.parametrize(
    ("engine", "named"),
    [
        (None, False),
        ("", False),
        ("docker-container://drydock-engine", False),
        ("unix://{root}/run/engine.sock", False),
        ("docker-container://another-engine", True),
        ("unix:///run/engine.sock", True),
        ("tcp://build-machine:1234", True),
        ("kube-pod://engine-0?namespace=dagger", True),
    ],
)
def test_an_engine_is_named_where_it_is_not_one_of_ours(cache: Cache, engine: str | None, named: bool) -> None:
    environment = {} if engine is None else {VARIABLE: engine.format(root=cache.root)}
    assert modes.names_an_engine(cache, environment) is named


@pytest.mark.parametrize("command", ["docker", "podman"])
def test_what_env_said_names_no_engine_of_somebody_elses(cache: Cache, command: str) -> None:
    said_last(cache, command)
    words = modes.shell(cache, {}).splitlines()[0].partition("=")[2]
    assert not modes.names_an_engine(cache, {VARIABLE: words})


def test_a_named_engine_is_taken_and_nothing_is_started(
    cache: Cache, stand_ins: StandIns, stand_in_ups: list[Cache]
) -> None:
    assert modes.up(cache, {VARIABLE: "tcp://build-machine:1234"}) == "named"
    assert (stand_ins.calls(), stand_in_ups) == ([], [])
    assert not cache.root.exists()


def test_docker_with_the_official_engine_is_enough(
    cache: Cache, stand_ins: StandIns, stand_in_ups: list[Cache]
) -> None:
    stand_ins.add("docker", DOCKER)
    assert modes.up(cache, OWN_CLIENT) == "docker"
    assert started(stand_ins) == STARTED
    assert stand_in_ups == []
    assert sorted(path.name for path in cache.root.iterdir()) == [
        *("certificates", "lock", "logs", "official-engine.json", "world")
    ]
    assert (cache.root / "world").read_text() == "docker"


def test_without_it_stand_ins_are_made(cache: Cache, stand_ins: StandIns, stand_in_ups: list[Cache]) -> None:
    assert modes.up(cache, OWN_CLIENT) == "stand-in"
    assert stand_ins.words() == ["docker info", "podman info"]
    assert stand_in_ups == [cache]
    assert (cache.root / "world").read_text() == "stand-in"


@pytest.mark.parametrize(
    ("environment", "asked_for", "with_cosign"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"COSIGN_KEY": "cosign.key"}, False, True),
        ({"COSIGN_KEY": ""}, False, False),
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": "https://example.org"}, False, True),
    ],
)
def test_cosign_is_built_for_who_signs_and_for_who_asks(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], asked_for: bool, with_cosign: bool
) -> None:
    ups: list[bool] = []
    monkeypatch.setattr(local_images, "up", lambda cache, *, with_cosign: ups.append(with_cosign))
    modes.up(cache, environment, with_cosign=asked_for)
    assert ups == [with_cosign]


def test_a_machine_that_runs_on_stand_ins_stays_with_them(
    cache: Cache, stand_ins: StandIns, stand_in_ups: list[Cache]
) -> None:
    stand_ins.add("docker", DOCKER)
    with listener(services.socket_path(cache.root)):
        assert modes.up(cache, OWN_CLIENT) == "stand-in"
    assert stand_ins.calls() == []
    assert stand_in_ups == [cache]


def test_a_world_that_did_not_come_up_is_not_remembered(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(cache: Cache, *, with_cosign: bool) -> None:
        raise BootstrapError("it broke", "mend it")

    monkeypatch.setattr(local_images, "up", break_down)
    with pytest.raises(BootstrapError, match="it broke"):
        modes.up(cache, OWN_CLIENT)
    assert not (cache.root / "world").exists()


def test_a_second_bootstrap_waits_for_the_first(cache: Cache, stand_ins: StandIns, said: io.StringIO) -> None:
    stand_ins.add("docker", DOCKER)
    worlds: list[str] = []
    second = threading.Thread(target=lambda: worlds.append(modes.up(cache, OWN_CLIENT)))
    cache.root.mkdir()
    with (cache.root / "lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second.start()
        wait_until(lambda: said.getvalue() == "waiting for another bootstrap on this machine\n")
        assert stand_ins.calls() == []
    second.join()
    assert worlds == ["docker"]
    assert started(stand_ins) == STARTED


def test_a_shell_that_names_an_engine_needs_nothing(cache: Cache) -> None:
    said_last(cache, "docker")
    assert modes.shell(cache, {VARIABLE: "tcp://build-machine:1234"}) == (
        "# the environment names an engine of its own\n"
    )


def test_a_shell_is_told_where_nothing_is_up(cache: Cache) -> None:
    assert modes.shell(cache, {}) == "# nothing is up yet: drydock bootstrap\n"


def test_a_shell_gets_the_engine_in_docker(cache: Cache) -> None:
    said_last(cache, "docker")
    assert modes.shell(cache, {}) == (
        "export _EXPERIMENTAL_DAGGER_RUNNER_HOST=docker-container://drydock-engine\nexport DAGGER_NO_NAG=1\n"
    )


def test_a_shell_that_evaluates_the_lines_has_the_stand_in_world(cache: Cache, tmp_path: Path) -> None:
    # A space in a path is not the end of it.
    kept = Cache(tmp_path / "my cache", cache.watcher)
    said_last(kept, "stand-in")
    lines = modes.shell(kept, {})
    assert lines == (
        f"export _EXPERIMENTAL_DAGGER_RUNNER_HOST='unix://{tmp_path}/my cache/run/engine.sock'\n"
        f"export _EXPERIMENTAL_DAGGER_CLI_BIN='{tmp_path}/my cache/bin/dagger'\n"
        "export DAGGER_NO_NAG=1\n"
        f"export DRYDOCK_IMAGES='{tmp_path}/my cache/images.toml'\n"
        f'export PATH="{tmp_path}/my cache/bin:$PATH"\n'
    )
    script = 'eval "$1"; printf "%s\\n" "$_EXPERIMENTAL_DAGGER_RUNNER_HOST" "$DRYDOCK_IMAGES" "$PATH"'
    done = subprocess.run(
        ["/bin/bash", "-c", script, "bash", lines],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"unix://{tmp_path}/my cache/run/engine.sock",
        f"{tmp_path}/my cache/images.toml",
        f"{tmp_path}/my cache/bin:/usr/bin:/bin",
    ]


def test_status_of_a_machine_with_nothing(cache: Cache) -> None:
    assert modes.status(cache) == [
        ("world", False, "none yet"),
        ("images", False, f"{cache.root}/images.toml"),
        ("registry", False, services.REGISTRY),
        ("engine", False, f"unix://{cache.root}/run/engine.sock"),
    ]


def test_status_of_the_stand_in_world(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    said_last(cache, "stand-in")
    local_images.images_path(cache.root).write_text("")
    with web_server(200) as registry, listener(services.socket_path(cache.root)):
        monkeypatch.setattr(services, "REGISTRY", registry)
        assert modes.status(cache) == [
            ("world", True, "stand-in images"),
            ("images", True, f"{cache.root}/images.toml"),
            ("registry", True, registry),
            ("engine", True, f"unix://{cache.root}/run/engine.sock"),
        ]


def test_status_of_the_official_world(cache: Cache, stand_ins: StandIns) -> None:
    said_last(cache, "podman")
    stand_ins.add("podman", 'case "$4" in drydock-engine) echo true;; *) echo false;; esac')
    assert modes.status(cache) == [
        ("world", True, "podman, official images"),
        ("engine", True, "drydock-engine"),
        ("registry", False, "drydock-registry"),
    ]


@pytest.mark.parametrize(
    ("last", "calls"),
    [
        ("docker", ["docker rm --force drydock-engine drydock-registry"]),
        ("podman", ["podman rm --force drydock-engine drydock-registry"]),
        ("stand-in", ["podman rm --force --time 10 --ignore drydock-engine"]),
    ],
)
def test_down_stops_what_is_up_and_keeps_what_was_built(
    cache: Cache, stand_ins: StandIns, last: str, calls: list[str]
) -> None:
    said_last(cache, last)
    modes.down(cache)
    assert stand_ins.words() == calls
    assert (cache.root / "world").read_text() == last


def test_down_stops_the_registry_of_the_stand_in_world(cache: Cache) -> None:
    said_last(cache, "stand-in")
    # The name by which it is known as ours.
    with subprocess.Popen([sys.executable, "-c", "input()", "docker-registry"], stdin=subprocess.PIPE) as registry:
        (cache.root / "registry.pid").write_text(str(registry.pid))
        modes.down(cache)
        assert registry.wait() == -signal.SIGTERM


def test_clean_removes_the_engines_images_and_the_whole_cache(cache: Cache, stand_ins: StandIns) -> None:
    said_last(cache, "stand-in")
    cache.made("engine-root", {}, lambda directory: None)
    stand_ins.add("podman", '[ "$1" != images ] || printf "1234\\n5678\\n"')
    modes.clean(cache)
    assert stand_ins.words() == [
        "podman rm --force --time 10 --ignore drydock-engine",
        "podman images --quiet --filter reference=localhost/drydock-engine",
        "podman rmi --force --ignore 1234 5678",
    ]
    assert not cache.root.exists()
