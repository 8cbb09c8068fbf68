"""Work that would block the event loop runs in a thread, and ends when nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

Result = TypeVar("Result")


async def run_in_thread(work: Callable[[Callable[[], bool]], Result]) -> Result:
    """Run `work` in a thread. Its argument is a function that returns True once nobody waits for the result.

    Python cannot end a thread from outside, and waits for its threads at exit: the work must call the function.
    """
    cancelled = threading.Event()
    try:
        return await anyio.to_thread.run_sync(work, cancelled.is_set, abandon_on_cancel=True)
    finally:
        cancelled.set()
