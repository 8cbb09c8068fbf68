from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest

from service.app import App
from service.model import Model
from service.settings import Settings

JSON = {"Content-Type": "application/json"}
SETOSA = [5.1, 3.5, 1.4, 0.2]
MARKER = "drydock-marker-7f3a"
REVISION = "1f3c9e2"

NOT_JSON = "The body is not JSON."
ONE_FIELD = 'Send an object with the one field "features".'
A_LIST = '"features" is a list of 4 numbers, or a list of such lists.'
FOUR_NUMBERS = "A row has 4 numbers: sepal length (cm), sepal width (cm), petal length (cm), petal width (cm)."
NO_NUMBER = "petal width (cm) is not a number."
TOO_LARGE = "petal width (cm) is too large, or no finite number."
TOO_MANY_ROWS = "A request has at most 1000 rows; send them in several."
TOO_MANY_BYTES = "A request has at most 1000000 bytes; send the rows in several."
NO_JSON_TYPE = "Send the features as JSON, with Content-Type: application/json."


def ask(
    model: Model,
    method: str,
    path: str,
    content: bytes | AsyncIterator[bytes] | None = None,
    headers: dict[str, str] | None = None,
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> httpx.Response:
    """One request to the application itself; an error that escapes it fails the test with its own traceback."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app=App(model, settings, REVISION))
        async with httpx.AsyncClient(transport=transport, base_url="http://model", trust_env=False) as client:
            return await client.request(method, path, content=content, headers=headers)

    return anyio.run(answer)


def predict(model: Model, features: object) -> httpx.Response:
    return ask(model, "POST", "/predict", json.dumps({"features": features}).encode(), JSON)


def features(row: bytes) -> bytes:
    return b'{"features": ' + row + b"}"


def test_one_row_is_answered(model: Model) -> None:
    response = predict(model, SETOSA)
    assert (response.status_code, response.json()) == (
        200,
        {"predictions": [{"label": "setosa", "probabilities": {"setosa": 1.0, "versicolor": 0.0, "virginica": 0.0}}]},
    )


def test_a_list_of_rows_is_answered_in_its_order(model: Model) -> None:
    golden = model.contract.golden
    # First, fifth and ninth are of the three classes; in both directions, so that no sorting can look right.
    for rows in ([golden[0], golden[4], golden[8]], [golden[8], golden[4], golden[0]]):
        response = predict(model, [row.features for row in rows])
        assert response.status_code == 200
        assert response.json() == {
            "predictions": [{"label": row.label, "probabilities": row.probabilities} for row in rows]
        }


def test_as_many_rows_and_bytes_as_the_limits_say_are_answered(model: Model) -> None:
    response = predict(model, [SETOSA] * 1000)
    assert response.status_code == 200
    assert len(response.json()["predictions"]) == 1000
    body = features(b"[5.1, 3.5, 1.4, 0.2]")
    response = ask(model, "POST", "/predict", body + b" " * (1_000_000 - len(body)), JSON)
    assert response.status_code == 200


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_is_json_however_its_type_is_written(content_type: str, model: Model) -> None:
    response = ask(model, "POST", "/predict", features(b"[5, 3, 1, 0]"), {"Content-Type": content_type})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        pytest.param(b"", 400, 'The body is empty; send {"features": [...]}.', id="empty"),
        pytest.param(b"features=1", 400, NOT_JSON, id="not JSON"),
        pytest.param(b'{"features": [5.1, 3.5', 400, NOT_JSON, id="cut off"),
        pytest.param(b'{"features": [1, 2, 3, 4]} x', 400, NOT_JSON, id="something after it"),
        pytest.param(b"\xff\xfe{}", 400, NOT_JSON, id="bad UTF-8"),
        pytest.param(b"[" * 100_000, 400, NOT_JSON, id="100,000 brackets"),
        pytest.param(features(b"[" * 100_000 + b"]" * 100_000), 400, NOT_JSON, id="nested 100,000 deep"),
        pytest.param(features(b"[5.1, 3.5, 1.4, " + b"9" * 5_000 + b"]"), 400, NOT_JSON, id="5,000 digits"),
        pytest.param(features(b"[5.1, 3.5, 1.4, NaN]"), 400, NOT_JSON, id="NaN"),
        pytest.param(features(b"[5.1, 3.5, 1.4, Infinity]"), 400, NOT_JSON, id="Infinity"),
        pytest.param(features(b"[5.1, 3.5, 1.4, -Infinity]"), 400, NOT_JSON, id="-Infinity"),
        pytest.param(b"null", 422, ONE_FIELD, id="null alone"),
        pytest.param(b"[5.1, 3.5, 1.4, 0.2]", 422, ONE_FIELD, id="the row alone"),
        pytest.param(b"{}", 422, ONE_FIELD, id="missing field"),
        pytest.param(b'{"rows": [5.1, 3.5, 1.4, 0.2]}', 422, ONE_FIELD, id="unknown field"),
        pytest.param(b'{"features": [5.1, 3.5, 1.4, 0.2], "id": 1}', 422, ONE_FIELD, id="extra field"),
        pytest.param(features(b"null"), 422, A_LIST, id="features null"),
        pytest.param(features(b'"5.1"'), 422, A_LIST, id="features a string"),
        pytest.param(features(b'{"0": 5.1}'), 422, A_LIST, id="features an object"),
        pytest.param(features(b"5.1"), 422, A_LIST, id="features a number"),
        pytest.param(features(b"[]"), 422, A_LIST, id="0 features"),
        pytest.param(features(b"[5.1, 3.5, 1.4]"), 422, FOUR_NUMBERS, id="one feature less"),
        pytest.param(features(b"[5.1, 3.5, 1.4, 0.2, 1.0]"), 422, FOUR_NUMBERS, id="one feature more"),
        pytest.param(features(b"[[]]"), 422, FOUR_NUMBERS, id="0 features in a row"),
        pytest.param(features(b"[[5.1, 3.5, 1.4, 0.2], [5.1, 3.5]]"), 422, FOUR_NUMBERS, id="a short second row"),
        pytest.param(features(b"[5.1, 3.5, 1.4, [0.2]]"), 422, FOUR_NUMBERS, id="a row after numbers"),
        pytest.param(features(b"[[5.1], 3.5, 1.4, 0.2]"), 422, FOUR_NUMBERS, id="a row before numbers"),
        pytest.param(features(b"[[[5.1, 3.5, 1.4, 0.2]]]"), 422, FOUR_NUMBERS, id="nested three deep"),
        pytest.param(features(b"[[5.1, 3.5, 1.4, [0.2]]]"), 422, NO_NUMBER, id="a list for a number"),
        pytest.param(features(b"[5.1, 3.5, 1.4, true]"), 422, NO_NUMBER, id="true"),
        pytest.param(features(b"[5.1, 3.5, 1.4, false]"), 422, NO_NUMBER, id="false"),
        pytest.param(features(b"[5.1, 3.5, 1.4, null]"), 422, NO_NUMBER, id="null"),
        pytest.param(features(b'[5.1, 3.5, 1.4, "0.2"]'), 422, NO_NUMBER, id="a string"),
        pytest.param(features(b'[5.1, 3.5, 1.4, "NaN"]'), 422, NO_NUMBER, id="NaN as a string"),
        pytest.param(features(b"[[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4, null]]"), 422, NO_NUMBER, id="null in row 2"),
        pytest.param(features(b"[5.1, 3.5, 1.4, 1e400]"), 422, TOO_LARGE, id="1e400"),
        pytest.param(features(b"[5.1, 3.5, 1.4, -1e400]"), 422, TOO_LARGE, id="-1e400"),
        # Finite to Python, infinite to the forest's 32-bit floats.
        pytest.param(features(b"[5.1, 3.5, 1.4, 1e39]"), 422, TOO_LARGE, id="1e39"),
        # Python reads it as an integer, and no float holds it.
        pytest.param(features(b"[5.1, 3.5, 1.4, " + b"9" * 4_000 + b"]"), 422, TOO_LARGE, id="4,000 digits"),
        pytest.param(features(json.dumps([SETOSA] * 1001).encode()), 413, TOO_MANY_ROWS, id="1001 rows"),
        pytest.param(b" " * 1_000_001, 413, TOO_MANY_BYTES, id="one byte too many"),
    ],
)
def test_a_bad_body_is_answered_with_what_is_wrong(body: bytes, status: int, sentence: str, model: Model) -> None:
    response = ask(model, "POST", "/predict", body, JSON)
    assert (response.status_code, response.json()) == (status, {"error": sentence})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/jsonp"},
    ],
)
def test_another_content_type_is_refused(headers: dict[str, str], model: Model) -> None:
    response = ask(model, "POST", "/predict", features(b"[5.1, 3.5, 1.4, 0.2]"), headers)
    assert (response.status_code, response.json()) == (415, {"error": NO_JSON_TYPE})


@pytest.mark.parametrize(
    ("headers", "chunks_read"),
    [
        pytest.param({"Content-Length": "6000000"}, 0, id="declared"),
        # Without a Content-Length it only shows on the way, in the second chunk.
        pytest.param({}, 2, id="undeclared"),
    ],
)
def test_a_body_over_the_limit_is_not_read_to_its_end(headers: dict[str, str], chunks_read: int, model: Model) -> None:
    read: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            read.append(600_000)
            yield b" " * 600_000

    response = ask(model, "POST", "/predict", chunks(), JSON | headers)
    assert (response.status_code, response.json()) == (413, {"error": TOO_MANY_BYTES})
    assert len(read) == chunks_read


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/predict", 405, "This path does not take that method."),
        ("POST", "/readyz", 405, "This path does not take that method."),
        ("GET", "/", 404, "There is nothing at this path."),
        ("POST", "/predictions", 404, "There is nothing at this path."),
    ],
)
def test_a_wrong_path_or_method_is_answered_in_json(
    method: str, path: str, status: int, sentence: str, model: Model
) -> None:
    response = ask(model, method, path)
    assert (response.status_code, response.json()) == (status, {"error": sentence})


@pytest.mark.parametrize(
    ("path", "body", "content_type", "status"),
    [
        ("/predict", MARKER, "application/json", 400),
        ("/predict", f'"{MARKER}"', "application/json", 422),
        ("/predict", f'{{"{MARKER}": 1}}', "application/json", 422),
        ("/predict", f'{{"features": "{MARKER}"}}', "application/json", 422),
        ("/predict", f'{{"features": [1, 2, 3, "{MARKER}"]}}', "application/json", 422),
        ("/predict", '{"features": [1, 2, 3, 4]}', f"text/{MARKER}", 415),
        (f"/{MARKER}", "{}", "application/json", 404),
        (f"/readyz?{MARKER}", "{}", "application/json", 405),
    ],
)
def test_no_answer_repeats_what_was_sent(path: str, body: str, content_type: str, status: int, model: Model) -> None:
    response = ask(model, "POST", path, body.encode(), {"Content-Type": content_type, "X-Request-Id": MARKER})
    assert response.status_code == status
    assert MARKER not in response.text
    assert MARKER not in str(response.headers)


def test_a_good_model_is_alive_and_ready(model: Model) -> None:
    alive = ask(model, "GET", "/healthz")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    ready = ask(model, "GET", "/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


def test_a_model_that_answers_its_first_golden_row_wrongly_is_alive_and_not_ready(swapped: Model) -> None:
    assert ask(swapped, "GET", "/healthz").status_code == 200
    ready = ask(swapped, "GET", "/readyz")
    assert (ready.status_code, ready.json()) == (
        503,
        {"status": "not ready", "error": "the first golden row is setosa, this model says versicolor"},
    )


def test_the_contract_and_the_revision_are_shown(model: Model, served: Path) -> None:
    response = ask(model, "GET", "/model")
    assert response.status_code == 200
    # As in model.json: the field is named "schema" there.
    assert response.json() == {"contract": json.loads((served / "model.json").read_bytes()), "revision": REVISION}
    assert response.json()["contract"]["schema"] == 1


def test_predict_is_documented_with_its_form_and_its_limits(model: Model) -> None:
    response = ask(model, "GET", "/openapi.json")
    assert response.status_code == 200
    row = {
        "type": "array",
        "items": {"type": "number", "minimum": -3.4e38, "maximum": 3.4e38},
        "minItems": 4,
        "maxItems": 4,
        "description": "sepal length (cm), sepal width (cm), petal length (cm), petal width (cm)",
    }
    assert response.json()["paths"]["/predict"]["post"]["requestBody"] == {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "features": {"oneOf": [row, {"type": "array", "items": row, "minItems": 1, "maxItems": 1000}]}
                    },
                    "required": ["features"],
                    "additionalProperties": False,
                    "example": {"features": model.contract.golden[0].features},
                }
            }
        },
    }


def test_the_documented_example_is_answered(model: Model) -> None:
    documented = ask(model, "GET", "/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]
    example = documented["content"]["application/json"]["schema"]["example"]
    assert ask(model, "POST", "/predict", json.dumps(example).encode(), JSON).status_code == 200


def test_the_documentation_is_a_page(model: Model) -> None:
    response = ask(model, "GET", "/docs")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "/openapi.json" in response.text
