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
from drydock.errors import EngineError
from tests.unit.bootstrap.conftest import FakePrograms, listener, wait_until, web_server

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


def started(programs: FakePrograms) -> list[str]:
    return [" ".join(call[: 4 if call[1] == "container" else 5]) for call in programs.calls()]


def said_last(cache: Cache, name: str) -> None:
    """As an earlier `up` left it."""
    cache.root.mkdir(exist_ok=True)
    (cache.root / "mode").write_text(name)


@pytest.fixture
def local_ups(monkeypatch: pytest.MonkeyPatch) -> list[Cache]:
    """The calls of local_images.up; test_local_images.py tests what it does."""
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
    assert modes.uses_external_engine(cache, environment) is named


@pytest.mark.parametrize("command", ["docker", "podman"])
def test_what_env_said_names_no_engine_of_somebody_elses(cache: Cache, command: str) -> None:
    said_last(cache, command)
    words = modes.shell_exports(cache, {}).splitlines()[0].partition("=")[2]
    assert not modes.uses_external_engine(cache, {VARIABLE: words})


def test_a_named_engine_is_taken_and_nothing_is_started(
    cache: Cache, programs: FakePrograms, local_ups: list[Cache]
) -> None:
    assert modes.up(cache, {VARIABLE: "tcp://build-machine:1234"}) == "external"
    assert (programs.calls(), local_ups) == ([], [])
    assert not cache.root.exists()


def test_docker_with_the_official_engine_is_enough(
    cache: Cache, programs: FakePrograms, local_ups: list[Cache]
) -> None:
    programs.add("docker", DOCKER)
    assert modes.up(cache, OWN_CLIENT) == "docker"
    assert started(programs) == STARTED
    assert local_ups == []
    assert sorted(path.name for path in cache.root.iterdir()) == [
        *("certificates", "lock", "logs", "mode", "official-engine.json")
    ]
    assert (cache.root / "mode").read_text() == "docker"


def test_without_it_local_images_are_built(cache: Cache, programs: FakePrograms, local_ups: list[Cache]) -> None:
    assert modes.up(cache, OWN_CLIENT) == "local"
    assert programs.words() == ["docker info", "podman info"]
    assert local_ups == [cache]
    assert (cache.root / "mode").read_text() == "local"


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


def test_a_machine_that_runs_on_local_images_keeps_them(
    cache: Cache, programs: FakePrograms, local_ups: list[Cache]
) -> None:
    programs.add("docker", DOCKER)
    with listener(services.socket_path(cache.root)):
        assert modes.up(cache, OWN_CLIENT) == "local"
    assert programs.calls() == []
    assert local_ups == [cache]


