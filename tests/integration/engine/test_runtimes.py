"""Both runtimes pass the same gates with the same golden rows; only one of them is small, and unpickles nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.engine.conftest import copied
from tests.integration.engine.project import Finished

MB = 1_000_000


@pytest.fixture(scope="module")
def runs(good: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """A run of the same model in each runtime."""
    project = copied(tmp_path_factory.mktemp("sklearn") / "shipped")
    project.edit("pipeline.toml", 'runtime = "compiled" ', 'runtime = "sklearn"')
    return {"compiled": good, "sklearn": project.run()}


@pytest.fixture(params=["compiled", "sklearn"])
def run(request: pytest.FixtureRequest, runs: dict[str, Finished]) -> Finished:
    return runs[request.param]


def model(run: Finished) -> dict[str, Any]:
    return dict(json.loads((run.report_dir / "model" / "model.json").read_text()))


def names(run: Finished, folder: Path) -> set[str]:
    """The files of all layers of the image, in `folder`."""
    subprocess.run(["tar", "-x", "-C", folder, "-f", run.report_dir / "image.tar"], check=True)
    found = set[str]()
    for layer in run.report["image"]["layers"]:
        blob = folder / "blobs" / layer["digest"].replace(":", "/")
        found |= set(subprocess.run(["tar", "-tf", blob], capture_output=True, text=True, check=True).stdout.split())
    return found


def test_it_is_approved_by_every_check(run: Finished) -> None:
    assert run.exit_code == 0, run.output
    assert run.output.splitlines()[-1].startswith("published  127.0.0.1:5000/")
    allowed = {"PASS", "SKIP", "WARN"} if run.report["images"]["base_images"] == "local" else {"PASS", "SKIP"}
    assert {row["verdict"] for row in run.report["checks"]} <= allowed


def test_all_golden_rows_are_answered_as_trained(run: Finished) -> None:
    assert run.row("answers /predict as trained")["measured"] == "12 of 12 rows"
    assert run.row("refuses malformed requests")["measured"] == "10 of 10 with 4xx"


def test_both_were_asked_the_same_and_checked_alike(runs: dict[str, Finished]) -> None:
    lean, sklearn = (model(runs[name]) for name in ("compiled", "sklearn"))
    assert lean["golden"] == sklearn["golden"]
    assert lean["equivalence"]["source_sha256"] == sklearn["artifact"]["sha256"]
    checks = {name: [row["name"] for row in run.report["checks"]] for name, run in runs.items()}
    assert checks["compiled"] == checks["sklearn"]


def test_the_run_says_that_the_lean_model_is_equal(runs: dict[str, Finished]) -> None:
    line = "model      compiled, equivalent to the trained one on 11,083 rows: largest difference 0, limit 1e-06"
    assert line in runs["compiled"].output.splitlines()
    assert "equal to the trained one" not in runs["sklearn"].output


@pytest.mark.parametrize(("runtime", "image_mb", "layer_mb"), [("compiled", 150, 30), ("sklearn", 330, 150)])
def test_how_large_it_is(
    runtime: str, image_mb: int, layer_mb: int, runs: dict[str, Finished], capsys: pytest.CaptureFixture[str]
) -> None:
    base, *ours = (layer["size_bytes"] for layer in runs[runtime].report["image"]["layers"])
    with capsys.disabled():
        print(f"\n{runtime}: {(base + sum(ours)) / MB:.1f} MB, {base / MB:.1f} of them the base, ours", end=" ")
        print(*(f"{size / MB:.1f}" for size in ours), sep=" + ")
    assert base + sum(ours) < image_mb * MB
    assert max(ours) < layer_mb * MB


def test_a_lean_image_has_nothing_that_unpickles(runs: dict[str, Finished], tmp_path: Path) -> None:
    found = names(runs["compiled"], tmp_path)
    assert "app/artifacts/model.forest" in found
    assert {name for name in found if name.endswith((".pkl", "/joblib/", "/sklearn/", "/numpy/"))} == set()
    assert not {"joblib", "numpy", "scikit-learn"} & set(runs["compiled"].report["scan"]["python_packages"])


def test_a_lean_model_that_differs_stops_the_build_and_shows_the_row(tmp_path: Path) -> None:
    project = copied(tmp_path / "shipped")
    # Every comparison the other way round at the boundary.
    project.edit("export/forest.c", "<= node->threshold", "< node->threshold")
    finished = project.run()
    project.assert_broken(finished, "train", 4)
    (failure,) = finished.report["failures"]
    assert "the compiled model differs on " in failure["log"]
    assert "; on [" in failure["log"]
    assert ", the trained one " in failure["log"]
