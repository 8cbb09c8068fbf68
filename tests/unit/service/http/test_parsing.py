"""What the decoder in C takes at once is what the readable rules take, and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.contract import MAX_INTEGER, Feature, FeatureType, Label, Row, Value
from service.http.parsing import RequestError, RequestParser, parse_json

READER = RequestParser([Feature("length", "number"), Feature("width", "number")], max_rows=3)
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.booleans(),
    st.none(),
    st.text(max_size=2),
)
ROW = st.lists(NUMBERS, max_size=3)
MIXED = RequestParser(
    [Feature("subject", "string"), Feature("hours", "number"), Feature("channel", "string")], max_rows=3
)
# Each type, and each with gaps.
EVERY: list[Feature] = [
    Feature("number", "number"),
    Feature("integer", "integer"),
    Feature("boolean", "boolean"),
    Feature("string", "string"),
    Feature("city", "category", ["Basel", "Bern"]),
    Feature("floor", "category", [0, 1, 2]),
    Feature("size", "category", [0.5, 2]),
]
EVERY += [Feature(f"{each.name}?", each.type, each.values, missing=True) for each in EVERY]
ALL_TYPES = RequestParser(EVERY, max_rows=3)
CLOSED = RequestParser(EVERY, max_rows=3, known_values_only=True)
GOOD_ROW: list[Value] = [1.5, 5.0, True, "a", "Bern", 2.0, 0.5, *([None] * 7)]
# Halves of surrogate pairs as well, which JSON can say and no text has.
WORDS = st.text(st.characters(exclude_categories=()), max_size=3)
ANYTHING = st.one_of(NUMBERS, WORDS)
MIXED_ROW = st.one_of(st.tuples(WORDS, NUMBERS, WORDS), st.lists(ANYTHING, max_size=4))
FEATURES = st.one_of(ROW, st.lists(st.one_of(ROW, NUMBERS), max_size=4))


def slow(body: bytes, reader: RequestParser = READER) -> list[Row] | int:
    try:
        return reader.validate(parse_json(body))
    except RequestError as refused:
        return refused.status


def fast(body: bytes, reader: RequestParser = READER) -> list[Row] | int:
    try:
        # A mixed row is a tuple to the decoder in C.
        return [list(row) for row in reader.parse(body)]
    except RequestError as refused:
        return refused.status


@settings(max_examples=500, deadline=None)
@given(FEATURES)
@example([3.4e38, -3.4e38])
@example([3.5e38, 0])
@example([math.nextafter(3.4e38, math.inf), 0])
@example([[1, 2], [3, 4], [5, 6]])
@example([10**20, 10**309])
def test_what_json_can_say_is_taken_or_refused_alike(features: object) -> None:
    body = json.dumps({"features": features}).encode()
    assert fast(body) == slow(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"features": [1, 2], "features": [3, 4]}',
        b'{"features": [1, 2], "features": "x"}',
        b'{"feature\\u0073": [1, 2]}',
        b' {"features" : [ 1 , 2.5e0 ] } ',
        b'{"features": [-0, 1e-400]}',
        b'{"features": [01, 2]}',
        b'{"features": [1., 2]}',
        b'{"features": [+1, 2]}',
        b'{"features": [1, 2],}',
        b'\xef\xbb\xbf{"features": [1, 2]}',
        '{"features": [1, 2]}'.encode("utf-16"),
        b'{"features": [1, 2]}\x00',
        b'{"features": ' + b"[" * 100_000,
    ],
)
def test_odd_json_is_taken_or_refused_alike(body: bytes) -> None:
    assert fast(body) == slow(body)


def test_the_two_can_differ_from_nonsense() -> None:
    # The proof that the tests above can fail.
    assert fast(b'{"features": [1, 2]}') == [[1.0, 2.0]]
    assert slow(b'{"features": [1, 3]}') == [[1.0, 3.0]]
    assert slow(b'{"features": [1]}') == 422


@settings(max_examples=500, deadline=None)
@given(st.one_of(MIXED_ROW, st.lists(st.one_of(MIXED_ROW, ANYTHING), max_size=4)), st.booleans())
@example(("a", 1, "b"), True)
@example([("a", 1, "b"), ("", -3.4e38, "\x00"), ("1", 2.5, "null")], True)
@example([("a", 1, "b")] * 4, True)
@example([("a", 1, "b"), ("a", 1)], True)
@example(("a", 3.5e38, "b"), True)
@example(("\ud83d\ude42", 1, "\ude42\ud83d"), True)
@example(("\ud800", 1, "b"), True)
@example((1, 1, "b"), True)
@example(("a", "1", "b"), True)
@example(("a", True, None), True)
@example(["a", "b", "c"], True)
def test_words_among_numbers_are_taken_or_refused_alike(features: object, ascii_only: bool) -> None:
    body = json.dumps({"features": features}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert fast(body, MIXED) == slow(body, MIXED)


@pytest.mark.parametrize(
    "body",
    [
        b'{"features": ["\\ud83d\\ude42", 1, "b"]}',
        b'{"features": ["\\ud83d", 1, "b"]}',
        b'{"features": ["\\ude42\\ud83d", 1, "b"]}',
        b'{"features": ["\\ud83dx", 1, "b"]}',
        b'{"features": ["\xed\xa0\x80", 1, "b"]}',
        b'{"features": ["\xff", 1, "b"]}',
        b'{"features": ["\xc0\x80", 1, "b"]}',
        b'{"features": ["a\nb", 1, "b"]}',
        b'{"features": ["\\u0000\\/\\b", 1, "b"]}',
        b'{"features": ["\\x41", 1, "b"]}',
        b'{"features": ["\\u00e", 1, "b"]}',
        b"{'features': ['a', 1, 'b']}",
    ],
)
def test_odd_words_are_taken_or_refused_alike(body: bytes) -> None:
    assert fast(body, MIXED) == slow(body, MIXED)


def test_words_arrive_as_they_were_sent() -> None:
    # The proof that the tests above can fail.
    assert fast(b'{"features": ["\\ud83d\\ude42", 1, ""]}', MIXED) == [["\U0001f642", 1.0, ""]]
    assert fast(b'{"features": [["7", 7, "b"], ["c", 8, "d"]]}', MIXED) == [["7", 7.0, "b"], ["c", 8.0, "d"]]
    assert slow(b'{"features": ["7", 7, "b"]}', MIXED) == [["7", 7.0, "b"]]


FORM = (
    '"features" is a row, or a list of rows. A row is a list of 3 numbers and strings, or an object with the names of '
    "the features."
)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["a", "1", "b"], "hours is not a number."),
        (["a", True, "b"], "hours is not a number."),
        (["a", 10**400, "b"], "hours is too large, or not finite."),
        ([1, 1, "b"], "subject is not a string."),
        (["a", 1, None], "channel is null, and the model takes no missing value there."),
        (["a", 1, False], "channel is not a string."),
        (["a", 1, {"b": 1}], "channel is not a string."),
        (["a", 1, "\ud800"], "channel is not a string."),
        ([["a", 1, "b"], ["a", 1, 2]], "channel is not a string."),
        (["a", 1], "A row has 3 numbers and strings: subject, hours, channel."),
        (["a", 1, ["b"]], "A row has 3 numbers and strings: subject, hours, channel."),
        ([["a", 1, "b"], "a"], "A row has 3 numbers and strings: subject, hours, channel."),
        ([], FORM),
        ({}, FORM),
        ("a", FORM),
        ({"subject": "a", "hours": "1", "channel": "b"}, "hours is not a number."),
        ({"subject": "a", "hours": 1}, "A row lacks channel."),
        (
            {"Subject": "a", "hours": 1, "channel": "b"},
            "A row lacks subject and has Subject, which the model does not know.",
        ),
        (
            {"subject": "a", "hours": 1, "channel": "b", "x\n" * 40: 1},
            "A row has " + "x\ufffd" * 29 + "x…, which the model does not know.",
        ),
        ([["a", 1, "b"], {"subject": "a"}], "A row lacks hours, channel."),
        (
            [{"subject": "a", "hours": 1, "channel": "b"}, 7],
            "A row has 3 numbers and strings: subject, hours, channel.",
        ),
    ],
)
def test_what_is_wrong_with_a_row_is_told_by_the_name_of_its_feature(given: object, sentence: str) -> None:
    with pytest.raises(RequestError) as refused:
        MIXED.parse(json.dumps({"features": given}).encode())
    assert (refused.value.status, str(refused.value)) == (422, sentence)


def test_a_row_by_name_is_the_row_in_the_models_order() -> None:
    row = {"channel": "b", "hours": 1, "subject": "a"}
    assert MIXED.parse(json.dumps({"features": row}).encode()) == [["a", 1.0, "b"]]
    body = json.dumps({"features": [row, ["c", 2, "d"], row]}).encode()
    assert MIXED.parse(body) == [["a", 1.0, "b"], ["c", 2.0, "d"], ["a", 1.0, "b"]]
    with pytest.raises(RequestError) as refused:
        MIXED.parse(json.dumps({"features": [row] * 4}).encode())
    assert refused.value.status == 413


def test_a_name_that_stands_twice_is_refused_since_nobody_knows_which_value_was_meant() -> None:
    with pytest.raises(RequestError) as refused:
        READER.parse(b'{"features": {"length": 1, "width": 2, "length": 3}}')
    assert (refused.value.status, str(refused.value)) == (422, "A row has length twice.")


def test_of_very_many_names_some_are_listed() -> None:
    wide = RequestParser([Feature(f"f{number}", "number") for number in range(60_000)], max_rows=3)
    with pytest.raises(RequestError, match=r"^A row lacks f0, f1, .*, f19 and 59,979 more\.$"):
        wide.parse(b'{"features": {"f59999": 1}}')


def test_a_name_that_stands_twice_is_found_in_one_pass() -> None:
    # To count each name by itself would take minutes.
    names = ", ".join(f'"{number}": 1' for number in range(60_000))
    with pytest.raises(RequestError, match=r"^A row has length twice\.$"):
        READER.parse(f'{{"features": {{{names}, "length": 1, "length": 2}}}}'.encode())


VALUES = st.one_of(
    ANYTHING,
    st.sampled_from(
        [5, 5.0, 5.5, -0.0, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) + 1, -(2**53), 0, 1, 2, 0.5, "Basel", "Bern", "Chur"]
    ),
)


def values_of(feature: Feature) -> st.SearchStrategy[object]:
    """Values that the feature takes, and now and then any other one."""
    taken: dict[str, st.SearchStrategy[Any]] = {
        "number": st.floats(-3.4e38, 3.4e38),
        "integer": st.one_of(st.integers(-MAX_INTEGER, MAX_INTEGER), st.integers(-1000, 1000).map(float)),
        "boolean": st.booleans(),
        "string": st.text(max_size=3),
        "category": st.sampled_from([*feature.values, *feature.values, "Chur" if feature.name[0] == "c" else 7]),
    }
    own = taken[feature.type]
    return st.one_of(own, own, st.none() if feature.missing else own, VALUES)


ROW_OF_EVERY = st.tuples(*map(values_of, EVERY)).map(list)


def given_by_name(features: list[Any]) -> object:
    """The same rows, each as an object whose names are in another order."""
    if any(isinstance(item, list) for item in features):
        return [given_by_name(item) for item in features]
    return {feature.name: value for feature, value in reversed(list(zip(EVERY, features, strict=True)))}


@settings(max_examples=300, deadline=None)
@given(st.one_of(ROW_OF_EVERY, st.lists(ROW_OF_EVERY, min_size=1, max_size=4)), st.booleans())
@example(GOOD_ROW, False)
@example([GOOD_ROW] * 3, True)
@example([GOOD_ROW] * 4, True)
def test_rows_of_every_type_are_taken_or_refused_alike_as_lists_and_by_name(
    features: list[Any], is_closed: bool
) -> None:
    reader = CLOSED if is_closed else ALL_TYPES
    body = json.dumps({"features": features}).encode()
    taken = fast(body, reader)
    assert same(taken, slow(body, reader))
    assert same(taken, fast(json.dumps({"features": given_by_name(features)}).encode(), reader))


def same(one: list[Row] | int, two: list[Row] | int) -> bool:
    # In Python, True is 1 and 1 is 1.0.
    return one == two and repr(one) == repr(two)


class Refused(str):
    """Why a value is refused."""

    __slots__ = ()


def outcome(feature: Feature, value: object, *, known_values_only: bool = False) -> Value | Refused:
    """What each of the three ways of reading makes of a value."""
    reader = RequestParser([feature], 3, known_values_only=known_values_only)
    outcomes: list[Value | Refused] = []
    for features in ([value], [[value]], {feature.name: value}, [{feature.name: value}]):
        body = json.dumps({"features": features}).encode()
        # A list is no value of a feature, but rows.
        for parse in (reader.parse, lambda body: reader.validate(parse_json(body))):
            try:
                ((read,),) = parse(body)
                outcomes.append(read)
            except RequestError as refused:
                outcomes.append(Refused(f"{refused.status}: {refused}"))
    assert len({repr(each) for each in outcomes}) == 1, outcomes
    return outcomes[0]


NO_NUMBER, NO_STRING, NO_BOOLEAN = "422: a is not a number.", "422: a is not a string.", "422: a is not true or false."
NULL = "422: a is null, and the model takes no missing value there."
NOT_WHOLE, TOO_LARGE = "422: a is not a whole number, or too large.", "422: a is too large, or not finite."


@pytest.mark.parametrize(
    ("kind", "values", "value", "expected"),
    [
        ("number", [], 5, 5.0),
        ("number", [], -2.5, -2.5),
        ("number", [], 3.4e38, 3.4e38),
        ("number", [], 3.5e38, Refused(TOO_LARGE)),
        ("number", [], True, Refused(NO_NUMBER)),
        ("number", [], "5", Refused(NO_NUMBER)),
        ("number", [], None, Refused(NULL)),
        ("integer", [], 5, 5.0),
        ("integer", [], 5.0, 5.0),
        ("integer", [], -3, -3.0),
        ("integer", [], 5.5, Refused(NOT_WHOLE)),
        ("integer", [], 2**53 - 1, 9007199254740991.0),
        ("integer", [], -(2**53) + 1, -9007199254740991.0),
        ("integer", [], 2**53, Refused(NOT_WHOLE)),
        ("integer", [], -(2**53), Refused(NOT_WHOLE)),
        ("integer", [], 1e300, Refused(TOO_LARGE)),
        ("integer", [], False, Refused(NO_NUMBER)),
        ("integer", [], "5", Refused(NO_NUMBER)),
        ("integer", [], None, Refused(NULL)),
        ("boolean", [], True, True),
        ("boolean", [], False, False),
        ("boolean", [], 1, Refused(NO_BOOLEAN)),
        ("boolean", [], 0.0, Refused(NO_BOOLEAN)),
        ("boolean", [], "true", Refused(NO_BOOLEAN)),
        ("boolean", [], None, Refused(NULL)),
        ("string", [], "", ""),
        ("string", [], "5", "5"),
        ("string", [], 5, Refused(NO_STRING)),
        ("string", [], True, Refused(NO_STRING)),
        ("string", [], None, Refused(NULL)),
        ("category", ["Basel", "Bern"], "Bern", "Bern"),
        ("category", ["Basel", "Bern"], "Chur", "Chur"),
        ("category", ["Basel", "Bern"], 1, Refused(NO_STRING)),
        ("category", ["Basel", "Bern"], None, Refused(NULL)),
        ("category", [1, 2], 2, 2.0),
        ("category", [1, 2], 7.0, 7.0),
        ("category", [1, 2], 1.5, Refused(NOT_WHOLE)),
        ("category", [1, 2], "1", Refused(NO_NUMBER)),
        ("category", [1, 2], True, Refused(NO_NUMBER)),
        ("category", [0.5, 2], 1.5, 1.5),
        ("category", [0.5, 2], False, Refused(NO_NUMBER)),
    ],
)
def test_a_value_of_each_type_is_taken_or_refused_in_every_form(
    kind: FeatureType, values: list[Label], value: object, expected: Value | Refused
) -> None:
    for missing in (False, True):
        read = outcome(Feature("a", kind, values, missing=missing), value)
        if missing and value is None:
            assert read is None
        else:
            assert (type(read), read) == (type(expected), expected)


UNKNOWN = "422: a is not one of the values that the model was trained with."


@pytest.mark.parametrize(
    ("values", "value", "expected"),
    [
        (["Basel", "Bern"], "Basel", "Basel"),
        (["Basel", "Bern"], "Chur", Refused(UNKNOWN)),
        (["Basel", "Bern"], "bern", Refused(UNKNOWN)),
        (["Basel", "Bern"], 1, Refused(NO_STRING)),
        ([0, 1], 1, 1.0),
        ([0, 1], 1.0, 1.0),
        ([0, 1], 2, Refused(UNKNOWN)),
        ([0, 1], True, Refused(NO_NUMBER)),
        ([0.5, 2], 2, 2.0),
        ([0.5, 2], 1, Refused(UNKNOWN)),
    ],
)
def test_other_values_of_a_category_may_be_refused(
    values: list[Label], value: object, expected: Value | Refused
) -> None:
    read = outcome(Feature("a", "category", values), value, known_values_only=True)
    assert (type(read), read) == (type(expected), expected)
    assert outcome(Feature("a", "category", values, missing=True), None, known_values_only=True) is None


def test_what_is_no_category_takes_any_value_of_its_type() -> None:
    assert outcome(Feature("a", "string"), "Chur", known_values_only=True) == "Chur"
    assert outcome(Feature("a", "integer"), 7, known_values_only=True) == 7


def test_a_row_says_which_types_it_has() -> None:
    with pytest.raises(RequestError) as refused:
        ALL_TYPES.parse(b'{"features": [1]}')
    assert str(refused.value).startswith("A row has 14 booleans, numbers and strings: number, integer, boolean, ")
    switches = RequestParser([Feature("on", "boolean")], 3)
    with pytest.raises(RequestError, match=r"^A row has 1 booleans: on\.$"):
        switches.parse(b'{"features": [true, false]}')
