"""Asks an engine whether it answers, at any address that the Dagger CLI knows; the CLI itself waits ten minutes."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from subprocess import PIPE
from typing import cast
from urllib.parse import parse_qs, urlsplit

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process

from drydock.errors import EngineError
from drydock.tools import dagger_log

ANSWER_SECONDS = 8
RETRY_SECONDS = 0.5
EXIT_SECONDS = 1
# What the Dagger CLI does without an address: it starts the official engine with the first runtime that is there.
DEFAULT_ADDRESS = "image://"
RUNTIMES = {"docker": "Docker", "podman": "Podman", "finch": "Finch", "nerdctl": "nerdctl"}
# How an HTTP/2 client begins (RFC 9113, 3.4): the preface and an empty SETTINGS frame. A server answers with its own.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
FRAME_HEADER_BYTES = 9
SETTINGS_FRAME = 4
# Exit codes of `exec` for a command that is no program, or that is not there.
NO_COMMAND = (126, 127)
MAKE_RUN = 'make run starts one; by hand: drydock bootstrap, then eval "$(drydock bootstrap env)"'


@dataclass(frozen=True)
class Problem:
    """Why no engine answers. `may_pass`: an engine that is only just starting looks the same."""

    what: str
    likely_cause: str
    next_step: str
    may_pass: bool = False

    def to_error(self) -> EngineError:
        """The same as an error that ends a run."""
        return EngineError(self.what, likely_cause=self.likely_cause, next_step=self.next_step)


@dataclass(frozen=True)
class Address:
    """An engine's address: `runtimes` are the commands that may run its container, in the Dagger CLI's order."""

    text: str
    kind: str
    place: str
    runtimes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `scheme://place`; an unknown scheme is left to the CLI, which says so at once."""
        scheme, _, place = (text or DEFAULT_ADDRESS).partition("://")
        kind, _, runtime = scheme.partition("+")
        if kind in ("docker-container", "docker-image"):
            kind, runtime = kind.removeprefix("docker-"), "docker"
        runtimes = tuple(RUNTIMES) if not runtime else (runtime,)
        if kind not in ("container", "image"):
            return cls(text, kind, place)
        # What is no relative of Docker's command is left to the CLI.
        return cls(text, kind, urlsplit(f"//{place}").netloc, tuple(name for name in runtimes if name in RUNTIMES))

    @property
    def is_started_by_client(self) -> bool:
        """Whether the CLI starts this engine, and downloads it if need be: then nobody can say how long that takes."""
        return self.kind == "image"

    @property
    def is_reached_by_command(self) -> bool:
        """Whether each question costs a process: less often is often enough."""
        return self.kind not in ("unix", "tcp")


async def require_engine(text: str, seconds: float) -> None:
    """Raise EngineError if no engine answers at an address within this time; at once if waiting cannot help."""
    deadline = anyio.current_time() + seconds
    address = Address.parse(text)
    problem: Problem | None = None
    while found := await find_problem(address, min(ANSWER_SECONDS, deadline - anyio.current_time())):
        now = anyio.current_time()
        # A question that the deadline cut short says less than the one before it.
        problem = problem if problem and now >= deadline else found
        if not problem.may_pass or now + RETRY_SECONDS >= deadline:
            raise problem.to_error()
        await anyio.sleep(RETRY_SECONDS)


async def find_problem(address: Address, seconds: float) -> Problem | None:
    """Why no engine answers, or None if one does; each question has `seconds`."""
    match address.kind:
        case "unix" | "tcp":
            return await _ask_socket(address, seconds)
        case "container" | "image" if address.runtimes:
            return await _ask_runtime(address, seconds)
        case "kube-pod":
            return await _ask_command(address, _kubectl_command(address.place), seconds)
        case "ssh":
            return await _ask_command(address, _ssh_command(address.text), seconds)
        case _:
            return None


