"""Models of each kind, from their training to the server's answers: these must be the estimator's own."""

from __future__ import annotations

import json
import operator
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MeanShift
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsRegressor, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import SVR, LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

from export.contract import create_contract
from export.dataset import create_dataset
from export.errors import ContractError, ContractWarning
from export.table import read_table
from service.contract import Contract, Value
from service.http.parsing import RequestParser
from service.model import LabelsPrediction, Model, Prediction, RegressionPrediction, ValuesPrediction, load_model

pytestmark = [
    pytest.mark.slow,
    # The service asks without the names that a model was trained with, and pytest takes its own filter away.
    pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning"),
]
GENERATOR = np.random.default_rng(3)
COUNT = 240
TRAINED = slice(0, 160)
HELD_OUT = slice(160, None)
PEOPLE = pandas.DataFrame(
    {
        "age": GENERATOR.integers(18, 90, COUNT),
        "income": GENERATOR.normal(5, 2, COUNT).round(3),
        "member": GENERATOR.random(COUNT) < 0.5,
        "city": GENERATOR.choice(["Bern", "Basel", "Chur"], COUNT),
    }
)
NUMBERS = PEOPLE[["age", "income"]]
GAPS = PEOPLE.mask(GENERATOR.random(PEOPLE.shape) < 0.15).assign(member=PEOPLE["member"])
BUYS = np.where((PEOPLE["age"] > 50) & PEOPLE["member"], "buys", "leaves")
FLAGS = pandas.DataFrame({"old": (PEOPLE["age"] > 50).astype(int), "rich": (PEOPLE["income"] > 5).astype(int)})
SIZES = pandas.DataFrame({"tiny": PEOPLE["age"] * 1e-9, "large": 1000 * PEOPLE["income"]})
TEXTS = [
    f"{opinion} {thing} {number}"
    for opinion, thing, number in zip(
        GENERATOR.choice(["good", "bad"], COUNT),
        GENERATOR.choice(["film", "book"], COUNT),
        GENERATOR.integers(0, 900, COUNT),
        strict=True,
    )
]
OPINIONS = np.array(["fan" if text.startswith("good") else "critic" for text in TEXTS])


CODES = pandas.DataFrame({"code": GENERATOR.choice(["3011", "4051", "7000"], COUNT)})
CODED = np.where(CODES["code"] == "3011", "old", "new")
DIGITS = [f"{first}.{last}" for first, last in GENERATOR.integers(1, 4, (COUNT, 2))]
CITIES = pandas.DataFrame({"city": PEOPLE["city"].astype(object).where(GAPS["income"].notna(), None)})
ENCODED = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())


def encode(encoder: Any) -> ColumnTransformer:  # noqa: ANN401
    return ColumnTransformer([("city", encoder, ["city"])], remainder="passthrough")


