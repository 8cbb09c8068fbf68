"""The log: one JSON object a line on standard output, without any value that a caller sent."""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

REQUEST_LOG = logging.getLogger("drydock.requests")
MODEL_LOG = logging.getLogger("drydock.model")


class JsonFormatter(logging.Formatter):
    """Formats a record's time, level, logger and message, and its extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            line["error"], line["stack"] = exception_summary(record.exc_info[1])
        return msgspec.json.encode(line).decode()


def exception_summary(error: BaseException) -> tuple[str, list[str]]:
    """An error's type and stack. Its message is left out: a library may have put the input into it."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__, [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def configure_logging() -> None:
    """Send the records of all loggers, uvicorn's too, to standard output as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
