"""Serves a remote model. The server listens at once and downloads the model meanwhile."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from service.contract import ModelLoadError
from service.http.app import App
from service.http.server import Server
from service.http.startup import StartupApp
from service.logging_setup import MODEL_LOG, configure_logging, exception_summary
from service.model import Model
from service.settings import Settings
from service.storage.remote_model import load_remote_model


def serve(settings: Settings, image_dir: Path, create_app: Callable[[Model], App]) -> None:
    """Listen at once; serve `create_app(model)` as soon as the model is loaded, until a signal stops it.

    `image_dir` has the image's own contract. Raises ModelLoadError.
    """
    configure_logging()
    startup = StartupApp()
    server = Server(startup, settings)
    errors: list[ModelLoadError] = []

    def load_in_background() -> None:
        try:
            startup.set_app(create_app(load_remote_model(settings, image_dir, startup.progress)))
        except ModelLoadError as error:
            errors.append(error)
        except Exception as error:
            # The message of a library's error may contain anything, so it is not repeated.
            kind, stack = exception_summary(error)
            MODEL_LOG.error("the model could not be loaded", extra={"fields": {"error": kind, "stack": stack}})
            errors.append(ModelLoadError(f"the model could not be loaded ({kind}); its stack is in the log."))
        server.should_exit = bool(errors)

    # A daemon, so that neither a download nor a library's own threads keep the process from ending.
    thread = Thread(target=load_in_background, daemon=True)

    def exit_on_signal(*_: object) -> None:
        if thread.is_alive():
            os._exit(0)
        sys.exit(0)

    # As in __main__.
    signal.signal(signal.SIGTERM, exit_on_signal)
    thread.start()
    server.run()
    if errors:
        raise errors[0]
