"""The log: one JSON object a line on standard output, in which no value that a caller sent can stand."""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

REQUESTS = logging.getLogger("drydock.requests")


class JsonLines(logging.Formatter):
    """Time, level, logger and message of a record, and the fields that it has besides."""

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
            line["error"], line["stack"] = described(record.exc_info[1])
        return msgspec.json.encode(line).decode()


def described(error: BaseException) -> tuple[str, list[str]]:
    """An error's kind and where it happened. Its message is left out: a library may have put the input into it."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__, [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def start() -> None:
    """Send every logger's records, uvicorn's too, to standard output as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
