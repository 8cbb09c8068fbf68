"""Reads the rows out of a request's body, or says in one sentence what is wrong with it, without repeating it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from service.contract import Kind, Row

# A forest computes with 32-bit floats, and takes no larger number.
LARGEST = 3.4e38
# A model may have thousands of features, and a refusal is one sentence.
NAMES_SHOWN = 20


class Refused(Exception):
    """A request that is not answered as it asks: its status, the sentence that says why, and headers that go along."""

    def __init__(self, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


class Reader:
    """Reads bodies of rows with these features, of these kinds, at most so many."""

    def __init__(self, features: Sequence[str], kinds: Sequence[Kind], rows_limit: int) -> None:
        self._features = features
        self._kinds = kinds
        self._rows_limit = rows_limit
        number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
        row: Any = Annotated[list[number], Meta(min_length=len(features), max_length=len(features))]
        if "word" in kinds:
            row = tuple[tuple(number if kind == "number" else str for kind in kinds)]  # type: ignore[misc]
        rows = Annotated[list[row], Meta(min_length=1, max_length=rows_limit)]
        self._one = _decoder(row)
        self._many = _decoder(rows)

    def rows(self, body: bytes | bytearray) -> list[Row]:
        """The rows of a body: `features` is one row, or a list of rows. Raises Refused.

        What is right, nearly everything, is decoded and checked in one pass in C; only what is not is looked at again.
        """
        try:
            return [self._one.decode(body).features]
        except (ValueError, RecursionError):
            pass
        try:
            found: list[Row] = self._many.decode(body).features
            return found
        except (ValueError, RecursionError):
            return self.checked(parsed(body))

    def checked(self, content: object) -> list[Row]:
        """The rows of what a body says, checked one by one. Raises Refused."""
        if not isinstance(content, dict) or set(content) != {"features"}:
            raise Refused(422, 'Send an object with the one field "features".')
        given = content["features"]
        if not isinstance(given, list) or not given:
            raise Refused(
                422, f'"features" is a list of {len(self._features)} {self._values}, or a list of such lists.'
            )
        rows = given if any(isinstance(item, list) for item in given) else [given]
        if len(rows) > self._rows_limit:
            raise Refused(413, f"A request has at most {self._rows_limit} rows; send them in several.")
        return [self._row(row) for row in rows]

    @property
    def _values(self) -> str:
        return "numbers and words" if "word" in self._kinds else "numbers"

    @property
    def _names(self) -> str:
        more = len(self._features) - NAMES_SHOWN
        shown = ", ".join(self._features[:NAMES_SHOWN])
        return f"{shown} and {more:,} more; GET /model has all of them" if more > 0 else shown

    def _row(self, row: object) -> Row:
        if not isinstance(row, list) or len(row) != len(self._features):
            raise Refused(422, f"A row has {len(self._features)} {self._values}: {self._names}.")
        return [
            _number(value, name) if kind == "number" else _word(value, name)
            for value, name, kind in zip(row, self._features, self._kinds, strict=True)
        ]


def parsed(body: bytes | bytearray) -> object:
    """The body as JSON says it; NaN and Infinity are no JSON. Raises Refused."""
    if not body:
        raise Refused(400, 'The body is empty; send {"features": [...]}.')
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    # ValueError is also bad UTF-8 and a number of too many digits; deep nesting ends in RecursionError.
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The body is not JSON.") from error


def _decoder(features: Any) -> msgspec.json.Decoder[Any]:  # noqa: ANN401 - a type that is made at run time
    body = msgspec.defstruct("Body", [("features", features)], forbid_unknown_fields=True)
    return msgspec.json.Decoder(body)


def _number(value: object, name: str) -> float:
    # bool is an int to Python, and no measurement to anybody.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(422, f"{name} is not a number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= LARGEST:
        raise Refused(422, f"{name} is too large, or no finite number.")
    return number


def _word(value: object, name: str) -> str:
    # Half of a pair of surrogates is valid JSON, and no text.
    if not isinstance(value, str) or (not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value)):
        raise Refused(422, f"{name} is no text.")
    return value


def _no_constant(_: str) -> float:
    raise ValueError
