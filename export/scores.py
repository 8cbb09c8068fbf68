"""How good a model is on rows that it has not seen, and how sure that is: each score with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from service.contract import OUTLIER_LABELS, Holdout, Label, label_text

Scores = dict[str, float]
# A score of the user's own, by its name: a function of the right answers and of the model's. Both are labels, values
# of the shape (rows,) or (rows, values), or booleans of the shape (rows, labels).
CustomScores = Mapping[str, Callable[[np.ndarray, np.ndarray], float]]
NO_SCORES: CustomScores = {}
# The 2.5th and the 97.5th percentile of so many samples of the same rows, drawn with replacement.
# B. Efron and R. Tibshirani, An Introduction to the Bootstrap, chapter 13.
SAMPLES = 1_000
PERCENTILES = (2.5, 97.5)
# A model of very many labels gets no scores for each of them.
MAX_LABELS = 50
# A probability of zero for the right label would make the log loss infinite.
SMALLEST = float(np.finfo(np.float64).eps)


def score_classifier(
    labels: Sequence[Label],
    right: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    custom_scores: CustomScores = NO_SCORES,
) -> Holdout:
    """The scores of a classification.

    `right` and `predicted` have the place of each row's label, shape (rows,). `probabilities` has the shape (rows,
    labels), or is empty. Precision and recall of a label are in the scores as `precision.LABEL` and `recall.LABEL`.
    A score that these rows cannot have is left out, such as the recall of a label that is in none of them.
    """
    count, texts = len(labels), [label_text(label) for label in labels]
    loss = np.zeros(0)
    if probabilities.size:
        loss = -np.log(np.clip(probabilities[np.arange(len(right)), right], SMALLEST, 1))
    names = np.array(labels, dtype=object)

    def score(rows: np.ndarray) -> Scores:
        table = np.bincount(right[rows] * count + predicted[rows], minlength=count * count).reshape(count, count)
        hits = np.diag(table)
        recall, precision = _divide(hits, table.sum(axis=1)), _divide(hits, table.sum(axis=0))
        scores = {"accuracy": float(hits.sum() / len(rows)), "balanced_accuracy": float(np.nanmean(recall))}
        if loss.size:
            scores["log_loss"] = float(loss[rows].mean())
        if count <= MAX_LABELS:
            scores |= {f"precision.{label}": float(value) for label, value in zip(texts, precision, strict=True)}
            scores |= {f"recall.{label}": float(value) for label, value in zip(texts, recall, strict=True)}
        return scores | _compute_custom_scores(custom_scores, names[right[rows]], names[predicted[rows]])

    return _with_intervals(len(right), score)


def score_multilabel(
    labels: Sequence[str], right: np.ndarray, predicted: np.ndarray, custom_scores: CustomScores = NO_SCORES
) -> Holdout:
    """The scores of a model that may give a row several labels; both arrays are booleans, shape (rows, labels).

    `accuracy` is the share of rows with exactly the right labels.
    """

    def score(rows: np.ndarray) -> Scores:
        hits = (right[rows] & predicted[rows]).sum(axis=0)
        recall, precision = _divide(hits, right[rows].sum(axis=0)), _divide(hits, predicted[rows].sum(axis=0))
        scores = {
            "accuracy": float((right[rows] == predicted[rows]).all(axis=1).mean()),
            "label_accuracy": float((right[rows] == predicted[rows]).mean()),
        }
        if len(labels) <= MAX_LABELS:
            scores |= {f"precision.{label}": float(value) for label, value in zip(labels, precision, strict=True)}
            scores |= {f"recall.{label}": float(value) for label, value in zip(labels, recall, strict=True)}
        return scores | _compute_custom_scores(custom_scores, right[rows], predicted[rows])

    return _with_intervals(len(right), score)


def score_regressor(
    outputs: Sequence[str], right: np.ndarray, predicted: np.ndarray, custom_scores: CustomScores = NO_SCORES
) -> Holdout:
    """The scores of a regression; both arrays have the shape (rows, values), in the unit of the target.

    Several `outputs` have scores of their own, such as `r2.OUTPUT`. Then `r2` is the mean of these, and there is no
    mean of their errors: their units differ.
    """

    def score(rows: np.ndarray) -> Scores:
        error, target = predicted[rows] - right[rows], right[rows]
        spread = np.square(target - target.mean(axis=0)).sum(axis=0)
        r2 = 1 - _divide(np.square(error).sum(axis=0), spread)
        size = np.abs(error).mean(axis=0)
        # A value that never changes has none.
        known = r2[np.isfinite(r2)]
        scores = {"r2": float(known.mean()) if len(known) else np.nan}
        if outputs:
            scores |= {f"r2.{name}": float(value) for name, value in zip(outputs, r2, strict=True)}
            scores |= {f"mean_absolute_error.{name}": float(value) for name, value in zip(outputs, size, strict=True)}
        else:
            scores["mean_absolute_error"] = float(size[0])
        flat = (target, predicted[rows]) if outputs else (target[:, 0], predicted[rows][:, 0])
        return scores | _compute_custom_scores(custom_scores, *flat)

    return _with_intervals(len(right), score)


def score_outliers(right: np.ndarray | None, predicted: np.ndarray, custom_scores: CustomScores = NO_SCORES) -> Holdout:
    """The scores of an outlier detector; both arrays have places in OUTLIER_LABELS. `right` is None if it is not known.

    `outlier_share` is the share of rows that the model takes for outliers.
    """
    is_outlier = np.array(OUTLIER_LABELS)[predicted] == -1
    known = (
        score_classifier(OUTLIER_LABELS, right, predicted, np.zeros(0), custom_scores) if right is not None else None
    )
    share = _with_intervals(len(predicted), lambda rows: {"outlier_share": float(is_outlier[rows].mean())})
    if known is None:
        return share
    return Holdout(rows=share.rows, scores=known.scores | share.scores, intervals=known.intervals | share.intervals)


def score_clustering(
    predicted: np.ndarray, right: np.ndarray | None, custom_scores: CustomScores = NO_SCORES
) -> Holdout:
    """The scores of a clustering; both arrays have the number of each row's cluster. `right` is None if not known.

    `adjusted_rand` compares clusters with right ones, whatever their numbers: 1 is equal, 0 is by chance.
    L. Hubert and P. Arabie, Comparing partitions, 1985.
    """
    if right is None:
        return Holdout(rows=len(predicted), scores={})
    counts = int(right.max()) + 1, int(predicted.max()) + 1

    def score(rows: np.ndarray) -> Scores:
        table = np.bincount(right[rows] * counts[1] + predicted[rows], minlength=counts[0] * counts[1]).reshape(counts)
        both, first, second = (_count_pairs(each) for each in (table, table.sum(axis=1), table.sum(axis=0)))
        expected = first * second / _count_pairs(np.array([len(rows)])) if len(rows) > 1 else np.nan
        largest = (first + second) / 2
        rand = 1.0 if largest == expected else (both - expected) / (largest - expected)
        return {"adjusted_rand": rand} | _compute_custom_scores(custom_scores, right[rows], predicted[rows])

    return _with_intervals(len(predicted), score)


def _count_pairs(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) / 2).sum())


def _compute_custom_scores(custom_scores: CustomScores, right: np.ndarray, predicted: np.ndarray) -> Scores:
    return {name: float(score(right, predicted)) for name, score in custom_scores.items()}


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


def describe_scores(holdout: Holdout) -> str:
    """The scores of all rows in words, such as "accuracy 0.92 (0.82 to 1) on 38 rows"; those of parts are left out."""
    described = [
        f"{name.replace('_', ' ')} {holdout.scores[name]:g} ({low:g} to {high:g})"
        for name, (low, high) in holdout.intervals.items()
        if "." not in name and name not in ("balanced_accuracy", "log_loss")
    ]
    return f"{', '.join(described) or 'no score'} on {holdout.rows} rows"
