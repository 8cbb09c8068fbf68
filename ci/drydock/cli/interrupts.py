"""Ctrl-C, SIGTERM and a closed terminal end a command at once, but never between an image and its record."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import anyio

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """The signals that stop a program: they cancel what is awaited, and raise KeyboardInterrupt in all other code."""

    def __init__(self) -> None:
        self._cancel: Callable[[], object] | None = None
        self._deferring = False
        self._pending = False

    @contextmanager
    def catch_signals(self) -> Iterator[None]:
        """Catch the signals in here. One that nohup ignores stays ignored."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            if number != signal.SIGHUP or before[number] is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def cancel_on_signal(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Let a signal cancel `scope`, which the running event loop awaits."""
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(scope.cancel)
        try:
            yield
        finally:
            self._cancel = None

    @contextmanager
    def defer_signals(self) -> Iterator[None]:
        """Put off a first signal until the work in here is done, unless it cancels something."""
        self._deferring, self._pending = True, False
        try:
            yield
        finally:
            self._deferring = False
        if self._pending:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._cancel:
            self._cancel()
        elif self._deferring and not self._pending:
            self._pending = True
        else:
            raise KeyboardInterrupt
