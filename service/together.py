"""Predicts in a thread, one call at a time: requests that come in meanwhile go together into the next call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from service.contract import Row
from service.model import Predicted, WrongNumber

Rows = Sequence[Row]


Given = ParamSpec("Given")
Result = TypeVar("Result")


async def in_thread(call: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
    """Call a model's code, which is anybody's, in a thread; raises nothing but an Exception.

    A SystemExit would end the event loop, and of a StopIteration asyncio makes no answer at all.
    """

    def guarded() -> Result:
        try:
            return call(*given, **named)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            raise RuntimeError("the model's code ended its own call") from error

    return await asyncio.to_thread(guarded)


class _Request:
    """A body that waits for its predictions; its rows are decoded when its call is made, and not before."""

    def __init__(self, body: bytes | bytearray, future: asyncio.Future[Sequence[Predicted]]) -> None:
        self.body = body
        self.future = future
        self.rows: Rows | None = None

    def fail(self, error: Exception) -> None:
        # Its caller may have gone by now.
        if not self.future.done():
            self.future.set_exception(error)


class Together:
    """Nobody waits for others to come: an idle model is asked at once, and a busy one gathers by itself.

    Rows take up to twenty times the memory of their body. So a call takes bodies of at most `call_limit_bytes`, or one
    that is longer, and at most `rows_limit` rows; all others wait as they came.
    """

    def __init__(
        self,
        predict: Callable[[Rows], Sequence[Predicted]],
        decode: Callable[[bytes | bytearray], Rows],
        rows_limit: int,
        call_limit_bytes: int,
    ) -> None:
        self._predict = predict
        self._decode = decode
        self._rows_limit = rows_limit
        self._call_limit_bytes = call_limit_bytes
        self._waiting: deque[_Request] = deque()
        self._running: asyncio.Task[None] | None = None

    async def predict(self, body: bytes | bytearray) -> Sequence[Predicted]:
        """The predictions of the rows in this body; raises what decoding it raises, and what the model raises."""
        request = _Request(body, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await request.future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._ask(self._next_call())
        finally:
            self._running = None

    def _next_call(self) -> list[tuple[_Request, Rows]]:
        """The first in the line, and whoever of those behind it still fits; without those whose body has no rows."""
        call: list[tuple[_Request, Rows]] = []
        size_bytes = row_count = 0
        while self._waiting:
            request = self._waiting[0]
            if size_bytes and size_bytes + len(request.body) > self._call_limit_bytes:
                break
            size_bytes += len(request.body)
            # Whose caller has gone is not asked for.
            rows = None if request.future.done() else self._rows(request)
            if rows:
                if call and row_count + len(rows) > self._rows_limit:
                    break
                row_count += len(rows)
                call.append((request, rows))
            self._waiting.popleft()
        return call

    def _rows(self, request: _Request) -> Rows | None:
        if request.rows is None:
            try:
                request.rows = self._decode(request.body)
            except Exception as error:
                request.fail(error)
        return request.rows

    async def _ask(self, call: list[tuple[_Request, Rows]]) -> None:
        rows = [row for _, of_request in call for row in of_request]
        if not rows:
            # They were all refused; others may have their turn.
            await asyncio.sleep(0)
            return
        try:
            answers = await in_thread(self._predict, rows)
            if len(answers) != len(rows):
                raise WrongNumber(len(answers), len(rows))
        except WrongNumber as error:
            # Nobody can say which answer belongs to which row.
            for request, _ in call:
                request.fail(error)
            return
        except Exception as error:
            if len(call) > 1:
                # One of them was at fault, and the others' answers are not to be lost with it.
                for each in call:
                    await self._ask([each])
            else:
                call[0][0].fail(error)
            return
        at = 0
        for request, of_request in call:
            if not request.future.done():
                request.future.set_result(answers[at : at + len(of_request)])
            at += len(of_request)
