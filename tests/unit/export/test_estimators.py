"""The contract's truth is the estimator's own: what `predict` says, asked alone or together, whatever the model is."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, LogisticRegression, RANSACRegressor, Ridge, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from export.contract import create_contract
from export.dataset import Table, create_dataset, frame_table, number_table
from export.errors import ContractError, ContractWarning
from export.estimator import (
    count_features,
    count_outputs,
    find_categories,
    find_columns_with_gaps,
    find_feature_names,
    find_string_columns,
    find_texts,
    load_estimator,
    needs_pandas,
)
from export.table import read_table
from service.contract import Feature, Interface, Row
from service.model import ClassPrediction, LabelPrediction, load_model
from service.runtimes.sklearn import SklearnPredictor

GENERATOR = np.random.default_rng(7)
ROWS = GENERATOR.normal(size=(120, 3))
# One of five is an alarm, and nothing finds all of them.
ALARMS = (ROWS[:, 0] + GENERATOR.normal(size=120) / 2 > 0.8).astype(int)
NAMES = ["a", "b", "c"]
TABLE = number_table(NAMES, ROWS.tolist())

# The service asks without the names that a model was trained with, and pytest takes the service's own filter away.
pytestmark = pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")


def alarms_of(kind: type[Any], names: Sequence[Any] = (0, 1)) -> Any:  # noqa: ANN401
    return kind().fit(ROWS, np.array(names)[ALARMS])


CLASSIFIERS = {
    "a threshold of 0.2": FixedThresholdClassifier(LogisticRegression(), threshold=0.2),
    "a search over thresholds": GridSearchCV(FixedThresholdClassifier(LogisticRegression()), {"threshold": [0.1]}),
    "an SVC": SVC(kernel="rbf"),
    "a pipeline": make_pipeline(StandardScaler(), FixedThresholdClassifier(LogisticRegression(), threshold=0.2)),
    "votes": VotingClassifier([("tree", DecisionTreeClassifier(random_state=1)), ("line", LogisticRegression())]),
    "LinearSVC": LinearSVC(),
    "RidgeClassifier": RidgeClassifier(),
    "a forest": RandomForestClassifier(n_estimators=5, random_state=1),
    "one against the rest": OneVsRestClassifier(LogisticRegression()),
    "many jobs": BaggingClassifier(n_estimators=4, n_jobs=-1, random_state=1),
}


@pytest.mark.parametrize("names", [("no", "yes"), (0, 1), (False, True), (1.0, 2.0)], ids=str)
@pytest.mark.parametrize("estimator", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_a_label_is_what_predict_says_alone_and_together(
    estimator: Any,  # noqa: ANN401
    names: tuple[Any, Any],
    tmp_path: Path,
) -> None:
    targets = np.array(names)[ALARMS]
    estimator.fit(ROWS, targets)
    contract = create_contract(estimator, TABLE, targets, tmp_path, name="alarms")
    expected = estimator.predict(ROWS).tolist()
    model = load_model(tmp_path)
    together = model.predict(TABLE.rows)
    alone = [model.predict([row])[0] for row in TABLE.rows]
    for answers in (together, alone):
        given = [answer.label for answer in answers if isinstance(answer, ClassPrediction | LabelPrediction)]
        assert given == expected
        assert set(map(type, given)) == {type(name) for name in names}
    assert contract.holdout.scores["accuracy"] == pytest.approx(np.mean(expected == targets), abs=1e-4)
    assert contract.has_probabilities == hasattr(estimator, "predict_proba")
    for row, answer in zip(ROWS, together, strict=True):
        if contract.has_probabilities:
            assert isinstance(answer, ClassPrediction)
            assert list(answer.probabilities.values()) == pytest.approx(estimator.predict_proba([row])[0])
        else:
            assert isinstance(answer, LabelPrediction)


def test_the_rows_that_a_dropped_threshold_would_change_are_golden(tmp_path: Path) -> None:
    estimator = FixedThresholdClassifier(LogisticRegression(), threshold=0.2).fit(ROWS, ALARMS)
    contract = create_contract(estimator, TABLE, ALARMS, tmp_path, name="alarms")
    changed = [row for row in contract.golden if max(row.probabilities, key=row.probabilities.__getitem__) == "0"]
    assert {row.label for row in changed} == {0, 1}


class BatchScaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scales each call by itself."""

    def fit(self, X: Any, y: Any = None) -> Any:  # noqa: ANN401, N803
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:  # noqa: ANN401, N803
        return X - X.mean(axis=0)


