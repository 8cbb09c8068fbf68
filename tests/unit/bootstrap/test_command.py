from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from drydock.bootstrap import modes
from drydock.bootstrap.cache import Cache
from drydock.cli.bootstrap import main
from tests.unit.bootstrap.conftest import REPOSITORY_ROOT, FakePrograms, wait_until

# It has the engine, and knows of a registry of its own, so that none that this machine has is used.
# No test here may go on to the local images: those would be built.
HAS_THE_ENGINE = 'case "$*" in *.Id*-registry) exit;; esac; [ "$2" != inspect ] || [ "$1" = image ]'
BREAKS = "case \"$1\" in container) exit 1;; run) echo 'no space left' >&2; echo 'on device' >&2; exit 125;; esac"


COMMAND = (sys.executable, "-m", "drydock", "bootstrap")


def bootstrap(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
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
def test_up_is_what_is_done_by_default(root: Path, programs: FakePrograms, command: str, name: str) -> None:
    programs.add(command, HAS_THE_ENGINE)
    done = bootstrap()
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"bootstrap  Using {name} with the official images. Nothing was built.\n"
    assert (root / "mode").read_text() == command
    # The address that `ci/main.py` and the engine's tests use.
    assert "REGISTRY_HTTP_ADDR=127.0.0.1:5000" in programs.words()[-1].split()


def test_up_takes_the_engine_that_the_environment_names(
    root: Path, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST", "tcp://build-machine:1234")
    done = bootstrap("up")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "bootstrap  Using the engine that the environment names. Nothing was started.\n"
    assert programs.calls() == []


def test_what_it_cannot_do_it_says_with_the_next_step(root: Path, programs: FakePrograms) -> None:
    programs.add("docker", BREAKS)
    done = bootstrap("up")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "docker could not start drydock-engine\n"
        "  no space left\n"
        "  on device\n"
        "  next      docker logs drydock-engine says why; drydock bootstrap down removes it, and up starts it again\n"
    )


def test_what_a_tool_printed_last_steers_no_terminal(root: Path, programs: FakePrograms) -> None:
    programs.add("docker", BREAKS.replace("no space left", r"no \033[2Jspace left"))
    done = bootstrap("up")
    assert done.returncode == 3
    assert "no \N{REPLACEMENT CHARACTER}[2Jspace left\n" in done.stderr
    assert "\x1b" not in done.stderr


def test_without_a_home_it_says_what_to_set(
    programs: FakePrograms, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setenv("DRYDOCK_CACHE", "")
    assert main(["bootstrap", "status"]) == 3
    assert capsys.readouterr().err == (
        "this user has no home directory, so there is no place for the cache\n"
        "  next      set DRYDOCK_CACHE to a folder that can be written, then run again\n"
    )


def test_a_home_that_cannot_be_written_is_said(
    programs: FakePrograms, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRYDOCK_CACHE", "/proc/drydock")
    programs.add("docker", HAS_THE_ENGINE)
    assert main(["bootstrap", "up"]) == 3
    assert capsys.readouterr().err.endswith(
        "  next      check that DRYDOCK_CACHE, or ~/.cache, is a folder that can be written, then run again\n"
    )


def test_and_in_red_on_a_terminal(root: Path, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    programs.add("docker", BREAKS)
    done = bootstrap("up")
    # Before it are the marks of a live display that came and went.
    assert "\x1b[1;31mdocker could not start drydock-engine\x1b[0m\n  no space left\n" in done.stderr


@pytest.mark.parametrize(
    ("mode", "lines"),
    [
        (None, "# nothing is up yet: drydock bootstrap\n"),
        (
            "docker",
            "export _EXPERIMENTAL_DAGGER_RUNNER_HOST=docker-container://drydock-engine\nexport DAGGER_NO_NAG=1\n",
        ),
    ],
)
def test_env_prints_lines_for_a_shell(root: Path, mode: str | None, lines: str) -> None:
    if mode:
        (root / "mode").write_text(mode)
    done = bootstrap("env")
    assert (done.returncode, done.stdout, done.stderr) == (0, lines, "")


@pytest.mark.parametrize(
    ("script", "exit_code", "there"),
    [("echo true", 0, "up  "), ("echo false", 3, "down"), ("exit 1", 3, "down")],
)
def test_status_is_a_row_each_and_an_exit_code(
    root: Path, programs: FakePrograms, script: str, exit_code: int, there: str
) -> None:
    (root / "mode").write_text("docker")
    programs.add("docker", script)
    done = bootstrap("status")
    assert (done.returncode, done.stderr) == (exit_code, "")
    assert done.stdout == (
        " up     mode       docker, official images\n"
        f" {there}   engine     drydock-engine\n"
        f" {there}   registry   drydock-registry\n"
    )


def test_down_and_clean_are_quiet(root: Path, programs: FakePrograms) -> None:
    (root / "mode").write_text("docker")
    down = bootstrap("down")
    assert (down.returncode, down.stdout, down.stderr) == (0, "", "")
    assert programs.words() == ["docker rm --force drydock-engine drydock-registry"]
    assert root.exists()
    clean = bootstrap("clean")
    assert (clean.returncode, clean.stdout, clean.stderr) == (0, "", "")
    assert programs.words()[0] == "docker rm --force drydock-engine drydock-registry"
    assert not root.exists()


@pytest.mark.parametrize("arguments", [["sideways"], ["up", "down"], ["--fast"]])
def test_wrong_usage_does_nothing(root: Path, programs: FakePrograms, arguments: list[str]) -> None:
    done = bootstrap(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: drydock ")
    assert programs.calls() == []


@pytest.mark.usefixtures("nothing_installed")
def test_clean_cleans_where_docker_has_gone(root: Path) -> None:
    (root / "mode").write_text("docker")
    done = bootstrap("clean")
    assert (done.returncode, done.stderr) == (0, "")
    assert not root.exists()


def test_a_cache_that_cannot_be_written_is_an_error_with_a_next_step(root: Path) -> None:
    root.rmdir()
    root.write_text("a file where the folder should be")
    done = bootstrap("up")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_a_mistake_of_its_own_is_exit_code_70_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(cache: Cache) -> None:
        raise AttributeError("no such attribute")

    monkeypatch.setattr(modes, "down", break_down)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["bootstrap", "down"]) == 70
    assert capsys.readouterr().err == (
        "Drydock itself broke: AttributeError: no such attribute\n"
        "  usually   a mistake in Drydock, which says nothing about the image\n"
        f"  next      report it, with {tmp_path}/traceback.txt, which has the traceback\n"
    )
    assert "in break_down" in (tmp_path / "traceback.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_and_the_program_that_it_runs(
    root: Path, programs: FakePrograms, tmp_path: Path, number: signal.Signals
) -> None:
    # The first program that runs with a log of its own: the local images' registry is there already.
    programs.add("docker", HAS_THE_ENGINE.replace("exit;;", f"exit;; run*) echo $$ >'{tmp_path}/pid'; exec sleep 60;;"))
    with subprocess.Popen(COMMAND, cwd=REPOSITORY_ROOT, stderr=subprocess.PIPE, text=True) as process:
        wait_until((tmp_path / "pid").exists)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.endswith(
        "stopped by a signal\n  next      drydock bootstrap continues with what is not finished yet\n"
    )


def test_github_takes_no_line_of_a_program_for_a_command(
    root: Path, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    programs.add("docker", BREAKS.replace("no space left", "::add-mask::no"))
    printed = bootstrap("up").stdout
    assert "\n  ::add-mask::no\n" in printed
    assert re.fullmatch(r"(::stop-commands::(\w+)\n(.*\n)*?::\2::\n)+", printed)

    # A shell evaluates what env prints.
    (root / "mode").write_text("docker")
    assert bootstrap("env").stdout.startswith("export ")
