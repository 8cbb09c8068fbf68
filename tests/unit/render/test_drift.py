from __future__ import annotations

from drydock.render import drift
from drydock.render.drift import Bar, Cell
from drydock.report.drift import AnswerGroup, LabelPair, Labels, Shift


def group(*pairs: tuple[Labels, Labels | None, int]) -> AnswerGroup:
    made = tuple(LabelPair(before=before, after=after, rows=rows) for before, after, rows in pairs)
    return AnswerGroup(origin="reference", rows=40, labels_changed=2, label_pairs=made)


def test_a_matrix_has_a_cell_for_each_pair_of_labels_and_a_column_for_no_answer() -> None:
    desk, phone = drift.matrices(group(("small", "small", 25), ("large", "small", 2), ("large", None, 1)))
    assert (desk.canvas.name, phone.canvas.name, desk.height) == ("desk", "phone", 92)
    assert desk.before == (("large", 24), ("small", 58))
    assert desk.now == (("large", 37.5), ("small", 62.5), ("no answer", 87.5))
    assert desk.cells == (
        Cell("empty", 0, "large → large", 25, 24, 25),
        Cell("other", 2, "large → small", 50, 24, 25),
        Cell("other", 1, "large → no answer", 75, 24, 25),
        Cell("empty", 0, "small → large", 25, 58, 25),
        Cell("same", 25, "small → small", 50, 58, 25),
        Cell("empty", 0, "small → no answer", 75, 58, 25),
    )


def test_labels_that_have_no_room_are_numbered_and_shortened() -> None:
    _, phone = drift.matrices(group(("a" * 30, "a" * 30, 3), ("b", True, 1)))
    assert [name for name, _ in phone.now] == ["1", "2", "3"]
    assert [name for name, _ in phone.before] == ["1 aaaaaaaaaaa…", "2 b", "3 true"]


def test_more_labels_than_a_phone_has_room_for_have_no_matrix() -> None:
    assert drift.matrices(group(*((number, number, 1) for number in range(8))))
    assert drift.matrices(group(*((number, number, 1) for number in range(9)))) == ()
    assert drift.matrices(group()) == ()


def test_a_bar_is_as_high_as_its_share_of_the_largest_and_never_invisible() -> None:
    shift = Shift(unit="probability", mean=0.1, percentile_99=0.9, max=1.0, histogram=(3_000, 1_500, 1, *[0] * 7))
    assert drift.bars(shift)[:4] == (
        Bar(3_000, 72, "from 0 to 0.1"),
        Bar(1_500, 36, "from 0.1 to 0.2"),
        Bar(1, 2, "from 0.2 to 0.3"),
        Bar(0, 0, "from 0.3 to 0.4"),
    )
