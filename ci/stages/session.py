"""The line to the engine: whether anybody answers, and what it means when nobody does any more."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import dagger
import httpx
import psutil

import engine_log
from errors import DrydockError, EngineError

ENGINE_VARIABLE = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
ANSWER_SECONDS = 5
START_SECONDS = 20
PROBE_SECONDS = 2
# Upstream renews its database every six hours; a step that was cached longer would scan with yesterday's.
PERIOD_HOURS = 6


def require_engine(address: str) -> None:
    """Ask at the socket that the environment names: the Dagger CLI itself would keep trying for minutes."""
    kind, _, place = address.partition("://")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(ANSWER_SECONDS)
                probe.connect(place)
        elif kind == "tcp":
            host, _, port = place.rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _no_engine(f"no engine answers at {address}: {error}") from error


@contextmanager
def client_dies_with_engine(address: str) -> Iterator[None]:
    """Kill the Dagger client once nobody answers at `address`: it would wait for minutes, and the SDK for it."""
    over = threading.Event()

    def watch() -> None:
        with suppress(EngineError):
            while not over.wait(PROBE_SECONDS):
                require_engine(address)
            return
        _kill_client()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def client_within(seconds: float) -> Iterator[threading.Event]:
    """Kill the Dagger client after this time, and set the event, for engines of which nothing can be asked."""
    killed = threading.Event()

    def kill() -> None:
        killed.set()
        _kill_client()

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        yield killed
    finally:
        timer.cancel()


@contextmanager
def starts_soon(address: str) -> Iterator[None]:
    """Raise EngineError where the engine at `address` takes a call and stays silent: the client would wait for minutes.

    An engine that the Dagger CLI starts has all the time it needs: it may have to be downloaded.
    """
    if not address.startswith(("unix://", "tcp://")):
        yield
        return
    with client_within(START_SECONDS) as killed:
        try:
            yield
        except dagger.DaggerError as error:
            if killed.is_set():
                raise _no_engine(f"the engine at {address} was silent for {START_SECONDS} s") from error
            raise


def _kill_client() -> None:
    for child in psutil.Process().children():
        child.kill()


def _no_engine(what: str, log: str = "") -> EngineError:
    return EngineError(
        what,
        usually="it is not running, or it was stopped in mid-run",
        next_step='make run starts one; by hand: python -m bootstrap, then eval "$(python -m bootstrap env)"',
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
        raise _no_engine(
            f"the engine did not answer: {engine_log.first_line(str(error))}", engine_log.rest(str(error))
        ) from error


def period() -> str:
    """The quarter of the day, an input of the steps that the engine must do anew in each."""
    now = datetime.now(UTC)
    return f"{now:%Y-%m-%d}-{now.hour // PERIOD_HOURS}"
