"""How a session with an engine begins and ends: a broken engine is named in seconds, and a signal ends the wait."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import psutil
import pytest

from drydock import stages
from drydock.errors import EngineError
from drydock.stages import probe, session
from tests.support import examples

pytestmark = pytest.mark.slow

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
ENGINE = r"printf '\000\000\000\004\000\000\000\000\000'; exec sleep 600"
HANGS = "exec sleep 600"
PROGRAM = "import sys; from tests.unit.stages import test_session; test_session.connect_until_signal(sys.argv[1])"
MAKE_RUN = "make run starts one; by hand: drydock bootstrap"
Programs = Callable[..., None]


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any program, on which a Dagger client waits for ever."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sleep").symlink_to("/bin/sleep")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_CLI_BIN", str(tmp_path / "dagger"))
    monkeypatch.delenv("DAGGER_SESSION_PORT", raising=False)
    # What draws on a terminal draws on every machine of a CI as well.
    monkeypatch.setenv("FORCE_COLOR", "1")
    script(tmp_path / "dagger", HANGS)
    for name, seconds in {"START_SECONDS": 0.8, "CLIENT_SECONDS": 0.2}.items():
        monkeypatch.setattr(session, name, seconds)
    for name, seconds in {"ANSWER_SECONDS": 0.4, "RETRY_SECONDS": 0.3, "EXIT_SECONDS": 0.1}.items():
        monkeypatch.setattr(probe, name, seconds)


def script(path: Path, words: str) -> None:
    path.write_text(f"#!/bin/sh\n{words}\n")
    path.chmod(0o755)


@pytest.fixture
def runtime(tmp_path: Path) -> Programs:
    """Puts a container runtime on PATH, by what it does when it is asked for a container and when it runs a command."""

    def put(name: str, *, inspect: str = "echo running", execute: str = ENGINE, version: str = "exit 0") -> None:
        cases = f"version) {version};; container) {inspect};; exec) {execute};; *) exit 1;;"
        script(tmp_path / "bin" / name, f'case "$1" in {cases} esac')

    return put


def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> EngineError:
    """What a run with the engine at this address ends with."""
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST", address)

    async def connect() -> None:
        async with stages.connect(examples.plan(tmp_path)):
            raise AssertionError("somebody answered")

    with pytest.raises(EngineError) as refused:
        anyio.run(connect)
    return refused.value


@contextmanager
def listener(path: Path, answer: bytes | None) -> Iterator[None]:
    """Somebody who listens at a socket and answers each caller with these bytes; None is silence."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        callers = []

        def answer_all() -> None:
            while True:
                try:
                    caller = listening.accept()[0]
                except OSError:
                    return
                callers.append(caller)
                caller.recv(1024)
                if answer is not None:
                    caller.sendall(answer)
                if answer == b"":
                    caller.close()

        thread = threading.Thread(target=answer_all)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for caller in callers:
                caller.close()