IMPUTED = ColumnTransformer(
    [
        ("city", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["city"]),
        ("numbers", SimpleImputer(), ["age", "income"]),
        ("member", "passthrough", ["member"]),
    ]
)
LOGISTIC = LogisticRegression(max_iter=3_000)
FOREST = RandomForestClassifier(10, random_state=0)
# The estimator, its data and their right answers; the types of its features, runtime and task that it must get.
MODELS: dict[str, tuple[Any, Any, Any, str, str]] = {
    "one-hot": (
        make_pipeline(encode(OneHotEncoder(handle_unknown="ignore")), FOREST),
        PEOPLE,
        BUYS,
        "integer number boolean category",
        "pandas table classification",
    ),
    "ordinal": (
        make_pipeline(encode(OrdinalEncoder()), GradientBoostingClassifier(n_estimators=9, random_state=0)),
        PEOPLE,
        BUYS,
        "integer number boolean category",
        "pandas table classification",
    ),
    "a category of pandas": (
        HistGradientBoostingClassifier(max_iter=9, random_state=0, categorical_features="from_dtype"),
        PEOPLE.assign(city=PEOPLE["city"].astype("category")),
        BUYS,
        "integer number boolean category",
        "pandas table classification",
    ),
    "a search": (
        GridSearchCV(make_pipeline(encode(OneHotEncoder()), LOGISTIC), {"logisticregression__C": [0.1, 1]}, cv=2),
        PEOPLE,
        BUYS,
        "integer number boolean category",
        "pandas table classification",
    ),
    "imputers": (
        make_pipeline(IMPUTED, FOREST),
        GAPS,
        BUYS,
        "number? number? boolean category?",
        "pandas table classification",
    ),
    "boosting with gaps": (
        HistGradientBoostingClassifier(max_iter=9, random_state=0),
        GAPS[["age", "income"]],
        BUYS,
        "number? number?",
        "sklearn table classification",
    ),
    "a tree with gaps": (
        DecisionTreeClassifier(random_state=0),
        GAPS[["age", "income"]],
        np.where(GAPS["income"].isna(), "gone", BUYS),
        "number? number?",
        "sklearn table classification",
    ),
    "extra trees with gaps": (
        ExtraTreesClassifier(9, random_state=0),
        GAPS[["age", "income"]],
        np.where(GAPS["age"].isna(), "gone", "there"),
        "number? number?",
        "sklearn table classification",
    ),
    "neighbours of gaps": (
        make_pipeline(KNNImputer(), Ridge()),
        GAPS[["age", "income"]],
        PEOPLE["age"] + PEOPLE["income"],
        "number? number?",
        "sklearn table regression",
    ),
    "booleans": (FOREST, PEOPLE[["age", "member"]], BUYS, "integer boolean", "sklearn table classification"),
    "no probabilities": (
        make_pipeline(StandardScaler(), LinearSVC()),
        NUMBERS,
        FLAGS["old"],
        "integer number",
        "sklearn table classification",
    ),
    "labels of a forest": (FOREST, NUMBERS, FLAGS, "integer number", "sklearn table multilabel"),
    "a classifier for each label": (
        MultiOutputClassifier(LOGISTIC),
        NUMBERS,
        FLAGS,
        "integer number",
        "sklearn table multilabel",
    ),
    "one label against the rest": (
        OneVsRestClassifier(LOGISTIC),
        NUMBERS,
        FLAGS,
        "integer number",
        "sklearn table multilabel",
    ),
    "a chain of labels": (ClassifierChain(LOGISTIC), NUMBERS, FLAGS, "integer number", "sklearn table multilabel"),
    "labels without probabilities": (
        RidgeClassifier(),
        NUMBERS,
        FLAGS,
        "integer number",
        "sklearn table multilabel",
    ),
    "two values": (LinearRegression(), NUMBERS, SIZES, "integer number", "sklearn table regression"),
    "two values of a forest": (
        RandomForestRegressor(9, random_state=0),
        NUMBERS,
        SIZES,
        "integer number",
        "sklearn table regression",
    ),
    "two values of neighbours": (KNeighborsRegressor(), NUMBERS, SIZES, "integer number", "sklearn table regression"),
    "a regressor for each value": (
        MultiOutputRegressor(SVR()),
        NUMBERS,
        SIZES * [1e9, 1e-3],
        "integer number",
        "sklearn table regression",
    ),
    "a transformed target": (
        TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp),
        NUMBERS,
        PEOPLE["age"],
        "integer number",
        "sklearn table regression",
    ),
    "outliers": (IsolationForest(random_state=0), NUMBERS, None, "integer number", "sklearn table outliers"),
    "one class": (
        make_pipeline(StandardScaler(), OneClassSVM(nu=0.1)),
        NUMBERS,
        None,
        "integer number",
        "sklearn table outliers",
    ),
    "local outliers": (LocalOutlierFactor(novelty=True), NUMBERS, None, "integer number", "sklearn table outliers"),
    "clusters": (
        make_pipeline(StandardScaler(), KMeans(3, random_state=0, n_init=2)),
        NUMBERS,
        None,
        "integer number",
        "sklearn table clustering",
    ),
    "a mixture": (GaussianMixture(3, random_state=0), NUMBERS, None, "integer number", "sklearn table clustering"),
    "clusters that it counts": (MeanShift(), NUMBERS, None, "integer number", "sklearn table clustering"),
    "a calibrated encoder": (
        CalibratedClassifierCV(ENCODED, cv=2),
        CODES,
        CODED,
        "category",
        "pandas table classification",
    ),
    "a transformed target of an encoder": (
        TransformedTargetRegressor(make_pipeline(OneHotEncoder(), Ridge())),
        CODES,
        (CODED == "old").astype(float),
        "category",
        "pandas table regression",
    ),
    "encoded bins": (
        make_pipeline(
            KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"), OneHotEncoder(), LOGISTIC
        ),
        NUMBERS,
        FLAGS["old"],
        "integer number",
        "sklearn table classification",
    ),
    "columns by their type": (
        make_pipeline(FunctionTransformer(operator.methodcaller("select_dtypes", "str")), *map(clone, ENCODED)),
        PEOPLE[["city", "age"]],
        np.where(PEOPLE["city"] == "Bern", "near", "far"),
        "string integer",
        "pandas table classification",
    ),
    "None in a column": (
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), LOGISTIC),
        CITIES,
        np.where(CITIES["city"].isna(), "gone", "there"),
        "category?",
        "pandas table classification",
    ),
    "an encoder that met no gap": (
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), LOGISTIC),
        pandas.DataFrame({"city": PEOPLE["city"].mask(PEOPLE.index == COUNT - 1)}),
        np.where(PEOPLE["city"] == "Bern", "near", "far"),
        "category?",
        "pandas table classification",
    ),
    "texts that look like numbers": (
        make_pipeline(TfidfVectorizer(analyzer="char"), LOGISTIC),
        DIGITS,
        np.array([text[0] for text in DIGITS]),
        "string",
        "sklearn texts classification",
    ),
    "a text that looks like numbers, beside a number": (
        make_pipeline(
            ColumnTransformer([("text", CountVectorizer(analyzer="char"), "text")], remainder="passthrough"), FOREST
        ),
        pandas.DataFrame({"text": DIGITS, "age": PEOPLE["age"]}),
        np.array([text[0] for text in DIGITS]),
        "string integer",
        "pandas table classification",
    ),
    "calibrated texts": (
        CalibratedClassifierCV(make_pipeline(TfidfVectorizer(), LinearSVC()), cv=2),
        TEXTS,
        OPINIONS,
        "string",
        "sklearn texts classification",
    ),
    "clusters of texts": (
        make_pipeline(TfidfVectorizer(), KMeans(2, random_state=0, n_init=2)),
        TEXTS,
        None,
        "string",
        "sklearn texts clustering",
    ),
    "clusters of a search": (
        GridSearchCV(KMeans(random_state=0, n_init=2), {"n_clusters": [2, 3]}, cv=2),
        NUMBERS,
        None,
        "integer number",
        "sklearn table clustering",
    ),
    "texts": (make_pipeline(TfidfVectorizer(), LOGISTIC), TEXTS, OPINIONS, "string", "sklearn texts classification"),
    "hashed texts": (
        make_pipeline(HashingVectorizer(n_features=64), SGDClassifier(random_state=0)),
        TEXTS,
        OPINIONS,
        "string",
        "sklearn texts classification",
    ),
    "counted words": (
        make_pipeline(CountVectorizer(), MultinomialNB()),
        TEXTS,
        OPINIONS,
        "string",
        "sklearn texts classification",
    ),
}


