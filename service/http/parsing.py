"""Parses the rows in a request's body, or says in one sentence what is wrong with it, without repeating it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from service.contract import Kind, Row

# A forest computes with 32-bit floats, and takes no larger number.
MAX_FLOAT32 = 3.4e38
# A model may have thousands of features, and an error is one sentence.
MAX_NAMES = 20


class RequestError(Exception):
    """A request that is refused: the response's status, a sentence that says why, and extra headers."""

    def __init__(self, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


class RequestParser:
    """Parses bodies of at most `max_rows` rows with these features, of these kinds."""

    def __init__(self, features: Sequence[str], kinds: Sequence[Kind], max_rows: int) -> None:
        self._features = features
        self._kinds = kinds
        self._max_rows = max_rows
        number = Annotated[float, Meta(ge=-MAX_FLOAT32, le=MAX_FLOAT32)]
        row: Any = Annotated[list[number], Meta(min_length=len(features), max_length=len(features))]
        if "string" in kinds:
            row = tuple[tuple(number if kind == "number" else str for kind in kinds)]  # type: ignore[misc]
        rows = Annotated[list[row], Meta(min_length=1, max_length=max_rows)]
        self._one = _decoder(row)
        self._many = _decoder(rows)

    def parse(self, body: bytes | bytearray) -> list[Row]:
        """The rows of a body: `features` is one row, or a list of rows. Raises RequestError.

        C code decodes and validates a good body in one pass. Only a bad one is looked at again, for its error sentence.
        """
        try:
            return [self._one.decode(body).features]
        except (ValueError, RecursionError):
            pass
        try:
            rows: list[Row] = self._many.decode(body).features
            return rows
        except (ValueError, RecursionError):
            return self.validate(parse_json(body))

    def validate(self, content: object) -> list[Row]:
        """The rows of a parsed body, checked one by one. Raises RequestError."""
        if not isinstance(content, dict) or set(content) != {"features"}:
            raise RequestError(422, 'Send an object with the one field "features".')
        features = content["features"]
        if not isinstance(features, list) or not features:
            raise RequestError(
                422, f'"features" is a list of {len(self._features)} {self._values}, or a list of such lists.'
            )
        rows = features if any(isinstance(item, list) for item in features) else [features]
        if len(rows) > self._max_rows:
            raise RequestError(413, f"A request has at most {self._max_rows} rows; send them in several requests.")
        return [self._row(row) for row in rows]

    @property
    def _values(self) -> str:
        return "numbers and strings" if "string" in self._kinds else "numbers"

    @property
    def _names(self) -> str:
        more = len(self._features) - MAX_NAMES
        names = ", ".join(self._features[:MAX_NAMES])
        return f"{names} and {more:,} more; GET /model has all of them" if more > 0 else names

    def _row(self, row: object) -> Row:
        if not isinstance(row, list) or len(row) != len(self._features):
            raise RequestError(422, f"A row has {len(self._features)} {self._values}: {self._names}.")
        return [
            _number(value, name) if kind == "number" else _string(value, name)
            for value, name, kind in zip(row, self._features, self._kinds, strict=True)
        ]


def parse_json(body: bytes | bytearray) -> object:
    """Parse a body as JSON, which has no NaN and no Infinity. Raises RequestError."""
    if not body:
        raise RequestError(400, 'The body is empty; send {"features": [...]}.')
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    # ValueError is also bad UTF-8 and a number of too many digits; deep nesting ends in RecursionError.
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "The body is not JSON.") from error


def _decoder(features: Any) -> msgspec.json.Decoder[Any]:  # noqa: ANN401 - a type that is made at run time
    body = msgspec.defstruct("Body", [("features", features)], forbid_unknown_fields=True)
    return msgspec.json.Decoder(body)


def _number(value: object, name: str) -> float:
    # In Python, bool is an int.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(422, f"{name} is not a number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= MAX_FLOAT32:
        raise RequestError(422, f"{name} is too large, or not finite.")
    return number


def _string(value: object, name: str) -> str:
    # JSON allows half of a surrogate pair, and no encoding of text does.
    if not isinstance(value, str) or (not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)):
        raise RequestError(422, f"{name} is not a string.")
    return value


def _refuse_constant(_: str) -> float:
    raise ValueError
