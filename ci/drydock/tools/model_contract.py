"""Reads a model's contract, and holds the model's file against it without loading the model: a pickle runs code."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from drydock.errors import BuildError
from drydock.report import Contract

CONTRACT_LIMIT_BYTES = 50_000_000
BLOCK_BYTES = 1_000_000


def read_contract(directory: Path, runtime: str | None = None) -> Contract:
    """Read model.json in `directory` and hold the model file beside it against it, without loading the model.

    Raises BuildError if either is missing, is no plain file, or is not what was recorded; or if both are for another
    runtime than the one that is named.
    """
    path = directory / "model.json"
    try:
        with _open_plain_file(path) as file:
            # What is cut off here is no JSON.
            contract = Contract.model_validate_json(file.read(CONTRACT_LIMIT_BYTES))
        artifact = contract.artifact
        with _open_plain_file(directory / artifact.file) as file:
            if (size_bytes := os.fstat(file.fileno()).st_size) != artifact.size_bytes:
                raise _another_model_error(artifact.file, f"{size_bytes} bytes, expected {artifact.size_bytes}")
            sha256 = _compute_sha256(file, size_bytes)
    except OSError as error:
        raise BuildError(
            f"{error.filename} cannot be read: {error.strerror}",
            likely_cause=(
                f'the policy says model.train = "", and git brought no model into {directory}/ with this clone'
            ),
            next_step=f"copy model.json and the model that it names into {directory}/ from where they were made; or"
            " make both: drydock contract MODEL DATA; or name a train command under [model]",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        # What does not fit together is in no one place.
        place = ".".join(map(str, first["loc"]))
        why = first["msg"].lower().removeprefix("value error, ")
        raise BuildError(
            f"{path} is not a model's contract: {f'{place}: {why}' if place else why}",
            next_step="docs/your-model.md#the-contract has its form",
        ) from error
    if sha256 != artifact.sha256:
        raise _another_model_error(artifact.file, f"sha256 {sha256}, expected {artifact.sha256}")
    if runtime not in (None, contract.runtime):
        raise BuildError(
            f"{path} is of a model for the runtime {contract.runtime}, and build.runtime is {runtime}",
            likely_cause="the policy was changed after the model was trained or converted",
            next_step=f'say runtime = "{contract.runtime}" under [build], or train the model again',
        )
    return contract


def read_reference_rows(directory: Path, contract: Contract) -> tuple[list[list[object]], str]:
    """The held-out rows beside a contract, and a sentence if there are none that it has recorded.

    They are one JSON list a line. They belong to somebody, so no sentence repeats a value.
    """
    reference = contract.reference
    if not reference:
        return [], "the contract has no reference rows"
    path = directory / reference.file
    try:
        with _open_plain_file(path) as file:
            content = file.read(CONTRACT_LIMIT_BYTES)
    except OSError as error:
        return [], f"the reference rows cannot be read: {path}: {error.strerror}"
    except BuildError as error:
        return [], f"the reference rows cannot be read: {error.message}"
    if hashlib.sha256(content).hexdigest() != reference.sha256:
        return [], f"{path} is not the recorded file: it has another sha256 than the contract says"
    try:
        rows = [json.loads(line) for line in content.decode().splitlines()]
    except (ValueError, RecursionError):
        return [], f"{path} does not have one JSON list a line"
    if not all(isinstance(row, list) and len(row) == len(contract.features) for row in rows):
        return [], f"{path} has rows that are not those of the model: it has {len(contract.features)} features"
    return rows, ""


@contextmanager
def _open_plain_file(path: Path) -> Iterator[BinaryIO]:
    """Open a plain file. Training code could make a link or a device that leads to another file."""
    # Non-blocking, since opening a named pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        # ELOOP is Linux's and macOS's word for a link here.
        if error.errno != errno.ELOOP:
            raise
        raise _no_plain_file_error(path, "a link") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_plain_file_error(path, "no plain file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _no_plain_file_error(path: Path, what: str) -> BuildError:
    return BuildError(
        f"{path} is {what}",
        likely_cause="it was linked to its place, or what trained the model did so",
        next_step="put a copy of the file itself there",
    )


def _another_model_error(name: str, why: str) -> BuildError:
    return BuildError(
        f"{name} is not the recorded model: {why}",
        likely_cause="the file was cut short in a copy, or the model was trained again without its contract",
        next_step="copy both files again from where the model was trained",
    )


def _compute_sha256(file: BinaryIO, size_bytes: int) -> str:
    """Of the first bytes: a file that grows meanwhile is another one, and has no end."""
    digest = hashlib.sha256()
    left_bytes = size_bytes
    while block := file.read(min(left_bytes, BLOCK_BYTES)):
        digest.update(block)
        left_bytes -= len(block)
    return digest.hexdigest()