def select(data: Any, rows: slice) -> Any:  # noqa: ANN401
    return data.iloc[rows] if hasattr(data, "iloc") else data[rows]


def write_data(path: Path, data: Any, targets: Any) -> None:  # noqa: ANN401
    frame = pandas.DataFrame({"text": data}) if isinstance(data, list) else data
    if targets is not None:
        answers = (
            targets if isinstance(targets, pandas.DataFrame) else pandas.DataFrame({"answer": np.asarray(targets)})
        )
        frame = pandas.concat([frame.reset_index(drop=True), answers.reset_index(drop=True)], axis=1)
    frame.to_csv(path, index=False)


def make_contract(estimator: Any, path: Path, directory: Path) -> Contract:  # noqa: ANN401
    """As the command does."""
    table, targets = create_dataset(path, read_table(path), estimator)
    return create_contract(estimator, table, targets, directory, name="tasks")


def create_rows(data: Any, contract: Contract) -> list[list[Value]]:  # noqa: ANN401
    """The rows in JSON, as a client makes them from the same data."""
    if isinstance(data, list):
        return [[text] for text in data]
    frame = data[contract.feature_names].astype(object)
    rows = frame.where(frame.notna(), None).to_numpy().tolist()
    return [
        [None if value is None else getattr(value, "item", lambda value=value: value)() for value in row]
        for row in rows
    ]


