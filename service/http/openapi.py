"""FastAPI's part of the server: /docs, the OpenAPI document, and errors for every path that does not exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi import Response as FastAPIResponse
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from service.contract import MAX_FLOAT32, MAX_INTEGER, Contract, Feature
from service.http.asgi import Handler, Receive, Response, Scope
from service.http.bodies import (
    ClassificationBody,
    ErrorBody,
    LabelBody,
    LabelsBody,
    ModelBody,
    OutlierBody,
    RegressionBody,
    StatusBody,
    ValuesBody,
)
from service.http.page import CONTENT_SECURITY_POLICY, Limit, render_page
from service.settings import Settings, iter_settings, redact_uri

TYPES: dict[str, dict[str, Any]] = {
    "number": {"type": "number", "minimum": -MAX_FLOAT32, "maximum": MAX_FLOAT32},
    "integer": {"type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
    "boolean": {"type": "boolean"},
    "string": {"type": "string"},
}
# Made up: the golden rows are somebody's data.
EXAMPLES = {"number": 0.0, "integer": 0, "boolean": False, "string": "words"}
MAX_NAMED_FEATURES = 1_000
REF = "#/components/schemas/{name}"
ERROR_RESPONSES = {
    400: "the body is empty, or not JSON",
    408: "the request did not arrive in time",
    413: "the request has more bytes or rows than the limit",
    415: "the Content-Type is not application/json",
    422: "the body is JSON, but not rows of this model, or the model has no answer to them",
    503: "more predictions, or more bytes of bodies, are in flight than the limit; Retry-After says when to try again",
}
ERROR_SENTENCES = {404: "There is nothing at this path.", 405: "This path does not take that method."}

Respond = Callable[[Handler, Scope, Receive, str], Awaitable[Response]]


def create_docs_app(
    contract: Contract,
    settings: Settings,
    max_body_bytes: int,
    routes: Mapping[tuple[str, str], Handler],
    respond: Respond,
) -> FastAPI:
    """FastAPI's application with these routes, by method and path; `respond` turns a handler's errors into responses.

    `max_body_bytes` is the limit of this model, which one long row may raise.
    """
    answers = _answers_body(contract)
    limits = _limits(settings, max_body_bytes)
    # FastAPI's own pages run scripts of another host.
    docs_app = FastAPI(
        title=contract.name,
        description=_description(limits),
        version="1",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    metrics = {"description": "the text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    errors: dict[int | str, dict[str, Any]] = {
        status: _response_schema(ErrorBody, why) for status, why in ERROR_RESPONSES.items()
    }
    responses: dict[str, dict[int | str, dict[str, Any]]] = {
        "/predict": {200: _response_schema(answers), **errors},
        "/healthz": {200: _response_schema(StatusBody)},
        "/readyz": {200: _response_schema(StatusBody), 503: _response_schema(StatusBody, "not ready, and why")},
        "/metrics": {200: metrics},
        "/model": {200: _response_schema(ModelBody)},
    }
    for (method, path), handler in routes.items():
        docs_app.add_api_route(
            path,
            _endpoint(handler, respond),
            methods=[method],
            name=path[1:],
            description=handler.__doc__,
            responses=responses[path],
            response_class=FastAPIResponse,
            openapi_extra={"requestBody": _request_body(contract, settings)} if path == "/predict" else None,
        )

    @docs_app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "x-content-type-options": "nosniff"}
        return HTMLResponse(render_page(docs_app.openapi(), limits), headers=headers)

    @docs_app.exception_handler(HTTPException)
    async def not_found(_: Request, error: HTTPException) -> JSONResponse:
        sentence = ERROR_SENTENCES.get(error.status_code, "This is not served here.")
        return JSONResponse({"error": sentence}, status_code=error.status_code, headers=error.headers)

    create_document = docs_app.openapi

    def openapi() -> dict[str, Any]:
        document = create_document()
        bodies = (answers, ErrorBody, StatusBody, ModelBody, Contract)
        _, schemas = msgspec.json.schema_components(bodies, ref_template=REF)
        # /model leaves out the golden rows.
        del schemas["GoldenRow"], schemas["Contract"]["properties"]["golden"]
        schemas["Contract"]["required"].remove("golden")
        schemas["ModelBody"]["properties"]["contract"] = {"$ref": REF.format(name="Contract")}
        document.setdefault("components", {})["schemas"] = schemas
        return document

    docs_app.openapi = openapi  # type: ignore[method-assign]
    return docs_app


def _answers_body(contract: Contract) -> type:
    match contract.task:
        case "regression":
            return ValuesBody if contract.outputs else RegressionBody
        case "multilabel":
            return LabelsBody
        case "outliers":
            return OutlierBody
        case _:
            return ClassificationBody if contract.has_probabilities else LabelBody


def _endpoint(handler: Handler, respond: Respond) -> Callable[[Request], Awaitable[FastAPIResponse]]:
    async def endpoint(request: Request) -> FastAPIResponse:
        response = await respond(handler, request.scope, request.receive, "")
        headers = {name.decode(): value.decode() for name, value in response.headers}
        return FastAPIResponse(response.body, response.status, headers, response.content_type.decode())

    return endpoint


def _limits(settings: Settings, max_body_bytes: int) -> list[Limit]:
    values = {
        **msgspec.structs.asdict(settings),
        "model_uri": redact_uri(settings.model_uri),
        "max_body_bytes": max_body_bytes,
    }
    return [
        Limit(variable, f"{values[name]}", f"{default}", meaning)
        for name, variable, default, meaning in iter_settings()
    ]


def _description(limits: list[Limit]) -> str:
    rows = [f"| `{limit.variable}` | {limit.value} | {limit.default} | {limit.meaning} |" for limit in limits]
    table = "\n".join(["| variable | here | default | meaning |", "|---|---|---|---|", *rows])
    return (
        "Serves one model. Every response has an `x-request-id`: the trace's id if the request has a `traceparent`."
        f"\n\nThe limits of this server, each a variable of its environment:\n\n{table}"
    )


def _response_schema(body: type, why: str = "") -> dict[str, Any]:
    schema = {"$ref": REF.format(name=body.__name__)}
    return {"description": why or (body.__doc__ or ""), "content": {"application/json": {"schema": schema}}}


def _request_body(contract: Contract, settings: Settings) -> dict[str, Any]:
    features = contract.features
    values = [_value_schema(feature, settings) for feature in features]
    row = {
        "type": "array",
        **({"items": values[0]} if all(value == values[0] for value in values) else {"prefixItems": values}),
        "minItems": len(features),
        "maxItems": len(features),
        "description": ", ".join(contract.feature_names),
    }
    named = _named_row(contract.feature_names, values)
    rows = {"type": "array", "items": {"oneOf": [row, named]}, "minItems": 1, "maxItems": settings.max_rows}
    schema = {
        "type": "object",
        "properties": {"features": {"oneOf": [row, named, rows]}},
        "required": ["features"],
        "additionalProperties": False,
        "example": {
            "features": [feature.values[0] if feature.values else EXAMPLES[feature.type] for feature in features]
        },
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _value_schema(feature: Feature, settings: Settings) -> dict[str, Any]:
    """The JSON Schema of a feature's values. A category takes other values, too, unless the server refuses them."""
    if feature.values and settings.unknown_categories == "reject":
        return {"enum": [*feature.values, None] if feature.missing else feature.values}
    schema = dict(TYPES[feature.base_type])
    if feature.missing:
        schema["type"] = [schema["type"], "null"]
    if feature.values:
        schema["examples"] = feature.values
    return schema


def _named_row(features: list[str], values: list[dict[str, Any]]) -> dict[str, Any]:
    """A row by name. That of very many features gets no list of them, which would be most of the document."""
    if len(features) > MAX_NAMED_FEATURES:
        count = len(features)
        kinds = [value for place, value in enumerate(values) if value not in values[:place]]
        return {
            "type": "object",
            "minProperties": count,
            "maxProperties": count,
            "additionalProperties": {"anyOf": kinds},
        }
    return {
        "type": "object",
        "properties": dict(zip(features, values, strict=True)),
        "required": list(features),
        "additionalProperties": False,
    }