@pytest.mark.parametrize("address", ["unix://{}/none.sock", "tcp://127.0.0.1:{}", "tcp://127.0.0.1:none"])
def test_an_engine_that_is_not_there_is_named_at_once(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = address.format(tmp_path if address.startswith("unix") else port)
    refused = refusal(tmp_path, monkeypatch, named)
    assert refused.message.startswith(f"no engine answers at {named}: ")
    assert refused.next_step.startswith(MAKE_RUN)


@pytest.mark.parametrize("command", ["docker", "podman"])
@pytest.mark.parametrize(
    ("broken", "what", "next_step"),
    [
        (
            {"inspect": "echo exited"},
            "the engine's container mine is not running: it is exited",
            "{command} start mine, then run again; {command} logs mine says why it stopped",
        ),
        (
            {"inspect": "echo paused"},
            "the engine's container mine is paused",
            "{command} unpause mine, then run again",
        ),
        (
            {"inspect": "echo Error: No such container: mine >&2; exit 1"},
            "{name} has no container mine",
            MAKE_RUN,
        ),
        (
            {"execute": "echo 'exec: \"buildctl\": executable file not found in $PATH: unknown' >&2; exit 126"},
            "the container mine is no engine: it has no buildctl",
            "name an engine's, or unset _EXPERIMENTAL_DAGGER_RUNNER_HOST and type make run",
        ),
        (
            # As Docker 20.10 says it, on its standard output.
            {"execute": "echo 'OCI runtime exec failed: exec: \"buildctl\": executable file not found'; exit 126"},
            "the container mine is no engine: it has no buildctl",
            "name an engine's, or unset _EXPERIMENTAL_DAGGER_RUNNER_HOST and type make run",
        ),
        (
            {"execute": "echo HTTP/1.1 400 Bad Request; exec sleep 600"},
            "what answers at {address} is no engine",
            "name an engine in _EXPERIMENTAL_DAGGER_RUNNER_HOST, or unset it; then run again",
        ),
        (
            {"execute": HANGS},
            "the engine at {address} does not answer: it was silent for 0 s",
            "{command} restart mine, then run again",
        ),
        (
            {"execute": "printf 'Error: dial unix engine.sock: no such file\\nUsage:\\n  --timeout int' >&2; exit 1"},
            "the engine at {address} does not answer: Error: dial unix engine.sock: no such file",
            "{command} restart mine, then run again",
        ),
        (
            {"inspect": HANGS},
            "{name} does not answer: `{command} container` said nothing for 0 s",
            "restart {name}, then run again",
        ),
        (
            {"inspect": "echo Cannot connect to the daemon. Is it running? >&2; exit 1"},
            "{name} does not run: Cannot connect to the daemon. Is it running?",
            "start {name}, then run again; `{command} version` has to answer",
        ),
        (
            {},
            "the engine at {address} answers, and made no session in 1 s",
            MAKE_RUN,
        ),
    ],
    ids=[
        *(
            "stopped",
            "paused",
            "removed",
            "no engine",
            "no engine, aloud",
            "another program",
            "hangs",
            "does not listen",
        ),
        *("daemon hangs", "daemon stopped", "client hangs"),
    ],
)
def test_a_broken_container_is_named_in_seconds_with_what_to_type(
    command: str,
    broken: dict[str, str],
    what: str,
    next_step: str,
    runtime: Programs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = {"docker": "docker-container://mine", "podman": "container+podman://mine"}[command]
    runtime(command, **broken)
    if broken and HANGS not in broken.values():
        # These answer at once, but a busy machine may start them late.
        monkeypatch.setattr(probe, "ANSWER_SECONDS", 2)
        monkeypatch.setattr(session, "START_SECONDS", 2.5)
    refused = refusal(tmp_path, monkeypatch, address)
    words = {"command": command, "name": command.capitalize(), "address": address}
    assert refused.message == what.format(**words)
    assert refused.next_step.startswith(next_step.format(**words))


@pytest.mark.parametrize("address", ["", "image://registry.example/engine", "docker-image://registry.example/engine"])
def test_a_daemon_that_hangs_starts_no_engine(
    address: str, runtime: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime("docker", version=HANGS)
    assert refusal(tmp_path, monkeypatch, address).message == (
        "Docker does not answer: `docker version` said nothing for 0 s"
    )


def test_a_question_that_the_deadline_cuts_short_hides_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Programs
) -> None:
    """The first question has the answer; the second has next to no time, and would blame the daemon."""
    monkeypatch.setattr(probe, "ANSWER_SECONDS", 60)
    once = f"test -e {tmp_path}/once && exec sleep 600; : >{tmp_path}/once; echo running"
    runtime("docker", inspect=once, execute="echo 'Error: dial unix /x.sock' >&2; exit 1")
    with pytest.raises(EngineError) as refused:
        anyio.run(probe.require_engine, "docker-container://drydock-engine", 2)
    assert refused.value.message == (
        "the engine at docker-container://drydock-engine does not answer: Error: dial unix /x.sock"
    )


@pytest.mark.parametrize(
    ("address", "names"),
    [("", "neither Docker nor Podman nor Finch nor nerdctl is"), ("docker-container://mine", "no Docker is")],
)
def test_a_machine_without_a_container_runtime_is_told_so(
    address: str, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = refusal(tmp_path, monkeypatch, address)
    assert refused.message == f"there is nothing to run an engine with: {names} here"


def test_a_pod_that_is_gone_is_named_in_kubectls_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "bin" / "kubectl", 'echo "Error from server (NotFound): pods not found: $*" >&2; exit 1')
    address = "kube-pod://engine-0?namespace=dagger"
    assert refusal(tmp_path, monkeypatch, address).message == (
        f"no engine answers at {address}: Error from server (NotFound): pods not found: "
        "--context= --namespace=dagger exec --container= -i engine-0 -- buildctl dial-stdio"
    )


def test_another_machine_is_asked_without_a_question_for_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "bin" / "ssh", 'echo "refused: $*" >&2; exit 255')
    address = "ssh://me@build-machine:2222/run/engine.sock"
    assert refusal(tmp_path, monkeypatch, address).message == (
        f"no engine answers at {address}: refused: -o BatchMode=yes -l me -p 2222 -- build-machine "
        "buildctl --addr unix:///run/engine.sock dial-stdio"
    )


def test_a_command_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(tmp_path, monkeypatch, "kube-pod://engine-0").message == (
        "no engine answers at kube-pod://engine-0: kubectl cannot be run: No such file or directory"
    )


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (None, "the engine at {} does not answer: it was silent for 0 s"),
        (b"HTTP/1.1 400 Bad Request\r\n", "what answers at {} is no engine"),
        (b"", "the engine at {} does not answer: it hung up"),
        (SETTINGS, "the engine at {} answers, and made no session in 1 s"),
    ],
    ids=["silence", "another program", "one that hangs up", "an engine that makes no session"],
)
def test_a_socket_that_leads_to_no_session_is_no_engine(
    answer: bytes | None, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"unix://{tmp_path}/engine.sock"
    with listener(tmp_path / "engine.sock", answer):
        refused = refusal(tmp_path, monkeypatch, address)
    assert refused.message == what.format(address)


def test_an_engine_that_is_only_just_starting_is_waited_for(
    runtime: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime("docker", execute=f"if [ -e {tmp_path}/ready ]; then {ENGINE}; fi; : >{tmp_path}/ready; exit 1")
    refused = refusal(tmp_path, monkeypatch, "docker-container://mine")
    assert refused.message.startswith("the engine at docker-container://mine answers, ")


@pytest.mark.parametrize(
    ("address", "hanging", "by"),
    [
        ("", "client", signal.SIGTERM),
        ("docker-container://mine", "client", signal.SIGINT),
        ("docker-container://mine", "engine", signal.SIGTERM),
        ("unix://{}/engine.sock", "engine", signal.SIGINT),
    ],
)
def test_a_signal_ends_a_run_that_waits_for_its_engine_at_once(
    address: str, hanging: str, by: signal.Signals, runtime: Programs, tmp_path: Path
) -> None:
    runtime("docker", **({"version": HANGS, "execute": HANGS} if hanging == "engine" else {}))
    root = Path(__file__).parents[3]
    with listener(tmp_path / "engine.sock", None):
        run = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            env={
                **os.environ,
                "PYTHONPATH": f"{root / 'ci'}{os.pathsep}{root}",
                "_EXPERIMENTAL_DAGGER_RUNNER_HOST": address.format(tmp_path),
            },
        )
        try:
            has_child = not address.startswith("unix")
            wait_until(lambda: (tmp_path / "begun").exists() and (not has_child or is_waiting(run.pid)))
            time.sleep(0.3)
            sent_at = time.monotonic()
            run.send_signal(by)
            # Raises TimeoutExpired.
            assert run.wait(timeout=10) == 130
        finally:
            run.kill()
            run.wait()
    assert time.monotonic() - sent_at < 3


def is_waiting(pid: int) -> bool:
    """Whether a run has started a program that will not end."""
    return any(child.name() == "sleep" for child in psutil.Process(pid).children(recursive=True))


def connect_until_signal(directory: str) -> None:
    """A program of its own: a command that needs an engine, and does nothing else."""
    from drydock.cli import commands

    async def connect() -> int:
        Path(directory, "begun").touch()
        async with stages.connect(examples.plan(Path(directory))):
            raise AssertionError("somebody answered")

    commands.COMMANDS["update-pins"] = lambda *_: commands.run_cancellable(connect())
    sys.exit(commands.main(["update-pins"]))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_an_engine_that_is_being_downloaded_keeps_its_time_and_is_shown(
    runtime: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime("docker")
    script(tmp_path / "dagger", "echo 'pulling layer 3 of 7' >&2; sleep 1.5; exit 1")
    monkeypatch.setattr(session, "PROGRESS_SECONDS", 0.3)
    monkeypatch.delenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST", raising=False)
    notes: list[str] = []

    async def connect() -> None:
        async with stages.connect(examples.plan(tmp_path), notes.append):
            raise AssertionError("somebody answered")

    with pytest.raises(EngineError, match="the engine did not answer: "):
        anyio.run(connect)
    assert len(notes) >= 2
    assert re.fullmatch(r"the Dagger CLI starts an engine, \d s: pulling layer 3 of 7", notes[0])


def test_a_client_lives_as_long_as_its_engine_answers(
    runtime: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "COMMAND_PROBE_SECONDS", 0.05)
    runtime("docker")

    async def watch() -> None:
        with subprocess.Popen(["/bin/sleep", "600"]) as client:
            try:
                async with session.kill_client_if_engine_dies("docker-container://mine"):
                    await anyio.sleep(0.5)
                    assert client.poll() is None
                    runtime("docker", inspect="echo exited")
                    with anyio.fail_after(10):
                        while client.poll() is None:
                            await anyio.sleep(0.05)
            finally:
                client.kill()
            assert client.returncode == -signal.SIGKILL

    anyio.run(watch)