def ask(model: Model, features: object) -> Sequence[Prediction]:
    parser = RequestParser(model.contract.features, COUNT)
    return model.predict(parser.parse(json.dumps({"features": features}).encode()))


def read_answer(prediction: Prediction, contract: Contract) -> Any:  # noqa: ANN401
    """What `predict` of the estimator says of such a row."""
    match prediction:
        case LabelsPrediction(labels):
            return [int(label in labels) for label in contract.labels]
        case ValuesPrediction(values):
            return list(values.values())
        case RegressionPrediction(value):
            return value
        case _:
            return prediction.label


@pytest.mark.parametrize("name", MODELS)
def test_the_server_answers_as_the_estimator_does(name: str, tmp_path: Path) -> None:
    estimator, data, targets, types, form = MODELS[name]
    seen = select(data, TRAINED)
    estimator.fit(seen) if targets is None else estimator.fit(seen, select(targets, TRAINED))
    held_out = select(data, HELD_OUT)
    write_data(tmp_path / "data.csv", held_out, None if targets is None else select(targets, HELD_OUT))
    joblib.dump(estimator, tmp_path / "before.pkl")
    contract = make_contract(estimator, tmp_path / "data.csv", tmp_path / "out")
    described = [f"{feature.type}{'?' if feature.missing else ''}" for feature in contract.features]
    assert " ".join(described) == types
    assert f"{contract.runtime} {contract.input} {contract.task}" == form
    model = load_model(tmp_path / "out")
    assert model.self_test() == ""
    rows = create_rows(held_out, contract)
    own = np.asarray(joblib.load(tmp_path / "before.pkl").predict(held_out)).tolist()
    together = ask(model, rows)
    for predictions in (together, [ask(model, row)[0] for row in rows]):
        answers = [read_answer(prediction, contract) for prediction in predictions]
        if contract.task == "regression":
            # A row among others may be added up in another order.
            np.testing.assert_allclose(answers, own, rtol=1e-12)
        else:
            assert answers == own
    by_name = ask(model, [dict(reversed(list(zip(contract.feature_names, row, strict=True)))) for row in rows])
    assert list(by_name) == list(together)


def test_each_of_several_values_has_a_tolerance_of_its_own(tmp_path: Path) -> None:
    estimator = LinearRegression().fit(NUMBERS, SIZES)
    write_data(tmp_path / "data.csv", NUMBERS, SIZES)
    contract = make_contract(estimator, tmp_path / "data.csv", tmp_path / "out")
    assert [output.name for output in contract.outputs] == ["tiny", "large"]
    tiny, large = (output.tolerance for output in contract.outputs)
    assert tiny == pytest.approx(1e-6 * SIZES["tiny"].max(), rel=0.5)
    assert large == pytest.approx(1e-6 * SIZES["large"].max(), rel=0.5)
    assert list(contract.holdout.scores) == [
        "r2",
        "r2.tiny",
        "r2.large",
        "mean_absolute_error.tiny",
        "mean_absolute_error.large",
    ]


@pytest.mark.parametrize("name", ["old", "rich"])
def test_a_label_that_is_no_better_than_guessed_is_refused(name: str, tmp_path: Path) -> None:
    wrong = FLAGS.assign(**{name: 1 - FLAGS[name]})
    write_data(tmp_path / "data.csv", NUMBERS, wrong)
    with pytest.raises(ContractError, match=f"rows of {name}; always the same label would be right on "):
        make_contract(MultiOutputClassifier(LOGISTIC).fit(NUMBERS, FLAGS), tmp_path / "data.csv", tmp_path / "out")


