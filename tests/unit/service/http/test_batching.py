from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from service.http.batching import MicroBatcher, Rows
from service.http.parsing import RequestError
from service.model import ClassPrediction, Prediction, RowCountMismatch


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
        return [ClassPrediction(str(row[0]), {}) for row in rows]


def decode(body: bytes | bytearray) -> Rows:
    rows: Rows = json.loads(body)
    if not rows:
        raise RequestError(422, "no rows")
    return rows


async def gathered(
    gate: Gate, asked: list[Rows], max_rows: int, call_limit_bytes: int = 1_000
) -> list[list[str] | type[BaseException]]:
    """What each caller hears: the first alone, the others while the first is being answered."""
    together = MicroBatcher(gate.predict, decode, max_rows, call_limit_bytes)
    bodies = [json.dumps(rows).encode() for rows in asked]
    first = asyncio.create_task(together.predict(bodies[0]))
    await asyncio.to_thread(gate.entered.wait, 10)
    others = [asyncio.create_task(together.predict(body)) for body in bodies[1:]]
    await asyncio.sleep(0)
    gate.open.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    return [
        type(each) if isinstance(each, BaseException) else [str(getattr(row, "label", "")) for row in each]
        for each in answers
    ]


def test_what_comes_in_meanwhile_goes_together_and_each_gets_its_own() -> None:
    gate = Gate()
    heard = asyncio.run(gathered(gate, [[[1.0]], [[2.0], [3.0]], [[4.0]]], max_rows=10))
    assert heard == [["1.0"], ["2.0", "3.0"], ["4.0"]]
    assert gate.calls == [[[1.0]], [[2.0], [3.0], [4.0]]]


def test_no_call_has_more_rows_than_the_limit_unless_one_caller_has() -> None:
    gate = Gate()
    rows = [[float(number)] for number in range(3)]
    asyncio.run(gathered(gate, [[[9.0]], rows, rows, rows], max_rows=6))
    assert [len(call) for call in gate.calls] == [1, 6, 3]


def test_a_row_that_the_model_fails_on_costs_nobody_else_their_answer() -> None:
    gate = Gate()
    heard = asyncio.run(gathered(gate, [[[1.0]], [[2.0]], [[-1.0]], [[3.0]]], max_rows=10))
    assert heard == [["1.0"], ["2.0"], ArithmeticError, ["3.0"]]


def test_it_goes_on_after_a_pause_and_after_a_caller_who_left() -> None:
    gate = Gate()

    async def story() -> Sequence[Prediction]:
        together = MicroBatcher(gate.predict, decode, 10, 1_000)
        leaves = asyncio.create_task(together.predict(b"[[1.0]]"))
        await asyncio.to_thread(gate.entered.wait, 10)
        leaves.cancel()
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        return await together.predict(b"[[2.0]]")

    assert [getattr(each, "label", "") for each in asyncio.run(story())] == ["2.0"]


def test_a_body_is_decoded_when_its_call_is_made_and_not_before() -> None:
    gate, decoded = Gate(), []

    def noted(body: bytes | bytearray) -> Rows:
        decoded.append(bytes(body))
        return decode(body)

    async def story() -> list[bytes]:
        together = MicroBatcher(gate.predict, noted, 10, 1_000)
        callers = [asyncio.create_task(together.predict(b"[[%d]]" % number)) for number in range(5)]
        await asyncio.to_thread(gate.entered.wait, 10)
        meanwhile = list(decoded)
        callers += [asyncio.create_task(together.predict(b"[[%d]]" % number)) for number in range(5, 9)]
        await asyncio.sleep(0.05)
        assert decoded == meanwhile
        gate.open.set()
        await asyncio.gather(*callers)
        return meanwhile

    assert asyncio.run(story()) == [b"[[%d]]" % number for number in range(5)]
    assert decoded == [b"[[%d]]" % number for number in range(9)]


def test_no_call_has_more_bytes_than_the_limit_unless_one_caller_has() -> None:
    gate = Gate()
    long = [[1.0]] * 5
    heard = asyncio.run(gathered(gate, [[[9.0]], long, [[2.0]], [[3.0]], [[4.0]]], max_rows=100, call_limit_bytes=14))
    assert [len(call) for call in gate.calls] == [1, 5, 2, 1]
    assert heard == [["9.0"], ["1.0"] * 5, ["2.0"], ["3.0"], ["4.0"]]


def test_a_body_that_has_no_rows_costs_nobody_else_their_answer() -> None:
    gate = Gate()
    heard = asyncio.run(gathered(gate, [[[1.0]], [], [[2.0]], []], max_rows=10))
    assert heard == [["1.0"], RequestError, ["2.0"], RequestError]
    assert gate.calls == [[[1.0]], [[2.0]]]


@pytest.mark.parametrize("wrong", [lambda rows: [], lambda rows: rows[:-1], lambda rows: [*rows, rows[-1]]])
def test_answers_that_do_not_fit_the_rows_fail_the_whole_call(wrong: Callable[[list[Any]], list[Any]]) -> None:
    gate, given = Gate(), Gate.predict

    def predict(rows: Rows) -> list[Prediction]:
        predictions = given(gate, rows)
        return wrong(predictions) if len(rows) > 1 else predictions

    gate.predict = predict  # type: ignore[method-assign]
    heard = asyncio.run(asyncio.wait_for(gathered(gate, [[[1.0]], [[2.0]], [[3.0]], [[4.0]]], max_rows=3), 10))
    assert heard == [["1.0"], RowCountMismatch, RowCountMismatch, RowCountMismatch]


@pytest.mark.parametrize("error", [StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_model_that_ends_its_own_call_leaves_nobody_waiting(error: type[BaseException]) -> None:
    def predict(rows: Rows) -> list[Prediction]:
        raise error

    async def story() -> None:
        await asyncio.wait_for(MicroBatcher(predict, decode, 10, 1_000).predict(b"[[1.0]]"), 5)

    with pytest.raises(RuntimeError, match="the model's code ended its own call"):
        asyncio.run(story())
