"""The files of a report directory, each written whole or not at all, and one run in it at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from drydock.errors import UsageError

TRACEBACK = "traceback.txt"
REPORTS = Path("dist")
LOCK = ".lock"
# The image before, for as long as it is asked.
PREVIOUS_ARCHIVE = "previous.tar"
REPORT_FILES = (
    *("report.json", "report.html", "report.txt", "summary.md"),
    *("trivy.json", "canary.json", "trivy.txt", "trivy.sarif", "sbom.cdx.json", "sbom.spdx.json"),
    *("image.tar", PREVIOUS_ARCHIVE, "engine.log", TRACEBACK),
)


def default_report_dir(image_name: str) -> Path:
    """The folder of an image's report, if the user names no other."""
    return REPORTS / image_name


def prepare_directory(report_dir: Path) -> None:
    """Make the folder, and remove the files of the last run. Its record stays."""
    ensure_dir(report_dir)
    with write_errors():
        for name in REPORT_FILES:
            (report_dir / name).unlink(missing_ok=True)


@contextmanager
def lock_directory(report_dir: Path) -> Iterator[None]:
    """Make the folder, and lock it for this run. Raises UsageError if another run has the lock.

    The kernel holds the lock (flock), so it ends with the process.
    """
    ensure_dir(report_dir)
    with ExitStack() as stack:
        with write_errors():
            lock = stack.enter_context((report_dir / LOCK).open("a+", encoding="utf-8"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise UsageError(
                    f"another run is using {report_dir}: {lock.read(100).strip() or 'it has just begun'}",
                    likely_cause="make run was typed in two terminals",
                    next_step="wait for its end, or name another folder with --report-dir",
                ) from error
        # The owner is only information: a full disk is no reason to stop here.
        with suppress(OSError):
            os.ftruncate(lock.fileno(), 0)
            os.write(
                lock.fileno(),
                f"process {os.getpid()}, since {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode(),
            )
        yield


def ensure_dir(report_dir: Path) -> None:
    """Make the folder if it does not exist."""
    with write_errors():
        report_dir.mkdir(parents=True, exist_ok=True)


def write_documents(report_dir: Path, documents: Mapping[str, str]) -> None:
    """Write the output of tools into the folder, each file by its name."""
    with write_errors():
        for name, words in documents.items():
            write_atomic(report_dir / name, words)


def write_atomic(path: Path, content: str) -> None:
    """Write a file atomically: a reader sees the old one or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def write_errors() -> Iterator[None]:
    """Raise UsageError for a file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{error.filename2 or error.filename or 'the report'} cannot be written: {error.strerror}",
            likely_cause="the disk is full, or the folder belongs to somebody else",
            next_step="free some space, or name another folder with --report-dir, then run again",
        ) from error


def append_text(path: Path, content: str) -> None:
    """Add to the end of a file, such as one that GitHub reads."""
    with path.open("a", encoding="utf-8") as file:
        file.write(content)
