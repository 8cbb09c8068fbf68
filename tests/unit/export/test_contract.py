from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pandas
import pytest
from sklearn.cluster import DBSCAN
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from export.contract import create_contract, main
from export.dataset import number_table
from export.errors import ContractError
from export.golden import evenly_spaced_rows, least_certain_rows
from export.scores import describe_scores
from service.contract import Contract, Label, Row
from service.model import Model, load_model
from service.runtimes.sklearn import SklearnPredictor
from tests.support.models import REPOSITORY_ROOT, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def model(artifacts: Path) -> Model:
    """As it was trained, and not as any runtime has it."""
    return load_model(artifacts)


def test_a_second_training_gives_the_same_bytes_and_says_what_came_out_in_one_line(
    artifacts: Path, model: Model, tmp_path: Path
) -> None:
    # In a process of its own: what depended on the order of a set, or on an address, would differ there.
    again = tmp_path / "new" / "folder"
    done = run("-m", "training.iris", "--out", str(again), folder=REPOSITORY_ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"trained    {again}/model.pkl: {describe_scores(model.contract.holdout)}, "
        f"12 golden rows, sha256 {model.contract.artifact.sha256[:12]}\n"
    )
    assert sorted(path.name for path in again.iterdir()) == [
        "model.json",
        "model.pkl",
        "reference.jsonl",
        "training.npy",
    ]
    for name in ("model.pkl", "model.json", "reference.jsonl", "training.npy"):
        assert (again / name).read_bytes() == (artifacts / name).read_bytes(), name


def test_the_model_is_the_forest_that_was_asked_for(artifacts: Path) -> None:
    classifier = load_model(artifacts).predictor
    assert isinstance(classifier, SklearnPredictor)
    assert type(classifier.estimator) is RandomForestClassifier
    parameters = classifier.estimator.get_params()
    assert (parameters["n_estimators"], parameters["random_state"]) == (50, 42)


