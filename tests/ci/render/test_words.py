from __future__ import annotations

import pytest

from render import words


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
    assert words.size(size_bytes) == said


@pytest.mark.parametrize(
    ("size_bytes", "said"), [(12_300_000, "+12 MB"), (-60_000, "-60 kB"), (-1, "-1 byte"), (0, "0 bytes")]
)
def test_a_difference_has_its_sign(size_bytes: int, said: str) -> None:
    assert words.difference(size_bytes) == said