async def _ask_socket(address: Address, seconds: float) -> Problem | None:
    host, _, port = address.place.rpartition(":")
    try:
        with anyio.fail_after(seconds):
            async with (
                await anyio.connect_unix(address.place)
                if address.kind == "unix"
                else await anyio.connect_tcp(host, int(port))
            ) as stream:
                answer = await _say_hello(stream, stream)
    except TimeoutError:
        return _describe_silence(address, seconds)
    except (OSError, ValueError) as error:
        return Problem(
            f"no engine answers at {address.text}: {error.__cause__ or error}",
            "it is not running, or it was stopped in mid-run",
            MAKE_RUN,
        )
    if _is_settings(answer):
        return None
    return _describe_no_engine(address) if answer else _describe_silence(address, seconds, "it hung up")


async def _ask_runtime(address: Address, seconds: float) -> Problem | None:
    """Ask the daemon first, since it alone knows why a container does not answer."""
    command = next((name for name in address.runtimes if shutil.which(name)), None)
    if not command:
        names = " nor ".join(RUNTIMES[name] for name in address.runtimes)
        return Problem(
            f"there is nothing to run an engine with: {'neither ' if ' nor ' in names else 'no '}{names} is here",
            "it is not installed, or its command is not on PATH",
            f"install {RUNTIMES[address.runtimes[0]]}; on Debian as root make run needs none of them",
        )
    address = replace(address, runtimes=(command,))
    runtime, name = RUNTIMES[command], address.place
    question = ["version"]
    if address.kind == "container":
        question = ["container", "inspect", "--format", "{{.State.Status}}", name]
    try:
        with anyio.fail_after(seconds):
            done = await anyio.run_process([command, *question], check=False)
    except TimeoutError:
        return Problem(
            f"{runtime} does not answer: `{command} {question[0]}` said nothing for {seconds:.0f} s",
            "its daemon hangs, or the machine is out of memory or disk",
            f"restart {runtime}, then run again",
        )
    words = dagger_log.get_last_line(done.stderr.decode(errors="replace"))
    if done.returncode and address.kind == "container" and "no such" in words.lower():
        return Problem(
            f"{runtime} has no container {name}",
            "it was removed, or _EXPERIMENTAL_DAGGER_RUNNER_HOST names another one",
            MAKE_RUN,
        )
    if done.returncode:
        return Problem(
            f"{runtime} does not run: {words}",
            "its daemon is stopped, or this user may not talk to it",
            f"start {runtime}, then run again; `{command} version` has to answer",
        )
    if address.kind == "image":
        return None
    match done.stdout.decode(errors="replace").strip():
        case "running":
            return await _ask_command(address, [command, "exec", "-i", name, "buildctl", "dial-stdio"], seconds)
        case "paused":
            return Problem(
                f"the engine's container {name} is paused",
                f"somebody typed {command} pause",
                f"{command} unpause {name}, then run again",
            )
        case status:
            return Problem(
                f"the engine's container {name} is not running: it is {status}",
                "it was stopped, or the machine was started again",
                f"{command} start {name}, then run again; {command} logs {name} says why it stopped",
            )


async def _ask_command(address: Address, command: Sequence[str], seconds: float) -> Problem | None:
    """Say hello through the command that the CLI itself would use for its line to the engine."""
    try:
        async with _open_process(command) as process:
            stdout, stderr = (cast(ByteReceiveStream, each) for each in (process.stdout, process.stderr))
            with anyio.move_on_after(seconds):
                answer = await _say_hello(cast(ByteSendStream, process.stdin), stdout)
                if _is_settings(answer):
                    return None
                with anyio.move_on_after(EXIT_SECONDS):
                    await process.wait()
                if not process.returncode:
                    return _describe_no_engine(address) if answer else _describe_silence(address, seconds, "it hung up")
                # Docker itself says on the standard output that there is no such command.
                answer += b"".join([part for stream in (stdout, stderr) async for part in stream])
                return _describe_hang_up(address, process.returncode, answer.decode(errors="replace"))
    except OSError as error:
        return Problem(
            f"no engine answers at {address.text}: {command[0]} cannot be run: {error.strerror}",
            "it is not installed, or not on PATH",
            f"install {command[0]}, then run again",
        )
    return _describe_silence(address, seconds)


