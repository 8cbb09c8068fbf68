"""The sklearn runtime: the pickle that joblib wrote, answered by scikit-learn itself."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import joblib
import numpy as np


class Pickled:
    """A classifier with `predict_proba`."""

    # A call takes milliseconds: meanwhile others are listened to, and go together in the next one.
    inline = False

    def __init__(self, content: bytes) -> None:
        """Unpickle `content`, which runs code: its sha256 has to be known by then."""
        self.estimator: Any = joblib.load(io.BytesIO(content))

    def probabilities(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        """What `predict_proba` says of each row, in the order of the labels."""
        # scikit-learn sums all numbers to see whether they are finite: very large ones overflow there, and only there.
        with np.errstate(over="ignore", invalid="ignore"):
            answers: list[list[float]] = self.estimator.predict_proba(np.asarray(rows, dtype=np.float64)).tolist()
        return answers
