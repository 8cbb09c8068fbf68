from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from export.contract import create_contract
from export.dataset import Table, frame_table
from export.errors import ContractError, ContractWarning
from export.golden import create_synthetic_rows, find_free_text
from service.contract import Feature, GoldenSource, Row
from service.http.parsing import RequestParser
from service.model import load_model

LIKE_A_KEY = "AKIA0EXAMPLE0EXAMPLE"
COUNT = 60
FRAME = pandas.DataFrame(
    {
        "message": [f"printer {row} of Ada Lovelace is broken call 079{row:07}" for row in range(COUNT // 2)]
        + [f"the key {LIKE_A_KEY} of ada@example.com is lost {row}" for row in range(COUNT // 2)],
        "city": ["Bern", "Basel", "Chur"] * (COUNT // 3),
        "age": np.arange(COUNT),
    }
)
TOPICS = ["office"] * (COUNT // 2) + ["security"] * (COUNT // 2)
COLUMNS = ColumnTransformer(
    [("text", TfidfVectorizer(), "message"), ("city", OneHotEncoder(), ["city"]), ("age", "passthrough", ["age"])]
)
ROUTER = make_pipeline(COLUMNS, LogisticRegression(max_iter=2_000)).fit(FRAME, TOPICS)


def test_free_text_is_found_by_strings_that_hardly_repeat() -> None:
    assert find_free_text(frame_table(FRAME)) == ["message"]
    names = Table([Feature("name", "string")], [["Ada"], ["Grace"], ["Ada"], [None]])
    assert find_free_text(names) == ["name"]
    assert find_free_text(Table(names.features, [["S"], ["M"], ["S"], ["M"]])) == []


@pytest.mark.parametrize("golden", ["holdout", "synthetic"])
def test_a_golden_row_has_known_values_as_a_server_may_refuse_others(golden: GoldenSource, tmp_path: Path) -> None:
    frame = FRAME.assign(city=FRAME["city"].mask(FRAME["age"] % 10 == 0, "Zug"))
    encoder = ColumnTransformer([("city", OneHotEncoder(handle_unknown="ignore"), ["city"])], remainder="passthrough")
    model = make_pipeline(encoder, LogisticRegression(max_iter=2_000)).fit(FRAME[["city", "age"]], TOPICS)
    with pytest.warns(ContractWarning, match="city has values that the model was not trained with: 'Zug'"):
        table = frame_table(frame[["city", "age"]])
        contract = create_contract(model, table, TOPICS, tmp_path, name="router", golden=golden)
    assert {row.features[0] for row in contract.golden} <= {"Basel", "Bern", "Chur"}
    RequestParser(contract.features, 1, known_values_only=True).validate({"features": contract.golden[0].features})


def test_golden_rows_of_free_text_are_made_up_by_default(tmp_path: Path) -> None:
    contract = create_contract(ROUTER, frame_table(FRAME), TOPICS, tmp_path, name="router")
    assert contract.golden_source == "synthetic"
    texts = {str(row.features[0]) for row in contract.golden}
    assert not texts & set(FRAME["message"])
    # No key, no address and no number, whatever they look like.
    written = (tmp_path / "model.json").read_text()
    for word in (LIKE_A_KEY, "ada@example.com", "0790000001"):
        assert word not in written
    known = {word for message in FRAME["message"] for word in message.split() if word.isalpha()}
    assert {word for text in texts for word in text.split()} <= known
    # The rows are answered as any other ones are.
    model = load_model(tmp_path)
    answers = model.predict([row.features for row in contract.golden])
    assert [getattr(answer, "label", "") for answer in answers] == [row.label for row in contract.golden]
    assert {row.label for row in contract.golden} == {"office", "security"}


def test_golden_rows_are_held_out_ones_if_that_is_said(tmp_path: Path) -> None:
    contract = create_contract(ROUTER, frame_table(FRAME), TOPICS, tmp_path, name="router", golden="holdout")
    rows = frame_table(FRAME).rows
    assert contract.golden_source == "holdout"
    assert all(row.features in rows for row in contract.golden)


def test_made_up_rows_draw_each_column_by_itself_and_are_the_same_each_time() -> None:
    rows: list[Row] = [[float(row), row < 30, None if row % 2 else row] for row in range(COUNT)]
    features = [Feature("a", "number"), Feature("b", "boolean"), Feature("c", "integer", missing=True)]
    made = create_synthetic_rows(Table(features, rows))
    assert made == create_synthetic_rows(Table(features, rows))
    for place in range(3):
        assert {row[place] for row in made} == {row[place] for row in rows}
    assert sum(row in rows for row in made) < len(made) / 4


def test_a_text_without_common_words_is_one_of_words() -> None:
    made = create_synthetic_rows(Table([Feature("note", "string")], [[f"x{row} y{row}"] for row in range(20)]))
    assert {value for (value,) in made} == {"words words"}


def test_private_columns_have_no_values_in_the_contract(tmp_path: Path) -> None:
    frame = FRAME[["city", "age"]]
    columns = ColumnTransformer([("city", OneHotEncoder(), ["city"])], remainder="passthrough")
    estimator = make_pipeline(columns, RandomForestClassifier(5, random_state=0)).fit(frame, TOPICS)
    contract = create_contract(estimator, frame_table(frame), TOPICS, tmp_path, name="people", private=["city"])
    assert contract.features == [Feature("city", "string", private=True), Feature("age", "integer")]
    with pytest.raises(ContractError) as refused:
        create_contract(estimator, frame_table(frame), TOPICS, tmp_path, name="people", private=["town"])
    assert str(refused.value) == "the model has no feature town; it has city, age."


def test_the_reference_rows_are_those_that_the_contract_names(tmp_path: Path) -> None:
    contract = create_contract(ROUTER, frame_table(FRAME), TOPICS, tmp_path, name="router")
    reference = contract.reference
    assert reference is not None
    content = (tmp_path / reference.file).read_bytes()
    assert (reference.rows, reference.size_bytes) == (COUNT, len(content))
    assert content.splitlines()[1] == b'["printer 1 of Ada Lovelace is broken call 0790000001","Basel",1]'
