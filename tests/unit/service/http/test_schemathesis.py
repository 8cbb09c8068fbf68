"""The server against its own OpenAPI document: whatever that allows is answered, and whatever it forbids is refused.

Schemathesis' own engine asks, since it does more than its pytest plugin: besides random cases it walks through the
limits of each keyword of the document, and through the methods that the document does not have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

import pytest
import schemathesis
from schemathesis.engine import events, from_schema

from service.contract import Feature, Row
from service.http.app import App
from service.http.asgi import Response
from service.http.parsing import RequestError, RequestParser
from service.model import Model, load_model
from service.settings import Settings

pytestmark = pytest.mark.slow

OPERATIONS = ["GET /healthz", "GET /metrics", "GET /model", "GET /readyz", "POST /predict"]
EXAMPLES = 200
Handler = Callable[..., Coroutine[Any, Any, Response]]


def asked(app: App) -> tuple[Counter[tuple[str, str]], list[str]]:
    """How often each operation was asked with what it allows and what it forbids, and what was wrong with an answer."""
    api = schemathesis.openapi.from_asgi("/openapi.json", app)
    # The same cases every time.
    api.config.generation.deterministic = True
    api.config.generation.max_examples = EXAMPLES
    # 413 is what too many rows are refused with, which to Schemathesis is no refusal of what is in them.
    api.config.checks.negative_data_rejection.expected_statuses = ["400", "405", "413", "415", "422"]
    cases: Counter[tuple[str, str]] = Counter()
    failures = []
    for event in from_schema(api).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            failures.append(str(event))
        if isinstance(event, events.ScenarioFinished):
            cases.update(
                (node.value.operation.label, node.value.meta.generation.mode.value)
                for node in event.recorder.cases.values()
                if node.value.meta
            )
            checks = [check for checks in event.recorder.checks.values() for check in checks]
            failures += [
                f"{event.recorder.label}: {check.failure_info.failure}" for check in checks if check.failure_info
            ]
    return cases, failures


def test_every_answer_is_one_that_is_documented(served: Path) -> None:
    cases, failures = asked(App(load_model(served), Settings(), "1f3c9e2"))
    assert failures == []
    assert sorted({label for label, _ in cases}) == OPERATIONS
    # A GET without parameters is one case, and each method that it is not documented with is another.
    assert {label: cases[label, "positive"] >= 2 for label in OPERATIONS} == dict.fromkeys(OPERATIONS, True)
    assert {label: cases[label, "negative"] >= 8 for label in OPERATIONS} == dict.fromkeys(OPERATIONS, True)
    assert cases["POST /predict", "positive"] >= 100
    assert cases["POST /predict", "negative"] >= 50


@pytest.mark.parametrize("folder", ["compiled_diabetes", "tickets"])
def test_so_is_every_answer_of_a_regression_and_of_a_model_with_words(
    folder: str, request: pytest.FixtureRequest
) -> None:
    cases, failures = asked(App(load_model(request.getfixturevalue(folder)), Settings(), "1f3c9e2"))
    assert failures == []
    assert sorted({label for label, _ in cases}) == OPERATIONS
    assert cases["POST /predict", "positive"] >= 100
    assert cases["POST /predict", "negative"] >= 50


@pytest.mark.parametrize("unknown_categories", ["accept", "reject"])
def test_so_is_every_answer_of_a_model_with_features_of_every_type(
    unknown_categories: Literal["accept", "reject"], tasks: dict[str, Model]
) -> None:
    settings = Settings(unknown_categories=unknown_categories)
    cases, failures = asked(App(tasks["every_type"], settings, "1f3c9e2"))
    assert failures == []
    assert cases["POST /predict", "positive"] >= 100
    assert cases["POST /predict", "negative"] >= 50


@pytest.mark.parametrize("name", ["multilabel", "labels_alone", "values", "outliers", "clustering", "texts"])
def test_so_is_every_answer_of_each_task(name: str, tasks: dict[str, Model]) -> None:
    cases, failures = asked(App(tasks[name], Settings(), "1f3c9e2"))
    assert failures == []
    assert cases["POST /predict", "positive"] >= 50


class Wrong(App):
    """A server with one fault."""

    def __init__(self, model: Model, path: str, handler: Handler) -> None:
        super().__init__(model, Settings(), "1f3c9e2")
        (key,) = [key for key in self.fast_routes if key[1] == path]
        self.fast_routes[key] = handler


async def _fails(*_: object) -> Response:
    raise RuntimeError("broken")


async def _is_a_teapot(*_: object) -> Response:
    return Response(418, b'{"error": "I am a teapot."}')


async def _takes_everything(*_: object) -> Response:
    return Response(200, b'{"predictions": []}')


async def _refuses_everything(*_: object) -> Response:
    raise RequestError(422, "No.")


async def _answers_in_words(*_: object) -> Response:
    return Response(200, b"setosa", content_type=b"text/html")


async def _answers_with_numbers(*_: object) -> Response:
    return Response(200, b'{"predictions": [0, 1]}')


@pytest.mark.parametrize(
    ("path", "handler", "found"),
    [
        ("/predict", _fails, "Server error"),
        ("/model", _fails, "Server error"),
        ("/predict", _is_a_teapot, "Undocumented status code"),
        ("/healthz", _is_a_teapot, "Undocumented status code"),
        ("/predict", _takes_everything, "Schema-violating request accepted"),
        ("/predict", _refuses_everything, "Schema-valid request rejected"),
        ("/predict", _answers_in_words, "Undocumented Content-Type"),
        ("/predict", _answers_with_numbers, "Response violates schema"),
        ("/readyz", _answers_with_numbers, "Response violates schema"),
    ],
)
def test_a_server_with_a_fault_is_found_out(path: str, handler: Handler, found: str, compiled_artifacts: Path) -> None:
    _, failures = asked(Wrong(load_model(compiled_artifacts), path, handler))
    assert [failure for failure in failures if path in failure and found in failure], failures


class Lenient(RequestParser):
    """Takes anything for a number or a word, where a row has the right length."""

    def parse(self, body: bytes | bytearray) -> list[Row]:
        try:
            return super().parse(body)
        except RequestError as refused:
            if str(refused).endswith((" is not a string.", " is not a number.")):
                return [["see the attachment", "web form", 2.1, 7.4]]
            raise


@pytest.mark.parametrize(
    ("reader", "found"),
    [
        (Lenient, "Schema-violating request accepted"),
        # Takes words alone.
        (
            lambda features, limit: RequestParser([Feature(each.name, "string") for each in features], limit),
            "Schema-valid request rejected",
        ),
    ],
)
def test_a_server_that_takes_other_kinds_than_it_documents_is_found_out(
    reader: Callable[..., RequestParser], found: str, tickets: Path
) -> None:
    app = App(load_model(tickets), Settings(), "1f3c9e2")
    assert app._batcher is not None
    app._batcher._parse = reader(app.model.contract.features, 1000).parse
    _, failures = asked(app)
    assert [failure for failure in failures if "/predict" in failure and found in failure], failures
