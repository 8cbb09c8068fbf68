from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import anyio
import pytest

from drydock.pipeline.threads import run_in_thread


def test_what_the_work_says_is_handed_on() -> None:
    assert anyio.run(run_in_thread, lambda is_cancelled: is_cancelled()) is False


def test_what_the_work_raises_is_handed_on() -> None:
    def broken(_: Callable[[], bool]) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        anyio.run(run_in_thread, broken)


@pytest.mark.parametrize("by", ["a scope", "its task"])
def test_work_that_nobody_waits_for_ends(by: str) -> None:
    """By anyio's scope, as a signal does it, and by the task, as a group does it whose other task broke."""
    begun, ended = threading.Event(), threading.Event()

    def work(is_cancelled: Callable[[], bool]) -> None:
        begun.set()
        until = time.monotonic() + 10
        while not is_cancelled() and time.monotonic() < until:
            time.sleep(0.001)
        ended.set()

    async def interrupted() -> float:
        task = asyncio.create_task(run_in_thread(work))
        with anyio.CancelScope() as scope:
            while not begun.is_set():
                await anyio.sleep(0.001)
            started = time.monotonic()
            if by == "its task":
                task.cancel()
            else:
                scope.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(ended.wait, 5)
        return time.monotonic() - started

    assert anyio.run(interrupted) < 2
    assert ended.is_set()
