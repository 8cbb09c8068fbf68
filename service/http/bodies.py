"""The JSON bodies of responses, and the buffer of a request's body."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from service.model import (
    ClassPrediction,
    LabelPrediction,
    LabelsPrediction,
    OutlierPrediction,
    RegressionPrediction,
    ValuesPrediction,
)

# The first bytes of a body do not count towards the limit of all bodies: small requests are served while large ones
# arrive. The limit of connections bounds their sum.
FREE_BODY_BYTES = 64_000


class ClassificationBody(Struct, frozen=True):
    """The answers, in the order of the rows."""

    predictions: list[ClassPrediction]


class LabelBody(Struct, frozen=True):
    """The answers of a model without probabilities, in the order of the rows."""

    predictions: list[LabelPrediction]


class RegressionBody(Struct, frozen=True):
    """The answers of a regression, in the order of the rows."""

    predictions: list[RegressionPrediction]


class ValuesBody(Struct, frozen=True):
    """The answers of a regression of several values, in the order of the rows."""

    predictions: list[ValuesPrediction]


class LabelsBody(Struct, frozen=True):
    """The answers of a model that may give a row several labels, in the order of the rows."""

    predictions: list[LabelsPrediction]


class OutlierBody(Struct, frozen=True):
    """The answers of an outlier detector, in the order of the rows."""

    predictions: list[OutlierPrediction]


class ErrorBody(Struct, frozen=True):
    """Why the request failed, in one sentence."""

    error: str


class StatusBody(Struct, frozen=True, omit_defaults=True):
    """The server's status."""

    status: str
    error: str = ""


class ModelBody(Struct, frozen=True):
    """The contract of the model, and the commit that the image was built from.

    The golden rows are left out: they are rows of somebody's data, word for word.
    """

    contract: dict[str, Any]
    revision: str


class BodyBuffer:
    """A request's body as it arrives. It is kept in blocks: one buffer that grows fragments the memory."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._blocks = [bytearray()]

    @property
    def counted_bytes(self) -> int:
        """How much of it counts towards the limit of all bodies."""
        return max(0, self.size_bytes - FREE_BODY_BYTES)

    def append(self, content: bytes) -> None:
        """Add the next part."""
        if len(self._blocks[-1]) >= FREE_BODY_BYTES:
            self._blocks.append(bytearray())
        self._blocks[-1] += content
        self.size_bytes += len(content)

    def take(self) -> bytes | bytearray:
        """Return all of it, and keep nothing."""
        blocks, self._blocks = self._blocks, [bytearray()]
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)
