"""The model over HTTP: the paths that are asked all the time on a short cut, everything else and /docs by FastAPI.

The short cut is plain ASGI, which costs a fifth of what FastAPI does. FastAPI knows the same paths with the same
answers, documents them, and is loaded when it is first asked for: a server that only predicts never needs its memory.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from service.contract import Contract
from service.logs import REQUESTS, described
from service.metrics import CONTENT_TYPE, Metrics
from service.model import Estimate, Model, NoAnswer, Prediction
from service.rows import Reader, Refused
from service.settings import Settings
from service.together import Together

if TYPE_CHECKING:
    from fastapi import FastAPI

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
CLOSE = (b"connection", b"close")
# https://www.w3.org/TR/trace-context/: hexadecimal and of one length, so nothing can be smuggled into a log by it.
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class PredictBody(Struct, frozen=True):
    """The answers, in the order of the rows."""

    predictions: list[Prediction]


class EstimateBody(Struct, frozen=True):
    """The answers of a regression, in the order of the rows."""

    predictions: list[Estimate]


class ErrorBody(Struct, frozen=True):
    """Why a request was not answered as it asks, in one sentence."""

    error: str


class StatusBody(Struct, frozen=True, omit_defaults=True):
    """How the server is."""

    status: str
    error: str = ""


class ModelBody(Struct, frozen=True):
    """What is served: the contract, and the commit that the image was built from."""

    contract: Contract
    revision: str


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    content_type: bytes = JSON


class RequestIds:
    """An id for each request: its trace's, else one of ours."""

    def __init__(self) -> None:
        self._ids = map(f"{secrets.token_hex(4)}-{{:x}}".format, count(1))

    def of(self, headers: list[Header]) -> str:
        """The id of a request with these headers."""
        for name, value in headers:
            if name == b"traceparent" and (trace := TRACEPARENT.fullmatch(value)):
                return trace[1].decode()
        return next(self._ids)


