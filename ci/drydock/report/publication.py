"""The records of published images: release.json, and the one before it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from drydock.errors import UsageError
from drydock.report.files import write_atomic
from drydock.report.run import Release

RECORD = "release.json"
PREVIOUS_RECORD = "previous-release.json"


def read_records(report_dir: Path) -> tuple[Release, ...]:
    """The records of published images, the latest first; an incomplete record counts as none."""
    found = (_find_record(report_dir / name) for name in (RECORD, PREVIOUS_RECORD))
    return tuple(record for record in found if record)


def find_last_repository(report_dir: Path, digest: str) -> str:
    """The repository of the last report, if it judged the image of this digest; else empty."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        last = json.loads((report_dir / "report.json").read_bytes())
        return str(last["repository"]) if last["image"]["manifest_digest"] == digest else ""
    return ""


def read_record(path: Path) -> Release:
    """The record in a file. Raises UsageError if the file has none."""
    if record := _find_record(path):
        return record
    raise UsageError(
        f"{path} is no record of a published image",
        likely_cause="nothing was published from here yet, or another version of Drydock wrote it",
        next_step="name a release.json, such as one that a GitHub release has",
    )


def write_record(record: Release, report_dir: Path) -> None:
    """Write release.json; the record of another image that was there is then previous-release.json."""
    before = _find_record(report_dir / RECORD)
    if before and before.digest != record.digest:
        write_atomic(report_dir / PREVIOUS_RECORD, before.model_dump_json(indent=2) + "\n")
    write_atomic(report_dir / RECORD, record.model_dump_json(indent=2) + "\n")


def _find_record(path: Path) -> Release | None:
    try:
        return Release.model_validate_json(path.read_bytes(), extra="ignore")
    except (OSError, ValidationError):
        return None
