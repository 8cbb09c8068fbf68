"""Predicts in a thread, one call at a time. Requests that arrive meanwhile share the next call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from service.contract import Row
from service.model import Prediction, RowCountMismatch

Rows = Sequence[Row]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def run_in_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call a model's code, which is anybody's, in a thread; raises only subclasses of Exception.

    A SystemExit would end the event loop, and asyncio cannot pass on a StopIteration.
    """

    def guarded() -> Result:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            raise RuntimeError("the model's code ended its own call") from error

    return await asyncio.to_thread(guarded)


class _Request:
    """A body that waits for its predictions. Its rows are parsed when its call is made, and not before."""

    def __init__(self, body: bytes | bytearray, future: asyncio.Future[Sequence[Prediction]]) -> None:
        self.body = body
        self.future = future
        self.rows: Rows | None = None

    def fail(self, error: Exception) -> None:
        # Its caller may have gone by now.
        if not self.future.done():
            self.future.set_exception(error)


class MicroBatcher:
    """Calls an idle model at once, and gathers requests while it is busy. No request waits for others to arrive.

    Rows take up to twenty times the memory of their body. So a call takes bodies of at most `max_bytes` in sum, or one
    longer body, and at most `max_rows` rows. All others wait unparsed.
    """

    def __init__(
        self,
        predict: Callable[[Rows], Sequence[Prediction]],
        parse: Callable[[bytes | bytearray], Rows],
        max_rows: int,
        max_bytes: int,
    ) -> None:
        self._predict = predict
        self._parse = parse
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._waiting: deque[_Request] = deque()
        self._running: asyncio.Task[None] | None = None

    async def predict(self, body: bytes | bytearray) -> Sequence[Prediction]:
        """The predictions of the rows in this body; raises what parsing it raises, and what the model raises."""
        request = _Request(body, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await request.future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._predict_batch(self._next_batch())
        finally:
            self._running = None

    def _next_batch(self) -> list[tuple[_Request, Rows]]:
        """The first waiting request and the ones behind it that still fit, without those whose body has no rows."""
        batch: list[tuple[_Request, Rows]] = []
        size_bytes = row_count = 0
        while self._waiting:
            request = self._waiting[0]
            if size_bytes and size_bytes + len(request.body) > self._max_bytes:
                break
            size_bytes += len(request.body)
            # The caller may have gone.
            rows = None if request.future.done() else self._rows(request)
            if rows:
                if batch and row_count + len(rows) > self._max_rows:
                    break
                row_count += len(rows)
                batch.append((request, rows))
            self._waiting.popleft()
        return batch

    def _rows(self, request: _Request) -> Rows | None:
        if request.rows is None:
            try:
                request.rows = self._parse(request.body)
            except Exception as error:
                request.fail(error)
        return request.rows

    async def _predict_batch(self, batch: list[tuple[_Request, Rows]]) -> None:
        rows = [row for _, request_rows in batch for row in request_rows]
        if not rows:
            # They were all refused; others may have their turn.
            await asyncio.sleep(0)
            return
        try:
            answers = await run_in_thread(self._predict, rows)
            if len(answers) != len(rows):
                raise RowCountMismatch(len(answers), len(rows))
        except RowCountMismatch as error:
            for request, _ in batch:
                request.fail(error)
            return
        except Exception as error:
            if len(batch) > 1:
                # One request is at fault, and the others must still be answered.
                for item in batch:
                    await self._predict_batch([item])
            else:
                batch[0][0].fail(error)
            return
        start = 0
        for request, request_rows in batch:
            end = start + len(request_rows)
            if not request.future.done():
                request.future.set_result(answers[start:end])
            start = end
