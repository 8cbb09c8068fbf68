from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from drydock.errors import UsageError
from drydock.pipeline.record import create_record
from drydock.render import html, markdown, text
from drydock.render.files import write_reports
from drydock.report import Package, Publication, Release, Report, Signing, files, publication
from drydock.tools import trivy
from tests.support import examples


def write(report: Report, report_dir: Path, environment: dict[str, str]) -> None:
    write_reports(report, create_record(report) if report.publication else None, report_dir, environment)


FORMS = ("report.json", "report.html", "report.txt", "summary.md")


def test_a_published_image_leaves_its_report_and_its_record(tmp_path: Path) -> None:
    files.prepare_directory(tmp_path / "dist")
    scipy = Package(name="scipy", version="1.16.0", kind="python", size_bytes=93_000_000)
    image = examples.image().model_copy(update={"packages": (scipy,)})
    write(examples.report(image=image), tmp_path / "dist", {})
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == sorted([*FORMS, "release.json"])
    report = json.loads((tmp_path / "dist" / "report.json").read_text())
    assert (report["exit_code"], report["publication"]["digest"]) == (0, examples.MANIFEST_DIGEST)
    release = json.loads((tmp_path / "dist" / "release.json").read_text())
    published_at = release.pop("published_at")
    assert published_at.endswith("+00:00")
    assert release == {
        "schema_version": 1,
        "image": f"127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}",
        "digest": examples.MANIFEST_DIGEST,
        "tags": ["1.2.3", f"sha-{examples.COMMIT}", "1.2", "1"],
        "revision": {
            "commit": examples.COMMIT,
            "dirty": False,
            "source_url": "https://github.com/owner/name",
            "committed_at": "1980-01-01T00:00:00Z",
        },
        "model_sha256": examples.MODEL_SHA256,
        "size_bytes": 270_000_000,
        "packages": [{"name": "scipy", "version": "1.16.0", "kind": "python", "size_bytes": 93_000_000}],
        "pinned_images": {
            "builder": f"docker.io/library/python:3.13-trixie@sha256:{'82' * 32}",
            "base": f"docker.io/library/python:3.13-slim-trixie@sha256:{'9d' * 32}",
        },
        "scanner": examples.OFFICIAL.trivy,
        "scanner_version": "0.74.0",
        "database_version": "2",
        "database_updated_at": "2026-11-22T00:00:00+00:00",
        "database_digest": "sha256:db",
        "signed_by": "key SHA256:abc",
        "checks": [
            {
                "name": "runs as non-root",
                "measured": "USER 10001:10001, uid 10001",
                "limit": "not 0",
                "verdict": "PASS",
                "details": [],
                "location": "",
            },
            {
                "name": "image size",
                "measured": "270 MB",
                "limit": "500 MB",
                "verdict": "PASS",
                "details": [],
                "location": "",
            },
        ],
        "base_images": "official",
        "is_release": True,
        "not_a_release_because": "",
    }


@pytest.mark.parametrize(
    ("changed", "because"),
    [
        ({"images": examples.LOCAL}, "built on local base images and scanned with sample advisories"),
        (
            {"revision": examples.REVISION.model_copy(update={"dirty": True})},
            "built from a work tree with uncommitted changes",
        ),
        ({"publication": examples.publication("sha-1f3c9e2")}, "sha-1f3c9e2 is no version"),
        ({"signing": Signing(reason="there is no key")}, "nobody signed it"),
    ],
)
def test_a_record_says_why_it_is_no_release(changed: dict[str, object], because: str) -> None:
    record = create_record(examples.report(**changed))
    assert (record.is_release, record.not_a_release_because) == (False, because)


def test_a_run_that_published_nothing_leaves_the_earlier_record(tmp_path: Path) -> None:
    write(examples.report(), tmp_path, {})
    before = (tmp_path / "release.json").read_bytes()
    write(examples.report(publication=None), tmp_path, {})
    assert (tmp_path / "release.json").read_bytes() == before
    assert json.loads((tmp_path / "report.json").read_text())["publication"] is None


def published(number: int) -> Report:
    """The report of another image each time."""
    digest = f"sha256:{number:064}"
    return examples.report(publication=Publication(repository=examples.REPOSITORY, tag="1.2.3", digest=digest))


