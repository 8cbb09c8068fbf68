"""The model over HTTP. Whatever a caller sends gets JSON back; a caller's fault is a 4xx in one clear sentence.

The body is read and checked here and not by FastAPI's own validation: that one has no limit, and repeats the input in
its answer, which NaN turns into a 500.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.contract import Contract
from service.model import Model, Prediction

BODY_LIMIT_BYTES = 1_000_000
ROWS_LIMIT = 1_000
REVISION_VARIABLE = "DRYDOCK_REVISION"
ARTIFACTS = Path("artifacts")


class Refused(Exception):
    """A request that cannot be answered: its status and the sentence that says why."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class PredictionBody(BaseModel):
    """One row's answer."""

    label: str
    probabilities: dict[str, float]


class PredictBody(BaseModel):
    """The answers, in the order of the rows."""

    predictions: list[PredictionBody]


class ModelBody(BaseModel):
    """What is served: the contract, and the commit that the image was built from."""

    contract: Contract
    revision: str


def create(model: Model) -> FastAPI:
    """The application that serves `model`."""
    app = FastAPI(
        title=model.contract.name, description="Predicts, and says what it is.", version="1", redirect_slashes=False
    )
    features = model.contract.features

    @app.post("/predict", response_model=PredictBody, openapi_extra={"requestBody": _documented(features)})
    async def predict(request: Request) -> dict[str, list[Prediction]]:
        """Predict one row, or a list of rows."""
        rows = rows_of(parsed(await _body(request)), features)
        return {"predictions": model.predict(rows)}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Whether the model answers its first golden row as it was trained to."""
        if complaint := model.complaint():
            return JSONResponse({"status": "not ready", "error": complaint}, status_code=503)
        return JSONResponse({"status": "ready"})

    @app.get("/model", response_model=ModelBody)
    async def contract() -> ModelBody:
        """What is served here."""
        return ModelBody(contract=model.contract, revision=os.environ.get(REVISION_VARIABLE) or "unknown")

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=error.status)

    @app.exception_handler(HTTPException)
    async def not_served(_: Request, error: HTTPException) -> JSONResponse:
        sentence = {404: "There is nothing at this path.", 405: "This path does not take that method."}
        return JSONResponse(
            {"error": sentence.get(error.status_code, str(error.detail))},
            status_code=error.status_code,
            headers=error.headers,
        )

    return app


async def _body(request: Request) -> bytes:
    """The request's body, never more of it than the limit."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Refused(415, "Send the features as JSON, with Content-Type: application/json.")
    too_large = Refused(413, f"A request has at most {BODY_LIMIT_BYTES} bytes; send the rows in several.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > BODY_LIMIT_BYTES:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT_BYTES:
                raise too_large
    except ClientDisconnect as gone:
        # Nobody reads this answer; without it the log would show a traceback for a caller who hung up.
        raise Refused(400, "The body ended too early.") from gone
    return bytes(body)


def parsed(body: bytes) -> object:
    """The body as JSON says it; NaN and Infinity are no JSON. Raises Refused."""
    if not body:
        raise Refused(400, 'The body is empty; send {"features": [...]}.')
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    # ValueError is also bad UTF-8 and a number of too many digits; deep nesting ends in RecursionError.
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The body is not JSON.") from error


def rows_of(content: object, features: list[str]) -> list[list[float]]:
    """The rows of a request: `features` is one row, or a list of rows. Raises Refused."""
    if not isinstance(content, dict) or set(content) != {"features"}:
        raise Refused(422, 'Send an object with the one field "features".')
    given = content["features"]
    if not isinstance(given, list) or not given:
        raise Refused(422, f'"features" is a list of {len(features)} numbers, or a list of such lists.')
    rows = given if any(isinstance(item, list) for item in given) else [given]
    if len(rows) > ROWS_LIMIT:
        raise Refused(413, f"A request has at most {ROWS_LIMIT} rows; send them in several.")
    return [_row(row, features) for row in rows]


def _row(row: object, features: list[str]) -> list[float]:
    if not isinstance(row, list) or len(row) != len(features):
        raise Refused(422, f"A row has {len(features)} numbers: {', '.join(features)}.")
    return [_number(value, name) for value, name in zip(row, features, strict=True)]


def _number(value: object, name: str) -> float:
    # bool is an int to Python, and no measurement to anybody.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(422, f"{name} is not a number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    # The forest computes with 32-bit floats, and takes no larger number.
    if not abs(number) <= 3.4e38:
        raise Refused(422, f"{name} is too large, or no finite number.")
    return number


def _no_constant(_: str) -> float:
    raise ValueError


def _documented(features: list[str]) -> dict[str, Any]:
    row = {
        "type": "array",
        "items": {"type": "number"},
        "minItems": len(features),
        "maxItems": len(features),
        "description": ", ".join(features),
    }
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": ROWS_LIMIT}
    schema = {
        "type": "object",
        "properties": {"features": {"oneOf": [row, rows]}},
        "required": ["features"],
        "additionalProperties": False,
        "example": {"features": [5.1, 3.5, 1.4, 0.2][: len(features)]},
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}
