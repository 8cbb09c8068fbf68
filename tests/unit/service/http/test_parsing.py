"""What the decoder in C takes at once is what the readable rules take, and nothing else."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.contract import Row
from service.http.parsing import RequestError, RequestParser, parse_json

READER = RequestParser(["length", "width"], ["number", "number"], max_rows=3)
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.booleans(),
    st.none(),
    st.text(max_size=2),
)
ROW = st.lists(NUMBERS, max_size=3)
MIXED = RequestParser(["subject", "hours", "channel"], ["string", "number", "string"], max_rows=3)
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
        (["a", 1, None], "channel is not a string."),
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
    wide = RequestParser([f"f{number}" for number in range(60_000)], ["number"] * 60_000, max_rows=3)
    with pytest.raises(RequestError, match=r"^A row lacks f0, f1, .*, f19 and 59,979 more\.$"):
        wide.parse(b'{"features": {"f59999": 1}}')


def test_a_name_that_stands_twice_is_found_in_one_pass() -> None:
    # To count each name by itself would take minutes.
    names = ", ".join(f'"{number}": 1' for number in range(60_000))
    with pytest.raises(RequestError, match=r"^A row has length twice\.$"):
        READER.parse(f'{{"features": {{{names}, "length": 1, "length": 2}}}}'.encode())