def test_a_new_image_keeps_the_record_of_the_one_before_it(tmp_path: Path) -> None:
    digests = []
    for number in (1, 1, 2, 2, 3):
        write(published(number), tmp_path, {})
        before = tmp_path / "previous-release.json"
        digests.append(int(json.loads(before.read_text())["digest"][-1]) if before.exists() else None)
    assert digests == [None, None, 1, 1, 2]


def test_what_was_published_is_told_the_latest_first(tmp_path: Path) -> None:
    for number in (1, 2):
        write(published(number), tmp_path, {})
    assert [int(record.digest[-1]) for record in publication.read_records(tmp_path)] == [2, 1]


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 1, "digest": "sha256:1"}', "\xff"])
def test_what_is_no_whole_record_counts_as_none(tmp_path: Path, content: str) -> None:
    assert publication.read_records(tmp_path) == ()
    write(published(1), tmp_path, {})
    write(published(2), tmp_path, {})
    (tmp_path / "release.json").write_text(content, encoding="latin-1")
    (found,) = publication.read_records(tmp_path)
    assert found.digest == published(1).publication.digest  # type: ignore[union-attr]
    write(published(3), tmp_path, {})
    assert json.loads((tmp_path / "previous-release.json").read_text())["digest"] == found.digest


def test_a_record_with_an_additional_field_is_one_and_none_is_ever_written(tmp_path: Path) -> None:
    record = examples.release()
    later = record.model_dump(mode="json") | {"cost": 1}
    later["revision"] |= {"branch": "main"}
    path = tmp_path / "release.json"
    path.write_text(json.dumps(later))
    assert publication.read_record(path) == record
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Release.model_validate(later)


def test_a_new_run_begins_without_the_leavings_of_the_last_one(tmp_path: Path) -> None:
    scanners = ("canary.json", "trivy.json", *trivy.CONVERTED)
    kept = ("previous-release.json", "release.json", "somebody's own")
    for name in (*FORMS, *scanners, "image.tar", "engine.log", *kept):
        (tmp_path / name).write_text("of the last run")
    files.prepare_directory(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*kept]


def test_a_report_directory_that_cannot_be_one_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "dist").write_text("a file")
    with pytest.raises(UsageError, match=f"{tmp_path}/dist cannot be written: File exists"):
        files.prepare_directory(tmp_path / "dist")


def test_a_write_that_breaks_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(examples.report(), tmp_path, {})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="the report cannot be written: No space left on device"):
        write(examples.report(publication=None), tmp_path, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FORMS, "release.json"])
    assert json.loads((tmp_path / "report.json").read_text())["publication"]["tag"] == "1.2.3"


def test_github_gets_its_summary_and_outputs(tmp_path: Path) -> None:
    step_summary, outputs = tmp_path / "step_summary", tmp_path / "outputs"
    outputs.write_text("before=1\n")
    environment = {"GITHUB_STEP_SUMMARY": str(step_summary), "GITHUB_OUTPUT": str(outputs)}
    write(examples.report(), tmp_path, environment)
    assert step_summary.read_text() == markdown.render(examples.report())
    assert outputs.read_text() == (
        f"before=1\ndigest={examples.MANIFEST_DIGEST}\n"
        f"image=127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}\n"
    )


def test_a_report_is_left_in_the_words_of_each_reader(tmp_path: Path) -> None:
    write(examples.report(), tmp_path, {})
    assert (tmp_path / "report.txt").read_text() == text.render(examples.report())
    assert (tmp_path / "summary.md").read_text() == markdown.render(examples.report())
    assert (tmp_path / "report.html").read_text() == html.render(examples.report())


def test_what_was_not_published_has_no_outputs(tmp_path: Path) -> None:
    environment = {"GITHUB_OUTPUT": str(tmp_path / "outputs")}
    write(examples.report(publication=None), tmp_path, environment)
    assert not (tmp_path / "outputs").exists()


def test_a_report_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write(examples.report(), tmp_path, {})
    values = json.loads((tmp_path / "report.json").read_text())
    del values["exit_code"]  # derived from the rest
    assert Report.model_validate_json(json.dumps(values)).model_dump() == examples.report().model_dump()
