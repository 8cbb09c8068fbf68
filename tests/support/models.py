"""One training for all tests of the service and of export, and copies of it that a test may break."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from export.compile_forest import compile_library
from export.compiled import convert
from service.model import Model, load_model
from service.runtimes.compiled import LIBRARY
from training import diabetes as diabetes_training
from training import tickets as tickets_training
from training.iris import train

REPOSITORY_ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def forest_library() -> None:
    """forest.c, compiled to where the server looks for it."""
    compile_library(LIBRARY)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good model and its contract, to be read only."""
    directory = tmp_path_factory.mktemp("trained") / "artifacts"
    train(directory)
    return directory


@pytest.fixture(scope="session")
def compiled_artifacts(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, converted."""
    directory = tmp_path_factory.mktemp("converted") / "artifacts"
    convert(artifacts, directory)
    return directory


@pytest.fixture(scope="session", params=["sklearn", "compiled"])
def served(request: pytest.FixtureRequest, artifacts: Path, compiled_artifacts: Path) -> Path:
    """The folder of each runtime in turn: what is promised of one is promised of both."""
    return artifacts if request.param == "sklearn" else compiled_artifacts


@pytest.fixture(scope="session")
def diabetes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression and its contract, to be read only."""
    directory = tmp_path_factory.mktemp("diabetes") / "artifacts"
    diabetes_training.train(directory)
    return directory


@pytest.fixture(scope="session")
def compiled_diabetes(diabetes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, converted."""
    directory = tmp_path_factory.mktemp("compiled-diabetes") / "artifacts"
    convert(diabetes, directory)
    return directory


@pytest.fixture(scope="session", params=["sklearn", "compiled"])
def regression(request: pytest.FixtureRequest, diabetes: Path, compiled_diabetes: Path) -> Model:
    """The regression of each runtime in turn."""
    return load_model(diabetes if request.param == "sklearn" else compiled_diabetes)


@pytest.fixture(scope="session")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes words among numbers, and its contract, to be read only."""
    directory = tmp_path_factory.mktemp("tickets") / "artifacts"
    tickets_training.train(directory)
    return directory


# Of the shipped model, if it had one label less.
GOLDEN_OF_TWO_LABELS = {
    "features": [5.1, 3.5, 1.4, 0.2],
    "label": "setosa",
    "probabilities": {"setosa": 1.0, "versicolor": 0.0},
}


@pytest.fixture(scope="session")
def mixed(tickets: Path) -> Model:
    return load_model(tickets)


@pytest.fixture(scope="session")
def model(served: Path) -> Model:
    return load_model(served)


@pytest.fixture(scope="session")
def swapped(model: Model) -> Model:
    """The same model beside a contract that lists the first two labels the wrong way round."""
    labels = ["versicolor", "setosa", "virginica"]
    return Model(msgspec.structs.replace(model.contract, labels=labels), model.predictor)


@pytest.fixture
def breakable(artifacts: Path, tmp_path: Path) -> Path:
    """A copy of `artifacts`, in a folder of that name as the server expects it."""
    return Path(shutil.copytree(artifacts, tmp_path / "artifacts"))


@pytest.fixture
def compiled_breakable(compiled_artifacts: Path, tmp_path: Path) -> Path:
    """A copy of `compiled_artifacts`, as `breakable` is one."""
    return Path(shutil.copytree(compiled_artifacts, tmp_path / "compiled" / "artifacts"))


def rewrite(directory: Path, **changes: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Change fields of the contract in `directory`."""
    path = directory / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_model(directory: Path, content: bytes, sha256: str = "") -> None:
    """Put other bytes in the model's place; the contract names their own hash unless told another."""
    file = json.loads((directory / "model.json").read_text())["artifact"]["file"]
    (directory / file).write_bytes(content)
    sha256 = sha256 or hashlib.sha256(content).hexdigest()
    rewrite(directory, artifact={"file": file, "sha256": sha256, "size_bytes": len(content)})


def truncate_model(directory: Path) -> str:
    """Cut the model off after 1000 bytes, as a copy that broke off would; returns the sentence that refuses it."""
    whole = (directory / "model.pkl").read_bytes()
    cut = whole[:1000]
    (directory / "model.pkl").write_bytes(cut)
    return (
        f"model.pkl is not the recorded model: expected sha256 {hashlib.sha256(whole).hexdigest()} "
        f"({len(whole)} bytes), got {hashlib.sha256(cut).hexdigest()} (1000 bytes); copy it again."
    )


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, as a user would."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