def test_the_contract_names_the_file_that_lies_beside_it(artifacts: Path) -> None:
    content = (artifacts / "model.pkl").read_bytes()
    written = json.loads((artifacts / "model.json").read_bytes())
    assert written["schema_version"] == 1
    assert written["artifact"] == {
        "file": "model.pkl",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    assert msgspec.convert(written, Contract).runtime == "sklearn"


def test_the_contract_says_what_is_predicted_from_what(model: Model) -> None:
    contract = model.contract
    assert (contract.name, contract.task) == ("iris-classifier", "classification")
    assert contract.feature_names == ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    assert contract.labels == ["setosa", "versicolor", "virginica"]
    assert contract.tolerance == 1e-6


def test_the_contract_records_the_versions_that_a_pickle_depends_on(model: Model) -> None:
    assert model.contract.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert model.contract.libraries == {
        name: metadata.version(name) for name in ("joblib", "numpy", "scikit-learn", "scipy")
    }


def test_the_model_is_right_about_nine_held_out_rows_in_ten(model: Model) -> None:
    assert model.contract.holdout.rows == 38
    assert 0.9 < model.contract.holdout.scores["accuracy"] <= 1


def test_there_are_four_golden_rows_of_each_class(model: Model) -> None:
    labels = Counter(row.label for row in model.contract.golden)
    assert labels == {"setosa": 4, "versicolor": 4, "virginica": 4}
    rows = {tuple(row.features) for row in model.contract.golden}
    assert len(rows) == 12


def test_the_rows_that_the_model_is_least_sure_of_are_chosen() -> None:
    labels, certainty = np.array([0, 0, 0, 0, 0, 1]), np.array([0.9, 0.6, 1.0, 0.8, 0.7, 0.1])
    assert least_certain_rows(labels, certainty) == [1, 4, 3, 0, 5]


@pytest.mark.parametrize(("labels", "rows"), [(30, 90), (40, 80), (100, 100), (101, 51), (1_000, 100)])
def test_the_golden_rows_are_bounded_and_chosen_over_all_labels(labels: int, rows: int) -> None:
    places = np.repeat(np.arange(labels), 4)
    chosen = least_certain_rows(places, np.zeros(len(places)))
    assert len(chosen) == rows
    steps = np.diff(np.unique(places[chosen]))
    assert set(steps) == {-(-labels // 100)}


@pytest.mark.parametrize(
    ("name", "folder", "score", "golden"),
    [
        (
            "diabetes",
            "diabetes",
            "r2 0.4764 (0.3139 to 0.5997), mean absolute error 42.79 (36.65 to 49.28) on 111 rows",
            12,
        ),
        ("tickets", "tickets", "accuracy 0.9333 (0.8778 to 0.9778) on 90 rows", 12),
    ],
)
def test_a_second_training_of_each_example_gives_the_same_bytes(
    name: str, folder: str, score: str, golden: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    trained: Path = request.getfixturevalue(folder)
    done = run("-m", f"training.{name}", "--out", str(tmp_path), folder=REPOSITORY_ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    sha256 = hashlib.sha256((trained / "model.pkl").read_bytes()).hexdigest()
    assert done.stdout == f"trained    {tmp_path}/model.pkl: {score}, {golden} golden rows, sha256 {sha256[:12]}\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in trained.iterdir()
    }


def test_the_examples_are_good_enough_to_be_shown(diabetes: Path, mixed: Model) -> None:
    regression = load_model(diabetes).contract
    assert regression.holdout.rows == 111
    assert regression.holdout.scores["r2"] > 0.4
    assert regression.holdout.scores["mean_absolute_error"] < 50
    # Tickets that say nothing are among them, and of these nobody could tell whose they are.
    assert 0.9 < mixed.contract.holdout.scores["accuracy"] < 1
    assert {row.label for row in mixed.contract.golden} == {"account", "billing", "technical"}


def test_the_rows_of_a_regression_are_spread_from_its_smallest_value_to_its_largest() -> None:
    assert evenly_spaced_rows(np.arange(23.0)[::-1]) == [22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0]
    assert evenly_spaced_rows(np.array([3.0, -1.0, 2.0])) == [1, 2, 0]
    # Of equal ones in their order, as on every machine.
    assert evenly_spaced_rows(np.full(12, 7.0)) == list(range(12))


# Below half a metre shut, else open; one of the four is told wrongly.
DOORS = "width,height,door\n0.1,2,shut\n0.4,2,shut\n0.6,2,open\n0.9,2,shut\n"
# Ten for each day, off by one on each.
DAYS = "day,hours,sales\n1,8,11\n2,8,20\n3,8,30\n4,8,39\n"
# An exit is out.
SIGNS = "sign,width,way\nexit,1,out\nentrance,2,in\nexit,3,out\nentrance,4,in\n"


# The service asks without the names that a model was trained with, and pytest takes the service's own filter away.
unnamed = pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")


def doors() -> DecisionTreeClassifier:
    return DecisionTreeClassifier(random_state=1).fit([[0.2, 2], [0.8, 2]], ["shut", "open"])


def days() -> Any:  # noqa: ANN401
    return make_pipeline(StandardScaler(), LinearRegression()).fit([[1, 8], [5, 8]], [10, 50])


def signs() -> Any:  # noqa: ANN401
    frame = pandas.DataFrame({"sign": ["exit", "entrance"], "width": [1.0, 1.0]})
    columns = ColumnTransformer([("sign", OneHotEncoder(handle_unknown="ignore"), ["sign"])], remainder="passthrough")
    return make_pipeline(columns, LogisticRegression()).fit(frame, ["out", "in"])


def given(folder: Path, estimator: object, data: str | bytes) -> None:
    """Put the model and the data where they are described from."""
    joblib.dump(estimator, folder / "model.pkl")
    (folder / "data.csv").write_bytes(data.encode() if isinstance(data, str) else data)


def described(folder: Path, *arguments: str) -> tuple[str, Contract]:
    """What is said about the files in `folder` by a process of its own, and the contract that is written."""
    done = run("-m", "export.contract", "model.pkl", "data.csv", "--out", "out", *arguments, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "out" / "model.pkl").read_bytes() == (folder / "model.pkl").read_bytes()
    model = load_model(folder / "out")
    assert model.self_test() == ""
    return done.stdout, model.contract


DATA = (
    "data       golden rows are rows of your data, and everybody who may pull the image can read them; "
    "--golden synthetic makes up others"
)


def sha256_of(folder: Path) -> str:
    return hashlib.sha256((folder / "model.pkl").read_bytes()).hexdigest()[:12]


def test_a_classifier_is_described_from_its_file_and_a_table(tmp_path: Path) -> None:
    given(tmp_path, doors(), DOORS)
    said, contract = described(tmp_path, "--name", "doors")
    assert said == (
        "model      classification: 1 number and 1 integer → 2 labels\n"
        "features   width: number, height: integer\nscores     accuracy 0.75 (0.25 to 1) on 4 rows\n"
        f"contract   4 golden rows, tolerance 1e-06, sha256 {sha256_of(tmp_path)}\n"
        f"{DATA}\n"
        'next       runtime = "compiled" serves it, and "sklearn" as well\n'
    )
    assert (contract.name, contract.task, contract.runtime) == ("doors", "classification", "sklearn")
    assert (contract.feature_names, contract.labels) == (["width", "height"], ["open", "shut"])
    assert [(row.features, row.label) for row in contract.golden] == [
        ([0.6, 2.0], "open"),
        ([0.9, 2.0], "open"),
        ([0.1, 2.0], "shut"),
        ([0.4, 2.0], "shut"),
    ]
    assert np.load(tmp_path / "out" / "training.npy").tolist() == [[0.1, 2], [0.4, 2], [0.6, 2], [0.9, 2]]


def test_a_regressor_is_described_and_what_the_lean_runtime_lacks_is_named(tmp_path: Path) -> None:
    given(tmp_path, days(), DAYS)
    said, contract = described(tmp_path)
    assert said == (
        # 1 - 2 / 442, the squares of what it is off by and of what the days differ by.
        "model      regression: 2 integers → a value\n"
        "features   day: integer, hours: integer\n"
        "scores     r2 0.9955 (0.9506 to 1), mean absolute error 0.5 (0 to 1) on 4 rows\n"
        f"contract   4 golden rows, tolerance 4e-05, sha256 {sha256_of(tmp_path)}\n"
        f"{DATA}\n"
        "note       the compiled runtime has no StandardScaler; it has RandomForestClassifier, ExtraTreesClassifier, "
        "RandomForestRegressor, ExtraTreesRegressor, DecisionTreeClassifier, ExtraTreeClassifier, "
        "DecisionTreeRegressor, ExtraTreeRegressor\n"
        'next       set runtime = "sklearn" under [build]\n'
    )
    assert (contract.name, contract.task, contract.labels) == ("model", "regression", [])
    assert [row.value for row in contract.golden] == [pytest.approx(value) for value in (10, 20, 30, 40)]
    assert all((row.label, row.probabilities) == (None, {}) for row in contract.golden)


@unnamed
def test_words_without_names_are_asked_without_a_warning(tmp_path: Path) -> None:
    pipeline = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    given(tmp_path, pipeline.fit(np.array([["a"], ["b"]], dtype=object), ["yes", "no"]), "word,right\na,yes\nb,no\n")
    _, contract = described(tmp_path)
    assert (contract.runtime, contract.holdout.scores["accuracy"]) == ("pandas", 1.0)


def test_a_model_with_words_is_a_frame(tmp_path: Path) -> None:
    given(tmp_path, signs(), SIGNS)
    said, contract = described(tmp_path)
    assert said == (
        "model      classification: 1 category and 1 integer → 2 labels\n"
        "features   sign: category, width: integer\nscores     accuracy 1 (1 to 1) on 4 rows\n"
        f"contract   4 golden rows, tolerance 1e-06, sha256 {sha256_of(tmp_path)}\n"
        f"{DATA}\n"
        "note       the compiled runtime takes only numbers, but sign is a string\n"
        'next       set runtime = "pandas" under [build]\n'
    )
    assert (contract.runtime, [feature.type for feature in contract.features]) == ("pandas", ["category", "integer"])
    assert contract.libraries["pandas"] == metadata.version("pandas")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.json", "model.pkl", "reference.jsonl"]


def test_a_model_of_named_columns_is_a_frame_though_all_of_them_are_numbers(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"day": [1.0, 5.0], "hours": [8.0, 8.0]})
    columns = ColumnTransformer([("numbers", StandardScaler(), ["day", "hours"])])
    given(tmp_path, make_pipeline(columns, LinearRegression()).fit(frame, [10, 50]), DAYS)
    said, contract = described(tmp_path)
    assert (contract.runtime, contract.feature_names) == ("pandas", ["day", "hours"])
    assert "\nnote       the compiled runtime has no ColumnTransformer; it has " in said
    assert said.endswith('\nnext       set runtime = "pandas" under [build]\n')


@unnamed
def test_the_columns_are_put_in_the_order_that_the_model_was_trained_in(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"hours": [8.0, 6.0], "day": [1.0, 5.0]})
    forest = RandomForestRegressor(n_estimators=2, random_state=1).fit(frame, [10, 50])
    given(tmp_path, forest, "id,day,hours,sales\nx1,1,8,10\nx2,5,6,50\n")
    _, contract = described(tmp_path)
    assert (contract.runtime, contract.feature_names) == ("sklearn", ["hours", "day"])
    assert [row.features for row in contract.golden] == [[8.0, 1.0], [6.0, 5.0]]


def test_words_and_a_target_are_told_on_the_command_line(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"zip": ["01067", "99998"], "floor": ["1", "2"]})
    encoder = ColumnTransformer([("words", OneHotEncoder(), ["zip", "floor"])])
    pipeline = make_pipeline(encoder, LogisticRegression()).fit(frame, ["east", "west"])
    given(tmp_path, pipeline, "side,zip,floor\neast,01067,1\nwest,99998,2\n")
    said, contract = described(tmp_path, "--target", "side", "--string-columns", "zip,floor")
    assert said.startswith(
        "model      classification: 2 categories → 2 labels\n"
        "features   zip: category, floor: category\nscores     accuracy 1 (1 to 1) on 2 rows\n"
    )
    assert [row.features for row in contract.golden] == [["01067", "1"], ["99998", "2"]]


def sizes() -> Any:  # noqa: ANN401
    """A model that takes sizes such as 38,5 as text, and prices as numbers."""
    frame = pandas.DataFrame({"größe": ["38,5", "39"], "price": [1659.5, 12.0]})
    columns = ColumnTransformer([("size", OneHotEncoder(), ["größe"])], remainder="passthrough")
    return make_pipeline(columns, DecisionTreeClassifier(random_state=0)).fit(frame, ["yes", "no"])


@pytest.mark.parametrize(
    ("text", "encoding", "options"),
    [
        ("größe;price;sold\n38,5;1.659,50;yes\n39;12;no\n", "cp1252", ()),
        ("größe;price;sold\n38,5;1'659.5;yes\n39;12;no\n", "mac-roman", ("--encoding", "mac-roman")),
        ('größe,price,sold\n"38,5","1659,5",yes\n39,12,no\n', "utf-8", ("--decimal", ",")),
        ("größe|price|sold\n38,5|1659.5|yes\n39|12|no\n", "utf-16", ()),
    ],
)
def test_a_file_is_read_as_spreadsheets_write_it_but_a_text_of_the_encoder_stays_text(
    text: str, encoding: str, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, sizes(), text.encode(encoding))
    in_process(tmp_path, monkeypatch, *options)
    contract = load_model(tmp_path / "out").contract
    assert sorted((row.features, row.label) for row in contract.golden) == [
        (["38,5", 1659.5], "yes"),
        (["39", 12.0], "no"),
    ]


@unnamed
def test_a_table_without_the_columns_of_an_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ColumnTransformer([("size", OneHotEncoder(), [2])], remainder="passthrough")
    rows = np.array([[1, 2, "38,5"], [3, 4, "39"]], dtype=object)
    given(tmp_path, make_pipeline(encoder, LogisticRegression()).fit(rows, ["yes", "no"]), "a;b;sold\n1;2,5;yes\n")
    sentence = "the model takes 3 features, but the data have 2 beside their target: a, b."
    assert refused(tmp_path, monkeypatch) == sentence


def test_a_model_is_described_with_the_same_bytes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(tmp_path, signs(), SIGNS)
    described(tmp_path)
    in_process(tmp_path, monkeypatch, "--out", "again")
    for name in ("model.json", "model.pkl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        ((0.001, 0.5), 5e-7),
        # Too close together for a split: the tree says their mean.
        ((1e-8, 3e-8), 2e-14),
        ((0.0, 0.0), 0.0),
        ((1.0, 2.0), 2e-6),
        ((1.0, -181.3), 2e-4),
        ((0.0, 4e9), 4e3),
    ],
)
def test_a_value_may_be_off_by_a_millionth_of_the_largest(
    values: tuple[float, float], tolerance: float, tmp_path: Path
) -> None:
    rows: list[Row] = [[1.0], [2.0]]
    tree = DecisionTreeRegressor(random_state=1).fit(rows, values)
    assert create_contract(tree, number_table(["a"], rows), values, tmp_path, name="values").tolerance == tolerance