def test_a_value_that_is_worse_than_its_mean_is_refused(tmp_path: Path) -> None:
    write_data(tmp_path / "data.csv", NUMBERS, SIZES.assign(tiny=SIZES["tiny"].to_numpy()[::-1]))
    with pytest.raises(ContractError, match=r"mean of the 240 rows of tiny \(r2 -"):
        make_contract(LinearRegression().fit(NUMBERS, SIZES), tmp_path / "data.csv", tmp_path / "out")


@pytest.mark.parametrize(("targets", "name"), [(FLAGS["old"], "answer"), (FLAGS, "rich"), (SIZES, "large")])
def test_a_row_without_its_right_answer_is_named(targets: Any, name: str, tmp_path: Path) -> None:  # noqa: ANN401
    estimator = KNeighborsRegressor() if targets is SIZES else clone(FOREST)
    estimator.fit(NUMBERS, targets)
    answers = pandas.DataFrame(targets).rename(columns={"old": "answer"} if name == "answer" else {})
    answers[name] = answers[name].mask(answers.index == 3)
    write_data(tmp_path / "data.csv", NUMBERS, answers)
    with pytest.raises(ContractError) as refused:
        make_contract(estimator, tmp_path / "data.csv", tmp_path / "out")
    assert str(refused.value) == f"row 4 of the data has no right answer in {name}. Fill it in, or remove the row."


NEAR = pandas.DataFrame({"over": PEOPLE["age"] > 50, "above": PEOPLE["age"] > 58}).astype(int)
HORIZONS = pandas.DataFrame({"today": PEOPLE["age"] * 2.0, "later": PEOPLE["age"] * 1.7 + PEOPLE["income"]})


@pytest.mark.parametrize(
    ("estimator", "targets"), [(FOREST, NEAR), (LinearRegression(), HORIZONS)], ids=["labels", "values"]
)
def test_right_answers_in_another_order_are_warned_of(
    estimator: object, targets: pandas.DataFrame, tmp_path: Path
) -> None:
    fitted = clone(estimator).fit(NUMBERS, targets)
    write_data(tmp_path / "data.csv", NUMBERS, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ContractWarning)
        make_contract(fitted, tmp_path / "data.csv", tmp_path / "out")
    first, second = targets
    write_data(tmp_path / "data.csv", NUMBERS, targets[[second, first]])
    with pytest.warns(ContractWarning) as warned:
        make_contract(fitted, tmp_path / "data.csv", tmp_path / "out")
    assert [str(each.message) for each in warned if each.category is ContractWarning] == [
        f"the answers for {second} fit {first} better, and the other way round. Most often the columns of right "
        "answers are in another order than in the training: name them in that order with --target A,B."
    ]


def test_a_setting_that_is_not_in_the_pickle_is_named(tmp_path: Path) -> None:
    scaled = make_pipeline(StandardScaler(), ColumnTransformer([("age", "passthrough", ["age"])]), clone(LOGISTIC))
    with sklearn.config_context(transform_output="pandas"):
        scaled.fit(NUMBERS, FLAGS["old"])
    write_data(tmp_path / "data.csv", NUMBERS, FLAGS["old"])
    with pytest.raises(ContractError) as refused:
        make_contract(scaled, tmp_path / "data.csv", tmp_path / "out")
    assert str(refused.value).endswith(" Call set_output(transform='pandas') of the pipeline, not set_config.")


