"""A fault of Drydock's own: its traceback goes into a file, and no terminal shows it."""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

from drydock.errors import InternalError
from drydock.report.files import TRACEBACK, write_atomic


def internal_error(error: Exception, report_dir: Path) -> InternalError:
    """The error of Drydock's own that `error` is, after its traceback was written to a file: no terminal shows it."""
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    first_line = next(iter(str(cause).splitlines()), "")
    return InternalError(
        f"Drydock itself broke: {type(cause).__name__}{': ' if first_line else ''}{first_line}",
        likely_cause="a mistake in Drydock, which says nothing about the image",
        next_step=f"report it, with {_keep_traceback(error, report_dir)}",
    )


def _keep_traceback(error: Exception, report_dir: Path) -> str:
    """Where the traceback is now: in the report directory, or in a temporary file if it takes none."""
    lines = "".join(traceback.format_exception(error))
    for directory in (report_dir, Path(tempfile.gettempdir())):
        path = directory / TRACEBACK
        try:
            directory.mkdir(parents=True, exist_ok=True)
            write_atomic(path, lines)
        except OSError:
            continue
        return f"{path}, which has the traceback"
    return "the sentence above: its traceback could not be written"