class PairScaler(BatchScaler):
    """Takes no row alone."""

    def transform(self, X: Any) -> Any:  # noqa: ANN401, N803
        if len(X) < 2:
            raise ValueError("it takes two rows or more")
        return X


class Renamer(BatchScaler):
    """Keeps no names, and hands on others."""

    def transform(self, X: Any) -> Any:  # noqa: ANN401, N803
        return X.rename(columns=str.upper)


class Noise(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Says something else each time."""

    def fit(self, X: Any, y: Any) -> Any:  # noqa: ANN401, N803
        self.generator_ = np.random.default_rng(1)
        return self

    def predict(self, X: Any) -> Any:  # noqa: ANN401, N803
        return X[:, 0] + self.generator_.normal(size=len(X)) / 1000


class Constant(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Says the label that it was not fitted with."""

    def fit(self, X: Any, y: Any) -> Any:  # noqa: ANN401, N803
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:  # noqa: ANN401, N803
        return np.full(len(X), "unheard of")


def refusal(estimator: Any, targets: Any, folder: Path) -> str:  # noqa: ANN401
    with pytest.raises(ContractError) as refused:
        create_contract(estimator, TABLE, targets, folder, name="refused")
    assert list(folder.iterdir()) == []
    return str(refused.value)


def test_an_answer_that_depends_on_its_neighbours_is_refused(tmp_path: Path) -> None:
    estimator = make_pipeline(BatchScaler(), LogisticRegression()).fit(ROWS, ALARMS)
    assert refusal(estimator, ALARMS, tmp_path) == (
        "the model gives row 1 of the data another answer when it is asked in another order: the answer depends on the "
        "rows beside it. Fit what scales or ranks on the training data, not when predicting."
    )


def test_an_answer_that_is_another_one_each_time_is_refused(tmp_path: Path) -> None:
    assert refusal(Noise().fit(ROWS, ROWS[:, 0]), ROWS[:, 0], tmp_path) == (
        "the model gives row 1 of the data another answer when it is asked again. A model must answer the same row in "
        "the same way: give it a fixed random_state."
    )


def test_a_model_that_answers_no_row_alone_is_refused_in_a_sentence(tmp_path: Path) -> None:
    estimator = make_pipeline(PairScaler(), LogisticRegression()).fit(ROWS, ALARMS)
    assert refusal(estimator, ALARMS, tmp_path) == (
        "the model answers the rows together, but not row 1 alone. A step may make its columns from the rows that it "
        "gets, as get_dummies does: use one that is fitted, such as OneHotEncoder."
    )


def test_a_label_that_is_not_one_of_the_classes_is_refused(tmp_path: Path) -> None:
    assert refusal(Constant().fit(ROWS, ALARMS), ALARMS, tmp_path) == (
        "the model does not answer these data: predict says unheard of, and that is not one of its labels."
    )


def test_a_regression_that_is_worse_than_the_mean_is_refused(tmp_path: Path) -> None:
    line = LinearRegression().fit(ROWS, ROWS[:, 0])
    assert refusal(line, -ROWS[:, 0], tmp_path) == (
        "the model is worse than always saying the mean of the 120 rows (r2 -3.124). Most often the target is another "
        "column, or the columns are in another order."
    )


def test_a_classification_that_is_no_better_than_guessing_is_refused(tmp_path: Path) -> None:
    estimator = LogisticRegression().fit(ROWS, ALARMS)
    wrong = np.where(np.arange(120) % 5, 0, 1 - estimator.predict(ROWS))
    assert refusal(estimator, wrong, tmp_path).startswith("the model is right on 68% of the 120 rows; always the same")


def test_a_model_that_finds_rare_alarms_is_no_guess_although_its_accuracy_is_lower(tmp_path: Path) -> None:
    estimator = FixedThresholdClassifier(LogisticRegression(), threshold=0.05).fit(ROWS, ALARMS)
    contract = create_contract(estimator, TABLE, ALARMS, tmp_path, name="alarms")
    assert contract.holdout.scores["accuracy"] < 1 - ALARMS.mean()


def test_several_labels_for_one_row_are_refused_by_name(tmp_path: Path) -> None:
    several = OneVsRestClassifier(LogisticRegression()).fit(ROWS, np.column_stack([ALARMS, 1 - ALARMS]))
    assert refusal(several, ALARMS, tmp_path) == (
        "OneVsRestClassifier gives 2 answers to each row, and the data have 1 column of right answers. Name one for "
        "each label with --target A,B."
    )


def iris_of_named_columns(*first: Any) -> Any:  # noqa: ANN401
    frame = load_iris(as_frame=True)
    return make_pipeline(*first, RandomForestClassifier(n_estimators=5, random_state=1)).fit(frame.data, frame.target)


@pytest.mark.parametrize(
    "first",
    [(), ("passthrough",), (FunctionTransformer(),), (FunctionTransformer(), "passthrough"), (StandardScaler(),)],
    ids=["none", "passthrough", "a function", "both", "a scaler"],
)
def test_columns_come_in_the_order_of_the_first_step_that_knows_their_names(first: Any, tmp_path: Path) -> None:  # noqa: ANN401
    estimator: Any = iris_of_named_columns(*first)
    frame = load_iris(as_frame=True)
    columns = list(frame.data.columns)
    frame.frame[["target", *columns[::-1]]].to_csv(tmp_path / "data.csv", index=False)
    path = tmp_path / "data.csv"
    table, targets = create_dataset(path, read_table(path), estimator)
    assert [feature.name for feature in table.features] == columns
    assert table.rows == frame.data.to_numpy().tolist()
    # The column that is no feature is the target, and it is the first one here.
    assert targets == {"target": [str(target) for target in frame.target]}


def test_names_of_what_a_step_made_are_no_names_of_columns() -> None:
    frame = pandas.DataFrame(ROWS, columns=NAMES)
    estimator = make_pipeline(Renamer(), RandomForestClassifier(n_estimators=2)).fit(frame, ALARMS)
    assert find_feature_names(estimator, [*NAMES, "target"]) == []


def test_what_hands_on_data_frames_needs_pandas(tmp_path: Path) -> None:
    frame = load_iris(as_frame=True)
    estimator: Any = iris_of_named_columns(StandardScaler().set_output(transform="pandas"))
    assert needs_pandas(estimator)
    assert not needs_pandas(iris_of_named_columns(StandardScaler()))
    table = number_table(list(frame.data.columns), frame.data.to_numpy().tolist())
    assert create_contract(estimator, table, list(frame.target), tmp_path, name="iris").runtime == "pandas"


@pytest.mark.parametrize("protocol", range(1, 6))
def test_both_versions_are_named_whatever_breaks_first(protocol: int) -> None:
    estimator = LogisticRegression().fit(ROWS, ALARMS)
    plain, compressed = io.BytesIO(), io.BytesIO()
    joblib.dump(estimator, plain, protocol=protocol)
    old = re.sub(rb"(_sklearn_version.{1,12}?)\d\.\d\.\d", rb"\g<1>1.2.2", plain.getvalue(), flags=re.DOTALL)
    # The pickle asks for a module that this version does not have.
    old = old.replace(b"sklearn.linear_model._logistic", b"sklearn.linear_model._vanished")
    assert b"1.2.2" in old
    joblib.dump(estimator, compressed, protocol=protocol, compress=3)
    for content in (old, __import__("zlib").compress(old)):
        with pytest.raises(ContractError) as refused:
            load_estimator(content)
        assert str(refused.value).startswith("the model was saved with scikit-learn 1.2.2, but this is ")
    assert load_estimator(compressed.getvalue()).classes_.tolist() == [0, 1]


def test_a_model_answers_in_one_thread_and_process(tmp_path: Path) -> None:
    inner = RandomForestClassifier(n_estimators=3, n_jobs=4, random_state=1)
    estimator = make_pipeline(StandardScaler(), VotingClassifier([("forest", inner)], n_jobs=2)).fit(ROWS, ALARMS)
    create_contract(estimator, TABLE, ALARMS, tmp_path, name="alarms")
    predictor = load_model(tmp_path).predictor
    assert isinstance(predictor, SklearnPredictor)
    voting = predictor.estimator[-1]
    assert (voting.n_jobs, [each.n_jobs for each in voting.estimators_]) == (1, [1])


def members(encoder: Any, values: list[Any]) -> Any:  # noqa: ANN401
    """A model of a column that is encoded and one that is not."""
    frame = pandas.DataFrame({"member": values * 20, "age": np.arange(40.0)})
    columns = ColumnTransformer([("member", encoder, ["member"])], remainder="passthrough")
    return make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(frame, np.tile(["no", "yes"], 20))


@pytest.mark.parametrize(
    ("wrapped", "values", "rows", "why"),
    [
        (False, [False, True], ["True", "False"], "The data have 'True', 'False'; the model was trained with False"),
        (False, [False, True], ["yes", "no"], "The data have 'yes', 'no'; the model was trained with False, True."),
        (True, [1067, 8001], ["01067", "08001"], "The data have '01067', '08001'; the model was trained with 1067"),
    ],
)
def test_a_column_of_which_the_model_knows_nothing_is_refused(
    wrapped: bool, values: list[Any], rows: list[str], why: str, tmp_path: Path
) -> None:
    encoder: Any = OneHotEncoder(handle_unknown="ignore")
    encoder = make_pipeline(SimpleImputer(strategy="most_frequent"), encoder) if wrapped else encoder
    table = Table([Feature("member", "string"), Feature("age", "number")], [[row, 1.0] for row in rows])
    with pytest.raises(ContractError) as refused:
        create_contract(members(encoder, values), table, ["no", "yes"], tmp_path, name="members")
    assert str(refused.value).startswith(f"the model knows none of the values of member. {why}")


def test_a_value_that_the_model_does_not_know_is_warned_of(tmp_path: Path) -> None:
    estimator = members(OneHotEncoder(handle_unknown="ignore"), ["Bern", "Basel"])
    table = Table([Feature("member", "string"), Feature("age", "number")], [["Bern", 1.0], ["Chur", 2.0]])
    with pytest.warns(ContractWarning) as warned:
        create_contract(estimator, table, ["no", "yes"], tmp_path, name="members")
    assert [str(each.message) for each in warned] == [
        "member has values that the model was not trained with: 'Chur'. It knows 'Basel', 'Bern', and may ignore "
        "others."
    ]


@pytest.mark.parametrize(
    "selected",
    [["b"], [1], slice(1, 2), slice("b", "b"), [False, True], np.array(["b"]), pandas.Index(["b"])],
    ids=repr,
)
def test_categories_are_found_by_whatever_selects_their_column(selected: Any) -> None:  # noqa: ANN401
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    columns = ColumnTransformer([("b", OrdinalEncoder(), selected)], remainder="passthrough")
    search = FixedThresholdClassifier(make_pipeline(columns, LogisticRegression())).fit(frame, [0, 1])
    assert find_categories(search, ["a", "b"]) == {"b": [3.0, 4.0]}


def test_columns_of_strings_are_those_of_an_encoder_that_knows_nothing_else() -> None:
    frame = pandas.DataFrame({"a": ["1", "2"], "b": [3, 4], "c": ["x", np.nan], "d": [True, False], "e": ["u", "v"]})
    encoder = ColumnTransformer([("encoder", OneHotEncoder(), ["a", "b", "c", "d"])], remainder="drop")
    pipeline = make_pipeline(encoder, LogisticRegression()).fit(frame, [0, 1])
    assert find_string_columns(pipeline, ["a", "b", "c", "d", "e"]) == {"a", "c"}
    # A model that knows no names: which column is which is known only when an index and the target are left out.
    assert find_string_columns(pipeline, []) == set()


ENCODED = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
CODES = pandas.DataFrame({"code": ["3011", "4051"] * 6})


@pytest.mark.parametrize(
    "estimator",
    [
        CalibratedClassifierCV(ENCODED, cv=2),
        VotingClassifier([("one", ENCODED)]),
        StackingClassifier([("one", ENCODED)], cv=2),
        OneVsRestClassifier(ENCODED),
        FixedThresholdClassifier(FrozenEstimator(clone(ENCODED).fit(CODES, ["a", "b"] * 6))),
        make_pipeline(FeatureUnion([("one", OneHotEncoder()), ("two", OrdinalEncoder())]), LogisticRegression()),
        TransformedTargetRegressor(make_pipeline(OneHotEncoder(), Ridge())),
        MultiOutputRegressor(make_pipeline(OneHotEncoder(), Ridge())),
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(), LogisticRegression()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_an_encoder_is_found_in_whatever_holds_it(estimator: Any) -> None:  # noqa: ANN401
    regression = hasattr(estimator, "regressor") or isinstance(estimator, MultiOutputRegressor)
    targets: Any = np.tile([1.0, 2.0], (2, 6)).T if regression else ["a", "b"] * 6
    assert find_categories(estimator.fit(CODES, targets), ["code"]) == {"code": ["3011", "4051"]}


def test_the_folds_of_a_calibration_know_all_values_together() -> None:
    codes = pandas.DataFrame({"code": ["a", "a", "b", "b", "c", "d"]})
    estimator = CalibratedClassifierCV(ENCODED, cv=[([0, 1, 2, 3, 4], [5, 0]), ([0, 1, 2, 3, 5], [4, 2])])
    estimator.fit(codes, [0, 1, 0, 1, 0, 1])
    assert find_categories(estimator, ["code"]) == {"code": ["a", "b", "c", "d"]}


@pytest.mark.parametrize(
    "first", [KBinsDiscretizer(2, encode="ordinal"), FunctionTransformer(np.round)], ids=["bins", "round"]
)
def test_an_encoder_of_other_values_says_nothing_of_the_models(first: Any) -> None:  # noqa: ANN401
    if isinstance(first, KBinsDiscretizer):
        first.set_params(quantile_method="averaged_inverted_cdf")
    estimator = make_pipeline(first, OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(ROWS, ALARMS)
    assert find_categories(estimator, NAMES) == {}


def test_an_encoder_that_knows_gaps_says_so() -> None:
    frame = pandas.DataFrame({"a": ["x", np.nan, "y", "x"], "b": ["x", "y", "y", "x"]})
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, [0, 1, 0, 1])
    assert find_columns_with_gaps(estimator, ["a", "b"]) == {"a"}
    imputed = make_pipeline(SimpleImputer(), Ridge())
    targets = ROWS.sum(axis=1)
    assert find_columns_with_gaps(TransformedTargetRegressor(imputed).fit(ROWS, targets), NAMES) == set(NAMES)


def test_the_columns_of_texts_are_found() -> None:
    texts = pandas.DataFrame({"text": ["1.0", "2.0", "3.5", "4.5"], "size": [1.0, 2.0, 3.0, 4.0]})
    vectorizer = TfidfVectorizer(analyzer="char")
    beside = ColumnTransformer([("text", vectorizer, "text")], remainder="passthrough")
    estimator = make_pipeline(beside, LogisticRegression()).fit(texts, [0, 0, 1, 1])
    assert find_texts(estimator, ["text", "size"]) == {"text"}
    assert count_features(estimator) == 2
    alone = CalibratedClassifierCV(make_pipeline(vectorizer, LogisticRegression()), cv=2).fit(
        texts["text"], [0, 0, 1, 1]
    )
    assert find_texts(alone, ["text"]) == {"text"}
    assert count_features(alone) == 1
    assert find_texts(ENCODED, ["code"]) == set()


@pytest.mark.parametrize(
    "estimator",
    [
        GaussianProcessRegressor(),
        KernelRidge(),
        RANSACRegressor(random_state=1),
        Ridge(),
        KNeighborsRegressor(),
        MultiOutputRegressor(Ridge()),
        make_pipeline(StandardScaler(), TransformedTargetRegressor(GridSearchCV(Ridge(), {"alpha": [1, 2]}, cv=2))),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_the_values_of_a_regression_are_counted(estimator: Any) -> None:  # noqa: ANN401
    assert count_outputs(estimator.fit(ROWS, ROWS[:, :2]), "regression") == 2
    if not isinstance(estimator, MultiOutputRegressor):
        assert count_outputs(estimator.fit(ROWS, ROWS[:, 0]), "regression") == 1


def test_the_values_of_a_private_column_are_in_no_message(tmp_path: Path) -> None:
    estimator = members(OneHotEncoder(handle_unknown="ignore"), ["Bern", "Basel"])
    features = [Feature("member", "string"), Feature("age", "number")]
    with pytest.warns(ContractWarning) as warned:
        table = Table(features, [["Bern", 1.0], ["Chur", 2.0]])
        create_contract(estimator, table, ["no", "yes"], tmp_path, name="members", private=["member"])
    with pytest.raises(ContractError) as refused:
        table = Table(features, [["Zug", 1.0], ["Chur", 2.0]])
        create_contract(estimator, table, ["no", "yes"], tmp_path, name="members", private=["member"])
    for sentence in (str(warned[0].message), str(refused.value)):
        assert not re.search("Bern|Basel|Chur|Zug", sentence)


def test_a_number_that_is_no_whole_one_makes_no_category_of_whole_numbers(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"grade": [1.0, 2.0, 3.0, 4.0] * 5})
    estimator = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    estimator.fit(frame, [0, 0, 1, 1] * 5)
    table = Table([Feature("grade", "number")], [[1.0], [2.5], [3.0], [4.0]])
    with pytest.warns(ContractWarning, match=re.escape("grade has values that the model was not trained with: 2.5.")):
        contract = create_contract(estimator, table, [0, 0, 1, 1], tmp_path, name="grades")
    assert (contract.features[0].values, contract.features[0].base_type) == ([1.0, 2.0, 3.0, 4.0], "number")


def test_dates_are_refused_by_their_type(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"day": pandas.date_range("2024-01-01", periods=4)})
    estimator = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(frame, [0, 1, 0, 1])
    table = Table([Feature("day", "string")], [["2024-01-01"], ["2024-01-02"]])
    with pytest.raises(
        ContractError, match=r"day has values of the type (datetime|int); a feature is a number, a boole"
    ):
        create_contract(estimator, table, [0, 1], tmp_path, name="days")


def test_a_data_frame_is_put_into_the_models_order(tmp_path: Path) -> None:
    frame = pandas.DataFrame(ROWS, columns=NAMES)
    estimator = LogisticRegression().fit(frame, ALARMS)
    table = frame_table(frame.assign(note="words")[["note", "c", "b", "a"]])
    contract = create_contract(estimator, table, ALARMS, tmp_path, name="alarms")
    assert (contract.feature_names, contract.runtime) == (NAMES, "sklearn")
    assert contract.golden[0].features in ROWS.tolist()


def test_one_row_of_numbers_needs_no_pandas(tmp_path: Path) -> None:
    frame = pandas.DataFrame(ROWS, columns=NAMES)
    estimator = LogisticRegression().fit(frame, ALARMS)
    contract = create_contract(estimator, frame_table(frame[:1]), ALARMS[:1], tmp_path, name="alarms")
    assert contract.runtime == "sklearn"


class Neighbours(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Its second value, which is a small one, depends on the rows beside it."""

    def fit(self, rows: np.ndarray, targets: np.ndarray) -> Neighbours:
        self.n_features_in_, self.n_outputs_ = rows.shape[1], targets.shape[1]
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.column_stack([1e6 * rows[:, 0], 1e-6 * (rows[:, 1] - rows[:, 1].mean())])


def test_a_small_value_that_depends_on_the_rows_beside_it_is_refused(tmp_path: Path) -> None:
    targets = ROWS[:, :2] * [1e6, 1e-6]
    with pytest.raises(ContractError, match="the answer depends on the rows beside it"):
        create_contract(Neighbours().fit(ROWS, targets), TABLE, targets, tmp_path, name="values")


def test_a_row_has_a_row_of_numbers() -> None:
    rows: list[Row] = [[1.0, 2.0, 3.0]]
    buffer = io.BytesIO()
    joblib.dump(alarms_of(LinearSVC), buffer)
    answers = SklearnPredictor(buffer.getvalue(), Interface("classification", [])).predict(rows)
    assert (answers.numbers, answers.row_count) == ([], 1)
