"""Predicts in a thread, one call at a time: requests that come in meanwhile go together into the next call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from service.contract import Row
from service.model import Predicted

Rows = Sequence[Row]
Asked = tuple[Rows, asyncio.Future[Sequence[Predicted]]]


class Together:
    """Nobody waits for others to come: an idle model is asked at once, and a busy one gathers by itself."""

    def __init__(self, predict: Callable[[Rows], Sequence[Predicted]], rows_limit: int) -> None:
        self._predict = predict
        self._rows_limit = rows_limit
        self._waiting: deque[Asked] = deque()
        self._running: asyncio.Task[None] | None = None

    async def predict(self, rows: Rows) -> Sequence[Predicted]:
        """The predictions of these rows; raises what the model raises."""
        future: asyncio.Future[Sequence[Predicted]] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._ask(self._next_call())
        finally:
            self._running = None

    def _next_call(self) -> list[Asked]:
        """The first in the line, and whoever of those behind it still fits."""
        asked = [self._waiting.popleft()]
        rows = len(asked[0][0])
        while self._waiting and rows + len(self._waiting[0][0]) <= self._rows_limit:
            asked.append(self._waiting.popleft())
            rows += len(asked[-1][0])
        return asked

    async def _ask(self, asked: list[Asked]) -> None:
        try:
            answers = iter(await asyncio.to_thread(self._predict, [row for rows, _ in asked for row in rows]))
        except Exception as error:
            if len(asked) > 1:
                # One of them was at fault, and the others' answers are not to be lost with it.
                for each in asked:
                    await self._ask([each])
            elif not asked[0][1].done():
                asked[0][1].set_exception(error)
            return
        for rows, future in asked:
            predictions = [next(answers) for _ in rows]
            # Its caller may have gone by now.
            if not future.done():
                future.set_result(predictions)
