"""How the container behaved when it was started and asked."""

from __future__ import annotations

import statistics

from pydantic import Field

from drydock.report.base import Value
from drydock.report.model import GoldenAnswer


class Answer(GoldenAnswer):
    """The container's answer to one golden row.

    Its fields are empty if the answer is not one prediction of the golden row's form. `status` is 0 if no HTTP answer
    came.
    """

    # In memory it is the golden row itself; what is written has the declared fields alone.
    expected: GoldenAnswer
    status: int = Field(description="of HTTP; 0 if no answer came")
    duration_seconds: float = 0.0


class Malformed(Value):
    """A malformed request, in plain words, and the status of its answer."""

    name: str
    status: int = Field(description="of HTTP; 0 if no answer came")


class Smoke(Value):
    """How the image behaved when it ran; `ready_seconds` is None if it never got ready."""

    uid: int | None = Field(description="of a process in the container; null if it is not known")
    ready_seconds: float | None
    not_ready: str = ""
    log: str = ""
    answers: tuple[Answer, ...] = ()
    tolerance: float = Field(
        default=0.0, description="the largest allowed difference from the recorded probability or value"
    )
    output_tolerances: dict[str, float] = Field(default={}, description="the same for each of several values")
    malformed: tuple[Malformed, ...] = ()

    @property
    def median_seconds(self) -> float:
        """The median time of an answer to one golden row; 0 if none was asked."""
        return statistics.median([answer.duration_seconds for answer in self.answers] or [0.0])

    @property
    def slowest_seconds(self) -> float:
        """The time of the slowest answer to a golden row; 0 if none was asked."""
        return max((answer.duration_seconds for answer in self.answers), default=0.0)