class App:
    """The ASGI application that serves `model`; `draining` says that the server is about to stop."""

    def __init__(self, model: Model, settings: Settings, revision: str) -> None:
        self.model = model
        self.settings = settings
        self.revision = revision
        self.draining = False
        self.metrics = Metrics(model.contract, revision)
        self.short_cuts = {
            ("POST", "/predict"): self.predict,
            ("GET", "/healthz"): self.alive,
            ("GET", "/readyz"): self.ready,
            ("GET", "/metrics"): self.measured,
            ("GET", "/model"): self.told,
        }
        self._reader = Reader(model.contract.features, model.contract.feature_kinds, settings.rows_limit)
        self._together = None if model.predictor.inline else Together(model.predict, settings.rows_limit)
        self._encode = msgspec.json.Encoder().encode
        self._in_flight = 0
        self._request_id = RequestIds().of
        self._documented: FastAPI | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as https://asgi.readthedocs.io/en/latest/specs/www.html has it."""
        started = time.perf_counter()
        path = scope["path"]
        request_id = self._request_id(scope["headers"])
        if handler := self.short_cuts.get((scope["method"], path)):
            answer = await self.answer(handler, scope, receive, request_id)
            status = answer.status
            await send(start(answer, self._common(request_id)))
            await send({"type": "http.response.body", "body": answer.body})
        else:
            path, status = "other", await self._by_fastapi(scope, receive, send, request_id)
        seconds = time.perf_counter() - started
        self.metrics.answered(path, status)
        if path == "/predict":
            self.metrics.took(seconds)
        if self.settings.log_requests == "all" or (self.settings.log_requests == "refused" and status >= 400):
            fields = {"request_id": request_id, "path": path, "status": status, "seconds": round(seconds, 6)}
            REQUESTS.info("request", extra={"fields": fields})

    async def answer(
        self, handler: Callable[[Scope, Receive], Awaitable[Answer]], scope: Scope, receive: Receive, request_id: str
    ) -> Answer:
        """What a handler answers; a refusal, and an error of ours, in the same form."""
        try:
            return await handler(scope, receive)
        except Refused as refused:
            return Answer(refused.status, self._encode(ErrorBody(str(refused))), refused.headers)
        except NoAnswer as refused:
            return Answer(422, self._encode(ErrorBody(str(refused))))
        except Exception as error:
            kind, stack = described(error)
            fields = {"request_id": request_id, "error": kind, "stack": stack}
            REQUESTS.error("a request failed", extra={"fields": fields})
            return Answer(500, self._encode(ErrorBody("The server made a mistake; its log has the request's id.")))

    async def predict(self, scope: Scope, receive: Receive) -> Answer:
        """Predict one row, or a list of rows."""
        if self._in_flight >= self.settings.concurrency_limit:
            raise Refused(503, "Too many predictions are under way; try again in a second.", (b"retry-after", b"1"))
        self._in_flight += 1
        try:
            rows = self._reader.rows(await self._body(scope, receive))
            predictions = await self._together.predict(rows) if self._together else self.model.predict(rows)
        finally:
            self._in_flight -= 1
        self.metrics.predicted(predictions)
        return Answer(200, self._encode({"predictions": predictions}))

    async def alive(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002 - every handler takes both
        """Whether the process is alive."""
        return Answer(200, self._encode(StatusBody("alive")))

    async def ready(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002
        """Whether the model answers its first golden row as it was trained to, and the server goes on."""
        complaint = "the server is stopping" if self.draining else self.model.complaint()
        if complaint:
            return Answer(503, self._encode(StatusBody("not ready", complaint)))
        return Answer(200, self._encode(StatusBody("ready")))

    async def measured(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002
        """Requests, their durations and the predictions by label, for Prometheus."""
        self.metrics.in_flight.set(self._in_flight)
        return Answer(200, self.metrics.text(), content_type=CONTENT_TYPE)

    async def told(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002
        """What is served here."""
        return Answer(200, self._encode(ModelBody(self.model.contract, self.revision)))

    async def documented(self) -> FastAPI:
        """FastAPI's own application, made when it is first asked for; in a thread, since loading it takes a while."""
        async with self._loading:
            if self._documented is None:
                self._documented = await asyncio.to_thread(self._load)
        return self._documented

    def _load(self) -> FastAPI:
        from service.documented import create

        return create(self)

    async def _by_fastapi(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> int:
        """Let FastAPI answer; the status of what it said."""
        status = 0

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._common(request_id)]
            await send(message)

        fast = self._documented or await self.documented()
        await fast(scope, receive, noted)
        return status

    def _common(self, request_id: str) -> list[Header]:
        headers = [(b"x-request-id", request_id.encode())]
        return [*headers, CLOSE] if self.draining else headers

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The request's body, never more of it than the limit; how long it may take is the server's. Raises Refused."""
        limit_bytes = self.settings.body_limit_bytes
        content_type, declared = b"", b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                declared = value
        if content_type != JSON and content_type.partition(b";")[0].strip().lower() != JSON:
            raise Refused(415, "Send the features as JSON, with Content-Type: application/json.")
        too_large = f"A request has at most {limit_bytes} bytes; send the rows in several."
        # A number of so many digits that int() would refuse it is too large as well.
        if declared and (len(declared) > 18 or int(declared) > limit_bytes):
            raise Refused(413, too_large)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                # Nobody reads this answer: the sender is gone, or was told by the server that it took too long.
                raise Refused(408, "The body did not arrive.")
            body += message.get("body", b"")
            if len(body) > limit_bytes:
                raise Refused(413, too_large)
            more = message.get("more_body", False)
        return body


def start(answer: Answer, common: list[Header]) -> MutableMapping[str, Any]:
    """The message that an answer begins with; `common` are headers that every answer has."""
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
        *common,
    ]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}
