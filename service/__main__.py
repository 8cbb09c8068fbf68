"""Serves the model on port 8000: `python -m service`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from service import logs
from service.app import App
from service.model import Model, ModelRefused, load
from service.server import Server
from service.settings import Settings, SettingsRefused, from_environment

ARTIFACTS = Path("artifacts")
REVISION_VARIABLE = "DRYDOCK_REVISION"


def main() -> None:
    """Load the model, then serve it until told to stop; a refused model ends in one sentence and exit code 1."""
    started = time.monotonic()
    try:
        settings = from_environment(os.environ)
        if settings.model_uri:
            # Here, since an image that has its model inside has no need of it.
            from service.outside import serve

            serve(settings, ARTIFACTS, lambda model: application(model, settings, started))
            return
        app = application(load(ARTIFACTS), settings, started)
    except (ModelRefused, SettingsRefused) as refused:
        sys.exit(str(refused))
    logs.start()
    # uvicorn stops in order and then sends itself the signal once more: without a handler that one would kill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server(app, settings).run()


def application(model: Model, settings: Settings, started: float) -> App:
    """The application that serves `model`; `started` is when loading it began, by the monotonic clock."""
    app = App(model, settings, os.environ.get(REVISION_VARIABLE) or "unknown")
    app.metrics.load_seconds.set(time.monotonic() - started)
    return app


if __name__ == "__main__":
    main()
