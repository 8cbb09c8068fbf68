"""The model over HTTP. Plain ASGI answers the five paths; FastAPI answers the rest, such as /docs.

Plain ASGI costs a fifth of what FastAPI does. FastAPI documents the same paths, and is loaded at the first request that
needs it: a server that only predicts does not spend memory on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from service.contract import Contract
from service.http.asgi import (
    CLOSE,
    JSON,
    Handler,
    Header,
    Message,
    Receive,
    RequestIds,
    Response,
    Scope,
    Send,
    send_response,
)
from service.http.batching import MicroBatcher, run_in_thread
from service.http.bodies import FREE_BODY_BYTES, BodyBuffer, ErrorBody, ModelBody, StatusBody
from service.http.metrics import CONTENT_TYPE, Metrics
from service.http.parsing import RequestError, RequestParser
from service.logging_setup import REQUEST_LOG, exception_summary
from service.model import Model, Prediction
from service.runtimes import PredictionError
from service.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

RETRY_AFTER = (b"retry-after", b"1")
# -1.7976931348623157e+308, with a comma and a blank.
MAX_NUMBER_BYTES = 26
# Shorter than a probe's own timeout.
SELF_TEST_TIMEOUT_SECONDS = 2.0


class App:
    """The ASGI application that serves `model`; `draining` is True when the server is about to stop."""

    def __init__(self, model: Model, settings: Settings, revision: str) -> None:
        self.model = model
        self.settings = settings
        self.revision = revision
        self.draining = False
        self.metrics = Metrics(model.contract, revision)
        self.fast_routes: dict[tuple[str, str], Handler] = {
            ("POST", "/predict"): self.predict,
            ("GET", "/healthz"): self.healthz,
            ("GET", "/readyz"): self.readyz,
            ("GET", "/metrics"): self.render_metrics,
            ("GET", "/model"): self.model_info,
        }
        # One row must fit, however long it is.
        self.max_body_bytes = max(settings.max_body_bytes, longest_row_bytes(model.contract))
        self._small_bytes = min(FREE_BODY_BYTES, self.max_body_bytes)
        self._max_buffer_bytes = max(settings.max_buffer_bytes, self.max_body_bytes)
        # The size of all bodies that wait for their responses, each without its first bytes.
        self._buffered_bytes = 0
        parser = RequestParser(
            model.contract.features, settings.max_rows, known_values_only=settings.unknown_categories == "reject"
        )
        self._parse = parser.parse
        self._batcher = (
            None
            if model.predictor.inline
            else MicroBatcher(model.predict, parser.parse, settings.max_rows, self.max_body_bytes)
        )
        self._self_test: asyncio.Task[str] | None = None
        self._encode = msgspec.json.Encoder().encode
        self._in_flight = 0
        self._request_id = RequestIds().of
        self._docs_app: FastAPI | None = None
        self._docs_lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        path = scope["path"]
        request_id = self._request_id(scope["headers"])
        if handler := self.fast_routes.get((scope["method"], path)):
            response = await self.respond(handler, scope, receive, request_id)
            status = response.status
            await send_response(send, response, self._common_headers(request_id))
        else:
            path, status = "other", await self._delegate(scope, receive, send, request_id)
        seconds = time.perf_counter() - started
        self.metrics.count_request(path, status)
        if path == "/predict":
            self.metrics.observe_latency(seconds)
        if self.settings.log_requests == "all" or (self.settings.log_requests == "errors" and status >= 400):
            fields = {"request_id": request_id, "path": path, "status": status, "seconds": round(seconds, 6)}
            REQUEST_LOG.info("request", extra={"fields": fields})

    async def respond(self, handler: Handler, scope: Scope, receive: Receive, request_id: str) -> Response:
        """The handler's response; an error becomes a response of the same form."""
        try:
            return await handler(scope, receive)
        except RequestError as error:
            return Response(error.status, self._encode(ErrorBody(str(error))), error.headers)
        except PredictionError as error:
            return Response(422, self._encode(ErrorBody(str(error))))
        except Exception as error:
            kind, stack = exception_summary(error)
            fields = {"request_id": request_id, "error": kind, "stack": stack}
            REQUEST_LOG.error("a request failed", extra={"fields": fields})
            sentence = "Internal server error. Search the log for the x-request-id of this response."
            return Response(500, self._encode(ErrorBody(sentence)))

    async def predict(self, scope: Scope, receive: Receive) -> Response:
        """Predict one row, or a list of rows."""
        self._check_headers(scope)
        message = await receive()
        content = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body") and len(content) <= self._small_bytes:
            # Nearly all requests: small, and in one message.
            return await self._predict_body(content)
        body = BodyBuffer()
        try:
            more = self._buffer(body, message)
            # These names would keep the first message until the whole body is here, and no limit counts that.
            del message, content
            while more:
                more = self._buffer(body, await receive())
            return await self._predict_body(body.take())
        finally:
            self._buffered_bytes -= body.counted_bytes

    async def _predict_body(self, body: bytes | bytearray) -> Response:
        """The predictions of a whole body. Only from here on does a request count as in flight. Raises RequestError."""
        if self._batcher is None:
            predictions: Sequence[Prediction] = self.model.predict(self._parse(body))
        elif self._in_flight >= self.settings.max_concurrency:
            raise RequestError(503, "Too many predictions are in flight; try again in a second.", RETRY_AFTER)
        else:
            self._in_flight += 1
            try:
                predictions = await self._batcher.predict(body)
            finally:
                self._in_flight -= 1
        self.metrics.count_predictions(predictions)
        return Response(200, self._encode({"predictions": predictions}))

    async def healthz(self, scope: Scope, receive: Receive) -> Response:  # noqa: ARG002 - every handler takes both
        """Whether the process is alive."""
        return Response(200, self._encode(StatusBody("alive")))

    async def readyz(self, scope: Scope, receive: Receive) -> Response:  # noqa: ARG002
        """Whether the model answers its first golden row as recorded, and the server is not stopping."""
        error = "the server is stopping" if self.draining else await self._run_self_test()
        if error:
            return Response(503, self._encode(StatusBody("not ready", error)))
        return Response(200, self._encode(StatusBody("ready")))

    async def _run_self_test(self) -> str:
        """The model's self-test. A slow model runs it in a thread, once for all requests that wait for it."""
        if self.model.predictor.inline:
            return self.model.self_test()
        if self._self_test is None or self._self_test.done():
            self._self_test = asyncio.create_task(run_in_thread(self.model.self_test))
            # If its caller has gone, nobody takes its error, and asyncio would log it.
            self._self_test.add_done_callback(lambda test: test.cancelled() or test.exception())
        test = self._self_test
        done, _ = await asyncio.wait({test}, timeout=SELF_TEST_TIMEOUT_SECONDS)
        return test.result() if done else "the first golden row is not answered in time"

    async def render_metrics(self, scope: Scope, receive: Receive) -> Response:  # noqa: ARG002
        """Requests, their durations and the predictions by label, for Prometheus."""
        self.metrics.in_flight.set(self._in_flight)
        return Response(200, self.metrics.render(), content_type=CONTENT_TYPE)

    async def model_info(self, scope: Scope, receive: Receive) -> Response:  # noqa: ARG002
        """The model's contract without its golden rows, and the commit."""
        contract: dict[str, Any] = msgspec.to_builtins(self.model.contract)
        del contract["golden"]
        return Response(200, self._encode(ModelBody(contract, self.revision)))

    async def docs_app(self) -> FastAPI:
        """FastAPI's application. It is created at the first call, in a thread, since loading it takes a second."""
        async with self._docs_lock:
            if self._docs_app is None:
                self._docs_app = await asyncio.to_thread(self.create_docs_app)
        return self._docs_app

    def create_docs_app(self) -> FastAPI:
        """Load FastAPI, and create its application for the same paths."""
        from service.http.openapi import create_docs_app

        return create_docs_app(self.model.contract, self.settings, self.max_body_bytes, self.fast_routes, self.respond)

    async def _delegate(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> int:
        """Let FastAPI answer; return the status of its response."""
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._common_headers(request_id)]
            await send(message)

        docs_app = self._docs_app or await self.docs_app()
        await docs_app(scope, receive, send_with_headers)
        return status

    def _common_headers(self, request_id: str) -> list[Header]:
        headers = [(b"x-request-id", request_id.encode())]
        return [*headers, CLOSE] if self.draining else headers

    def _check_headers(self, scope: Scope) -> None:
        """Raise RequestError if the headers say that the body is not JSON, or too long."""
        content_type, length = b"", b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                length = value
        if content_type != JSON and content_type.partition(b";")[0].strip().lower() != JSON:
            raise RequestError(415, "Send the features as JSON, with Content-Type: application/json.")
        # int() refuses a number of thousands of digits, and that is too large as well.
        if length and (len(length) > 18 or int(length) > self.max_body_bytes):
            raise RequestError(413, self._too_large)

    def _buffer(self, body: BodyBuffer, message: Message) -> bool:
        """Append the message to the body; True if more of it follows.

        The server bounds how long that may take. Raises RequestError if the body is over a limit.
        """
        if message["type"] == "http.disconnect":
            # Nobody reads this response: the sender has gone, or the server has refused it for taking too long.
            raise RequestError(408, "The body did not arrive.")
        counted_bytes = body.counted_bytes
        body.append(message.get("body", b""))
        self._buffered_bytes += body.counted_bytes - counted_bytes
        if body.size_bytes > self.max_body_bytes:
            raise RequestError(413, self._too_large)
        if body.counted_bytes and self._buffered_bytes > self._max_buffer_bytes:
            raise RequestError(503, "Too many bodies are in flight; try again in a second.", RETRY_AFTER)
        return bool(message.get("more_body", False))

    @property
    def _too_large(self) -> str:
        return f"A request has at most {self.max_body_bytes} bytes; send the rows in several requests."


def longest_row_bytes(contract: Contract) -> int:
    """The longest JSON body of one row by name: all digits of a number, and strings of four times the longest golden.

    Only the golden rows, and the values of categories, tell how long strings are.
    """
    strings_bytes = max(
        sum(len(msgspec.json.encode(value)) for value in row.features if isinstance(value, str))
        for row in contract.golden
    )
    strings_bytes += sum(
        max((len(msgspec.json.encode(value)) for value in feature.values), default=0) for feature in contract.features
    )
    # Each with a colon and a blank behind it.
    names_bytes = sum(len(msgspec.json.encode(feature.name)) + 2 for feature in contract.features)
    return len('{"features": {}}') + names_bytes + MAX_NUMBER_BYTES * len(contract.features) + 4 * strings_bytes
