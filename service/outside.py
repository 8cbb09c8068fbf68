"""Serves a model that lies outside of the image, and listens from the beginning.

MODEL_SHA256 is the hash of the file that MODEL_URI names, and pins everything: where that file is a contract, it has in
its turn the hash of the model beside it; where it is the model, the image's own contract has to be of that very file.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from urllib.parse import quote, urlsplit

from service import logs
from service.app import App
from service.arriving import Arriving, Progress
from service.fetch import LOG, Cache, wrong
from service.logs import described
from service.model import CONTRACT, Model, ModelRefused, decoded, loaded, require_recorded
from service.server import Server
from service.settings import Settings, without_credentials


def serve(settings: Settings, image: Path, application: Callable[[Model], App]) -> None:
    """Listen at once, and serve what `application` makes of the model as soon as that is here, until told to stop.

    Raises ModelRefused.
    """
    logs.start()
    arriving = Arriving()
    server = Server(arriving, settings)
    refused: list[ModelRefused] = []

    def bring() -> None:
        try:
            arriving.arrive(application(load(settings, image, arriving.progress)))
        except ModelRefused as error:
            refused.append(error)
        except Exception as error:
            # Its message is a library's, and may have anything in it.
            kind, stack = described(error)
            LOG.error("the model could not be loaded", extra={"fields": {"error": kind, "stack": stack}})
            refused.append(ModelRefused(f"the model could not be loaded ({kind}); the log says where it happened."))
        server.should_exit = bool(refused)

    # Ends with the process: neither a fetch nor a library's own threads keep it from stopping.
    thread = Thread(target=bring, daemon=True)

    def end(*_: object) -> None:
        if thread.is_alive():
            os._exit(0)
        sys.exit(0)

    # As in __main__, where it is said why.
    signal.signal(signal.SIGTERM, end)
    thread.start()
    server.run()
    if refused:
        raise refused[0]


def load(settings: Settings, image: Path, progress: Progress) -> Model:
    """The model that the settings name, fetched where it is not here yet; `image` has the image's own contract.

    Raises ModelRefused.
    """
    uri, sha256 = settings.model_uri, settings.model_sha256
    cache = Cache(settings, progress)
    if contract_uri := _contract_uri(uri):
        uri = contract_uri
        path = cache.path_of(uri, sha256)
        content = _read(path)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise wrong(uri, path, sha256)
        contract = decoded(content)
        uri = _beside(uri, contract.artefact.file)
    else:
        contract = decoded(_read(image / CONTRACT, "let MODEL_URI name a model.json"))
        if contract.artefact.sha256 != sha256:
            raise ModelRefused(
                f"{without_credentials(uri)} is a model without a contract, and the image's own is of another one: "
                f"sha256 {contract.artefact.sha256}, and MODEL_SHA256 is {sha256}; let MODEL_URI name the model.json "
                "that lies beside it, or their folder with a / at the end, and MODEL_SHA256 be that file's."
            )
    path = cache.path_of(uri, contract.artefact.sha256, contract.artefact.size_bytes)
    progress.loading = True
    content = _read(path)
    require_recorded(contract, content)
    return loaded(contract, content)


def _contract_uri(uri: str) -> str:
    """The contract that a URI names, itself or by its folder; empty where it names a model."""
    parts = urlsplit(uri)
    if parts.path.endswith(".json"):
        return uri
    folder = parts.path.endswith("/") or parts.scheme == "mlflow"
    return parts._replace(path=f"{parts.path.rstrip('/')}/{CONTRACT}").geturl() if folder else ""


def _beside(uri: str, name: str) -> str:
    """The URI of another file in the same folder; a query stays, since it may let the caller in there as well."""
    parts = urlsplit(uri)
    # Only these write a name otherwise than it is.
    name = quote(name) if parts.scheme in ("http", "https", "file") else name
    return parts._replace(path=f"{parts.path.rpartition('/')[0]}/{name}").geturl()


def _read(path: Path, do: str = "look at MODEL_URI, and at the rights of the file") -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelRefused(f"{path} cannot be read ({error.strerror}); {do}.") from error
