"""FastAPI's side of the server: /docs, the document behind it, and whatever is asked that nobody serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from service.app import Answer, App, ErrorBody, EstimateBody, ModelBody, PredictBody, Receive, Scope, StatusBody
from service.contract import Contract
from service.page import CONTENT_SECURITY_POLICY, Limit, render
from service.rows import LARGEST
from service.settings import described, without_credentials

REF = "#/components/schemas/{name}"
REFUSALS = {
    400: "not JSON, or nothing",
    408: "it did not arrive in time",
    413: "more bytes or rows than a request may have",
    415: "another Content-Type than application/json",
    422: "JSON, and no rows of this model, or none that it has an answer to",
    503: "more predictions, or more bytes of bodies, under way than there may be; Retry-After says when to come again",
}


def create(app: App) -> FastAPI:
    """FastAPI's application, with the short cuts of `app` as its routes."""
    contract = app.model.contract
    predicted = EstimateBody if contract.task == "regression" else PredictBody
    limits = _limits(app)
    # FastAPI's own pages run scripts of another host.
    fast = FastAPI(
        title=contract.name,
        description=_description(limits),
        version="1",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    responses: dict[str, dict[int | str, dict[str, Any]]] = {
        "/predict": {200: _of(predicted), **{status: _of(ErrorBody, why) for status, why in REFUSALS.items()}},
        "/healthz": {200: _of(StatusBody)},
        "/readyz": {200: _of(StatusBody), 503: _of(StatusBody, "not ready, and why")},
        "/metrics": {
            200: {"description": "the text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
        },
        "/model": {200: _of(ModelBody)},
    }
    for (method, path), handler in app.short_cuts.items():
        fast.add_api_route(
            path,
            _endpoint(app, handler),
            methods=[method],
            name=path[1:],
            description=handler.__doc__,
            responses=responses[path],
            response_class=Response,
            openapi_extra={"requestBody": _rows(app)} if path == "/predict" else None,
        )

    @fast.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "x-content-type-options": "nosniff"}
        return HTMLResponse(render(fast.openapi(), limits), headers=headers)

    @fast.exception_handler(HTTPException)
    async def not_served(_: Request, error: HTTPException) -> JSONResponse:
        sentence = {404: "There is nothing at this path.", 405: "This path does not take that method."}
        return JSONResponse(
            {"error": sentence.get(error.status_code, "This is not served here.")},
            status_code=error.status_code,
            headers=error.headers,
        )

    made = fast.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        bodies = (predicted, ErrorBody, StatusBody, ModelBody, Contract)
        _, schemas = msgspec.json.schema_components(bodies, ref_template=REF)
        # As /model has it.
        del schemas["GoldenRow"], schemas["Contract"]["properties"]["golden"]
        schemas["Contract"]["required"].remove("golden")
        schemas["ModelBody"]["properties"]["contract"] = {"$ref": REF.format(name="Contract")}
        document.setdefault("components", {})["schemas"] = schemas
        return document

    fast.openapi = openapi  # type: ignore[method-assign]
    return fast


def _endpoint(
    app: App, handler: Callable[[Scope, Receive], Awaitable[Answer]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        answer = await app.answer(handler, request.scope, request.receive, "")
        headers = {name.decode(): value.decode() for name, value in answer.headers}
        return Response(answer.body, answer.status, headers, answer.content_type.decode())

    return endpoint


def _limits(app: App) -> list[Limit]:
    here = {
        **msgspec.structs.asdict(app.settings),
        "model_uri": without_credentials(app.settings.model_uri),
        "body_limit_bytes": app.body_limit_bytes,
    }
    return [Limit(variable, f"{here[name]}", f"{default}", meaning) for name, variable, default, meaning in described()]


def _description(limits: list[Limit]) -> str:
    rows = [f"| `{each.variable}` | {each.value} | {each.default} | {each.meaning} |" for each in limits]
    table = "\n".join(["| variable | here | default | what it is |", "|---|---|---|---|", *rows])
    return (
        "Predicts, and says what it is. Every answer has an `x-request-id`, which is the trace's id if the request "
        f"has a `traceparent`.\n\nWhat this server allows, by variables of its environment:\n\n{table}"
    )


def _of(body: type, why: str = "") -> dict[str, Any]:
    schema = {"$ref": REF.format(name=body.__name__)}
    return {"description": why or (body.__doc__ or ""), "content": {"application/json": {"schema": schema}}}


def _rows(app: App) -> dict[str, Any]:
    contract = app.model.contract
    features, kinds = contract.features, contract.feature_kinds
    number, word = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}, {"type": "string"}
    each = [number if kind == "number" else word for kind in kinds]
    row = {
        "type": "array",
        **({"prefixItems": each} if word in each else {"items": number}),
        "minItems": len(features),
        "maxItems": len(features),
        "description": ", ".join(features),
    }
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": app.settings.rows_limit}
    schema = {
        "type": "object",
        "properties": {"features": {"oneOf": [row, rows]}},
        "required": ["features"],
        "additionalProperties": False,
        # Made up: the golden rows are somebody's data.
        "example": {"features": [0.0 if kind == "number" else "words" for kind in kinds]},
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}
