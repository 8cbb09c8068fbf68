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
def client_within(seconds: float) -> Iterator[None]:
    """Kill the Dagger client after this time, for engines at whose address nothing can be asked."""
    timer = threading.Timer(seconds, _kill_client)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
