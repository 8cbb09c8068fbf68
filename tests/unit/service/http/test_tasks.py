"""A model of each task over HTTP: its answers, their count, and their documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from service.contract import Feature, Value, label_text
from service.http.app import App
from service.model import Model
from service.settings import Settings
from tests.support.models import run
from tests.support.tasks import TASKS, create

pytestmark = pytest.mark.slow
REJECT = Settings(unknown_categories="reject")
FLAT: list[Value] = [0.5, 3, True, "Bern", 1, "old house"]


def ask(model: Model, *bodies: object, settings: Settings = Settings()) -> list[httpx.Response]:  # noqa: B008 - frozen
    """The responses to each of the bodies in turn, then the metrics, the contract and the documentation."""

    async def answers() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=App(model, settings, "1f3c9e2"))
        async with httpx.AsyncClient(transport=transport, base_url="http://model", trust_env=False) as client:
            sent = [await client.post("/predict", json={"features": body}) for body in bodies]
            return [*sent, *[await client.get(path) for path in ("/metrics", "/model", "/openapi.json", "/readyz")]]

    return anyio.run(answers)


def counted(metrics: str) -> dict[str, float]:
    """The predicted rows by label."""
    lines = [line for line in metrics.splitlines() if line.startswith("model_predictions_total{")]
    return {line.partition('label="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


BODIES = {
    "multilabel": ("LabelsBody", "LabelsPrediction", {"labels", "probabilities"}),
    "labels_alone": ("LabelsBody", "LabelsPrediction", {"labels", "probabilities"}),
    "values": ("ValuesBody", "ValuesPrediction", {"values"}),
    "outliers": ("OutlierBody", "OutlierPrediction", {"label", "score"}),
    "clustering": ("LabelBody", "LabelPrediction", {"label"}),
    "mixture": ("ClassificationBody", "ClassPrediction", {"label", "probabilities"}),
    "texts": ("ClassificationBody", "ClassPrediction", {"label", "probabilities"}),
    "every_type": ("ClassificationBody", "ClassPrediction", {"label", "probabilities"}),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_golden_row_is_answered_alone_and_together_and_counted(name: str, tasks: dict[str, Model]) -> None:
    model = tasks[name]
    golden = model.contract.golden
    rows = [row.features for row in golden]
    *alone, together, metrics, shown, document, ready = ask(model, *rows, rows)
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    expected = [
        {field: value for field, value in msgspec.to_builtins(row).items() if field != "features"} for row in golden
    ]
    answers = [response.json()["predictions"][0] for response in alone]
    assert [set(answer) for answer in answers] == [model.contract.answer_fields] * len(golden)
    for got in (answers, together.json()["predictions"]):
        for field in model.contract.answer_fields:
            for row, answer in zip(expected, got, strict=True):
                exact = field in ("label", "labels")
                assert answer[field] == (row[field] if exact else pytest.approx(row[field], abs=1e-9)), field
    # Each row twice: by its label, by each of its labels, or under the one name that a regression has.
    times: dict[str, float] = dict.fromkeys(model.contract.label_texts or ["values"], 0.0)
    for each in golden:
        for label in each.labels if each.labels is not None else [each.label]:
            times["values" if label is None else label_text(label)] += 2
    assert counted(metrics.text) == times
    contract = json.loads(msgspec.json.encode(model.contract))
    del contract["golden"]
    assert shown.json()["contract"] == contract
    body, prediction, fields = BODIES[name]
    schemas = document.json()["components"]["schemas"]
    answer = document.json()["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": f"#/components/schemas/{body}"}
    assert schemas[body]["properties"]["predictions"]["items"] == {"$ref": f"#/components/schemas/{prediction}"}
    assert set(schemas[prediction]["properties"]) == fields


def test_a_label_of_each_task_has_its_own_type(tasks: dict[str, Model]) -> None:
    labels = {name: tasks[name].contract.labels for name in TASKS}
    assert labels == {
        "multilabel": ["jazz", "pop", "rock"],
        "labels_alone": labels["labels_alone"],
        "values": [],
        "outliers": [-1, 1],
        "clustering": [0, 1, 2],
        "mixture": [0, 1],
        "texts": ["account", "billing", "hardware"],
        "every_type": ["cheap", "dear"],
    }
    assert len(labels["labels_alone"]) == 3


def test_a_row_may_have_no_label_and_then_counts_as_none(tasks: dict[str, Model]) -> None:
    model = tasks["multilabel"]
    none = next(row for row in model.contract.golden if row.labels == [])
    response, metrics, *_ = ask(model, none.features)
    (prediction,) = response.json()["predictions"]
    assert prediction["labels"] == []
    assert max(prediction["probabilities"].values()) < 0.5
    assert counted(metrics.text) == {"jazz": 0.0, "pop": 0.0, "rock": 0.0}


def test_an_outlier_has_a_negative_score(tasks: dict[str, Model]) -> None:
    response, *_ = ask(tasks["outliers"], [[1e6] * 4, tasks["outliers"].contract.golden[-1].features])
    far, near = response.json()["predictions"]
    assert (far["label"], far["score"] < 0) == (-1, True)
    assert (near["label"], near["score"] >= 0) == (1, True)


def test_a_text_is_a_row_of_one_string(tasks: dict[str, Model]) -> None:
    model = tasks["texts"]
    assert model.contract.input == "texts"
    one, many, named, wrong, *_ = ask(model, ["pay it"], [["pay it"], ["printer"]], {"text": "pay it"}, [1])
    assert one.json() == named.json()
    assert one.json()["predictions"][0]["label"] == "billing"
    assert [each["label"] for each in many.json()["predictions"]] == ["billing", "hardware"]
    assert (wrong.status_code, wrong.json()) == (422, {"error": "text is not a string."})


def test_a_model_has_features_of_every_type(tasks: dict[str, Model]) -> None:
    contract = tasks["every_type"].contract
    assert contract.features == [
        Feature("size", "number", missing=True),
        Feature("rooms", "integer"),
        Feature("balcony", "boolean"),
        Feature("city", "category", ["Basel", "Bern"], missing=True),
        Feature("floor", "category", [0, 1, 2]),
        Feature("note", "string"),
    ]


def test_rows_of_every_type_are_answered(tasks: dict[str, Model]) -> None:
    model = tasks["every_type"]
    names = model.contract.feature_names
    gaps = [None, 3.0, True, None, 1.0, "old house"]
    one, named, together, *_ = ask(
        model, FLAT, dict(zip(names, FLAT, strict=True)), [FLAT, gaps, ["Chur" if at == "Bern" else at for at in FLAT]]
    )
    assert one.status_code == 200
    assert one.json() == named.json()
    predictions = together.json()["predictions"]
    assert predictions[0] == one.json()["predictions"][0]
    # A gap, and a city that the model does not know, have answers of their own.
    assert len({json.dumps(each) for each in predictions}) == 3


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (0, True, "size is not a number."),
        (0, "0.5", "size is not a number."),
        (1, 3.5, "rooms is not a whole number, or too large."),
        (1, 2**53, "rooms is not a whole number, or too large."),
        (1, None, "rooms is null, and the model takes no missing value there."),
        (2, 1, "balcony is not true or false."),
        (2, None, "balcony is null, and the model takes no missing value there."),
        (3, 1, "city is not a string."),
        (4, "1", "floor is not a number."),
        (4, 0.5, "floor is not a whole number, or too large."),
        (4, None, "floor is null, and the model takes no missing value there."),
        (5, None, "note is null, and the model takes no missing value there."),
        (5, 5, "note is not a string."),
    ],
)
def test_a_value_of_another_type_is_refused(place: int, value: Value, sentence: str, tasks: dict[str, Model]) -> None:
    row = [value if at == place else each for at, each in enumerate(FLAT)]
    one, second, *_ = ask(tasks["every_type"], row, [FLAT, row])
    for response in (one, second):
        assert (response.status_code, response.json()) == (422, {"error": sentence})


def test_other_values_of_a_category_are_refused_if_the_server_is_told_to(tasks: dict[str, Model]) -> None:
    chur = [0.5, 3, True, "Chur", 1, "old house"]
    attic = [0.5, 3, True, "Bern", 7, "old house"]
    gap = [0.5, 3, True, None, 1, "any text"]
    model = tasks["every_type"]
    responses = ask(model, chur, [FLAT, attic], dict(zip(model.contract.feature_names, attic, strict=True)), gap)
    assert [response.status_code for response in responses[:4]] == [200] * 4
    strict = ask(
        model, chur, [FLAT, attic], dict(zip(model.contract.feature_names, attic, strict=True)), gap, settings=REJECT
    )
    wrong = "is not one of the values that the model was trained with."
    assert [response.json() for response in strict[:3]] == [
        {"error": f"city {wrong}"},
        {"error": f"floor {wrong}"},
        {"error": f"floor {wrong}"},
    ]
    assert [response.status_code for response in strict[:4]] == [422, 422, 422, 200]


def read_request_schema(model: Model, settings: Settings) -> dict[str, Any]:
    *_, document, _ = ask(model, settings=settings)
    body = document.json()["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert isinstance(body, dict)
    return body


def test_each_type_is_documented_at_its_place(tasks: dict[str, Model]) -> None:
    integer = {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1}
    size = {"type": ["number", "null"], "minimum": -3.4e38, "maximum": 3.4e38}
    rows = {
        "accept": [
            size,
            integer,
            {"type": "boolean"},
            {"type": ["string", "null"], "examples": ["Basel", "Bern"]},
            {**integer, "examples": [0, 1, 2]},
            {"type": "string"},
        ],
        "reject": [
            size,
            integer,
            {"type": "boolean"},
            {"enum": ["Basel", "Bern", None]},
            {"enum": [0, 1, 2]},
            {"type": "string"},
        ],
    }
    model = tasks["every_type"]
    for settings in (Settings(), REJECT):
        schema = read_request_schema(model, settings)
        listed, named, many = schema["properties"]["features"]["oneOf"]
        assert listed["prefixItems"] == rows[settings.unknown_categories]
        assert named["properties"] == dict(
            zip(model.contract.feature_names, rows[settings.unknown_categories], strict=True)
        )
        assert many["items"] == {"oneOf": [listed, named]}
        assert schema["example"] == {"features": [0.0, 0, False, "Basel", 0, "words"]}
        response, *_ = ask(model, schema["example"]["features"], settings=settings)
        assert response.status_code == 200


def test_a_row_of_every_type_is_given_on_the_command_line(tmp_path: Path) -> None:
    create("every_type", tmp_path / "artifacts")
    for row, status, words in (
        ("0.5 3 true Bern 1 old", 0, "0.5, 3.0, true, Bern, 1.0, old → "),
        ("null 3 false null 7 null", 0, "null, 3.0, false, null, 7.0, null → "),
        ("0.5 3.5 true Bern 1 old", 2, "python -m service.predict: error: rooms is not a whole number, or too large."),
        ("0.5 null true Bern 1 old", 2, "python -m service.predict: error: rooms is not a number."),
        ("0.5 3 1 Bern 1 old", 2, "python -m service.predict: error: balcony is not true or false."),
    ):
        done = run("-m", "service.predict", "--features", *row.split(), folder=tmp_path)
        assert (done.returncode, words) == (status, (done.stdout + done.stderr).splitlines()[-1][: len(words)])
