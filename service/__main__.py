"""Serves the model on port 8000: `python -m service`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from service.contract import ModelLoadError
from service.http.app import App
from service.http.server import Server
from service.logging_setup import configure_logging
from service.model import Model, load_model
from service.settings import Settings, SettingsError, read_settings

ARTIFACTS = Path("artifacts")
REVISION_VARIABLE = "DRYDOCK_REVISION"


def main() -> None:
    """Load the model and serve it until a signal stops it. A model that is refused ends in one sentence and exit 1."""
    started = time.monotonic()
    try:
        settings = read_settings(os.environ)
        if settings.model_uri:
            # Imported here, because an image with an embedded model does not need it.
            from service.serve_remote import serve

            serve(settings, ARTIFACTS, lambda model: create_app(model, settings, started))
            return
        app = create_app(load_model(ARTIFACTS), settings, started)
    except (ModelLoadError, SettingsError) as error:
        sys.exit(str(error))
    configure_logging()
    # uvicorn shuts down and then sends itself the signal again: without a handler, that one would kill it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server(app, settings).run()


def create_app(model: Model, settings: Settings, started: float) -> App:
    """The application that serves `model`; `started` is the monotonic time at which loading it began."""
    app = App(model, settings, os.environ.get(REVISION_VARIABLE) or "unknown")
    app.metrics.load_seconds.set(time.monotonic() - started)
    return app


if __name__ == "__main__":
    main()
