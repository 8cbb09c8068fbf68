"""A session with the engine: how it is opened, and what it means if the engine stops answering."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import anyio
import anyio.lowlevel
import dagger
import httpx
import psutil
from dagger import dag

from drydock.errors import BuildError, DrydockError, EngineError
from drydock.oci import registry
from drydock.report.files import write_documents
from drydock.stages import probe
from drydock.stages.probe import Address
from drydock.tools import dagger_log

ENGINE_VARIABLE = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
# A run without an engine has to end within 30 s, and on a busy machine it takes some of them to begin.
START_SECONDS = 15
CLIENT_SECONDS = 5
PROBE_SECONDS = 2
PROBE_ANSWER_SECONDS = 6
# A probe that costs a process, such as `docker exec`.
COMMAND_PROBE_SECONDS = 5
PROGRESS_SECONDS = 10
FAILURES = 2
KILL_AGAIN_SECONDS = 0.1
DISCONNECT_TIMEOUT_SECONDS = 15
CERTIFICATES = "/certificates.pem"
# Its id in a Dockerfile.
CERTIFICATES_ID = "ca"
# Upstream renews its database every six hours; a step that was cached longer would scan with yesterday's.
CACHE_WINDOW_HOURS = 6


@dataclass(frozen=True)
class Session:
    """An open session with the engine. `on_retry` gets a sentence before the registry is asked again."""

    on_retry: Callable[[str], None]


@asynccontextmanager
async def open_session(
    log_path: Path, on_retry: Callable[[str], None], *, secrets: Collection[str] = (), no_cache: bool = False
) -> AsyncIterator[Session]:
    """Open a session with the engine that the environment names, or that the Dagger CLI starts.

    The engine's log goes to `log_path`, without the texts of `secrets`. `on_retry` gets a sentence before each new
    try, and while an engine is downloaded. `no_cache` empties the engine's cache first. Raises EngineError.
    """
    address = os.environ.get(ENGINE_VARIABLE, "")
    try:
        with log_path.open("w", encoding="utf-8") as log, engine_errors():
            async with AsyncExitStack() as stack:
                await open_connection(stack, address, log, on_retry)
                await stack.enter_async_context(kill_client_if_engine_dies(address))
                try:
                    if no_cache:
                        await dag.engine().local_cache().prune()
                    yield Session(on_retry)
                finally:
                    with suppress(dagger.SessionError), kill_client_after(DISCONNECT_TIMEOUT_SECONDS):
                        await stack.aclose()
    except BuildError as error:
        # The engine has written all of its log by now; its answer has only the instruction's exit code.
        error.log = dagger_log.find_failed_output(_read_log(log_path)) or error.log
        error.message, error.log = (dagger_log.mask_secrets(text, secrets) for text in (error.message, error.log))
        raise
    finally:
        if secrets and log_path.exists():
            write_documents(log_path.parent, {log_path.name: dagger_log.mask_secrets(_read_log(log_path), secrets)})


def _read_log(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


async def open_connection(stack: AsyncExitStack, text: str, log: TextIO, on_wait: Callable[[str], None]) -> None:
    """Open a connection with the engine at an address, and leave it to `stack`; the engine's words go to `log`.

    Raises EngineError in less than 30 s if no engine answers. Only an engine that the Dagger CLI starts has all the
    time it needs, since it may have to be downloaded; `on_wait` then gets a sentence now and then. A cancellation ends
    it at once.
    """
    deadline = anyio.current_time() + START_SECONDS
    address = Address.parse(text)
    await probe.require_engine(text, START_SECONDS)
    config = dagger.Config(log_output=log, retry=None)
    # The SDK leaves its spinner running if the client fails, and that would write into a file that is closed by then.
    config.console.quiet = True
    limit_seconds = None
    if not address.is_started_by_client:
        limit_seconds = max(CLIENT_SECONDS, deadline - anyio.current_time())
    broken: list[dagger.DaggerError] = []
    async with anyio.create_task_group() as group, _kill_client_if_cancelled(group):
        if address.is_started_by_client:
            group.start_soon(_show_progress, Path(log.name), on_wait)
        with kill_client_after(limit_seconds) as killed:
            try:
                # What did not reach the engine is not tried again: the client keeps no state to go on from.
                await stack.enter_async_context(dagger.connection(config))
            except dagger.DaggerError as error:
                # The client was killed because somebody stopped the run.
                await anyio.lowlevel.checkpoint_if_cancelled()
                broken.append(error)
        group.cancel_scope.cancel()
    for reason in broken:
        if killed.is_set():
            seconds = f"{limit_seconds or 0:.0f} s"
            raise _no_engine_error(f"the engine at {text} answers, and made no session in {seconds}") from reason
        raise reason


@asynccontextmanager
async def _kill_client_if_cancelled(group: anyio.abc.TaskGroup) -> AsyncIterator[None]:
    """Kill the Dagger client if this is cancelled: the SDK waits for it in a thread, which no cancellation ends."""
    over = anyio.Event()

    async def wait() -> None:
        try:
            await over.wait()
        finally:
            # The thread may be about to start it.
            with anyio.CancelScope(shield=True):
                while not over.is_set():
                    _kill_client()
                    await anyio.sleep(KILL_AGAIN_SECONDS)

    group.start_soon(wait)
    try:
        yield
    finally:
        over.set()


async def _show_progress(log_path: Path, on_wait: Callable[[str], None]) -> None:
    started = anyio.current_time()
    while True:
        await anyio.sleep(PROGRESS_SECONDS)
        words = _read_log(log_path).strip()
        doing = f": {dagger_log.get_last_line(words)}" if words else ""
        on_wait(f"the Dagger CLI starts an engine, {anyio.current_time() - started:.0f} s{doing}")


@asynccontextmanager
async def kill_client_if_engine_dies(text: str) -> AsyncIterator[None]:
    """Kill the Dagger client once no engine answers at an address: it would wait for minutes, and the SDK for it."""
    # A task group would turn whatever is raised in here into a group of exceptions.
    watcher = asyncio.create_task(_watch_engine(Address.parse(text)))
    try:
        yield
    finally:
        watcher.cancel()


async def _watch_engine(address: Address) -> None:
    """Kill the client if the engine fails to answer twice; once is not enough, since the machine may just be busy."""
    pause_seconds = COMMAND_PROBE_SECONDS if address.is_reached_by_command else PROBE_SECONDS
    failures = 0
    while failures < FAILURES:
        await anyio.sleep(pause_seconds)
        failures = failures + 1 if await probe.find_problem(address, PROBE_ANSWER_SECONDS) else 0
    _kill_client()


@contextmanager
def kill_client_after(seconds: float | None) -> Iterator[threading.Event]:
    """Kill the Dagger client after this time, and set the event; None is no limit."""
    killed = threading.Event()

    def kill() -> None:
        killed.set()
        _kill_client()

    if seconds is None:
        yield killed
        return
    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        yield killed
    finally:
        timer.cancel()


def _kill_client() -> None:
    """Kill the client and what it started: its own `docker exec` would wait for a daemon that hangs."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _no_engine_error(what: str, log: str = "") -> EngineError:
    return EngineError(
        what,
        likely_cause="it is not running, or it was stopped in mid-run",
        next_step=probe.MAKE_RUN,
        log=log,
    )


@contextmanager
def engine_errors() -> Iterator[None]:
    """Whatever breaks between us and the engine, and is not a stage's own error, means that the engine is not there."""
    try:
        yield
    except DrydockError:
        raise
    except (dagger.DaggerError, httpx.HTTPError, OSError) as error:
        raise _no_engine_error(
            f"the engine did not answer: {dagger_log.get_first_line(str(error))}",
            dagger_log.skip_first_line(str(error)),
        ) from error


def with_certificates(container: dagger.Container, pem: str) -> dagger.Container:
    """The container, whose programs trust these certificates too; as it is if `pem` is empty."""
    if not pem:
        return container
    # A secret, since a file's text would be in the engine's log.
    mounted = container.with_mounted_secret(CERTIFICATES, dag.set_secret(CERTIFICATES_ID, pem))
    return mounted.with_env_variable(registry.CA_VARIABLE, CERTIFICATES)


def get_cache_window() -> str:
    """Return the quarter of the day: an input of the steps that the engine must do again in each."""
    now = datetime.now(UTC)
    return f"{now:%Y-%m-%d}-{now.hour // CACHE_WINDOW_HOURS}"
