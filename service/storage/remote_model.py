"""Loads a remote model: the one that MODEL_URI names.

MODEL_SHA256 is the hash of the file that MODEL_URI names. If that is a contract, it has the hash of the model beside
it. If it is a model, the image's own contract must name that very file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote, urlsplit

from service.contract import FILE_NAME, ModelLoadError, parse_contract, verify_sha256
from service.model import Model, build_model
from service.settings import Settings, redact_uri
from service.storage.download import ModelCache, hash_mismatch
from service.storage.progress import LoadProgress


def load_remote_model(settings: Settings, image_dir: Path, progress: LoadProgress) -> Model:
    """The model that the settings name, downloaded if the cache does not have it. Raises ModelLoadError.

    `image_dir` has the image's own contract.
    """
    uri, sha256 = settings.model_uri, settings.model_sha256
    cache = ModelCache(settings, progress)
    if contract_uri := _contract_uri(uri):
        path = cache.ensure(contract_uri, sha256)
        content = _read(path)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise hash_mismatch(contract_uri, path, sha256)
        contract = parse_contract(content)
        uri = _sibling_uri(contract_uri, contract.artifact.file)
    else:
        contract = parse_contract(_read(image_dir / FILE_NAME, "let MODEL_URI name a model.json"))
        if contract.artifact.sha256 != sha256:
            raise ModelLoadError(
                f"{redact_uri(uri)} is a model without a contract, and the image's contract is of another one: "
                f"sha256 {contract.artifact.sha256}, but MODEL_SHA256 is {sha256}. Let MODEL_URI name the model.json "
                "beside the model, or their folder with a / at the end, and set MODEL_SHA256 to that file's hash."
            )
    path = cache.ensure(uri, contract.artifact.sha256, contract.artifact.size_bytes)
    progress.loading = True
    content = _read(path)
    verify_sha256(contract, content)
    return build_model(contract, content)


def _contract_uri(uri: str) -> str:
    """The URI of the contract that `uri` names, itself or by its folder; empty if it names a model."""
    parts = urlsplit(uri)
    if parts.path.endswith(".json"):
        return uri
    is_folder = parts.path.endswith("/") or parts.scheme == "mlflow"
    return parts._replace(path=f"{parts.path.rstrip('/')}/{FILE_NAME}").geturl() if is_folder else ""


def _sibling_uri(uri: str, name: str) -> str:
    """The URI of another file in the same folder. The query stays, since it may be what grants access."""
    parts = urlsplit(uri)
    # Only these schemes quote names.
    name = quote(name) if parts.scheme in ("http", "https", "file") else name
    return parts._replace(path=f"{parts.path.rpartition('/')[0]}/{name}").geturl()


def _read(path: Path, next_step: str = "check MODEL_URI and the permissions of the file") -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read ({error.strerror}); {next_step}.") from error
