from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import threading
import weakref
from collections.abc import AsyncIterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx
import msgspec
import numpy as np
import pandas
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from export.contract import create_contract
from export.dataset import Table, number_table
from service.contract import Feature, GoldenRow, Label, Row, label_text
from service.http.app import App
from service.logging_setup import JsonFormatter
from service.model import Model, load_model
from service.runtimes import Answers
from service.settings import Settings

JSON = {"Content-Type": "application/json"}
SETOSA = [5.1, 3.5, 1.4, 0.2]
MARKER = "drydock-marker-7f3a"
REVISION = "1f3c9e2"

NOT_JSON = "The body is not JSON."
ONE_FIELD = 'Send an object with the one field "features".'
A_LIST = (
    '"features" is a row, or a list of rows. A row is a list of 4 numbers, or an object with the names of the features.'
)
FOUR_NUMBERS = "A row has 4 numbers: sepal length (cm), sepal width (cm), petal length (cm), petal width (cm)."
NO_NUMBER = "petal width (cm) is not a number."
NULL = "petal width (cm) is null, and the model takes no missing value there."
TOO_LARGE = "petal width (cm) is too large, or not finite."
TOO_MANY_ROWS = "A request has at most 1000 rows; send them in several requests."
TOO_MANY_BYTES = "A request has at most 1000000 bytes; send the rows in several requests."
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


def test_numbers_as_large_as_may_be_are_answered_without_a_word_of_their_sum(model: Model) -> None:
    # NumPy warns of a sum that overflows, and a warning is an error in these tests.
    response = predict(model, [[3.4e38, 3.4e38, -3.4e38, -3.4e38]] * 2)
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
        pytest.param(features(b"{}"), 422, A_LIST, id="features an empty object"),
        pytest.param(
            features(b'{"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4, "width": 0.2}'),
            422,
            "A row lacks petal width (cm) and has width, which the model does not know.",
            id="another name",
        ),
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
        pytest.param(features(b"[5.1, 3.5, 1.4, null]"), 422, NULL, id="null"),
        pytest.param(features(b'[5.1, 3.5, 1.4, "0.2"]'), 422, NO_NUMBER, id="a string"),
        pytest.param(features(b'[5.1, 3.5, 1.4, "NaN"]'), 422, NO_NUMBER, id="NaN as a string"),
        pytest.param(features(b"[[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4, null]]"), 422, NULL, id="null in row 2"),
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
    contract = json.loads((served / "model.json").read_bytes())
    # They are rows of somebody's data.
    del contract["golden"]
    assert response.json() == {"contract": contract, "revision": REVISION}
    assert response.json()["contract"]["schema_version"] == 1


@pytest.mark.parametrize("path", ["/model", "/openapi.json", "/docs", "/metrics", "/readyz"])
def test_no_golden_row_is_shown(path: str, mixed: Model) -> None:
    text = ask(mixed, "GET", path).text
    # The values of a category are the model's own: a client must know them.
    shown = {value for feature in mixed.contract.features for value in feature.values}
    words = {value for row in mixed.contract.golden for value in row.features if isinstance(value, str)} - shown
    assert len(words) > 10
    assert [word for word in words if f'{word}"' in text or f">{word}<" in text] == []


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
    names = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    named = {
        "type": "object",
        "properties": dict.fromkeys(names, row["items"]),
        "required": names,
        "additionalProperties": False,
    }
    assert response.json()["paths"]["/predict"]["post"]["requestBody"] == {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "features": {
                            "oneOf": [
                                row,
                                named,
                                {"type": "array", "items": {"oneOf": [row, named]}, "minItems": 1, "maxItems": 1000},
                            ]
                        }
                    },
                    "required": ["features"],
                    "additionalProperties": False,
                    "example": {"features": [0.0, 0.0, 0.0, 0.0]},
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


