from __future__ import annotations

import math
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from export.compile_forest import SOURCE, compile_library
from export.compiled import flatten_trees
from service.contract import ModelLoadError
from service.model import load_model
from service.runtimes.compiled import HEADER, LIBRARY, MAGIC, NODE, ForestPredictor
from tests.support.models import ENVIRONMENT, GOLDEN_OF_TWO_LABELS, replace_model, rewrite


def forest(
    nodes: Sequence[tuple[float, int, int, int] | tuple[float, int, int, int, int]],
    leaves: list[list[float]],
    roots: list[int],
    features: int = 1,
    declared: tuple[int, ...] = (),
) -> bytes:
    """A forest's file; a leaf is (0, -1, its row, 0). Without a fifth number, a missing value goes right."""
    shape = declared or (features, len(leaves[0]), len(roots), len(nodes), len(leaves))
    flat = [number for leaf in leaves for number in leaf]
    return b"".join(
        [
            HEADER.pack(MAGIC, *shape),
            struct.pack(f"<{len(flat)}d", *flat),
            *(NODE.pack(*(*node, 0)[:5]) for node in nodes),
            struct.pack(f"<{len(roots)}i", *roots),
        ]
    )


LEAVES = [[1.0, 0.0], [0.25, 0.75]]
STUMP = [(0.5, 0, 1, 2), (0.0, -1, 0, 0), (0.0, -1, 1, 0)]


def test_a_row_goes_left_up_to_the_threshold_and_right_beyond_it() -> None:
    stump = ForestPredictor(forest(STUMP, LEAVES, [0]))
    assert stump.evaluate([[-7.0], [0.5], [0.50001], [9.0]]) == [LEAVES[0], LEAVES[0], LEAVES[1], LEAVES[1]]


def test_a_feature_is_compared_as_a_32_bit_float_as_scikit_learn_does() -> None:
    # 0.1 is not among these: the nearest one is larger, and so goes right.
    stump = ForestPredictor(forest([(0.1, 0, 1, 2), *STUMP[1:]], LEAVES, [0]))
    assert stump.evaluate([[0.1]]) == [LEAVES[1]]


def test_trees_are_averaged() -> None:
    nodes = [(0.0, -1, 0, 0), (0.0, -1, 1, 0)]
    assert ForestPredictor(forest(nodes, LEAVES, [0, 1])).evaluate([[1.0]]) == [[0.625, 0.375]]


@pytest.mark.parametrize(("goes_left", "answer"), [(1, LEAVES[0]), (0, LEAVES[1])])
def test_a_row_without_the_feature_goes_where_the_split_says(goes_left: int, answer: list[float]) -> None:
    stump = ForestPredictor(forest([(0.5, 0, 1, 2, goes_left), *STUMP[1:]], LEAVES, [0]))
    # A missing value is None, or NaN.
    assert stump.evaluate([[None]]) == stump.evaluate([[math.nan]]) == [answer]
    assert stump.evaluate([[0.5], [None], [9.0]]) == [LEAVES[0], answer, LEAVES[1]]
    assert stump.evaluate([[0.5], [math.nan], [9.0]]) == [LEAVES[0], answer, LEAVES[1]]


def test_a_row_of_another_length_with_a_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 1 numbers"):
        ForestPredictor(forest(STUMP, LEAVES, [0])).evaluate([[None, 1.0]])


def rows_with_gaps(share: float, count: int = 400) -> np.ndarray:
    generator = np.random.default_rng(5)
    rows = generator.normal(size=(count, 4)).astype(np.float32).astype(float)
    rows[generator.random(rows.shape) < share] = np.nan
    return rows


