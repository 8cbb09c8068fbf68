"""The picture of what changed in the answers: labels before and now, or how far values moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drydock.report.drift import AnswerGroup, Labels, Shift
from drydock.report.units import format_labels

# More labels than this have no room on a phone.
MAX_LABELS = 8
# In pixels, at the 12 px of the template's style sheet.
CHARACTER_WIDTH, MARGIN = 7.5, 6
HEADER_HEIGHT, ROW_HEIGHT, BAR_HEIGHT = 24, 34, 72


@dataclass(frozen=True)
class Canvas:
    """A width of the page, by the name of its class: in pixels, with the share of the labels at the left."""

    name: str
    narrowest: int
    gutter_percent: int


CANVASES = (Canvas("desk", 560, 25), Canvas("phone", 280, 40))


@dataclass(frozen=True)
class Cell:
    """The rows with one label before and one now; x and width in percent, y in pixels."""

    kind: Literal["same", "other", "empty"]
    rows: int
    words: str
    x: float
    y: int
    width: float


@dataclass(frozen=True)
class Matrix:
    """The labels before, downwards, and now, to the right: each with its place, in percent or pixels."""

    canvas: Canvas
    height: int
    before: tuple[tuple[str, int], ...]
    now: tuple[tuple[str, float], ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Bar:
    """The rows that moved by one step: the height in pixels, and what it stands for."""

    rows: int
    height: int
    words: str


def matrices(group: AnswerGroup) -> tuple[Matrix, ...]:
    """The picture of the labels for each width; none if there are no labels, or too many."""
    # A None is a row without an answer, and comes last.
    labels = list(dict.fromkeys(format_labels(label) for label in _list_labels(group)))
    if not labels or len(labels) > MAX_LABELS:
        return ()
    return tuple(_draw_matrix(group, sorted(labels, key=_last_without_answer), canvas) for canvas in CANVASES)


def _list_labels(group: AnswerGroup) -> list[Labels | None]:
    return [label for pair in group.label_pairs for label in (pair.before, pair.after)]


def _last_without_answer(text: str) -> tuple[bool, str]:
    return text == format_labels(None), text


def _draw_matrix(group: AnswerGroup, labels: Sequence[str], canvas: Canvas) -> Matrix:
    rows = {(format_labels(pair.before), format_labels(pair.after)): pair.rows for pair in group.label_pairs}
    before = [label for label in labels if label != format_labels(None)]
    width = (100 - canvas.gutter_percent) / len(labels)
    room = int((width * canvas.narrowest / 100 - MARGIN) / CHARACTER_WIDTH)
    fits = all(len(label) <= room for label in labels)
    numbers = {label: "" if fits else f"{number} " for number, label in enumerate(labels, 1)}
    gutter = int((canvas.gutter_percent * canvas.narrowest / 100 - MARGIN) / CHARACTER_WIDTH)
    return Matrix(
        canvas=canvas,
        height=HEADER_HEIGHT + ROW_HEIGHT * len(before),
        before=tuple(
            (_shorten(f"{numbers[label]}{label}", gutter), HEADER_HEIGHT + ROW_HEIGHT * number)
            for number, label in enumerate(before)
        ),
        now=tuple(
            (label if fits else numbers[label].strip(), round(canvas.gutter_percent + width * (number + 0.5), 3))
            for number, label in enumerate(labels)
        ),
        cells=tuple(
            _draw_cell(was, now, rows.get((was, now), 0), canvas.gutter_percent + width * column, line, width)
            for line, was in enumerate(before)
            for column, now in enumerate(labels)
        ),
    )


def _draw_cell(was: str, now: str, rows: int, x: float, line: int, width: float) -> Cell:
    kind: Literal["same", "other", "empty"] = "same" if was == now else "other"
    return Cell(
        kind=kind if rows else "empty",
        rows=rows,
        words=f"{was} → {now}",
        x=round(x, 3),
        y=HEADER_HEIGHT + ROW_HEIGHT * line,
        width=round(width, 3),
    )


def _shorten(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def bars(shift: Shift) -> tuple[Bar, ...]:
    """The picture of the shifts: a bar for each step, the first for the rows that moved least."""
    most = max(shift.histogram)
    step = shift.max / len(shift.histogram)
    return tuple(
        Bar(
            rows=rows,
            height=max(2, round(BAR_HEIGHT * rows / most)) if rows else 0,
            words=f"from {step * number:.2g} to {step * (number + 1):.2g}",
        )
        for number, rows in enumerate(shift.histogram)
    )