def test_the_documentation_runs_what_is_in_the_image_and_asks_nobody_else(model: Model) -> None:
    response = ask(model, "GET", "/docs")
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", response.text)
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    for kind in ("script", "style"):
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", response.text, re.DOTALL)
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert len(re.findall("<script|<style| on[a-z]+=| style=", response.text)) == 2
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert ask(model, "GET", path).status_code == 404


def test_the_documentation_has_every_path_answer_and_limit_and_a_row_to_ask(model: Model) -> None:
    text = ask(model, "GET", "/docs", settings=Settings(max_rows=7)).text
    for path in ("/predict", "/healthz", "/readyz", "/metrics", "/model"):
        assert f"<code>{path}</code></h3>" in text
    assert "<tr><td>413</td><td>the request has more bytes or rows than the limit</td></tr>" in text
    assert "<td>DRYDOCK_MAX_ROWS</td><td>7</td><td>1000</td>" in text
    assert "{&quot;features&quot;: [0.0, 0.0, 0.0, 0.0]}" in text


def test_the_documentation_is_a_page_whatever_a_model_is_called(model: Model) -> None:
    named = Model(msgspec.structs.replace(model.contract, name="</title><script>alert(1)</script>"), model.predictor)
    assert "&lt;/title&gt;&lt;script&gt;alert(1)" in ask(named, "GET", "/docs").text
    assert "<script>alert" not in ask(named, "GET", "/docs").text


def test_the_limits_are_documented_as_they_are_here(model: Model) -> None:
    described = ask(model, "GET", "/openapi.json", settings=Settings(max_rows=7)).json()["info"]["description"]
    assert "| `DRYDOCK_MAX_ROWS` | 7 | 1000 | the most rows of a request |" in described
    assert "| `DRYDOCK_MAX_BODY_BYTES` | 1000000 | 1000000 | " in described


def test_limits_are_those_that_are_set(model: Model) -> None:
    settings = Settings(max_rows=1, max_body_bytes=300)
    two = ask(model, "POST", "/predict", features(b"[[1,2,3,4],[1,2,3,4]]"), JSON, settings=settings)
    assert (two.status_code, two.json()) == (
        413,
        {"error": "A request has at most 1 rows; send them in several requests."},
    )
    long = ask(model, "POST", "/predict", features(b"[1, 2, 3, 4]") + b" " * 300, JSON, settings=settings)
    assert long.json() == {"error": "A request has at most 300 bytes; send the rows in several requests."}


class Constant:
    """A model that says the same of every row."""

    inline = True

    def __init__(self, *answer: float) -> None:
        self._answer = list(answer)

    def predict(self, rows: Sequence[Row]) -> Answers:
        return Answers([self._answer for _ in rows])


@pytest.mark.parametrize(
    ("labels", "said", "counted"),
    [(["no", "yes"], "yes", "yes"), ([0, 1], 1, "1"), ([False, True], True, "true"), ([0.0, 1.0], 1.0, "1.0")],
    ids=str,
)
def test_a_label_keeps_its_type_and_a_model_may_give_no_probabilities(
    labels: list[Label], said: Label, counted: str, model: Model
) -> None:
    golden = [GoldenRow([*SETOSA], said)]
    sure = Model(msgspec.structs.replace(model.contract, labels=labels, golden=golden), Labelling())
    response = predict(sure, SETOSA)
    assert response.text == json.dumps({"predictions": [{"label": said}]}, separators=(",", ":"))
    document = ask(sure, "GET", "/openapi.json").json()
    answer = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/LabelBody"}
    assert document["components"]["schemas"]["LabelPrediction"]["required"] == ["label"]
    likely = [msgspec.structs.replace(golden[0], probabilities=dict.fromkeys(map(label_text, labels), 0.5))]
    unsure = Model(msgspec.structs.replace(sure.contract, golden=likely), Labelling([[0.75, 0.25]]))
    # The label is the one that the model says, although another one is more probable.
    assert predict(unsure, SETOSA).json() == {
        "predictions": [{"label": said, "probabilities": {label_text(labels[0]): 0.75, label_text(labels[1]): 0.25}}]
    }
    app = App(unsure, Settings(), REVISION)
    app.metrics.count_predictions(unsure.predict([SETOSA]))
    assert f'model_predictions_total{{label="{counted}"}} 1.0' in app.metrics.render().decode()


