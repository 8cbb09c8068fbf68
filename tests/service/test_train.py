from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from service.contract import Contract
from service.model import Model, load
from service.pickled import Pickled
from service.train import telling_rows
from tests.service.conftest import REPOSITORY_ROOT, run


@pytest.fixture(scope="session")
def model(artifacts: Path) -> Model:
    """As it was trained, and not as any runtime has it."""
    return load(artifacts)


def test_a_second_training_gives_the_same_bytes_and_says_what_came_out_in_one_line(
    artifacts: Path, model: Model, tmp_path: Path
) -> None:
    # In a process of its own: what depended on the order of a set, or on an address, would differ there.
    again = tmp_path / "new" / "folder"
    done = run("-m", "service.train", "--out", str(again), folder=REPOSITORY_ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"trained    {again}/model.pkl: accuracy {model.contract.holdout.accuracy} on 38 rows, "
        f"12 golden rows, sha256 {model.contract.artefact.sha256[:12]}\n"
    )
    assert sorted(path.name for path in again.iterdir()) == ["model.json", "model.pkl", "training.npy"]
    for name in ("model.pkl", "model.json", "training.npy"):
        assert (again / name).read_bytes() == (artifacts / name).read_bytes(), name


def test_the_model_is_the_forest_that_was_asked_for(artifacts: Path) -> None:
    classifier = load(artifacts).classifier
    assert isinstance(classifier, Pickled)
    assert type(classifier.estimator) is RandomForestClassifier
    parameters = classifier.estimator.get_params()
    assert (parameters["n_estimators"], parameters["random_state"]) == (50, 42)


def test_the_contract_names_the_file_that_lies_beside_it(artifacts: Path) -> None:
    content = (artifacts / "model.pkl").read_bytes()
    written = json.loads((artifacts / "model.json").read_bytes())
    assert written["schema"] == 1
    assert written["artefact"] == {
        "file": "model.pkl",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    assert msgspec.convert(written, Contract).runtime == "sklearn"


def test_the_contract_says_what_is_predicted_from_what(model: Model) -> None:
    contract = model.contract
    assert (contract.name, contract.task) == ("iris-classifier", "classification")
    assert contract.features == ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    assert contract.labels == ["setosa", "versicolor", "virginica"]
    assert contract.tolerance == 1e-6


def test_the_contract_records_the_versions_that_a_pickle_depends_on(model: Model) -> None:
    assert model.contract.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert model.contract.libraries == {
        name: metadata.version(name) for name in ("joblib", "numpy", "scikit-learn", "scipy")
    }


def test_the_model_is_right_about_nine_held_out_rows_in_ten(model: Model) -> None:
    assert model.contract.holdout.rows == 38
    assert 0.9 < model.contract.holdout.accuracy <= 1


def test_there_are_four_golden_rows_of_each_class(model: Model) -> None:
    labels = Counter(row.label for row in model.contract.golden)
    assert labels == {"setosa": 4, "versicolor": 4, "virginica": 4}
    rows = {tuple(row.features) for row in model.contract.golden}
    assert len(rows) == 12


def test_the_rows_that_the_model_is_least_sure_of_are_chosen() -> None:
    sure_of_the_first = [0.9, 0.6, 1.0, 0.8, 0.7, 0.1]
    probabilities = np.array([[share, 1 - share] for share in sure_of_the_first])
    assert telling_rows(probabilities) == [1, 4, 3, 0, 5]