@pytest.mark.parametrize(
    ("classes", "targets", "labels", "accuracy"),
    [
        pytest.param([0, 1], ["0.0", "1.0", "1"], [0, 1], 1.0, id="whole numbers, told as 0.0 and 1.0"),
        pytest.param([0.0, 1.0], ["0", "1", "0"], [0.0, 1.0], 0.6667, id="fractions, told as 0 and 1"),
        pytest.param([0, 1], np.array([0, 1, 1]), [0, 1], 1.0, id="NumPy's whole numbers"),
        pytest.param([0, 1], np.array([0.0, 1.0, 0.0]), [0, 1], 0.6667, id="NumPy's fractions"),
        pytest.param([False, True], ["False", "True", "True"], [False, True], 1.0, id="truths, told in words"),
        pytest.param([False, True], ["0", "true", "1"], [False, True], 1.0, id="truths, told as 0, true and 1"),
        pytest.param([False, True], np.array([False, True, True]), [False, True], 1.0, id="NumPy's truths"),
        pytest.param(["1", "01"], ["1", "01", "01"], ["01", "1"], 1.0, id="words that are one number"),
        pytest.param(["a", "b"], np.array(["a", "b", "a"]), ["a", "b"], 0.6667, id="NumPy's words"),
    ],
)
def test_a_right_answer_is_known_in_whatever_type_it_comes(
    classes: list[Any],
    targets: Any,  # noqa: ANN401
    labels: list[Label],
    accuracy: float,
    tmp_path: Path,
) -> None:
    tree = DecisionTreeClassifier(random_state=1).fit([[1.0], [2.0]], np.array(classes))
    rows: list[Row] = [[1.0], [2.0], [3.0]]
    contract = create_contract(tree, number_table(["a"], rows), targets, tmp_path, name="values")
    assert (contract.labels, contract.holdout.scores["accuracy"]) == (labels, accuracy)
    # In Python, True is 1 and 1 is 1.0.
    assert [type(label) for label in contract.labels] == [type(label) for label in labels]
    assert load_model(tmp_path).self_test() == ""