class Labelling:
    """A model that says the second label."""

    inline = True

    def __init__(self, numbers: Sequence[list[float]] = ()) -> None:
        self._numbers = list(numbers)

    def predict(self, rows: Sequence[Row]) -> Answers:
        return Answers(self._numbers, [1] * len(rows))


def of_width(width: int, model: Model) -> Model:
    """A model of so many numbers."""
    golden = [msgspec.structs.replace(row, features=[-1.7976931348623157e308] * width) for row in model.contract.golden]
    contract = msgspec.structs.replace(
        model.contract, features=[Feature(f"f{at}", "number") for at in range(width)], golden=golden
    )
    return Model(contract, Constant(1.0, 0.0, 0.0))


def test_one_row_is_answered_however_long_it_is(compiled_artifacts: Path) -> None:
    width = 60_000
    wide = of_width(width, load_model(compiled_artifacts))
    row = features(b"[" + b", ".join([b"-1.2345678901234567e-308"] * width) + b"]")
    assert len(row) > 1_500_000
    assert ask(wide, "POST", "/predict", row, JSON).status_code == 200
    assert ask(wide, "POST", "/predict", row, JSON, settings=Settings(max_body_bytes=60)).status_code == 200
    named = features(json.dumps(dict.fromkeys(wide.contract.feature_names, -1.2345678901234567e-308)).encode())
    assert ask(wide, "POST", "/predict", named, JSON).status_code == 200
    # What is longer is none: the limit is as long as one row, and shown so.
    refused = ask(wide, "POST", "/predict", row + b" " * 800_000, JSON)
    assert (refused.status_code, refused.json()) == (
        413,
        {"error": "A request has at most 2148906 bytes; send the rows in several requests."},
    )
    described = ask(wide, "GET", "/openapi.json").json()["info"]["description"]
    assert "| `DRYDOCK_MAX_BODY_BYTES` | 2148906 | 1000000 | " in described


def test_one_row_of_long_words_is_answered(mixed: Model) -> None:
    text = "see the attachment " * 40_000
    golden = [msgspec.structs.replace(mixed.contract.golden[0], features=[text, "phone", 1.0, 2.0])]
    long = Model(msgspec.structs.replace(mixed.contract, golden=golden), mixed.predictor)
    body = json.dumps({"features": [text * 3, "phone", 1.0, 2.0]}).encode()
    assert len(body) > 2_000_000
    assert ask(long, "POST", "/predict", body, JSON).status_code == 200


def test_a_refusal_names_some_of_many_features(compiled_artifacts: Path) -> None:
    response = ask(of_width(60_000, load_model(compiled_artifacts)), "POST", "/predict", features(b"[1]"), JSON)
    names = ", ".join(f"f{number}" for number in range(20))
    assert (response.status_code, response.json()) == (
        422,
        {"error": f"A row has 60000 numbers: {names} and 59,980 more; GET /model has all of them."},
    )


class Waiting(Constant):
    """A model whose calls last until they are let go."""

    inline = False

    def __init__(self) -> None:
        super().__init__(1.0, 0.0, 0.0)
        self.calls = 0
        self.go_on = threading.Event()

    def predict(self, rows: Sequence[Row]) -> Answers:
        self.calls += 1
        assert self.go_on.wait(10)
        return super().predict(rows)


