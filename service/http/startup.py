"""Answers while the model is downloaded: the server is alive, it is not ready, and how far the download is."""

from __future__ import annotations

from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.exposition import generate_latest

from service.http.app import App
from service.http.asgi import CLOSE, Receive, RequestIds, Response, Scope, Send, send_response
from service.http.bodies import ErrorBody, StatusBody
from service.http.metrics import CONTENT_TYPE
from service.storage.progress import LoadProgress

RETRY_AFTER = (b"retry-after", b"5")


class StartupApp:
    """The ASGI application of a server whose model is not loaded yet. After `set_app`, that app answers everything."""

    def __init__(self) -> None:
        self.progress = LoadProgress()
        self._app: App | None = None
        self._draining = False
        self._request_id = RequestIds().of
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._bytes = Gauge("model_fetched_bytes", "Downloaded bytes of the model", registry=self._registry)
        self._total = Gauge("model_size_bytes", "The model's size; 0 until that is known", registry=self._registry)

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop."""
        return self._draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining
        if self._app:
            self._app.draining = draining

    def set_app(self, app: App) -> None:
        """Let `app` answer from here on."""
        app.draining = self._draining
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app:
            await self._app(scope, receive, send)
            return
        headers = [(b"x-request-id", self._request_id(scope["headers"]).encode())]
        await send_response(send, self._respond(scope["path"]), [*headers, CLOSE] if self.draining else headers)

    def _respond(self, path: str) -> Response:
        if path == "/healthz":
            return Response(200, msgspec.json.encode(StatusBody("alive")))
        if path == "/metrics":
            self._bytes.set(self.progress.bytes)
            self._total.set(self.progress.total_bytes)
            return Response(200, generate_latest(self._registry), content_type=CONTENT_TYPE)
        body: Any = StatusBody("not ready", f"{self.progress}")
        if path != "/readyz":
            body = ErrorBody(f"There is no model yet: {self.progress}.")
        return Response(503, msgspec.json.encode(body), (RETRY_AFTER,))
