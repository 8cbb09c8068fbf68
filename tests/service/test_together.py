from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from service.model import Predicted, Prediction
from service.together import Rows, Together


class Gate:
    """A model that answers each row with its number, notes each call, and waits in the first until it is let go."""

    def __init__(self) -> None:
        self.calls: list[Rows] = []
        self.entered = threading.Event()
        self.open = threading.Event()

    def predict(self, rows: Rows) -> list[Prediction]:
        self.calls.append(rows)
        self.entered.set()
        assert self.open.wait(10)
        if any(row[0] == -1 for row in rows):
            raise ArithmeticError
        return [Prediction(str(row[0]), {}) for row in rows]


async def gathered(gate: Gate, asked: list[Rows], rows_limit: int) -> list[list[str] | type[BaseException]]:
    """What each caller hears: the first alone, the others while the first is being answered."""
    together = Together(gate.predict, rows_limit)
    first = asyncio.create_task(together.predict(asked[0]))
    await asyncio.to_thread(gate.entered.wait, 10)
    others = [asyncio.create_task(together.predict(rows)) for rows in asked[1:]]
    await asyncio.sleep(0)
    gate.open.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    return [
        type(each) if isinstance(each, BaseException) else [prediction.label for prediction in each] for each in answers
    ]


def test_what_comes_in_meanwhile_goes_together_and_each_gets_its_own() -> None:
    gate = Gate()
    heard = asyncio.run(gathered(gate, [[[1.0]], [[2.0], [3.0]], [[4.0]]], rows_limit=10))
    assert heard == [["1.0"], ["2.0", "3.0"], ["4.0"]]
    assert gate.calls == [[[1.0]], [[2.0], [3.0], [4.0]]]


def test_no_call_has_more_rows_than_the_limit_unless_one_caller_has() -> None:
    gate = Gate()
    rows = [[float(number)] for number in range(3)]
    asyncio.run(gathered(gate, [[[9.0]], rows, rows, rows], rows_limit=6))
    assert [len(call) for call in gate.calls] == [1, 6, 3]


def test_a_row_that_the_model_fails_on_costs_nobody_else_their_answer() -> None:
    gate = Gate()
    heard = asyncio.run(gathered(gate, [[[1.0]], [[2.0]], [[-1.0]], [[3.0]]], rows_limit=10))
    assert heard == [["1.0"], ["2.0"], ArithmeticError, ["3.0"]]


def test_it_goes_on_after_a_pause_and_after_a_caller_who_left() -> None:
    gate = Gate()

    async def story() -> Sequence[Predicted]:
        together = Together(gate.predict, 10)
        leaves = asyncio.create_task(together.predict([[1.0]]))
        await asyncio.to_thread(gate.entered.wait, 10)
        leaves.cancel()
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        return await together.predict([[2.0]])

    assert [each.label for each in asyncio.run(story())] == ["2.0"]
