"""Two trainings of the shipped model: the second image is compared with the first, which was published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.engine.conftest import copied
from tests.integration.engine.project import REGISTRY, Finished, Project


@pytest.fixture(scope="session")
def other(good: Finished, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A smaller forest from another seed, beside the good image."""
    other = copied(tmp_path_factory.mktemp("other") / "shipped")
    other.edit("training/iris.py", "n_estimators=50, random_state=42", "n_estimators=3, max_depth=2, random_state=7")
    digest = good.report["publication"]["digest"]
    other.edit("pipeline.toml", 'previous = ""', f'previous = "{REGISTRY}/{project.repository}@{digest}"')
    return other.run("--no-push")


def test_both_are_asked_the_held_out_rows(other: Finished, good: Finished) -> None:
    assert other.exit_code == 0, other.output
    drift: dict[str, Any] = other.report["drift"]
    assert (drift["digest"], drift["reason"], drift["notes"]) == (good.report["publication"]["digest"], "", [])
    # The golden rows are among the held-out ones.
    assert [group["origin"] for group in drift["groups"]] == ["reference", "between"]
    assert drift["groups"][0]["rows"] == good.report["contract"]["holdout"]["rows"] == 38
    assert drift["rows_asked"] == sum(group["rows"] for group in drift["groups"])
    assert not any(group["unanswered"] for group in drift["groups"])


def test_what_the_second_training_changed_is_a_warning_with_the_rows(other: Finished) -> None:
    [judged, *_] = other.report["drift"]["groups"]
    changed = [pair for pair in judged["label_pairs"] if pair["before"] != pair["after"]]
    assert judged["labels_changed"] == sum(pair["rows"] for pair in changed) == len(judged["label_changes"])
    assert 0 < judged["shift"]["mean"] <= judged["shift"]["percentile_99"] <= judged["shift"]["max"] <= 1
    row = other.row("answers as before")
    assert row["verdict"] == "WARN"
    assert row["measured"] == f"{judged['labels_changed']} of 38 changed, shift {judged['shift']['mean']:.2g}"
    assert other.row("schema as before")["verdict"] == "PASS"


def test_the_sizes_the_times_and_the_findings_of_both_are_there(other: Finished, good: Finished) -> None:
    drift: dict[str, Any] = other.report["drift"]
    sizes = [sum(layer["compressed_bytes"] for layer in each.report["image"]["layers"]) for each in (good, other)]
    ratio = round(sizes[1] / sizes[0], 3)
    assert drift["compressed_bytes"] == {"before": sizes[0], "after": sizes[1], "ratio": ratio}
    assert min(drift["median_seconds"].values()) > 0
    # The same packages.
    assert (drift["findings_new"], drift["findings_gone"]) == ([], [])


def test_the_page_and_the_terminal_show_it(other: Finished) -> None:
    assert f"before     {other.report['drift']['image']}" in other.output
    page = (other.report_dir / "report.html").read_text()
    assert "Labels of 38 held-out rows: " in page


def test_the_held_out_rows_are_beside_the_model_and_in_nothing_that_is_published(other: Finished) -> None:
    rows = (other.report_dir / "model" / "reference.jsonl").read_text().splitlines()
    assert len(rows) == 38
    written = [path.read_text() for path in other.report_dir.iterdir() if path.suffix in (".html", ".json", ".md")]
    values = ", ".join(map(str, json.loads(rows[0])))
    assert not [text for text in (*written, other.output) if values in text]
    assert not any(file["path"].endswith("reference.jsonl") for file in other.report["image"]["files"])
    assert sorted(path.name for path in Path(other.report_dir).glob("*.tar")) == ["image.tar"]


def test_the_same_image_is_not_asked(good: Finished, project: Project, tmp_path: Path) -> None:
    again = copied(tmp_path / "again")
    again.edit("pipeline.toml", 'previous = ""', f'previous = "{REGISTRY}/{project.repository}:test"')
    finished = again.run("--no-push")
    image = f"{REGISTRY}/{project.repository}:test@{good.report['publication']['digest']}"
    assert finished.row("answers as before")["details"] == [f"it is the same image as {image}"]
    assert finished.report["drift"]["rows_asked"] == 0
