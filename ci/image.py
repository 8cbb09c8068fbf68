"""Reads an image from an OCI archive: its digests, its configuration, its layers and what fills them. Needs no engine.

The format is the OCI image layout in one tar file: `index.json` names the manifest, the manifest names the
configuration and the layers, each a blob under `blobs/<algorithm>/<hex>`.
https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, starmap
from pathlib import Path
from typing import Any

from isal import igzip, igzip_lib

import contents
import report
from contents import Entry, Touched, Written
from errors import BuildError, UsageError

GZIP = b"\x1f\x8b"
# What reading raises: the JSON of an archive may have anything, or nothing, in every place.
BROKEN: tuple[type[Exception], ...] = (
    *(tarfile.TarError, OSError, EOFError),
    igzip_lib.IsalError,  # type: ignore[assignment]  # its stub calls it an instance
    *(LookupError, ValueError, TypeError, AttributeError, RecursionError),
)
# How Dagger writes an instruction into an image's history.
DAGGERS_STEP = re.compile(r"^\[[^\]]+ \d+/\d+\] ")
DAGGERS_RUN = re.compile(r"^mount / from exec (/bin/sh -c )?")


def read(archive: Path) -> report.Image:
    """Read the one image of the OCI archive at `archive`.

    Raises BuildError where the file is no OCI archive or a blob is not what its digest says.
    """
    with opened(archive) as layout:
        return _read(layout)[0]


def layer_files(archive: Path, number: int) -> tuple[report.Layer, tuple[Touched, ...]]:
    """Read one layer and every file that it brought, wrote anew or took away; the base's first layer is 1.

    Raises UsageError where there is no such layer, and what `read` raises.
    """
    with opened(archive) as layout:
        image, written = _read(layout)
    if not 1 <= number <= len(written):
        raise UsageError(
            f"{archive} has no layer {number}",
            usually="layers count from 1, the base's first",
            next_step=f"name one from 1 to {len(written)}",
        )
    return image.layers[number - 1], contents.touched(written[number - 1])


@contextmanager
def opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open an OCI archive; raises BuildError where it, or what is then read from it, is damaged."""
    try:
        with tarfile.open(archive, "r:") as layout:
            yield layout
    except BROKEN as error:
        raise BuildError(
            f"{archive} is not a whole OCI archive: {error}",
            usually="the disk is full, something else wrote the file, or a layer is compressed with other than gzip",
            next_step="free some space, then run again",
        ) from error


def documents(layout: tarfile.TarFile) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The digest of the one image in an open archive, its manifest and its configuration."""
    manifest_digest = json.loads(_bytes(layout, "index.json"))["manifests"][0]["digest"]
    manifest = json.loads(_blob(layout, manifest_digest))
    return manifest_digest, manifest, json.loads(_blob(layout, manifest["config"]["digest"]))


def instructions(manifest: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """The instruction that made each layer, as the Dockerfile has it; empty where the history does not say."""
    history = [entry for entry in config.get("history") or [] if not entry.get("empty_layer")]
    if len(history) != len(manifest["layers"]):
        return [""] * len(manifest["layers"])
    return [_plain(entry.get("created_by", "")) for entry in history]


def members(layout: tarfile.TarFile, digest: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Every member of the layer with this digest, each with the open tar that has its content."""
    blob = layout.extractfile(_blob_name(digest))
    if blob is None:
        raise KeyError(digest)
    _require_digest(digest, hashlib.file_digest(blob, "sha256").hexdigest())  # type: ignore[arg-type]
    blob.seek(0)
    # `docker save` stores its layers as they are. A name need not be UTF-8, but what is said of it is.
    packed = blob.read(len(GZIP)) == GZIP
    blob.seek(0)
    with (
        blob,
        igzip.open(blob) if packed else blob as unpacked,
        tarfile.open(fileobj=unpacked, mode="r:", encoding="utf-8", errors="replace") as layer,
    ):
        for member in layer:
            yield layer, member


def path_of(member: tarfile.TarInfo) -> str:
    """A member's path, with no slash at either end."""
    return "/".join(part for part in member.name.split("/") if part not in ("", "."))


def _read(layout: tarfile.TarFile) -> tuple[report.Image, tuple[Written, ...]]:
    manifest_digest, manifest, config = documents(layout)
    config_digest = manifest["config"]["digest"]
    settings: dict[str, Any] = config.get("config") or {}
    written, file_system = contents.stack(
        starmap(_entry, members(layout, layer["digest"])) for layer in manifest["layers"]
    )
    installed = contents.owners([placed.entry for placed in file_system.values()])
    wasted = contents.waste(written, file_system)
    image = report.Image(
        manifest_digest=manifest_digest,
        config_digest=config_digest,
        user=settings.get("User", ""),
        labels=settings.get("Labels") or {},
        layers=_layers(manifest["layers"], instructions(manifest, config), written),
        packages=contents.packages(file_system, installed),
        other_folders=contents.other_folders(file_system, installed),
        files=contents.files(file_system),
        waste=wasted[: contents.SHOWN],
        wasted_bytes=sum(item.size_bytes for item in wasted),
    )
    return image, written


def _layers(
    descriptors: list[dict[str, Any]], made_by: list[str], written: tuple[Written, ...]
) -> tuple[report.Layer, ...]:
    # A layer may hold files of a package that a later one completes, replaces or removes.
    everybody = contents.owners(list(chain.from_iterable(layer.files.values() for layer in written)))
    return tuple(
        report.Layer(
            digest=descriptor["digest"],
            created_by=instruction,
            compressed_bytes=descriptor["size"],
            size_bytes=layer.size_bytes,
            files_added=layer.added,
            files_replaced=layer.replaced,
            files_removed=layer.removed,
            largest=contents.largest(layer, everybody),
        )
        for descriptor, instruction, layer in zip(descriptors, made_by, written, strict=True)
    )


def _entry(layer: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    path = path_of(member)
    file = layer.extractfile(member) if member.isreg() else None
    if file is None:
        return Entry(path, is_folder=member.isdir())
    content = file.read() if contents.PACKAGE_RECORD.fullmatch(path) else b""
    sha256 = ""
    if member.size >= contents.DUPLICATE_BYTES and not content:
        # A layer can hold files that are larger than the memory; tarfile's stub does not say that they can be digested.
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return Entry(path, member.size, sha256=sha256, content=content)


def _plain(created_by: str) -> str:
    """The instruction as the Dockerfile has it, without the marks of BuildKit and Dagger and with its spaces folded."""
    words = " ".join(created_by.removesuffix("# buildkit").split())
    return DAGGERS_RUN.sub("RUN ", DAGGERS_STEP.sub("", words))


def _blob(layout: tarfile.TarFile, digest: str) -> bytes:
    content = _bytes(layout, _blob_name(digest))
    _require_digest(digest, hashlib.sha256(content).hexdigest())
    return content


def _require_digest(digest: str, sha256: str) -> None:
    if digest != f"sha256:{sha256}":
        raise ValueError(f"blob {digest} holds sha256:{sha256}")


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _bytes(layout: tarfile.TarFile, name: str) -> bytes:
    member = layout.extractfile(name)
    if member is None:
        raise KeyError(name)
    return member.read()
