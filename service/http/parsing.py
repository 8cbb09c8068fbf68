"""Parses the rows in a request's body, or says in one sentence what is wrong with it, without repeating values."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from service.contract import MAX_FLOAT32, MAX_INTEGER, Feature, Row, Value

# A model may have thousands of features, and an error is one sentence.
MAX_NAMES = 20
MAX_NAME_CHARACTERS = 60


class RequestError(Exception):
    """A request that is refused: the response's status, a sentence that says why, and extra headers."""

    def __init__(self, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


class JsonObject(dict[str, object]):
    """An object of JSON, and the first name that stands in it twice: to Python, the last one would count."""

    # A body may have very many of them.
    __slots__ = ("duplicate",)

    def __init__(self, pairs: Sequence[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.duplicate = ""
        if len(self) < len(pairs):
            times = Counter(name for name, _ in pairs)
            self.duplicate = next(name for name in times if times[name] > 1)


class RequestParser:
    """Parses bodies of at most `max_rows` rows with these features.

    `known_values_only` refuses a category's value that the model was not trained with.
    """

    def __init__(self, features: Sequence[Feature], max_rows: int, *, known_values_only: bool = False) -> None:
        self._features = features
        self._names = [feature.name for feature in features]
        self._known = frozenset(self._names)
        self._max_rows = max_rows
        # What a decoder's types do not say is looked at row by row.
        self._closed = [
            (place, feature, frozenset(feature.values))
            for place, feature in enumerate(features)
            if known_values_only and feature.values
        ]
        # Thousands of features have few types between them.
        types = {(feature.base_type, feature.missing): _decoded_type(feature) for feature in features}
        values = tuple(types[feature.base_type, feature.missing] for feature in features)
        row: Any = tuple[values]  # type: ignore[valid-type]
        if len(types) == 1:
            row = Annotated[list[values[0]], Meta(min_length=len(features), max_length=len(features))]  # type: ignore[valid-type]
        rows = Annotated[list[row], Meta(min_length=1, max_length=max_rows)]
        self._one = _decoder(row)
        self._many = _decoder(rows)

    def parse(self, body: bytes | bytearray) -> list[Row]:
        """The rows of a body: `features` is one row, or a list of rows. Raises RequestError.

        C code decodes and validates a good body of lists in one pass. Rows by name are looked at again, and so is a
        bad body, for its error sentence.
        """
        try:
            rows: list[Row] = [self._one.decode(body).features]
        except (ValueError, RecursionError):
            try:
                rows = self._many.decode(body).features
            except (ValueError, RecursionError):
                return self.validate(parse_json(body))
        if self._closed:
            for row in rows:
                self._require_known_values(row)
        return rows

    def validate(self, content: object) -> list[Row]:
        """The rows of a parsed body, checked one by one. Raises RequestError."""
        if not isinstance(content, dict) or set(content) != {"features"}:
            raise RequestError(422, 'Send an object with the one field "features".')
        features = content["features"]
        if not isinstance(features, list | JsonObject) or not features:
            raise RequestError(
                422,
                f'"features" is a row, or a list of rows. A row is a list of {len(self._features)} {self._values}, or '
                "an object with the names of the features.",
            )
        is_one = isinstance(features, JsonObject) or not (
            isinstance(features[0], JsonObject) or any(isinstance(item, list) for item in features)
        )
        rows = [features] if is_one else features
        if len(rows) > self._max_rows:
            raise RequestError(413, f"A request has at most {self._max_rows} rows; send them in several requests.")
        return [self._row(row) for row in rows]

    @property
    def _values(self) -> str:
        words = {"number": "numbers", "integer": "numbers", "boolean": "booleans", "string": "strings"}
        *others, last = sorted({words[feature.base_type] for feature in self._features})
        return f"{', '.join(others)} and {last}" if others else last

    def _row(self, row: object) -> Row:
        if isinstance(row, JsonObject):
            row = self._values_by_name(row)
        if not isinstance(row, list) or len(row) != len(self._features):
            hint = "; GET /model has all of them" if len(self._features) > MAX_NAMES else ""
            raise RequestError(
                422, f"A row has {len(self._features)} {self._values}: {_list_names(self._names)}{hint}."
            )
        values = [_check_value(value, feature) for value, feature in zip(row, self._features, strict=True)]
        self._require_known_values(values)
        return values

    def _require_known_values(self, row: Row) -> None:
        """Raise RequestError for a value that a category was not trained with."""
        for place, feature, values in self._closed:
            if row[place] is not None and row[place] not in values:
                raise RequestError(
                    422, f"{_shorten(feature.name)} is not one of the values that the model was trained with."
                )

    def _values_by_name(self, row: JsonObject) -> list[object]:
        """The values of a row in the model's order. Raises RequestError."""
        if row.duplicate:
            raise RequestError(422, f"A row has {_shorten(row.duplicate)} twice.")
        if row.keys() != self._known:
            missing = [name for name in self._names if name not in row]
            unknown = [name for name in row if name not in self._known]
            parts = [f"lacks {_list_names(missing)}"] if missing else []
            parts += [f"has {_list_names(unknown)}, which the model does not know"] if unknown else []
            raise RequestError(422, f"A row {' and '.join(parts)}.")
        return [row[name] for name in self._names]


def _list_names(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    listed = ", ".join(map(_shorten, names[:MAX_NAMES]))
    return f"{listed} and {more:,} more" if more > 0 else listed


def _shorten(name: str) -> str:
    """A name on one line, which no client can make long. It may hold half of a surrogate pair."""
    printable = name.encode("utf-8", "backslashreplace").decode()
    printable = "".join(each if each.isprintable() else "\ufffd" for each in printable)
    return printable if len(printable) <= MAX_NAME_CHARACTERS else f"{printable[: MAX_NAME_CHARACTERS - 1]}…"


def parse_json(body: bytes | bytearray) -> object:
    """Parse a body as JSON, which has no NaN and no Infinity. Raises RequestError."""
    if not body:
        raise RequestError(400, 'The body is empty; send {"features": [...]}.')
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=JsonObject)
    # ValueError is also bad UTF-8 and a number of too many digits; deep nesting ends in RecursionError.
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "The body is not JSON.") from error


def _decoder(features: Any) -> msgspec.json.Decoder[Any]:  # noqa: ANN401 - a type that is made at run time
    body = msgspec.defstruct("Body", [("features", features)], forbid_unknown_fields=True)
    return msgspec.json.Decoder(body)


def _decoded_type(feature: Feature) -> Any:  # noqa: ANN401 - a type that is made at run time
    match feature.base_type:
        case "string":
            value: Any = str
        case "boolean":
            value = bool
        case "integer":
            # JSON has one kind of numbers: 5.0 is a whole one.
            value = Annotated[float, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER, multiple_of=1)]
        case _:
            value = Annotated[float, Meta(ge=-MAX_FLOAT32, le=MAX_FLOAT32)]
    return value | None if feature.missing else value


def _check_value(value: object, feature: Feature) -> Value:
    name = _shorten(feature.name)
    match feature.base_type:
        case _ if value is None:
            if not feature.missing:
                raise RequestError(422, f"{name} is null, and the model takes no missing value there.")
            return None
        case "string":
            return _check_string(value, name)
        case "boolean":
            if not isinstance(value, bool):
                raise RequestError(422, f"{name} is not true or false.")
            return value
        case "integer":
            number = _check_number(value, name)
            if not number.is_integer() or abs(number) > MAX_INTEGER:
                raise RequestError(422, f"{name} is not a whole number, or too large.")
            return number
        case _:
            return _check_number(value, name)


def _check_number(value: object, name: str) -> float:
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


def _check_string(value: object, name: str) -> str:
    # JSON allows half of a surrogate pair, and no encoding of text does.
    if not isinstance(value, str) or (not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)):
        raise RequestError(422, f"{name} is not a string.")
    return value


def _refuse_constant(_: str) -> float:
    raise ValueError
