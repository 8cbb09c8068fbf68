"""The model over HTTP: the paths that are asked all the time on a short cut, everything else and /docs by FastAPI.

The short cut is plain ASGI, which costs a fifth of what FastAPI does. FastAPI knows the same paths with the same
answers, documents them, and is loaded when it is first asked for: a server that only predicts never needs its memory.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from service.contract import Contract, Row
from service.logs import REQUESTS, described
from service.metrics import CONTENT_TYPE, Metrics
from service.model import Estimate, Model, NoAnswer, Predicted, Prediction
from service.rows import Reader, Refused
from service.settings import Settings
from service.together import Together, in_thread

if TYPE_CHECKING:
    from fastapi import FastAPI

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
RETRY_AFTER = (b"retry-after", b"1")
# What a body may have before it counts towards the limit of all of them: small requests are served while large ones
# arrive. The number of connections bounds how much that is.
FREE_BODY_BYTES = 64_000
# -1.7976931348623157e+308, with a comma and a blank.
LONGEST_NUMBER_BYTES = 26
# Shorter than what a probe waits by itself.
READY_SECONDS = 2.0
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
    """What is served: the contract, and the commit that the image was built from.

    The golden rows are left out: they are rows of somebody's data, word for word.
    """

    contract: dict[str, Any]
    revision: str


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    content_type: bytes = JSON


class Body:
    """A body as it arrives: in blocks, since one piece that grows leaves gaps in memory as large as itself."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._blocks = [bytearray()]

    @property
    def counted_bytes(self) -> int:
        """What of it counts towards the limit of all bodies."""
        return max(0, self.size_bytes - FREE_BODY_BYTES)

    def add(self, content: bytes) -> None:
        """Take what arrived of it."""
        if len(self._blocks[-1]) >= FREE_BODY_BYTES:
            self._blocks.append(bytearray())
        self._blocks[-1] += content
        self.size_bytes += len(content)

    def whole(self) -> bytes | bytearray:
        """All of it, which is then no longer here."""
        blocks, self._blocks = self._blocks, [bytearray()]
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)


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
        # One row has to fit, however long it is.
        self.body_limit_bytes = max(settings.body_limit_bytes, longest_row_bytes(model.contract))
        self._small_bytes = min(FREE_BODY_BYTES, self.body_limit_bytes)
        self._buffer_limit_bytes = max(settings.buffer_limit_bytes, self.body_limit_bytes)
        # How much all bodies have that are not answered, each beyond its first bytes.
        self._buffered_bytes = 0
        self._reader = Reader(model.contract.features, model.contract.feature_kinds, settings.rows_limit)
        self._together = (
            None
            if model.predictor.inline
            else Together(model.predict, self._rows, settings.rows_limit, self.body_limit_bytes)
        )
        self._check: asyncio.Task[str] | None = None
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
        self._require_readable(scope)
        message = await receive()
        content = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body") and len(content) <= self._small_bytes:
            # Nearly all requests: small, and whole at once.
            return await self._answered(content)
        body = Body()
        try:
            more = self._take(body, message)
            # A name would keep the first piece until the whole body is here, and no limit counts that.
            del message, content
            while more:
                more = self._take(body, await receive())
            return await self._answered(body.whole())
        finally:
            self._buffered_bytes -= body.counted_bytes

    async def _answered(self, body: bytes | bytearray) -> Answer:
        """The predictions of a whole body. Only from here on a request has one of the places. Raises Refused."""
        if self._together is None:
            predictions: Sequence[Predicted] = self.model.predict(self._reader.rows(body))
        elif self._in_flight >= self.settings.concurrency_limit:
            raise Refused(503, "Too many predictions are under way; try again in a second.", RETRY_AFTER)
        else:
            self._in_flight += 1
            try:
                predictions = await self._together.predict(body)
            finally:
                self._in_flight -= 1
        self.metrics.predicted(predictions)
        return Answer(200, self._encode({"predictions": predictions}))

    def _rows(self, body: bytes | bytearray) -> list[Row]:
        return self._reader.rows(body)

    async def alive(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002 - every handler takes both
        """Whether the process is alive."""
        return Answer(200, self._encode(StatusBody("alive")))

    async def ready(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002
        """Whether the model answers its first golden row as it was trained to, and the server goes on."""
        complaint = "the server is stopping" if self.draining else await self._complaint()
        if complaint:
            return Answer(503, self._encode(StatusBody("not ready", complaint)))
        return Answer(200, self._encode(StatusBody("ready")))

    async def _complaint(self) -> str:
        """What is wrong with the model; a model's own code is asked in a thread, and by one request at a time."""
        if self.model.predictor.inline:
            return self.model.complaint()
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(in_thread(self.model.complaint))
            # Whoever asked may not wait for it any more, and an error that nobody takes is a line in the log.
            self._check.add_done_callback(lambda check: check.cancelled() or check.exception())
        check = self._check
        done, _ = await asyncio.wait({check}, timeout=READY_SECONDS)
        return check.result() if done else "the first golden row is not answered in time"

    async def measured(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002
        """Requests, their durations and the predictions by label, for Prometheus."""
        self.metrics.in_flight.set(self._in_flight)
        return Answer(200, self.metrics.text(), content_type=CONTENT_TYPE)

    async def told(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002
        """What is served here."""
        contract: dict[str, Any] = msgspec.to_builtins(self.model.contract)
        del contract["golden"]
        return Answer(200, self._encode(ModelBody(contract, self.revision)))

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

    def _require_readable(self, scope: Scope) -> None:
        """Raise Refused if the head says of a body that it is no JSON, or too long."""
        content_type, declared = b"", b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                declared = value
        if content_type != JSON and content_type.partition(b";")[0].strip().lower() != JSON:
            raise Refused(415, "Send the features as JSON, with Content-Type: application/json.")
        # A number of so many digits that int() would refuse it is too large as well.
        if declared and (len(declared) > 18 or int(declared) > self.body_limit_bytes):
            raise Refused(413, self._too_large)

    def _take(self, body: Body, message: MutableMapping[str, Any]) -> bool:
        """Add what arrived of a body to it; True if more of it follows.

        How long that may take is the server's. Raises Refused if it is over a limit.
        """
        if message["type"] == "http.disconnect":
            # Nobody reads this answer: the sender is gone, or was told by the server that it took too long.
            raise Refused(408, "The body did not arrive.")
        counted_bytes = body.counted_bytes
        body.add(message.get("body", b""))
        self._buffered_bytes += body.counted_bytes - counted_bytes
        if body.size_bytes > self.body_limit_bytes:
            raise Refused(413, self._too_large)
        if body.counted_bytes and self._buffered_bytes > self._buffer_limit_bytes:
            raise Refused(503, "Too many bodies are under way; try again in a second.", RETRY_AFTER)
        return bool(message.get("more_body", False))

    @property
    def _too_large(self) -> str:
        return f"A request has at most {self.body_limit_bytes} bytes; send the rows in several."


def longest_row_bytes(contract: Contract) -> int:
    """How long the body of one row can be in JSON: a number with all its digits, a word four times the longest known.

    Only of the golden rows it is known how long words are.
    """
    words = max(
        sum(len(msgspec.json.encode(value)) for value in row.features if isinstance(value, str))
        for row in contract.golden
    )
    return len('{"features": []}') + LONGEST_NUMBER_BYTES * len(contract.features) + 4 * words


def start(answer: Answer, common: list[Header]) -> MutableMapping[str, Any]:
    """The message that an answer begins with; `common` are headers that every answer has."""
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
        *common,
    ]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}
