from __future__ import annotations

import pytest

from drydock.report import units
from tests.support import examples


@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1 kB"),
        (14_600, "15 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (1_499_999, "1 MB"),
        (287_400_000, "287 MB"),
        (1_200_000_000, "1200 MB"),
    ],
)
def test_a_size_is_in_the_unit_that_people_would_say(size_bytes: int, said: str) -> None:
    assert units.format_size(size_bytes) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.9474, "0.947"),
        (0.95, "0.950"),
        (1.0, "1.00"),
        (0.0, "0.00"),
        (-0.4511, "-0.451"),
        (0.000123, "0.000123"),
        (44.1, "44.1"),
        (99.94, "99.9"),
        (99.96, "100"),
        (181.3, "181"),
        (1_234_567.8, "1,234,568"),
    ],
)
def test_a_figure_has_three_digits_that_count(value: float, said: str) -> None:
    assert units.format_number(value) == said


def test_an_accuracy_is_in_percent_and_other_scores_are_not() -> None:
    assert units.format_score("accuracy", 0.9474) == "94.7 %"
    assert units.format_score("r2", 0.9474) == "0.947"


def test_features_that_are_no_numbers_say_their_type() -> None:
    assert units.list_features(examples.CONTRACT) == ["width", "height"]
    assert units.list_features(examples.MIXED) == ["state (category)", "age", "text (string)"]
    assert units.list_features(examples.TYPED) == [
        *("town (category)", "visits (integer)", "is_member (boolean)", "spent", "member (string)"),
    ]


@pytest.mark.parametrize(
    ("size_bytes", "said"), [(12_300_000, "+12 MB"), (-60_000, "-60 kB"), (-1, "-1 byte"), (0, "0 bytes")]
)
def test_a_difference_has_its_sign(size_bytes: int, said: str) -> None:
    assert units.format_difference(size_bytes) == said
