"""Work that would keep the event loop from everything else, in a thread that a signal ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

Result = TypeVar("Result")


async def run_in_thread(work: Callable[[Callable[[], bool]], Result]) -> Result:
    """Run `work` in a thread. It is given a function that says whether nobody waits for it any more.

    Python cannot end a thread from outside, and does not end before its threads do: the work has to look.
    """
    cancelled = threading.Event()
    try:
        return await anyio.to_thread.run_sync(work, cancelled.is_set, abandon_on_cancel=True)
    finally:
        cancelled.set()
