"""What the server says while its model is on its way: it is alive, it is not ready, and how far it has come."""

from __future__ import annotations

from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.exposition import generate_latest

from service.app import CLOSE, Answer, App, ErrorBody, Receive, RequestIds, Scope, Send, StatusBody, start
from service.metrics import CONTENT_TYPE

RETRY_AFTER = (b"retry-after", b"5")


class Progress:
    """How far a model has come, written by the thread that fetches it; `total` is 0 where that is not known yet."""

    def __init__(self) -> None:
        self.bytes = 0
        self.total = 0
        self.loading = False

    def __str__(self) -> str:
        if self.loading:
            return "the model is being loaded"
        if not self.total:
            return "the model is being fetched"
        return f"the model is being fetched: {self.bytes / 1e6:.1f} of {self.total / 1e6:.1f} MB"


class Arriving:
    """The ASGI application of a server whose model is on its way; once `app` is set, that one answers everything."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.app: App | None = None
        self._draining = False
        self._request_id = RequestIds().of
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._bytes = Gauge("model_fetched_bytes", "What is here of the model", registry=self._registry)
        self._total = Gauge("model_size_bytes", "What the model has; 0 until that is known", registry=self._registry)

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop."""
        return self._draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining
        if self.app:
            self.app.draining = draining

    def arrive(self, app: App) -> None:
        """From here on `app` answers."""
        app.draining = self._draining
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if self.app:
            await self.app(scope, receive, send)
            return
        answer = self._answer(scope["path"])
        common = [(b"x-request-id", self._request_id(scope["headers"]).encode())]
        await send(start(answer, [*common, CLOSE] if self.draining else common))
        await send({"type": "http.response.body", "body": answer.body})

    def _answer(self, path: str) -> Answer:
        if path == "/healthz":
            return Answer(200, msgspec.json.encode(StatusBody("alive")))
        if path == "/metrics":
            self._bytes.set(self.progress.bytes)
            self._total.set(self.progress.total)
            return Answer(200, generate_latest(self._registry), content_type=CONTENT_TYPE)
        body: Any = StatusBody("not ready", f"{self.progress}")
        if path != "/readyz":
            body = ErrorBody(f"There is no model yet: {self.progress}.")
        return Answer(503, msgspec.json.encode(body), (RETRY_AFTER,))