def client_of(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://model", trust_env=False)


def test_more_predictions_than_the_limit_are_told_to_come_again_while_health_stays_green(model: Model) -> None:
    waiting = Waiting()
    app = App(Model(model.contract, waiting), Settings(max_concurrency=2), REVISION)

    async def story() -> None:
        async with client_of(app) as client:
            busy = [asyncio.create_task(client.post("/predict", json={"features": SETOSA})) for _ in range(2)]
            while not waiting.calls:
                await asyncio.sleep(0.01)
            assert "model_predict_in_flight 2.0" in (await client.get("/metrics")).text
            refused = await client.post("/predict", json={"features": SETOSA})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json() == {"error": "Too many predictions are in flight; try again in a second."}
            assert (await client.get("/healthz")).status_code == 200
            ready = asyncio.create_task(client.get("/readyz"))
            await asyncio.sleep(0.05)
            waiting.go_on.set()
            assert [(await each).status_code for each in (*busy, ready)] == [200, 200, 200]
            assert (await client.post("/predict", json={"features": SETOSA})).status_code == 200

    anyio.run(story)


def test_whether_it_is_ready_is_asked_in_a_thread_and_once_for_all(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.app.SELF_TEST_TIMEOUT_SECONDS", 0.3)
    waiting = Waiting()
    app = App(Model(model.contract, waiting), Settings(), REVISION)

    async def story() -> None:
        async with client_of(app) as client:
            asked = [asyncio.create_task(client.get("/readyz")) for _ in range(5)]
            await asyncio.sleep(0.05)
            # The event loop is free: a call that hangs stops nothing else.
            assert (await client.get("/healthz")).status_code == 200
            late = {"status": "not ready", "error": "the first golden row is not answered in time"}
            assert [((await each).status_code, (await each).json()) for each in asked] == [(503, late)] * 5
            assert waiting.calls == 1
            waiting.go_on.set()
            assert (await client.get("/readyz")).status_code == 200

    anyio.run(story)


@pytest.mark.parametrize("error", [SystemExit, StopIteration])
@pytest.mark.parametrize("path", ["/predict", "/readyz"])
def test_a_model_that_ends_its_own_call_ends_no_server(path: str, error: type[BaseException], model: Model) -> None:
    class Ending(Waiting):
        def predict(self, rows: Sequence[Row]) -> Answers:
            raise error

    method = "POST" if path == "/predict" else "GET"
    body = features(b"[1, 2, 3, 4]") if method == "POST" else b""
    assert ask(Model(model.contract, Ending()), method, path, body, JSON).status_code == 500


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_answers_that_do_not_fit_the_rows_are_given_to_nobody(inline: bool, count: int, model: Model) -> None:
    class Wrong(Constant):
        def predict(self, rows: Sequence[Row]) -> Answers:
            return Answers([self._answer] * count)

    wrong = Wrong(1.0, 0.0, 0.0)
    wrong.inline = inline
    response = ask(Model(model.contract, wrong), "POST", "/predict", features(b"[[1,2,3,4],[1,2,3,4]]"), JSON)
    assert response.status_code == 500


def test_bodies_under_way_have_a_limit_of_their_bytes_and_small_ones_are_free(model: Model) -> None:
    app = App(model, Settings(max_body_bytes=300_000, max_buffer_bytes=300_000), REVISION)
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield features(b"[5.1, 3.5, 1.4, 0.2]") + b" " * 200_000
        await go_on.wait()
        yield b" "

    async def story() -> list[int]:
        async with client_of(app) as client:
            first = asyncio.create_task(client.post("/predict", content=slowly(), headers=JSON))
            await asyncio.sleep(0.05)
            second = await client.post("/predict", content=slowly_whole, headers=JSON)
            assert (second.status_code, second.headers["retry-after"]) == (503, "1")
            assert second.json() == {"error": "Too many bodies are in flight; try again in a second."}
            small = await client.post("/predict", json={"features": SETOSA})
            go_on.set()
            codes = [(await first).status_code, small.status_code]
            return [*codes, (await client.post("/predict", content=slowly_whole, headers=JSON)).status_code]

    slowly_whole = features(b"[5.1, 3.5, 1.4, 0.2]") + b" " * 250_000
    assert anyio.run(story) == [200, 200, 200]
    assert app._buffered_bytes == 0


def test_nothing_keeps_what_arrived_beside_the_body_itself(model: Model) -> None:
    """A server with four hundred slow senders would keep two pieces of each, which no limit counts."""

    class Part(bytearray):
        """Bytes whose end can be seen."""

    parts: list[weakref.ref[Part]] = []
    alive: list[int] = []

    async def receive() -> dict[str, Any]:
        alive.append(sum(part() is not None for part in parts))
        content = Part(b" " * 70_000)
        parts.append(weakref.ref(content))
        return {"type": "http.request", "body": content, "more_body": len(parts) < 4}

    async def send(message: MutableMapping[str, Any]) -> None:
        pass

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
    anyio.run(App(model, Settings(), REVISION), scope, receive, send)
    assert alive == [0, 0, 0, 0]


def test_a_length_of_a_thousand_digits_is_too_large(model: Model) -> None:
    response = ask(model, "POST", "/predict", features(b"[1, 2, 3, 4]"), JSON | {"Content-Length": "9" * 1_000})
    assert response.status_code == 413


@pytest.mark.parametrize("path", ["/predict", "/healthz", "/readyz", "/model", "/metrics"])
def test_the_long_way_through_fastapi_answers_the_same(path: str, model: Model) -> None:
    """A short cut is nothing but that: what it skips would say the same."""
    method = "POST" if path == "/predict" else "GET"
    bodies = [features(b"[5.1, 3.5, 1.4, 0.2]"), b"{}", b""] if method == "POST" else [b""]

    async def both() -> list[tuple[int, object]]:
        whole = App(model, Settings(), REVISION)
        answers = []
        for asgi in (whole, await whole.docs_app()):
            transport = httpx.ASGITransport(app=asgi)
            async with httpx.AsyncClient(transport=transport, base_url="http://model", trust_env=False) as client:
                for body in bodies:
                    response = await client.request(method, path, content=body, headers=JSON)
                    # The numbers of /metrics go on counting between the two.
                    said = response.headers["content-type"] if path == "/metrics" else response.json()
                    answers.append((response.status_code, said))
        return answers

    answers = anyio.run(both)
    assert answers[: len(bodies)] == answers[len(bodies) :]


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("header", "is_trace"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", True),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", False),
        (f"00-{TRACE}-00f067aa0ba902b7-01-{MARKER}", False),
        (MARKER, False),
    ],
)
def test_a_request_is_known_by_its_trace_and_by_nothing_that_a_caller_makes_up(
    header: str, is_trace: bool, model: Model
) -> None:
    for path in ("/healthz", "/docs"):
        answered = ask(model, "GET", path, headers={"traceparent": header}).headers["x-request-id"]
        assert (answered == TRACE) is is_trace
        assert MARKER not in answered


