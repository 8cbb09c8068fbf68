"""How good a model is on rows that it has not seen, and how sure that is: each score with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from service.contract import Holdout

Scores = dict[str, float]
# The 2.5th and the 97.5th percentile of so many samples of the same rows, drawn with replacement.
# B. Efron and R. Tibshirani, An Introduction to the Bootstrap, chapter 13.
SAMPLES = 1_000
PERCENTILES = (2.5, 97.5)
# A model of very many labels gets no scores for each of them.
MAX_LABELS = 50
# A probability of zero for the right label would make the log loss infinite.
SMALLEST = float(np.finfo(np.float64).eps)


def score_classifier(
    labels: Sequence[str], right: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray
) -> Holdout:
    """The scores of a classification.

    `right` and `predicted` have the place of each row's label, shape (rows,). `probabilities` has the shape (rows,
    labels), or is empty. Precision and recall of a label are in the scores as `precision.LABEL` and `recall.LABEL`.
    A score that these rows cannot have is left out, such as the recall of a label that is in none of them.
    """
    count = len(labels)
    loss = np.zeros(0)
    if probabilities.size:
        loss = -np.log(np.clip(probabilities[np.arange(len(right)), right], SMALLEST, 1))

    def score(rows: np.ndarray) -> Scores:
        table = np.bincount(right[rows] * count + predicted[rows], minlength=count * count).reshape(count, count)
        hits = np.diag(table)
        recall, precision = _divide(hits, table.sum(axis=1)), _divide(hits, table.sum(axis=0))
        scores = {"accuracy": float(hits.sum() / len(rows)), "balanced_accuracy": float(np.nanmean(recall))}
        if loss.size:
            scores["log_loss"] = float(loss[rows].mean())
        if count <= MAX_LABELS:
            scores |= {f"precision.{label}": float(value) for label, value in zip(labels, precision, strict=True)}
            scores |= {f"recall.{label}": float(value) for label, value in zip(labels, recall, strict=True)}
        return scores

    return _with_intervals(len(right), score)


def score_regressor(right: np.ndarray, predicted: np.ndarray) -> Holdout:
    """The scores of a regression; `right` and `predicted` have the shape (rows,), in the unit of the target."""

    def score(rows: np.ndarray) -> Scores:
        error, target = predicted[rows] - right[rows], right[rows]
        spread = float(np.square(target - target.mean()).sum())
        return {
            "r2": 1 - float(np.square(error).sum()) / spread if spread else np.nan,
            "mean_absolute_error": float(np.abs(error).mean()),
        }

    return _with_intervals(len(right), score)


def _divide(hits: np.ndarray, totals: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.divide(hits, totals, out=np.full(len(hits), np.nan), where=totals > 0)
    return shares


def _with_intervals(count: int, score: Callable[[np.ndarray], Scores]) -> Holdout:
    """The scores of all rows, and the interval of each; the same rows give the same bytes."""
    scores = {name: value for name, value in score(np.arange(count)).items() if np.isfinite(value)}
    generator = np.random.default_rng(42)
    samples = [score(generator.integers(count, size=count)) for _ in range(SAMPLES)]
    intervals = {}
    for name in scores:
        values = np.array([sample[name] for sample in samples])
        # A small sample may have one value alone, of which there is no r2.
        finite = values[np.isfinite(values)]
        low, high = np.percentile(finite, PERCENTILES) if len(finite) else (scores[name], scores[name])
        # Beside the other end this is zero, and it would be another one on another processor.
        smallest = 1e-9 * max(abs(low), abs(high))
        intervals[name] = (_round(float(low)) if abs(low) > smallest else 0.0, _round(float(high)))
    return Holdout(rows=count, scores={name: _round(value) for name, value in scores.items()}, intervals=intervals)


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def describe_scores(holdout: Holdout, names: Sequence[str] = ("accuracy", "r2", "mean_absolute_error")) -> str:
    """The scores with these names in words: "accuracy 0.92 (0.82 to 1) on 38 rows"."""
    described = [
        f"{name.replace('_', ' ')} {holdout.scores[name]:g} ({low:g} to {high:g})"
        for name in names
        if name in holdout.scores
        for low, high in [holdout.intervals[name]]
    ]
    return f"{', '.join(described)} on {holdout.rows} rows"
