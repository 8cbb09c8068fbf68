"""Models of other kinds than the shipped one, from their training to their digest; and one that came trained."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from arro3.io import infer_csv_schema, read_csv, write_parquet

from tests.integration.engine.conftest import copied
from tests.integration.engine.project import REPOSITORY_ROOT, Finished, Project

SCALED = """
from pathlib import Path
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from export.dataset import number_table
from export.contract import create_contract

rows, targets = np.array([[1.0], [2.0], [8.0], [9.0]]), ["small", "small", "large", "large"]
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, targets)
create_contract(model, number_table(["size"], rows.tolist()), targets, Path("/trained"), name="scaled")
"""


def example(name: str, folder: Path) -> tuple[Project, Finished]:
    """A run of an example's policy, as it lies in training/."""
    project = replace(copied(folder / "shipped"), policy=f"training/{name}.toml")
    return project, project.run()


@pytest.fixture(scope="module")
def diabetes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Finished]:
    return example("diabetes", tmp_path_factory.mktemp("diabetes"))


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Finished]:
    return example("tickets", tmp_path_factory.mktemp("tickets"))


def assert_published(project: Project, finished: Finished) -> None:
    """Every check passed, and the registry has what was approved, under its digest."""
    assert finished.exit_code == 0, finished.output
    assert finished.failed() == []
    digest = finished.report["publication"]["digest"]
    assert finished.output.splitlines()[-1].endswith(f":test@{digest}")
    assert digest == finished.report["image"]["manifest_digest"]
    assert project.manifest("test").headers["Docker-Content-Digest"] == digest


def contract(finished: Finished) -> dict[str, Any]:
    return dict(finished.report["contract"])


def test_a_regression_goes_through_the_whole_pipeline_to_its_digest(diabetes: tuple[Project, Finished]) -> None:
    project, finished = diabetes
    assert_published(project, finished)
    told = contract(finished)
    assert (told["name"], told["task"], told["runtime"]) == ("diabetes-progression", "regression", "compiled")
    assert finished.row("answers /predict as trained")["measured"] == "12 of 12 rows"
    # From the smallest value to the largest one.
    trained = json.loads((finished.report_dir / "model" / "model.json").read_text())
    values = [row["value"] for row in trained["golden"]]
    assert values == sorted(values)
    assert values[-1] - values[0] > 100
    assert "model      compiled, equivalent to the trained one on 27,395 rows: largest difference 0," in finished.output
    assert finished.report["image"]["labels"]["org.opencontainers.image.title"] == "diabetes-progression"
    # As small as the classifier's.
    assert sum(layer["size_bytes"] for layer in finished.report["image"]["layers"][1:]) < 30_000_000


def test_words_and_numbers_go_through_the_whole_pipeline_to_their_digest(tickets: tuple[Project, Finished]) -> None:
    project, finished = tickets
    assert_published(project, finished)
    told = contract(finished)
    assert (told["name"], told["task"], told["runtime"]) == ("ticket-router", "classification", "pandas")
    assert [(feature["name"], feature["type"]) for feature in told["features"]] == [
        ("subject", "string"),
        ("channel", "category"),
        ("customer_years", "number"),
        ("waiting_hours", "number"),
    ]
    assert finished.row("answers /predict as trained")["measured"] == "12 of 12 rows"
    statuses = {request["name"]: request["status"] for request in finished.report["smoke"]["malformed"]}
    # As the policy says.
    for name in ("a string for a number", "a number for a string", "an unknown category"):
        assert statuses[name] == 422
    packages = {package["name"] for package in finished.report["image"]["packages"]}
    assert {"pandas", "scikit-learn"} <= packages
    assert max(layer["size_bytes"] for layer in finished.report["image"]["layers"]) < 150_000_000


def test_a_model_that_came_trained_gets_its_contract_from_data_and_then_its_digest(
    tickets: tuple[Project, Finished], tmp_path: Path
) -> None:
    _, finished = tickets
    # A name that is a pattern to the engine, in a folder with a blank.
    model = tmp_path / "trained [elsewhere].pkl"
    shutil.copy(finished.report_dir / "model" / "model.pkl", model)
    project = copied(tmp_path / "a project")
    project.edit("pipeline.toml", 'runtime = "compiled" ', 'runtime = "pandas"')
    project.edit("pipeline.toml", 'train = "python -m training.iris --out /trained"', 'train = ""')
    project.edit("pipeline.toml", 'path = "artifacts"', 'path = "mine"')
    # The image that makes contracts reads Parquet, which a training does not need.
    data, rows = tmp_path / "rows of tickets.parquet", REPOSITORY_ROOT / "training" / "tickets.csv"
    write_parquet(read_csv(rows, infer_csv_schema(rows, has_header=True), has_header=True), data)
    written = project.command("contract", str(model), str(data), "--name", "mine", "--target", "team")
    assert written.exit_code == 0, written.output
    assert (
        "model      classification: 1 string, 1 category and 2 numbers → 3 labels\n"
        "features   subject: string, channel: category, customer_years: number, waiting_hours: number\n"
        "scores     accuracy " in written.output
    )
    assert "note       the compiled runtime takes only numbers, but subject is a string\n" in written.output
    assert sorted(path.name for path in (project.root / "mine").iterdir()) == [
        "model.json",
        "model.pkl",
        "reference.jsonl",
    ]
    assert (project.root / "mine" / "model.pkl").read_bytes() == model.read_bytes()
    run = project.run()
    assert_published(project, run)
    told = contract(run)
    assert (told["name"], told["holdout"]["rows"]) == ("mine", 360)
    assert told["artifact"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()


def test_data_without_what_the_model_takes_make_no_contract(tickets: tuple[Project, Finished], tmp_path: Path) -> None:
    _, finished = tickets
    (tmp_path / "data.csv").write_text("subject,channel,customer_years,team\nhelp,chat,1.5,account\n")
    project = copied(tmp_path / "shipped")
    refused = project.command("contract", str(finished.report_dir / "model" / "model.pkl"), str(tmp_path / "data.csv"))
    assert refused.exit_code == 4, refused.output
    assert "the model takes waiting_hours, but the data have no such column." in refused.output
    assert "Traceback" not in refused.output
    assert not (project.root / "artifacts").exists()


def test_what_the_lean_runtime_cannot_convert_is_named(tmp_path: Path) -> None:
    project = copied(tmp_path / "shipped")
    (project.root / "training" / "scaled.py").write_text(SCALED)
    project.edit("pipeline.toml", "python -m training.iris --out /trained", "python -m training.scaled")
    finished = project.run()
    project.assert_broken(finished, "train", 4)
    assert (
        "the compiled runtime has no StandardScaler; it has RandomForestClassifier"
        in finished.report["failures"][0]["log"]
    )


def test_a_training_that_leaves_no_model_is_told_what_it_has_to_leave(tmp_path: Path) -> None:
    project = copied(tmp_path / "shipped")
    project.edit("pipeline.toml", "python -m training.iris --out /trained", "true")
    finished = project.run()
    project.assert_broken(finished, "train", 4)
    assert "TRAIN wrote no /trained/model.json" in finished.report["failures"][0]["log"]