def test_a_word_among_the_numbers_of_an_encoder_is_named(tmp_path: Path) -> None:
    grades = pandas.DataFrame({"grade": PEOPLE["age"] // 30})
    estimator = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LOGISTIC).fit(grades, BUYS)
    other = grades["grade"].astype(object).mask(grades.index == 3, "other")
    write_data(tmp_path / "data.csv", pandas.DataFrame({"grade": other}), BUYS)
    with pytest.raises(ContractError) as refused:
        make_contract(estimator, tmp_path / "data.csv", tmp_path / "out")
    assert str(refused.value) == (
        "row 5 of data.csv has grade 'other', and the model was trained with 0, 1, 2. Write it as it was when the "
        "model was trained, or remove the row."
    )


def test_a_gap_is_refused_if_the_model_takes_none(tmp_path: Path) -> None:
    whole = GAPS[["age", "income"]].dropna()
    estimator = LogisticRegression(max_iter=900).fit(whole, BUYS[whole.index])
    some = GAPS[["age", "income"]].iloc[:30]
    write_data(tmp_path / "data.csv", some, BUYS[:30])
    row = int(some.isna().any(axis=1).to_numpy().argmax())
    name = some.columns[some.iloc[row].isna()][0]
    with pytest.raises(ContractError) as refused:
        make_contract(estimator, tmp_path / "data.csv", tmp_path / "out")
    assert str(refused.value) == (
        f"row {row + 1} of the data has no {name}, and the model takes no missing values. Fill it in, remove the row, "
        "or put an imputer into the model's pipeline."
    )


def test_an_imputer_says_that_gaps_are_taken_even_if_these_rows_have_none(tmp_path: Path) -> None:
    estimator = make_pipeline(IMPUTED, FOREST).fit(GAPS, BUYS)
    write_data(tmp_path / "data.csv", PEOPLE, BUYS)
    contract = make_contract(estimator, tmp_path / "data.csv", tmp_path / "out")
    assert [feature.missing for feature in contract.features] == [True, True, False, True]


def test_an_empty_text_is_a_text_if_the_model_takes_no_gap(tmp_path: Path) -> None:
    texts = [*TEXTS[:60], "", "  "]
    estimator = make_pipeline(TfidfVectorizer(), LOGISTIC).fit(texts, OPINIONS[:62])
    write_data(tmp_path / "data.csv", texts, OPINIONS[:62])
    contract = make_contract(estimator, tmp_path / "data.csv", tmp_path / "out")
    assert (contract.input, contract.features[0].missing) == ("texts", False)


def test_detectors_and_clusters_are_scored_if_the_answers_are_known(tmp_path: Path) -> None:
    answers = np.where(NUMBERS["income"] > 9, -1, 1)
    write_data(tmp_path / "data.csv", NUMBERS, answers)
    estimator = IsolationForest(random_state=0, contamination=0.05).fit(NUMBERS)
    contract = make_contract(estimator, tmp_path / "data.csv", tmp_path / "outliers")
    assert {"accuracy", "recall.-1", "precision.1", "outlier_share"} <= set(contract.holdout.scores)
    clusters = KMeans(2, random_state=0, n_init=2).fit(NUMBERS)
    write_data(tmp_path / "data.csv", NUMBERS, clusters.labels_)
    contract = make_contract(clusters, tmp_path / "data.csv", tmp_path / "clusters")
    assert contract.holdout.scores == {"adjusted_rand": 1.0}
    for has_index in (False, True):
        NUMBERS.to_csv(tmp_path / "data.csv", index=has_index)
        assert make_contract(clusters, tmp_path / "data.csv", tmp_path / "none").holdout.scores == {}


def test_a_score_of_the_trainings_own_is_in_the_contract(tmp_path: Path) -> None:
    write_data(tmp_path / "data.csv", NUMBERS, BUYS)
    estimator = RandomForestClassifier(10, random_state=0).fit(PEOPLE[["age", "income"]], BUYS)
    table, targets = create_dataset(tmp_path / "data.csv", read_table(tmp_path / "data.csv"), estimator)

    def compute_profit(right: np.ndarray, predicted: np.ndarray) -> float:
        return float(np.where(predicted == "buys", np.where(right == "buys", 10, -2), 0).sum() / len(right))

    contract = create_contract(
        estimator, table, targets, tmp_path / "out", name="shop", scores={"profit": compute_profit}
    )
    expected = compute_profit(BUYS, estimator.predict(NUMBERS))
    assert contract.holdout.scores["profit"] == pytest.approx(expected, rel=1e-3)
    low, high = contract.holdout.intervals["profit"]
    assert low < expected < high