def test_a_mode_that_did_not_come_up_is_not_recorded(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(cache: Cache, *, with_cosign: bool) -> None:
        raise EngineError("it broke", next_step="fix it")

    monkeypatch.setattr(local_images, "up", break_down)
    with pytest.raises(EngineError, match="it broke"):
        modes.up(cache, OWN_CLIENT)
    assert not (cache.root / "mode").exists()


def test_a_second_bootstrap_waits_for_the_first(cache: Cache, programs: FakePrograms, said: io.StringIO) -> None:
    programs.add("docker", DOCKER)
    modes_seen: list[str] = []
    second = threading.Thread(target=lambda: modes_seen.append(modes.up(cache, OWN_CLIENT)))
    cache.root.mkdir()
    with (cache.root / "lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second.start()
        wait_until(lambda: said.getvalue() == "waiting for another bootstrap on this machine\n")
        assert programs.calls() == []
    second.join()
    assert modes_seen == ["docker"]
    assert started(programs) == STARTED


def test_a_shell_that_names_an_engine_needs_nothing(cache: Cache) -> None:
    said_last(cache, "docker")
    assert modes.shell_exports(cache, {VARIABLE: "tcp://build-machine:1234"}) == (
        "# the environment names an engine of its own\n"
    )


def test_a_shell_is_told_where_nothing_is_up(cache: Cache) -> None:
    assert modes.shell_exports(cache, {}) == "# nothing is up yet: drydock bootstrap\n"


def test_a_shell_gets_the_engine_in_docker(cache: Cache) -> None:
    said_last(cache, "docker")
    assert modes.shell_exports(cache, {}) == (
        "export _EXPERIMENTAL_DAGGER_RUNNER_HOST=docker-container://drydock-engine\nexport DAGGER_NO_NAG=1\n"
    )


def test_a_shell_that_evaluates_the_lines_has_the_local_images(cache: Cache, tmp_path: Path) -> None:
    # A space in a path is not the end of it.
    kept = Cache(tmp_path / "my cache", cache.runner)
    said_last(kept, "local")
    lines = modes.shell_exports(kept, {})
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
        ("mode", False, "none yet"),
        ("images", False, f"{cache.root}/images.toml"),
        ("registry", False, services.REGISTRY),
        ("engine", False, f"unix://{cache.root}/run/engine.sock"),
    ]


def test_a_local_engine_that_runs_needs_no_record(cache: Cache) -> None:
    """The first `up` may have been stopped before it wrote one."""
    with listener(services.socket_path(cache.root)):
        assert modes.read_recorded_mode(cache.root) is modes.Mode.LOCAL
        assert "/run/engine.sock" in modes.shell_exports(cache, {})
    assert modes.read_recorded_mode(cache.root) is None


def test_status_of_local_images(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    said_last(cache, "local")
    local_images.images_path(cache.root).write_text("")
    with web_server(200) as registry, listener(services.socket_path(cache.root)):
        monkeypatch.setattr(services, "REGISTRY", registry)
        assert modes.status(cache) == [
            ("mode", True, "local images"),
            ("images", True, f"{cache.root}/images.toml"),
            ("registry", True, registry),
            ("engine", True, f"unix://{cache.root}/run/engine.sock"),
        ]


def test_status_of_official_images(cache: Cache, programs: FakePrograms) -> None:
    said_last(cache, "podman")
    programs.add("podman", 'case "$4" in drydock-engine) echo true;; *) echo false;; esac')
    assert modes.status(cache) == [
        ("mode", True, "podman, official images"),
        ("engine", True, "drydock-engine"),
        ("registry", False, "drydock-registry"),
    ]


@pytest.mark.parametrize(
    ("last", "calls"),
    [
        ("docker", ["docker rm --force drydock-engine drydock-registry"]),
        ("podman", ["podman rm --force drydock-engine drydock-registry"]),
        ("local", ["podman rm --force --time 10 --ignore drydock-engine"]),
    ],
)
def test_down_stops_what_is_up_and_keeps_what_was_built(
    cache: Cache, programs: FakePrograms, last: str, calls: list[str]
) -> None:
    said_last(cache, last)
    modes.down(cache)
    assert programs.words() == calls
    assert (cache.root / "mode").read_text() == last


def test_down_stops_the_local_registry(cache: Cache) -> None:
    said_last(cache, "local")
    # The name by which it is known as ours.
    with subprocess.Popen([sys.executable, "-c", "input()", "docker-registry"], stdin=subprocess.PIPE) as registry:
        (cache.root / "registry.pid").write_text(str(registry.pid))
        modes.down(cache)
        assert registry.wait() == -signal.SIGTERM


def test_clean_removes_the_engines_images_and_the_whole_cache(cache: Cache, programs: FakePrograms) -> None:
    said_last(cache, "local")
    cache.get_or_build("engine-root", {}, lambda directory: None)
    programs.add("podman", '[ "$1" != images ] || printf "1234\\n5678\\n"')
    modes.clean(cache)
    assert programs.words() == [
        "podman rm --force --time 10 --ignore drydock-engine",
        "podman images --quiet --filter reference=localhost/drydock-engine",
        "podman rmi --force --ignore 1234 5678",
    ]
    assert not cache.root.exists()
