"""Metrics for Prometheus: requests, their durations, predictions by label, and which model is served."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from service.contract import Contract, label_text
from service.model import LabelsPrediction, Prediction, RegressionPrediction, ValuesPrediction

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
# Seconds: a compiled forest answers in less than a millisecond, and nobody waits ten seconds.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The metrics of one application, in a registry of its own: a process may have several applications."""

    def __init__(self, contract: Contract, revision: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "model_requests", "Requests that were answered", ("path", "status"), registry=self._registry
        )
        self._duration = Histogram(
            "model_predict_duration_seconds",
            "From the head of a request to /predict until its response is sent",
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._predictions = Counter(
            "model_predictions", "Predicted rows by label, or of a value", ("label",), registry=self._registry
        )
        self.in_flight = Gauge("model_predict_in_flight", "Predictions in flight", registry=self._registry)
        self.load_seconds = Gauge(
            "model_load_seconds",
            "How long loading the model took, with its download if it is remote",
            registry=self._registry,
        )
        Gauge(
            "model_info", "What is served", ("name", "runtime", "sha256", "revision"), registry=self._registry
        ).labels(contract.name, contract.runtime, contract.artifact.sha256, revision).set(1)
        # Finding a child costs more than counting, so each is found once. Every label is there from the start.
        self._by_response: dict[tuple[str, int], Counter] = {}
        labels = contract.labels or [ValuesPrediction.label if contract.outputs else RegressionPrediction.label]
        self._by_label = {label: self._predictions.labels(label_text(label)) for label in labels}

    def count_request(self, path: str, status: int) -> None:
        """Count a request; `path` is one of ours, never what a caller made up."""
        key = (path, status)
        if key not in self._by_response:
            self._by_response[key] = self._requests.labels(path, str(status))
        self._by_response[key].inc()

    def observe_latency(self, seconds: float) -> None:
        """Record how long a request to /predict took."""
        self._duration.observe(seconds)

    def count_predictions(self, predictions: Sequence[Prediction]) -> None:
        """Count each row by its label, or by each of its labels."""
        if len(predictions) == 1 and not isinstance(predictions[0], LabelsPrediction):
            self._by_label[predictions[0].label].inc()
            return
        labels = (
            label
            for prediction in predictions
            for label in (prediction.labels if isinstance(prediction, LabelsPrediction) else [prediction.label])
        )
        for label, rows in Tally(labels).items():
            self._by_label[label].inc(rows)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
