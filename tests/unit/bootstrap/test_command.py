from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drydock.cli.bootstrap import main
from tests.unit.bootstrap.conftest import REPOSITORY_ROOT, StandIns

# It has the engine, and knows of a registry of its own, so that none that this machine has is used.
# No test here may go on to the stand-ins: those would be made for real.
HAS_THE_ENGINE = 'case "$*" in *.Id*-registry) exit;; esac; [ "$2" != inspect ] || [ "$1" = image ]'
BREAKS = "case \"$1\" in container) exit 1;; run) echo 'no space left' >&2; echo 'on device' >&2; exit 125;; esac"


def bootstrap(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "drydock", "bootstrap", *arguments],
        cwd=REPOSITORY_ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The cache that the environment names."""
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.mark.parametrize(("command", "name"), [("docker", "Docker"), ("podman", "Podman")])
def test_up_is_what_is_done_by_default(root: Path, stand_ins: StandIns, command: str, name: str) -> None:
    stand_ins.add(command, HAS_THE_ENGINE)
    done = bootstrap()
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"bootstrap  running the official images with {name}; nothing was built\n"
    assert (root / "world").read_text() == command
    # The address that `ci/main.py` and the engine's tests use.
    assert "REGISTRY_HTTP_ADDR=127.0.0.1:5000" in stand_ins.words()[-1].split()


def test_up_takes_the_engine_that_the_environment_names(
    root: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST", "tcp://build-machine:1234")
    done = bootstrap("up")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "bootstrap  using the engine that the environment names; nothing was started\n"
    assert stand_ins.calls() == []


def test_what_it_cannot_do_it_says_with_the_next_step(root: Path, stand_ins: StandIns) -> None:
    stand_ins.add("docker", BREAKS)
    done = bootstrap("up")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "docker could not start drydock-engine\n"
        "  no space left\n"
        "  on device\n"
        "  next      docker logs drydock-engine says why; drydock bootstrap down, then up, starts from nothing\n"
    )


def test_what_a_tool_printed_last_steers_no_terminal(root: Path, stand_ins: StandIns) -> None:
    stand_ins.add("docker", BREAKS.replace("no space left", r"no \033[2Jspace left"))
    done = bootstrap("up")
    assert done.returncode == 3
    assert "no \N{REPLACEMENT CHARACTER}[2Jspace left\n" in done.stderr
    assert "\x1b" not in done.stderr


def test_without_a_home_it_says_what_to_set(
    stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setenv("DRYDOCK_CACHE", "")
    assert main(["status"]) == 3
    assert capsys.readouterr().err == (
        "this user has no home directory to keep anything in\n"
        "  next      set DRYDOCK_CACHE to a folder that can be written, then run again\n"
    )


def test_a_home_that_cannot_be_written_is_said(
    stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRYDOCK_CACHE", "/proc/drydock")
    stand_ins.add("docker", HAS_THE_ENGINE)
    assert main(["up"]) == 3
    assert capsys.readouterr().err.endswith(
        "  next      see that DRYDOCK_CACHE, or ~/.cache, is a folder that can be written, then run again\n"
    )


def test_and_in_red_on_a_terminal(root: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stand_ins.add("docker", BREAKS)
    done = bootstrap("up")
    # Before it are the marks of a live display that came and went.
    assert "\x1b[1;31mdocker could not start drydock-engine\x1b[0m\n  no space left\n" in done.stderr


@pytest.mark.parametrize(
    ("world", "lines"),
    [
        (None, "# nothing is up yet: drydock bootstrap\n"),
        (
            "docker",
            "export _EXPERIMENTAL_DAGGER_RUNNER_HOST=docker-container://drydock-engine\nexport DAGGER_NO_NAG=1\n",
        ),
    ],
)
def test_env_prints_lines_for_a_shell(root: Path, world: str | None, lines: str) -> None:
    if world:
        (root / "world").write_text(world)
    done = bootstrap("env")
    assert (done.returncode, done.stdout, done.stderr) == (0, lines, "")


@pytest.mark.parametrize(
    ("script", "exit_code", "there"),
    [("echo true", 0, "up  "), ("echo false", 3, "down"), ("exit 1", 3, "down")],
)
def test_status_is_a_row_each_and_an_exit_code(
    root: Path, stand_ins: StandIns, script: str, exit_code: int, there: str
) -> None:
    (root / "world").write_text("docker")
    stand_ins.add("docker", script)
    done = bootstrap("status")
    assert (done.returncode, done.stderr) == (exit_code, "")
    assert done.stdout == (
        " up     world      docker, official images\n"
        f" {there}   engine     drydock-engine\n"
        f" {there}   registry   drydock-registry\n"
    )


def test_down_and_clean_are_quiet(root: Path, stand_ins: StandIns) -> None:
    (root / "world").write_text("docker")
    down = bootstrap("down")
    assert (down.returncode, down.stdout, down.stderr) == (0, "", "")
    assert stand_ins.words() == ["docker rm --force drydock-engine drydock-registry"]
    assert root.exists()
    clean = bootstrap("clean")
    assert (clean.returncode, clean.stdout, clean.stderr) == (0, "", "")
    assert stand_ins.words()[0] == "docker rm --force drydock-engine drydock-registry"
    assert not root.exists()


@pytest.mark.parametrize("arguments", [["sideways"], ["up", "down"], ["--fast"]])
def test_wrong_usage_does_nothing(root: Path, stand_ins: StandIns, arguments: list[str]) -> None:
    done = bootstrap(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: drydock bootstrap [-h]")
    assert stand_ins.calls() == []


@pytest.mark.usefixtures("nothing_installed")
def test_clean_cleans_where_docker_has_gone(root: Path) -> None:
    (root / "world").write_text("docker")
    done = bootstrap("clean")
    assert (done.returncode, done.stderr) == (0, "")
    assert not root.exists()


def test_a_cache_that_cannot_be_written_is_an_error_with_a_next_step(root: Path) -> None:
    root.rmdir()
    root.write_text("a file where the folder should be")
    done = bootstrap("up")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