@pytest.mark.parametrize("share", [0.1, 0.9])
@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeClassifier(random_state=1),
        RandomForestClassifier(n_estimators=20, random_state=1),
        DecisionTreeRegressor(random_state=1),
        RandomForestRegressor(n_estimators=20, random_state=1),
    ],
    ids=lambda each: type(each).__name__,
)
def test_rows_with_gaps_are_answered_bit_for_bit_as_by_scikit_learn(
    estimator: DecisionTreeClassifier, share: float
) -> None:
    rows = rows_with_gaps(share)
    gaps = np.isnan(rows)
    # What is missing says something by itself, to one side as to the other.
    estimator.fit(rows, (np.nan_to_num(rows[:, 0]) > 0) ^ gaps[:, 1] ^ (gaps[:, 2] & ~gaps[:, 3]))
    trees = [tree.tree_ for tree in getattr(estimator, "estimators_", [estimator])]
    splits = np.concatenate([tree.children_left for tree in trees]) >= 0
    left = np.concatenate([tree.missing_go_to_left for tree in trees])[splits]
    assert {bool(each) for each in left} == {False, True}
    # At some splits, a tree only asks whether the value is missing: these have a threshold of infinity.
    assert any(np.isinf(tree.threshold).any() for tree in trees)
    predictor = ForestPredictor(flatten_trees(estimator))
    others = np.concatenate([rows, rows_with_gaps(0.5, 1000) * 3, np.full((1, 4), np.nan)])
    itself = (
        estimator.predict_proba(others)
        if hasattr(estimator, "predict_proba")
        else np.reshape(estimator.predict(others), (-1, 1))
    )
    plain = [[None if value != value else value for value in row] for row in others.tolist()]
    assert (np.array(predictor.evaluate(plain)) == itself).all()
    assert (np.array(predictor.evaluate(others.tolist())) == itself).all()
    assert [predictor.evaluate([row])[0] for row in plain[:50]] == itself[:50].tolist()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not a forest"),
        (b"\x80\x04" + b"a pickle" * 9, "is not a forest"),
        (forest(STUMP, LEAVES, [0])[:-1], "has another size than its header says"),
        (forest(STUMP, LEAVES, [0]) + b"\0", "has another size than its header says"),
        (forest(STUMP, LEAVES, [0], declared=(1, 2, 0, 3, 2)), "is an empty forest"),
        (forest(STUMP, LEAVES, [0], declared=(-1, 2, 1, 3, 2)), "is an empty forest"),
        (forest(STUMP, LEAVES, [3]), "is a forest that reads outside of itself"),
        (forest(STUMP, LEAVES, [-1]), "is a forest that reads outside of itself"),
        (forest([(0.5, 1, 1, 2), *STUMP[1:]], LEAVES, [0]), "is a forest that reads outside of itself"),
        (forest([(0.5, -2, 1, 2), *STUMP[1:]], LEAVES, [0]), "is a forest that reads outside of itself"),
        (forest([(0.5, 0, 1, 3), *STUMP[1:]], LEAVES, [0]), "is a forest that reads outside of itself"),
        (forest([(0.5, 0, 3, 2), *STUMP[1:]], LEAVES, [0]), "is a forest that reads outside of itself"),
        # A child that is its own parent would be a walk without an end.
        (forest([(0.5, 0, 0, 2), *STUMP[1:]], LEAVES, [0]), "is a forest that reads outside of itself"),
        (forest([(0.5, 0, 1, 0), *STUMP[1:]], LEAVES, [0]), "is a forest that reads outside of itself"),
        (forest([STUMP[0], (0.0, -1, 2, 0), STUMP[2]], LEAVES, [0]), "is a forest that reads outside of itself"),
        (forest([STUMP[0], (0.0, -1, -1, 0), STUMP[2]], LEAVES, [0]), "is a forest that reads outside of itself"),
    ],
)
def test_a_file_that_would_lead_outside_of_itself_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        ForestPredictor(content)


@pytest.mark.parametrize("rows", [[[1.0, 2.0]], [[]], [[1.0], [2.0, 3.0]]])
def test_a_row_of_another_length_never_reaches_the_evaluator(rows: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="a row has 1 numbers"):
        ForestPredictor(forest(STUMP, LEAVES, [0])).evaluate(rows)


def test_a_forest_of_other_labels_than_its_contracts_is_refused(compiled_breakable: Path) -> None:
    rewrite(compiled_breakable, labels=["setosa", "versicolor"], golden=[GOLDEN_OF_TWO_LABELS])
    with pytest.raises(ModelLoadError, match="takes 4 features and gives 3 numbers, its contract 4 and 2; convert"):
        load_model(compiled_breakable)


def test_a_file_that_is_no_forest_is_refused_in_a_sentence(compiled_breakable: Path) -> None:
    replace_model(compiled_breakable, b"an empty harbour")
    with pytest.raises(ModelLoadError, match=r"^model\.forest is not a forest; convert the model again\.$"):
        load_model(compiled_breakable)


def test_one_changed_byte_is_refused_before_the_file_is_looked_at(compiled_breakable: Path) -> None:
    changed = bytearray((compiled_breakable / "model.forest").read_bytes())
    # In its magic: had that been looked at first, the error would be another one.
    changed[0] ^= 1
    (compiled_breakable / "model.forest").write_bytes(changed)
    with pytest.raises(ModelLoadError, match=r"^model\.forest is not the recorded model: expected sha256 "):
        load_model(compiled_breakable)


WATCHED = """
import pathlib, sys
unpickled = []
sys.addaudithook(lambda event, _: unpickled.append(event) if event.startswith("pickle.") else None)
import service.__main__
from service.model import load_model
print(load_model(pathlib.Path(sys.argv[1])).self_test() or "ready")
print(sorted({"numpy", "scipy", "sklearn", "joblib", "fastapi", "pydantic"} & set(sys.modules)), set(unpickled))
"""


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("compiled", "ready\n[] set()\n"),
        # The proof that the other one can fail.
        ("sklearn", "ready\n['joblib', 'numpy', 'scipy', 'sklearn'] {'pickle.find_class'}\n"),
    ],
)
def test_the_lean_runtime_loads_no_pickle_and_no_scikit_learn(
    runtime: str, said: str, artifacts: Path, compiled_artifacts: Path
) -> None:
    folder = compiled_artifacts if runtime == "compiled" else artifacts
    command = [sys.executable, "-c", WATCHED, str(folder)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout == said


def test_a_lean_image_refuses_a_pickle_in_a_sentence(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As where scikit-learn is not installed: the module that would unpickle is not there.
    monkeypatch.setitem(sys.modules, "service.runtimes.sklearn", None)
    with pytest.raises(ModelLoadError, match="is for the sklearn runtime, which this image does not have"):
        load_model(artifacts)


def test_the_evaluator_is_the_same_bytes_wherever_it_is_compiled(tmp_path: Path) -> None:
    compile_library(tmp_path / "one.so")
    (tmp_path / "elsewhere").mkdir()
    compile_library(tmp_path / "elsewhere" / "two.so")
    content = (tmp_path / "one.so").read_bytes()
    assert content == (tmp_path / "elsewhere" / "two.so").read_bytes() == LIBRARY.read_bytes()
    assert str(SOURCE.parent).encode() not in content