def test_classes_have_the_names_that_they_are_given(tmp_path: Path) -> None:
    rows: list[Row] = [[1.0], [2.0]]
    tree = DecisionTreeClassifier(random_state=1).fit(rows, [0, 1])
    table = number_table(["a"], rows)
    contract = create_contract(
        tree, table, [0, 1], tmp_path, name="doors", labels=["open", "shut"], comparison_rows=[[5.0]]
    )
    assert contract.labels == ["open", "shut"]
    assert [row.label for row in contract.golden] == ["open", "shut"]
    assert np.load(tmp_path / "training.npy").tolist() == [[5.0]]


def test_a_search_for_the_best_model_is_that_model(tmp_path: Path) -> None:
    rows: list[Row] = [[float(each)] for each in range(8)]
    targets = ["low"] * 4 + ["high"] * 4
    search = GridSearchCV(DecisionTreeClassifier(random_state=1), {"max_depth": [1]}, cv=2).fit(rows, targets)
    contract = create_contract(search, number_table(["a"], rows), targets, tmp_path, name="search")
    assert (contract.labels, contract.runtime, contract.holdout.scores["accuracy"]) == (["high", "low"], "sklearn", 1)


def in_process(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """The command in `folder`, without the seconds that a process takes to load scikit-learn."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["describe", "model.pkl", "data.csv", "--out", "out", *arguments])
    main()


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The sentence that the command ends with; nothing is written."""
    before = sorted(folder.iterdir())
    with pytest.raises(SystemExit) as left:
        in_process(folder, monkeypatch, *arguments)
    # A text is what Python writes to stderr before it leaves with 1.
    assert isinstance(left.value.code, str)
    assert len(left.value.code.splitlines()) == 1
    assert sorted(folder.iterdir()) == before
    return left.value.code


NO_PREDICTION = (
    "does not predict: it is no classifier, regressor, outlier detector or clustering of scikit-learn. Put an "
    "estimator that predicts at the end of the pipeline."
)


def test_a_refusal_is_one_sentence_and_nothing_is_written(tmp_path: Path) -> None:
    given(tmp_path, StandardScaler().fit([[1, 2], [3, 4]]), DOORS)
    done = run("-m", "export.contract", "model.pkl", "data.csv", "--out", "out", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"StandardScaler {NO_PREDICTION}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "model.pkl"]


X: list[Row] = [[1.0, 2.0], [3.0, 4.0]]
TWO = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("estimator", "sentence"),
    [
        (
            DecisionTreeClassifier().fit(X, TWO),
            "DecisionTreeClassifier gives 2 labels to each row, and some have other values than 1 and 0. A model gives "
            "one label, or says of several whether a row has them. Train with 1 and 0, or one classifier for each.",
        ),
        (
            LinearRegression().fit(X, TWO),
            "LinearRegression gives 2 answers to each row, and data.csv has 1 column beside the features. Add the "
            "right answers, one column for each, or name them with --target A,B.",
        ),
        (
            make_pipeline(DictVectorizer(), LogisticRegression()).fit([{"a": 1}, {"a": 2}], ["open", "shut"]),
            "DictVectorizer takes dictionaries or lists, and no table. Use a OneHotEncoder in its place, or a "
            "HashingVectorizer for texts.",
        ),
        (
            DBSCAN().fit(X),
            "DBSCAN has no predict, so it answers only for the rows that it was fitted on. Choose an estimator with "
            "predict.",
        ),
        (
            LocalOutlierFactor(1).fit(X),
            "LocalOutlierFactor has no predict, so it answers only for the rows that it was fitted on. Choose an "
            "estimator with predict and decision_function.",
        ),
        (
            make_pipeline(StandardScaler()).fit(X),
            f"StandardScaler {NO_PREDICTION}",
        ),
        # Somebody's dictionary of a model and what goes with it.
        ({"model": 1}, f"dict {NO_PREDICTION}"),
        (DecisionTreeClassifier, f"ABCMeta {NO_PREDICTION}"),
        (LogisticRegression(), "LogisticRegression is not fitted; fit it before it is saved."),
        (
            make_pipeline(ColumnTransformer([("width", OneHotEncoder(), ["width"])]), LogisticRegression()),
            "LogisticRegression is not fitted; fit it before it is saved.",
        ),
        (
            make_pipeline(StandardScaler(), LogisticRegression()),
            "LogisticRegression is not fitted; fit it before it is saved.",
        ),
        (
            LinearRegression(),
            "the model does not answer these data: This LinearRegression instance is not fitted yet. Call 'fit' with "
            "appropriate arguments before using this estimator.",
        ),
        (DecisionTreeClassifier().fit(X, ["open", ""]), "one of the model's labels is empty; give it a name."),
        (
            DecisionTreeClassifier().fit(X, ["open", "close"]),
            "the column door has the answer shut, but the model has only close, open.",
        ),
        (DecisionTreeClassifier().fit(X, [0, 1]), "the column door has the answer shut, but the model has only 0, 1."),
        (DecisionTreeRegressor().fit(X, [0, 1]), "the column door has shut, but the model predicts numbers."),
        (
            DecisionTreeClassifier().fit([[1], [2]], ["open", "shut"]),
            "the model takes 1 feature, but the data have 2 beside their target: width, height.",
        ),
        (
            DecisionTreeClassifier().fit(pandas.DataFrame(X, columns=["width", "depth"]), ["open", "shut"]),
            "the model takes depth, but the data have no such column.",
        ),
    ],
)
def test_a_model_that_cannot_be_served_is_refused(
    estimator: object, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, estimator, DOORS)
    assert refused(tmp_path, monkeypatch) == sentence


@pytest.mark.parametrize(
    ("data", "arguments", "sentence"),
    [
        pytest.param(
            "",
            (),
            "data.csv needs a line of column names, and rows of features and a target below it.",
            id="nothing",
        ),
        pytest.param(
            "width,height,door\n",
            (),
            "data.csv needs a line of column names, and rows of features and a target below it.",
            id="a head alone",
        ),
        pytest.param(
            "door\nopen\n",
            (),
            "the model takes 2 features, but the data have 0 beside their target.",
            id="a target alone",
        ),
        pytest.param(
            DOORS, ("--target", "gate"), "data.csv has no column gate; it has width, height, door.", id="target"
        ),
        pytest.param(
            DOORS,
            ("--string-columns", "width,depth"),
            "data.csv has no column depth; it has width, height, door.",
            id="words",
        ),
        pytest.param(
            "width,height,door\n1,2,open\n1,2\n", (), "row 3 of data.csv has 2 cells, its header 3.", id="a cell less"
        ),
        pytest.param(
            "width,height,door\n1,2,open,\n", (), "row 2 of data.csv has 4 cells, its header 3.", id="one more"
        ),
        pytest.param(
            "width,width,door\n1,2,open\n",
            (),
            "two columns of data.csv are called width; give each its own name.",
            id="a name twice",
        ),
        pytest.param(
            "width,door,door\n1,2,open\n",
            (),
            "two columns of data.csv are called door; give each its own name.",
            id="the target's name twice",
        ),
        pytest.param(
            DOORS.encode("utf-16-le"),
            (),
            "data.csv is not in UTF-8: it has zero bytes, as UTF-16 does. Save it as UTF-8, or name its encoding, such "
            "as --encoding utf-16-le.",
            id="UTF-16 without its mark",
        ),
        pytest.param(
            "width,height,door\n1,2," + "x" * 200_000 + "\n",
            (),
            "data.csv is not a CSV file: field larger than field limit (131072).",
            id="a cell without an end",
        ),
        pytest.param(
            "width,height,door\n1,wide,open\n",
            (),
            "the model does not answer these data: could not convert string to float: 'wide'.",
            id="a string for a number",
        ),
        pytest.param(
            "width,height,door\n1e300,2,open\n",
            (),
            "row 1 of the data has a number in width that no server takes: the limit is 3.4e+38. Convert the column "
            "before the model is trained, or leave it out.",
            id="a number that is too large",
        ),
        pytest.param(
            "width,height,door\n1,2,\n",
            (),
            "row 1 of the data has no right answer in door. Fill it in, or remove the row.",
            id="an empty target",
        ),
    ],
)
@unnamed
def test_data_that_say_nothing_of_the_model_are_refused(
    data: str | bytes, arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, doors(), data)
    assert refused(tmp_path, monkeypatch, *arguments) == sentence


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("a,b\n1,2\n2,many\n", "the column b has many, but the model predicts numbers."),
        ("a,b\n1,2\n2,nan\n", "the column b has nan, but the model predicts numbers."),
        ("a,b\n1,2\n2,-inf\n", "the column b has -inf, but the model predicts numbers."),
        # Of one value there is no r2.
        ("a,b\n1,2\n", "the data have one row, but the score of a regression needs at least two."),
    ],
)
def test_a_regression_is_held_against_numbers(
    data: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, DummyRegressor().fit([[1], [2]], [1, 2]), data)
    assert refused(tmp_path, monkeypatch) == sentence


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(tmp_path, monkeypatch) == "model.pkl cannot be read: No such file or directory"
    given(tmp_path, doors(), DOORS)
    (tmp_path / "data.csv").unlink()
    assert refused(tmp_path, monkeypatch) == "data.csv cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "EOFError"),
        (b"an empty harbour", "IndexError: pop from empty list"),
        (b"cnobodys_code\nScaler\n.", "ModuleNotFoundError: No module named 'nobodys_code'"),
        (b"c__main__\nScaler\n.", "AttributeError: module '__main__' has no attribute 'Scaler'"),
    ],
)
def test_a_pickle_that_cannot_be_loaded_is_refused(
    content: bytes, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, doors(), DOORS)
    (tmp_path / "model.pkl").write_bytes(content)
    assert refused(tmp_path, monkeypatch) == (
        f"the model cannot be loaded ({why}); save it with joblib.dump, and use only packages of "
        f"requirements/image-pandas.txt."
    )


def test_a_pickle_of_another_scikit_learn_is_refused_with_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, doors(), DOORS)
    here = metadata.version("scikit-learn")
    other = "0" + here[1:]
    content = (tmp_path / "model.pkl").read_bytes()
    assert here.encode() in content
    (tmp_path / "model.pkl").write_bytes(content.replace(here.encode(), other.encode()))
    assert refused(tmp_path, monkeypatch) == (
        f"the model was saved with scikit-learn {other}, but this is {here}: a pickle only loads with the version "
        f"that wrote it. Train it again with this one, or lock that one in requirements/."
    )


def test_two_features_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"^two features are called a; give each its own name\.$"):
        create_contract(
            DecisionTreeClassifier().fit(X, ["b", "c"]), number_table(["a", "a"], X), ["b", "c"], tmp_path, name="twice"
        )
    assert list(tmp_path.iterdir()) == []


def test_where_pandas_is_not_installed_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(tmp_path, signs(), SIGNS)
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.delitem(sys.modules, "service.runtimes.pandas", raising=False)
    assert refused(tmp_path, monkeypatch) == (
        "the model takes named columns or strings, which need pandas; install requirements/image-pandas.txt."
    )
