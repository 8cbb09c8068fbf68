"""Reads a model's contract, and holds the model's file against it without loading the model: a pickle runs code."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from errors import BuildError
from report import Contract


def read(directory: Path, runtime: str | None = None) -> Contract:
    """Read model.json in `directory` and hold the model file beside it against it, without loading the model.

    Raises BuildError where either is missing, the file is not the one that was recorded, or both are for another
    runtime than the one that is named.
    """
    path = directory / "model.json"
    try:
        contract = Contract.model_validate_json(path.read_bytes())
        model = (directory / contract.artefact.file).read_bytes()
    except OSError as error:
        raise BuildError(
            f"{error.filename} cannot be read: {error.strerror}",
            usually=f'the policy says model.train = "", and no model was put into {directory}/',
            next_step="python ci/main.py contract MODEL DATA writes both, or name a train command under [model]",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        # What does not fit together is in no one place.
        place = ".".join(map(str, first["loc"]))
        why = first["msg"].lower().removeprefix("value error, ")
        raise BuildError(
            f"{path} is not a model's contract: {f'{place}: {why}' if place else why}",
            next_step="README.md, Your own model, has its form",
        ) from error
    sha256 = hashlib.sha256(model).hexdigest()
    if sha256 != contract.artefact.sha256:
        raise BuildError(
            f"{contract.artefact.file} is not the recorded model: sha256 {sha256}, expected {contract.artefact.sha256}",
            usually="the file was cut short in a copy, or the model was trained again without its contract",
            next_step="copy both files again from where the model was trained",
        )
    if runtime not in (None, contract.runtime):
        raise BuildError(
            f"{path} is of a model for the runtime {contract.runtime}, and build.runtime is {runtime}",
            usually="the policy was changed after the model was trained or converted",
            next_step=f'say runtime = "{contract.runtime}" under [build], or train the model again',
        )
    return contract
