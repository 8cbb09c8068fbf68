"""What the decoder in C takes at once is what the readable rules take, and nothing else."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.rows import Reader, Refused, parsed

READER = Reader(["length", "width"], rows_limit=3)
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.booleans(),
    st.none(),
    st.text(max_size=2),
)
ROW = st.lists(NUMBERS, max_size=3)
FEATURES = st.one_of(ROW, st.lists(st.one_of(ROW, NUMBERS), max_size=4))


def slow(body: bytes) -> list[list[float]] | int:
    try:
        return READER.checked(parsed(body))
    except Refused as refused:
        return refused.status


def fast(body: bytes) -> list[list[float]] | int:
    try:
        return READER.rows(body)
    except Refused as refused:
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
