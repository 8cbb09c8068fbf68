"""Writes what a run leaves behind, each file whole or not at all: its report in all its forms, and its release."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from errors import InternalError, UsageError
from render import html, summary, text
from report import Release, Report
from tags import is_version

RECORD = "release.json"
RECORD_BEFORE = "previous-release.json"
TRACEBACK = "traceback.txt"
LOCK = ".lock"
LEAVINGS = (
    *("report.json", "report.html", "report.txt", "summary.md"),
    *("trivy.json", "canary.json", "trivy.txt", "trivy.sarif", "sbom.cdx.json", "sbom.spdx.json"),
    *("image.tar", "engine.log", TRACEBACK),
)


def clear(report_dir: Path) -> None:
    """Make the folder, and remove what the last run left: no run is read by another one's files. Its record stays."""
    make(report_dir)
    with _writing():
        for name in LEAVINGS:
            (report_dir / name).unlink(missing_ok=True)


@contextmanager
def exclusive(report_dir: Path) -> Iterator[None]:
    """Make the folder, and keep other runs out of it. Raises UsageError if another one is in it.

    The lock is the kernel's (flock): that of a run which died is gone with it.
    """
    make(report_dir)
    with ExitStack() as stack:
        with _writing():
            lock = stack.enter_context((report_dir / LOCK).open("a+", encoding="utf-8"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise UsageError(
                    f"another run is using {report_dir}: {lock.read(100).strip() or 'it has just begun'}",
                    usually="make run was typed in two terminals",
                    next_step="wait for its end, or name another folder with --report-dir",
                ) from error
        # Who has it is a courtesy to others, and no reason to stop where the disk is full.
        with suppress(OSError):
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"process {os.getpid()}, since {_now()}\n".encode())
        yield


def make(report_dir: Path) -> None:
    """Make the folder, and leave what is in it."""
    with _writing():
        report_dir.mkdir(parents=True, exist_ok=True)


def write_documents(report_dir: Path, documents: Mapping[str, str]) -> None:
    """Write what a tool said into the report's folder, each file by its name."""
    with _writing():
        for name, words in documents.items():
            write_whole(report_dir / name, words)


def write(report: Report, report_dir: Path, environment: Mapping[str, str]) -> None:
    """Write the record of what was published and the report in all its forms; on GitHub its summary and outputs too.

    A run that published nothing leaves an earlier release.json as it is; one that published another image keeps it as
    previous-release.json. Each file is written whatever becomes of the others. Raises the first of their errors.
    """
    publication = report.publication
    writes: list[Callable[[], None]] = [
        *([partial(_write_record, report, report_dir)] if publication else []),
        lambda: write_whole(report_dir / "report.json", report.model_dump_json(indent=2) + "\n"),
        lambda: write_whole(report_dir / "report.txt", text.render(report)),
        lambda: write_whole(report_dir / "summary.md", summary.render(report)),
        lambda: write_whole(report_dir / "report.html", html.render(report)),
    ]
    if publication and (path := environment.get("GITHUB_OUTPUT")):
        writes.append(partial(_append, Path(path), f"digest={publication.digest}\nimage={publication.reference}\n"))
    if path := environment.get("GITHUB_STEP_SUMMARY"):
        writes.append(lambda: _append(Path(path), summary.render(report)))
    broken: list[Exception] = []
    for each in writes:
        try:
            with _writing():
                each()
        except Exception as error:
            broken.append(error)
    if broken:
        raise broken[0]


def internal_error(error: Exception, report_dir: Path) -> InternalError:
    """The error of Drydock's own that `error` is, after its traceback was written to a file: no terminal shows it."""
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    first_line = next(iter(str(cause).splitlines()), "")
    return InternalError(
        f"Drydock itself broke: {type(cause).__name__}{': ' if first_line else ''}{first_line}",
        usually="a mistake in Drydock, which says nothing about the image",
        next_step=f"report it, with {_keep_traceback(error, report_dir)}",
    )


def _keep_traceback(error: Exception, report_dir: Path) -> str:
    """Where the traceback is now: in the report directory, or in a temporary file if it takes none."""
    lines = "".join(traceback.format_exception(error))
    for directory in (report_dir, Path(tempfile.gettempdir())):
        path = directory / TRACEBACK
        try:
            directory.mkdir(parents=True, exist_ok=True)
            write_whole(path, lines)
        except OSError:
            continue
        return f"{path}, which has the traceback"
    return "the sentence above: its traceback could not be written"


def release(report: Report) -> Release:
    """The record of a published image: what it is, what it was made from, and the checks that it passed."""
    published, image, scan, contract = report.publication, report.image, report.scan, report.contract
    if published is None or image is None or scan is None or contract is None:
        raise ValueError("only a published image has a record")
    not_because = [
        reason
        for applies, reason in (
            (report.images.world == "stand-in", "built on stand-in base images and scanned with sample advisories"),
            (report.revision.dirty, "built from a work tree with uncommitted changes"),
            (not is_version(published.tag), f"{published.tag} is no version"),
            (report.signing is None or not report.signing.signed_by, "nobody signed it"),
        )
        if applies
    ]
    return Release(
        image=published.reference,
        digest=published.digest,
        tags=published.tags,
        published_at=_now(),
        revision=report.revision,
        model_sha256=contract.artefact.sha256,
        size_bytes=image.size_bytes,
        packages=image.packages,
        base_images={"builder": report.images.builder, "runtime": report.images.runtime},
        scanner=report.images.trivy,
        scanner_version=scan.scanner_version,
        database_version=scan.database_version,
        database_updated_at=scan.database_updated_at,
        database_digest=scan.database_digest,
        signed_by=report.signing.signed_by if report.signing else "",
        checks=report.rows,
        world=report.images.world,
        is_release=not not_because,
        not_a_release_because="; ".join(not_because),
    )


def published(report_dir: Path) -> tuple[Release, ...]:
    """The records of what was published from here, the latest first; what is no whole record counts as none."""
    found = (_record(report_dir / name) for name in (RECORD, RECORD_BEFORE))
    return tuple(record for record in found if record)


def repository_of_last_run(report_dir: Path, digest: str) -> str:
    """The repository for which the last run from here judged the image of this digest; empty if it judged another."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        last = json.loads((report_dir / "report.json").read_bytes())
        return str(last["repository"]) if last["image"]["manifest_digest"] == digest else ""
    return ""


def read(path: Path) -> Release:
    """The record in a file. Raises UsageError where it is none."""
    if record := _record(path):
        return record
    raise UsageError(
        f"{path} is no record of a published image",
        usually="nothing was published from here yet, or another version of Drydock wrote it",
        next_step="name a release.json, such as one that a GitHub release has",
    )


def write_whole(path: Path, content: str) -> None:
    """Write a file so that a reader, or a cut run, sees the old one or the new one, never half of one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write_record(report: Report, report_dir: Path) -> None:
    record = release(report)
    if (before := _record(report_dir / RECORD)) and before.digest != record.digest:
        write_whole(report_dir / RECORD_BEFORE, before.model_dump_json(indent=2) + "\n")
    write_whole(report_dir / RECORD, record.model_dump_json(indent=2) + "\n")


def _record(path: Path) -> Release | None:
    try:
        return Release.model_validate_json(path.read_bytes(), extra="ignore")
    except (OSError, ValidationError):
        return None


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{error.filename2 or error.filename or 'the report'} cannot be written: {error.strerror}",
            usually="the disk is full, or the folder belongs to somebody else",
            next_step="free some space, or name another folder with --report-dir, then run again",
        ) from error


def _append(path: Path, content: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(content)