def test_each_request_has_an_id_of_its_own(model: Model) -> None:
    async def three() -> list[str]:
        transport = httpx.ASGITransport(app=App(model, Settings(), REVISION))
        async with httpx.AsyncClient(transport=transport, base_url="http://model", trust_env=False) as client:
            return [(await client.get(path)).headers["x-request-id"] for path in ("/healthz", "/healthz", "/docs")]

    assert len(set(anyio.run(three))) == 3


def test_what_is_counted(model: Model) -> None:
    async def counted() -> str:
        transport = httpx.ASGITransport(app=App(model, Settings(), REVISION))
        async with httpx.AsyncClient(transport=transport, base_url="http://model", trust_env=False) as client:
            for row in ([SETOSA], [SETOSA, [6.7, 3.0, 5.2, 2.3]], []):
                await client.post("/predict", json={"features": row})
            await client.get(f"/{MARKER}")
            return (await client.get("/metrics")).text

    lines = anyio.run(counted).splitlines()
    contract = model.contract
    for line in (
        'model_requests_total{path="/predict",status="200"} 2.0',
        'model_requests_total{path="/predict",status="422"} 1.0',
        'model_requests_total{path="other",status="404"} 1.0',
        "model_predict_duration_seconds_count 3.0",
        'model_predictions_total{label="setosa"} 2.0',
        'model_predictions_total{label="versicolor"} 0.0',
        'model_predictions_total{label="virginica"} 1.0',
        "model_predict_in_flight 0.0",
        f'model_info{{name="iris-classifier",revision="{REVISION}",runtime="{contract.runtime}",'
        f'sha256="{contract.artifact.sha256}"}} 1.0',
    ):
        assert line in lines
    assert MARKER not in "\n".join(lines)


