from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from export import compiled
from export.compiled import ComparisonRows, compare, convert, flatten_trees
from export.contract import create_contract
from export.dataset import number_table
from export.errors import ConversionError
from service.contract import ModelLoadError
from service.model import load_model
from service.runtimes.compiled import HEADER, NODE, ForestPredictor
from service.runtimes.sklearn import SklearnPredictor
from tests.support.models import GOLDEN_OF_TWO_LABELS, REPOSITORY_ROOT, replace_model, rewrite, run

FEATURES, TARGETS = make_classification(
    n_samples=400, n_features=7, n_informative=5, n_classes=4, random_state=7, flip_y=0.2
)


def test_the_shipped_model_is_equal_on_every_row_and_says_so(breakable: Path, tmp_path: Path) -> None:
    target = tmp_path / "compiled"
    done = run("-m", "export", "compiled", str(breakable), str(target), folder=REPOSITORY_ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    # Bit for bit: the same comparisons, and the same sums in the same order.
    assert done.stdout == (
        f"converted  {target}/model.forest: equivalent on 150 training, 933 edge and 10000 random rows, "
        "largest difference 0, limit 1e-06\n"
    )
    assert sorted(path.name for path in target.iterdir()) == ["model.forest", "model.json", "reference.jsonl"]


def test_a_second_conversion_gives_the_same_bytes(artifacts: Path, compiled_artifacts: Path, tmp_path: Path) -> None:
    convert(artifacts, tmp_path / "again")
    for name in ("model.forest", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (compiled_artifacts / name).read_bytes(), name


def test_the_contract_says_what_it_was_made_from_and_promises_the_same(
    artifacts: Path, compiled_artifacts: Path
) -> None:
    trained, compiled = load_model(artifacts).contract, load_model(compiled_artifacts).contract
    assert (trained.runtime, compiled.runtime) == ("sklearn", "compiled")
    assert compiled.artifact.file == "model.forest"
    assert compiled.equivalence is not None
    assert compiled.equivalence.source_sha256 == trained.artifact.sha256
    assert (compiled.equivalence.rows, compiled.equivalence.max_abs_difference) == (11_083, 0.0)
    same = {"runtime": "sklearn", "artifact": trained.artifact, "equivalence": None}
    assert msgspec.structs.replace(compiled, **same) == trained


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(n_estimators=30, random_state=1),
        # Grown best first, so that children do not stand right behind their parents.
        RandomForestClassifier(n_estimators=10, max_leaf_nodes=20, class_weight="balanced", random_state=1),
        ExtraTreesClassifier(n_estimators=10, bootstrap=True, random_state=1),
        DecisionTreeClassifier(random_state=1),
        ExtraTreeClassifier(max_depth=1, random_state=1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_each_kind_of_forest_is_answered_bit_for_bit(estimator: Any) -> None:  # noqa: ANN401
    estimator.fit(FEATURES, TARGETS)
    forest = ForestPredictor(flatten_trees(estimator))
    rows = np.random.default_rng(1).uniform(FEATURES.min(), FEATURES.max(), (2_000, 7))
    assert (np.array(forest.evaluate(rows.tolist())) == estimator.predict_proba(rows)).all()


# With a fraction that no float holds: what is summed in another order shows.
VALUES = FEATURES @ np.arange(1, 8) / 3


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(n_estimators=30, random_state=1),
        RandomForestRegressor(n_estimators=10, max_leaf_nodes=20, criterion="absolute_error", random_state=1),
        ExtraTreesRegressor(n_estimators=10, bootstrap=True, random_state=1),
        DecisionTreeRegressor(random_state=1),
        ExtraTreeRegressor(max_depth=1, random_state=1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_each_kind_of_regression_is_answered_bit_for_bit(estimator: Any) -> None:  # noqa: ANN401
    estimator.fit(FEATURES, VALUES)
    forest = ForestPredictor(flatten_trees(estimator))
    assert forest.outputs == 1
    rows = np.random.default_rng(1).uniform(FEATURES.min(), FEATURES.max(), (2_000, 7))
    assert (np.array(forest.evaluate(rows.tolist()))[:, 0] == estimator.predict(rows)).all()


def test_a_regression_is_converted_and_says_on_what_it_was_equal(diabetes: Path, tmp_path: Path) -> None:
    done = run("-m", "export", "compiled", str(diabetes), str(tmp_path / "compiled"), folder=REPOSITORY_ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"converted  {tmp_path}/compiled/model.forest: equivalent on 442 training, 16953 edge and 10000 random rows, "
        "largest difference 0, limit 0.0003\n"
    )
    assert load_model(tmp_path / "compiled").self_test() == ""


@pytest.mark.parametrize(
    "pipeline",
    [
        make_pipeline(DecisionTreeClassifier(random_state=1)),
        Pipeline([("nothing", "passthrough"), ("tree", DecisionTreeClassifier(random_state=1))]),
        Pipeline([("nothing", None), ("inner", make_pipeline(DecisionTreeClassifier(random_state=1)))]),
    ],
    ids=["alone", "passthrough", "nested"],
)
def test_a_pipeline_of_nothing_but_a_forest_is_that_forest(pipeline: Pipeline) -> None:
    alone = DecisionTreeClassifier(random_state=1).fit(FEATURES, TARGETS)
    assert flatten_trees(pipeline.fit(FEATURES, TARGETS)) == flatten_trees(alone)


def test_a_pipeline_that_does_something_first_is_refused_by_its_name() -> None:
    pipeline = make_pipeline("passthrough", StandardScaler(), DecisionTreeClassifier()).fit(FEATURES, TARGETS)
    with pytest.raises(ConversionError, match=r"^the compiled runtime has no StandardScaler; it has Random"):
        flatten_trees(pipeline)


def test_a_model_that_takes_words_is_refused_by_the_first_of_them(tickets: Path, tmp_path: Path) -> None:
    done = run("-m", "export", "compiled", str(tickets), str(tmp_path / "compiled"), folder=REPOSITORY_ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "the compiled runtime takes only numbers, but subject is a string\n"
        '→ set runtime = "sklearn" under [build] to serve the model as it is, or "pandas" if it '
        "takes named columns or strings\n"
    )
    assert not (tmp_path / "compiled").exists()


def test_a_regression_that_says_another_value_is_found_and_both_are_shown(diabetes: Path) -> None:
    model = load_model(diabetes)
    assert isinstance(model.predictor, SklearnPredictor)
    content = bytearray(flatten_trees(model.predictor.estimator))
    leaves = np.frombuffer(content, "<f8", count=HEADER.unpack_from(content)[5], offset=HEADER.size)
    row = model.contract.golden[0].features
    rows = np.array([model.contract.golden[11].features, row])
    # The limit is 0.0003: all leaves are off by less than that at first, and then by 0.02.
    leaves += 0.0002
    near = compare(model.contract, [rows], model.predictor, ForestPredictor(bytes(content)))
    assert near.rows == 2
    assert near.max_abs_difference == pytest.approx(0.0002)
    leaves += 0.0198
    with pytest.raises(ConversionError) as found:
        compare(model.contract, [rows[1:]], model.predictor, ForestPredictor(bytes(content)))
    sentence = str(found.value)
    assert sentence.startswith(f"the compiled model differs on 1 of 1 rows; on {row} it says [70.84299802974")
    assert sentence.endswith("], the trained one [70.82299802974802]")
    features = [msgspec.structs.replace(feature, private=True) for feature in model.contract.features]
    private = msgspec.structs.replace(model.contract, features=features)
    with pytest.raises(ConversionError, match=r"rows; on \[('…'(, )?)+\] it says"):
        compare(private, [rows[1:]], model.predictor, ForestPredictor(bytes(content)))


@pytest.mark.parametrize(
    ("estimator", "why"),
    [
        (
            LogisticRegression(max_iter=10_000),
            "the compiled runtime has no LogisticRegression; it has RandomForest",
        ),
        (GradientBoostingClassifier(n_estimators=2), "the compiled runtime has no GradientBoostingClassifier; it has "),
    ],
)
def test_what_cannot_be_converted_is_named_and_nothing_is_written(
    estimator: Any,  # noqa: ANN401
    why: str,
    breakable: Path,
    tmp_path: Path,
) -> None:
    iris = np.load(breakable / "training.npy")
    joblib.dump(estimator.fit(iris, np.repeat([0, 1, 2], 50)), tmp_path / "other.pkl")
    replace_model(breakable, (tmp_path / "other.pkl").read_bytes())
    done = run("-m", "export", "compiled", str(breakable), str(tmp_path / "compiled"), folder=REPOSITORY_ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(why)
    assert done.stderr.endswith(
        '→ set runtime = "sklearn" under [build] to serve the model as it is, or "pandas" if it '
        "takes named columns or strings\n"
    )
    assert not (tmp_path / "compiled").exists()


def test_a_forest_of_several_outputs_is_refused() -> None:
    estimator = RandomForestClassifier(n_estimators=2).fit(FEATURES, np.column_stack([TARGETS, TARGETS]))
    with pytest.raises(ConversionError, match="no RandomForestClassifier of 2 outputs"):
        flatten_trees(estimator)


def test_a_subclass_is_refused_since_it_may_answer_otherwise() -> None:
    class Other(RandomForestClassifier):  # type: ignore[misc]
        pass

    with pytest.raises(ConversionError, match="the compiled runtime has no Other"):
        flatten_trees(Other(n_estimators=2).fit(FEATURES, TARGETS))


def test_a_lean_model_is_not_converted_again(compiled_artifacts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="a model of the compiled runtime cannot be converted"):
        convert(compiled_artifacts, tmp_path / "again")


@pytest.mark.parametrize("ulps", [-1, 1])
def test_a_threshold_that_is_off_by_the_smallest_step_is_found_and_the_row_is_shown(artifacts: Path, ulps: int) -> None:
    model = load_model(artifacts)
    assert isinstance(model.predictor, SklearnPredictor)
    content = bytearray(flatten_trees(model.predictor.estimator))
    leaves, outputs = HEADER.unpack_from(content)[5], 3
    first = HEADER.size + 8 * leaves * outputs
    threshold, *rest = NODE.unpack_from(content, first)
    # As a 32-bit float, in which features are compared: a smaller difference is none.
    other = np.nextafter(np.float32(threshold), np.float32(np.inf * ulps))
    NODE.pack_into(content, first, float(other), *rest)
    rows = ComparisonRows(model.predictor.estimator, model.contract, artifacts / "training.npy")
    forest = ForestPredictor(bytes(content))
    with pytest.raises(ConversionError, match=r"differs on \d+ of 933 rows; on \[[\d., e-]+\] it says \w+ \[") as found:
        compare(model.contract, rows.edges(), model.predictor, forest)
    assert "the trained one" in str(found.value)


def test_a_difference_within_the_tolerance_is_told_and_beyond_it_is_refused(artifacts: Path) -> None:
    model = load_model(artifacts)
    assert isinstance(model.predictor, SklearnPredictor)
    content = bytearray(flatten_trees(model.predictor.estimator))
    leaf = np.frombuffer(content, "<f8", count=3, offset=HEADER.size)
    rows = np.load(artifacts / "training.npy")
    # A leaf is a fiftieth of the answer.
    leaf[int(leaf.argmax())] -= 40e-6
    worst = compare(model.contract, [rows], model.predictor, ForestPredictor(bytes(content)))
    assert worst.max_abs_difference == pytest.approx(40e-6 / 50)
    leaf[int(leaf.argmax())] -= 20e-6
    with pytest.raises(ConversionError, match="the compiled model differs on"):
        compare(model.contract, [rows[:70], rows[70:]], model.predictor, ForestPredictor(bytes(content)))


def test_a_model_without_its_training_rows_is_asked_its_golden_ones(breakable: Path, tmp_path: Path) -> None:
    (breakable / "training.npy").unlink()
    assert ": equivalent on 12 training, " in convert(breakable, tmp_path / "compiled")


def test_random_rows_span_all_that_is_known(artifacts: Path) -> None:
    model = load_model(artifacts)
    assert isinstance(model.predictor, SklearnPredictor)
    rows = ComparisonRows(model.predictor.estimator, model.contract, artifacts / "training.npy")
    known = np.concatenate([*rows.training(), *rows.edges()])
    random = np.concatenate([*rows.random()])
    assert (random.min(axis=0) >= known.min(axis=0)).all()
    assert (random.max(axis=0) <= known.max(axis=0)).all()
    # Ten thousand rows come within a hundredth of both ends, or they are drawn from elsewhere.
    assert (np.ptp(random, axis=0) > 0.99 * np.ptp(known, axis=0)).all()


def test_the_rows_are_the_same_in_pieces_and_at_once(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(artifacts)
    predictor = model.predictor
    assert isinstance(predictor, SklearnPredictor)

    def rows() -> list[list[np.ndarray]]:
        rows = ComparisonRows(predictor.estimator, model.contract, artifacts / "training.npy")
        return [list(rows.training()), list(rows.edges()), list(rows.random())]

    whole = rows()
    monkeypatch.setattr(compiled, "PIECE_BYTES", 7 * 8 * 4)
    pieces = rows()
    assert [max(map(len, part)) for part in pieces] == [7, 7, 7]
    for left, right in zip(whole, pieces, strict=True):
        assert np.array_equal(np.concatenate(left), np.concatenate(right))


@pytest.mark.slow
def test_a_comparison_of_many_features_and_splits_takes_little_memory(tmp_path: Path) -> None:
    # All rows at once would be 40,000 of 3,000 numbers, which is 960 MB before they are lists.
    generator = np.random.default_rng(1)
    wide = generator.normal(size=(60, 3_000)).astype(np.float32).astype(np.float64)
    forest = ExtraTreesClassifier(n_estimators=100, random_state=1).fit(wide, generator.integers(2, size=60))
    create_contract(
        forest, number_table([f"f{at}" for at in range(3_000)], wide.tolist()), forest.predict(wide), tmp_path, name="w"
    )
    code = (
        "import sys, resource; from pathlib import Path; from export.compiled import convert;"
        "print(convert(Path(sys.argv[1]), Path(sys.argv[2])));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = run("-c", code, str(tmp_path), str(tmp_path / "compiled"), folder=REPOSITORY_ROOT)
    said, kilobytes = done.stdout.splitlines()
    assert " edge and 10000 random rows, largest difference 0, " in said
    assert int(kilobytes) < 600_000


def test_a_contract_of_fewer_labels_than_the_model_has_is_refused(breakable: Path, tmp_path: Path) -> None:
    rewrite(breakable, labels=["setosa", "versicolor"], golden=[GOLDEN_OF_TWO_LABELS])
    with pytest.raises(ModelLoadError, match="gives 3 numbers, its contract 4 and 2"):
        convert(breakable, tmp_path / "compiled")
    assert not (tmp_path / "compiled").exists()