@asynccontextmanager
async def _open_process(command: Sequence[str]) -> AsyncIterator[Process]:
    process = await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _say_hello(sending: ByteSendStream, receiving: ByteReceiveStream) -> bytes:
    """What is answered, up to a frame's header; less of it, or nothing, if the other side hangs up."""
    answer = b""
    with suppress(anyio.BrokenResourceError):
        await sending.send(HELLO)
    with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
        while len(answer) < FRAME_HEADER_BYTES:
            answer += await receiving.receive()
    return answer


def _is_settings(answer: bytes) -> bool:
    return len(answer) >= FRAME_HEADER_BYTES and answer[3] == SETTINGS_FRAME


def _describe_no_engine(address: Address) -> Problem:
    return Problem(
        f"what answers at {address.text} is no engine",
        "another program listens there, or the address is of something else",
        "name an engine in _EXPERIMENTAL_DAGGER_RUNNER_HOST, or unset it; then run again",
    )


def _describe_hang_up(address: Address, exit_code: int, log: str) -> Problem:
    """Why the command that leads to an engine ended, by its exit code and its words."""
    # The remote program names its error first; then come its usage, and kubectl's word that it ended.
    errors = (line for line in log.splitlines() if line.lower().startswith("error"))
    words = dagger_log.get_first_line(next(errors, dagger_log.get_last_line(log)))
    if exit_code in NO_COMMAND or "executable file" in words:
        place = f"the container {address.place}" if address.kind == "container" else f"what runs at {address.text}"
        return Problem(
            f"{place} is no engine: it has no buildctl",
            "_EXPERIMENTAL_DAGGER_RUNNER_HOST names another container than the engine's",
            "name an engine's, or unset _EXPERIMENTAL_DAGGER_RUNNER_HOST and type make run",
        )
    if address.kind == "container":
        return _describe_silence(address, 0, words)
    return Problem(
        f"no engine answers at {address.text}: {words}",
        "it is not running, or this user may not reach it",
        "start it, or name another one in _EXPERIMENTAL_DAGGER_RUNNER_HOST; then run again",
        may_pass=True,
    )


def _describe_silence(address: Address, seconds: float, words: str = "") -> Problem:
    next_step = "stop it and start it again, then run again"
    if address.kind == "container":
        next_step = f"{address.runtimes[0]} restart {address.place}, then run again"
    return Problem(
        f"the engine at {address.text} does not answer: {words or f'it was silent for {seconds:.0f} s'}",
        "it hangs, or it is still starting",
        next_step,
        may_pass=True,
    )


def _kubectl_command(place: str) -> list[str]:
    """As the Dagger CLI types it, for `POD?context=…&namespace=…&container=…`."""
    pod, _, query = place.partition("?")
    named = {name: values[0] for name, values in parse_qs(query).items()}
    context, namespace, container = (named.get(name, "") for name in ("context", "namespace", "container"))
    options = [f"--context={context}", f"--namespace={namespace}", "exec", f"--container={container}"]
    return ["kubectl", *options, "-i", pod, "--", "buildctl", "dial-stdio"]


def _ssh_command(text: str) -> list[str]:
    """As the Dagger CLI types it, for `ssh://user@host:port/socket`, and never with a question for a password."""
    url = urlsplit(text)
    options = [*(["-l", url.username] if url.username else []), *(["-p", str(url.port)] if url.port else [])]
    socket = ["--addr", f"unix://{url.path}"] if url.path else []
    return ["ssh", "-o", "BatchMode=yes", *options, "--", url.hostname or "", "buildctl", *socket, "dial-stdio"]