class Broken:
    """A model that fails with the input in its error's message, as libraries do."""

    def __init__(self, inline: bool) -> None:
        self.inline = inline

    def predict(self, rows: object) -> Answers:
        raise ArithmeticError(f"cannot compute {rows}")


@pytest.mark.parametrize("inline", [True, False])
def test_an_error_of_ours_is_a_500_that_tells_nobody_the_input(
    inline: bool, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Model(model.contract, Broken(inline))
    response = ask(broken, "POST", "/predict", features(b"[5.1, 3.5, 1.4, 0.212345]"), JSON)
    assert (response.status_code, response.json()) == (
        500,
        {"error": "Internal server error. Search the log for the x-request-id of this response."},
    )
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name == "drydock.requests"]
    failed = json.loads(lines[0])
    assert (failed["message"], failed["error"]) == ("a request failed", "ArithmeticError")
    assert failed["request_id"] == response.headers["x-request-id"]
    assert failed["stack"][-1].endswith(" predict")
    assert "0.212345" not in "".join(lines)


@pytest.mark.parametrize(("log_requests", "statuses"), [("all", [200, 422, 404]), ("errors", [422, 404]), ("none", [])])
def test_the_log_has_the_requests_that_it_is_asked_for_and_no_input(
    log_requests: Literal["all", "errors", "none"],
    statuses: list[int],
    model: Model,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    settings = Settings(log_requests=log_requests)
    ask(model, "POST", "/predict", features(b"[5.1, 3.5, 1.4, 0.212345]"), JSON, settings=settings)
    ask(model, "POST", "/predict", features(b'["0.212345"]'), JSON, settings=settings)
    ask(model, "GET", f"/{MARKER}?{MARKER}", headers={"X-Note": MARKER}, settings=settings)
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name == "drydock.requests"]
    assert [json.loads(line)["status"] for line in lines] == statuses
    assert "0.212345" not in "".join(lines)
    assert MARKER not in "".join(lines)


def test_a_regression_answers_with_values(regression: Model) -> None:
    golden = regression.contract.golden
    one = predict(regression, golden[11].features)
    assert (one.status_code, one.json()) == (200, {"predictions": [{"value": golden[11].value}]})
    two = predict(regression, [golden[11].features, golden[0].features])
    assert two.json() == {"predictions": [{"value": golden[11].value}, {"value": golden[0].value}]}


def test_a_regression_counts_its_values(regression: Model) -> None:
    async def counted() -> str:
        transport = httpx.ASGITransport(app=App(regression, Settings(), REVISION))
        async with httpx.AsyncClient(transport=transport, base_url="http://model", trust_env=False) as client:
            for rows in ([[0.01] * 10], [[0.01] * 10] * 2, ["0.01"]):
                await client.post("/predict", json={"features": rows})
            return (await client.get("/metrics")).text

    lines = anyio.run(counted).splitlines()
    assert [line for line in lines if line.startswith("model_predictions_total")] == [
        'model_predictions_total{label="value"} 3.0'
    ]
    assert 'model_requests_total{path="/predict",status="422"} 1.0' in lines


