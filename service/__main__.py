"""Serves the model on port 8000: `python -m service`."""

from __future__ import annotations

import signal
import sys

import uvicorn

from service import app
from service.model import ModelRefused, load

PORT = 8000
# Less than the 10 s that Docker waits between SIGTERM and SIGKILL.
GRACE_SECONDS = 8


def main() -> None:
    """Load the model, then serve it until told to stop; a refused model ends in one sentence and exit code 1."""
    try:
        model = load(app.ARTIFACTS)
    except ModelRefused as refused:
        sys.exit(str(refused))
    # uvicorn stops in order and then sends itself the signal once more: without a handler that one would kill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        app.create(model),
        host="0.0.0.0",  # noqa: S104 - inside a container every other address would be unreachable
        port=PORT,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )


if __name__ == "__main__":
    main()
