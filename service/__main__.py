"""Serves the model on port 8000: `python -m service`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from service import logs
from service.app import App
from service.model import ModelRefused, load
from service.server import Server
from service.settings import SettingsRefused, from_environment

ARTIFACTS = Path("artifacts")
REVISION_VARIABLE = "DRYDOCK_REVISION"


def main() -> None:
    """Load the model, then serve it until told to stop; a refused model ends in one sentence and exit code 1."""
    try:
        settings = from_environment(os.environ)
        model = load(ARTIFACTS)
    except (ModelRefused, SettingsRefused) as refused:
        sys.exit(str(refused))
    logs.start()
    # uvicorn stops in order and then sends itself the signal once more: without a handler that one would kill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server(App(model, settings, os.environ.get(REVISION_VARIABLE) or "unknown"), settings).run()


if __name__ == "__main__":
    main()