def test_a_count_is_there_before_anything_was_predicted(regression: Model, mixed: Model) -> None:
    assert 'model_predictions_total{label="value"} 0.0' in ask(regression, "GET", "/metrics").text
    text = ask(mixed, "GET", "/metrics").text
    for label in ("account", "billing", "technical"):
        assert f'model_predictions_total{{label="{label}"}} 0.0' in text
    assert f'model_info{{name="ticket-router",revision="{REVISION}",runtime="pandas",' in text


def test_words_are_answered(mixed: Model) -> None:
    golden = mixed.contract.golden[8]
    response = predict(mixed, golden.features)
    assert response.status_code == 200
    (prediction,) = response.json()["predictions"]
    assert prediction["label"] == golden.label
    assert prediction["probabilities"] == pytest.approx(golden.probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (["printer", "phone", "2", 1.5], "customer_years is not a number."),
        ([7, "phone", 2, 1.5], "subject is not a string."),
        (["printer", None, 2, 1.5], "channel is null, and the model takes no missing value there."),
        (["printer", "phone", 2], "A row has 4 numbers and strings: subject, channel, customer_years, waiting_hours."),
        (
            [],
            (
                '"features" is a row, or a list of rows. A row is a list of 4 numbers and strings, or an object with '
                "the names of the features."
            ),
        ),
    ],
)
def test_a_row_of_other_kinds_is_refused(row: list[object], sentence: str, mixed: Model) -> None:
    response = predict(mixed, row)
    assert (response.status_code, response.json()) == (422, {"error": sentence})


@pytest.mark.parametrize("name", ["tickets", "diabetes", "compiled_diabetes"])
def test_single_rows_and_batches_that_come_together_each_hear_their_own(
    name: str, request: pytest.FixtureRequest
) -> None:
    model = load_model(request.getfixturevalue(name))
    rows = [row.features for row in model.contract.golden]
    # Single rows are lists to the model, or tuples, and a batch is one of them.
    asked: list[tuple[list[int], bool]] = [([3], False), ([0, 11, 7], True), ([5], True), ([11], False), ([1, 1], True)]

    async def told() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=App(model, Settings(), REVISION))
        async with httpx.AsyncClient(transport=transport, base_url="http://model", trust_env=False) as client:
            bodies = [[rows[at] for at in places] if batch else rows[places[0]] for places, batch in asked]
            return await asyncio.gather(*(client.post("/predict", json={"features": body}) for body in bodies))

    for response, (places, _) in zip(anyio.run(told), asked, strict=True):
        predictions = response.json()["predictions"]
        assert len(predictions) == len(places)
        for prediction, place in zip(predictions, places, strict=True):
            golden = model.contract.golden[place]
            if golden.value is None:
                assert prediction["label"] == golden.label
                assert prediction["probabilities"] == pytest.approx(golden.probabilities, abs=1e-6)
            else:
                assert prediction == {"value": golden.value}


def operation(model: Model) -> tuple[Any, Any]:
    document = ask(model, "GET", "/openapi.json").json()
    return document["paths"]["/predict"]["post"], document["components"]["schemas"]


def test_words_are_documented_at_their_places(mixed: Model) -> None:
    number, word = {"type": "number", "minimum": -3.4e38, "maximum": 3.4e38}, {"type": "string"}
    # The model has an answer to another one, too.
    category = {**word, "examples": ["chat", "e-mail", "phone", "web form"]}
    row = {
        "type": "array",
        "prefixItems": [word, category, number, number],
        "minItems": 4,
        "maxItems": 4,
        "description": "subject, channel, customer_years, waiting_hours",
    }
    documented, _ = operation(mixed)
    schema = documented["requestBody"]["content"]["application/json"]["schema"]
    names = ["subject", "channel", "customer_years", "waiting_hours"]
    named = {
        "type": "object",
        "properties": dict(zip(names, [word, category, number, number], strict=True)),
        "required": names,
        "additionalProperties": False,
    }
    rows = {"type": "array", "items": {"oneOf": [row, named]}, "minItems": 1, "maxItems": 1000}
    assert schema["properties"] == {"features": {"oneOf": [row, named, rows]}}
    assert schema["example"] == {"features": ["words", "chat", 0.0, 0.0]}
    assert predict(mixed, schema["example"]["features"]).status_code == 200


def test_the_answers_of_each_task_are_documented(regression: Model, mixed: Model) -> None:
    for model, body, row, properties in (
        (regression, "RegressionBody", "RegressionPrediction", {"value"}),
        (mixed, "ClassificationBody", "ClassPrediction", {"label", "probabilities"}),
    ):
        documented, schemas = operation(model)
        answered = documented["responses"]["200"]["content"]["application/json"]["schema"]
        assert answered == {"$ref": f"#/components/schemas/{body}"}
        assert schemas[body]["properties"]["predictions"]["items"] == {"$ref": f"#/components/schemas/{row}"}
        assert set(schemas[row]["properties"]) == properties
        assert ask(model, "GET", "/docs").status_code == 200


DOORS: list[Row] = [["exit", 1.0], ["entrance", 2.0], ["exit", 3.0], ["entrance", 4.0]]


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that refuses words that it was not trained on."""
    frame = pandas.DataFrame(DOORS, columns=["sign", "width"])
    columns = ColumnTransformer([("sign", OneHotEncoder(handle_unknown="error"), ["sign"])], remainder="passthrough")
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, ["out", "in", "out", "in"])
    directory = tmp_path_factory.mktemp("strict")
    table = Table([Feature("sign", "string"), Feature("width", "number")], DOORS)
    create_contract(pipeline, table, ["out", "in", "out", "in"], directory, name="doors")
    return load_model(directory)


@pytest.fixture(scope="session")
def exponential(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A regression whose values grow past all numbers."""
    regressor = TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1)
    directory = tmp_path_factory.mktemp("exponential")
    rows: list[Row] = [[1.0], [2.0], [3.0]]
    values = [1.5, 6.0, 20.0]
    create_contract(regressor.fit(rows, values), number_table(["days"], rows), values, directory, name="growth")
    return load_model(directory)


UNKNOWN = "The model does not take one of these rows: it may have a value that the model does not know."
NO_FINITE = "One of these rows is so far from the training data that its answer is not a number."


@pytest.mark.parametrize(
    ("name", "rows", "sentence"),
    [
        ("strict", [MARKER, 1.0], UNKNOWN),
        ("strict", [["exit", 1.0], [MARKER, 1.0]], UNKNOWN),
        ("exponential", [212345.5], NO_FINITE),
        ("exponential", [[1.0], [212345.5]], NO_FINITE),
    ],
)
def test_rows_that_the_model_has_no_answer_to_are_refused_and_not_logged(
    name: str, rows: list[object], sentence: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    response = predict(request.getfixturevalue(name), rows)
    assert (response.status_code, response.json()) == (422, {"error": sentence})
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name.startswith("drydock")]
    assert [json.loads(line)["status"] for line in lines] == [422]
    assert MARKER not in caplog.text + "".join(lines)
    assert "212345" not in caplog.text + "".join(lines)


def test_a_row_without_an_answer_takes_nobody_elses_along(strict: Model) -> None:
    async def told() -> list[tuple[int, str]]:
        transport = httpx.ASGITransport(app=App(strict, Settings(), REVISION))
        async with httpx.AsyncClient(transport=transport, base_url="http://model", trust_env=False) as client:
            rows = (["exit", 1.0], ["entrance", 4.0], [MARKER, 1.0], ["exit", 3.0])
            answers = await asyncio.gather(*(client.post("/predict", json={"features": row}) for row in rows))
            return [
                (each.status_code, each.json()["predictions"][0]["label"] if each.status_code == 200 else "")
                for each in answers
            ]

    assert anyio.run(told) == [(200, "out"), (200, "in"), (422, ""), (200, "out")]
