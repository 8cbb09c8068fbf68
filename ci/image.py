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
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isal import igzip, igzip_lib

import report
from errors import BuildError

LARGEST_SHOWN = 4
SITE_PACKAGES = re.compile(r".*/(?:site|dist)-packages/(?P<top>[^/]+)")
# numpy.libs and numpy-2.4.dist-info belong to numpy.
BESIDES_THE_PACKAGE = re.compile(r"(\.libs|-[^-]+\.dist-info)$")

# How Dagger writes an instruction into an image's history.
DAGGERS_STEP = re.compile(r"^\[[^\]]+ \d+/\d+\] ")
DAGGERS_RUN = re.compile(r"^mount / from exec (/bin/sh -c )?")


def read(archive: Path) -> report.Image:
    """Read the one image of the OCI archive at `archive`.

    Raises BuildError where the file is no OCI archive or a blob is not what its digest says.
    """
    try:
        with tarfile.open(archive) as layout:
            return _read(layout)
    # isal's stub calls its error an instance.
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError, igzip_lib.IsalError) as error:  # type: ignore[misc]
        raise BuildError(
            f"{archive} is not a whole OCI archive: {error}",
            usually="the disk is full, or something else wrote to the report directory during the run",
            next_step="free some space, then run again",
        ) from error


def _read(layout: tarfile.TarFile) -> report.Image:
    manifest_digest = json.loads(_bytes(layout, "index.json"))["manifests"][0]["digest"]
    manifest = json.loads(_blob(layout, manifest_digest))
    config_digest = manifest["config"]["digest"]
    config = json.loads(_blob(layout, config_digest))
    instructions = [entry for entry in config.get("history", []) if not entry.get("empty_layer")]
    layers = manifest["layers"]
    if len(instructions) != len(layers):
        instructions = [{}] * len(layers)
    settings: dict[str, Any] = config.get("config", {})
    return report.Image(
        manifest_digest=manifest_digest,
        config_digest=config_digest,
        user=settings.get("User", ""),
        labels=settings.get("Labels") or {},
        layers=tuple(
            _layer(layout, layer, instruction.get("created_by", ""))
            for layer, instruction in zip(layers, instructions, strict=True)
        ),
    )


def _layer(layout: tarfile.TarFile, descriptor: dict[str, Any], created_by: str) -> report.Layer:
    sizes = Counter[str]()
    for path, size_bytes in _files(layout, descriptor["digest"]):
        sizes[contributor(path)] += size_bytes
    return report.Layer(
        digest=descriptor["digest"],
        created_by=_plain(created_by),
        compressed_bytes=descriptor["size"],
        size_bytes=sizes.total(),
        largest=tuple(
            report.Contributor(name=name, size_bytes=size_bytes)
            for name, size_bytes in sizes.most_common(LARGEST_SHOWN)
        ),
    )


def _files(layout: tarfile.TarFile, digest: str) -> Iterator[tuple[str, int]]:
    blob = layout.extractfile(_blob_name(digest))
    if blob is None:
        raise KeyError(digest)
    with blob, igzip.open(blob) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as layer:
        for member in layer:
            yield member.name, member.size if member.isreg() else 0


def contributor(path: str) -> str:
    """Whose bytes a file's are: its Python package, else the folder it lies in, three levels deep at most."""
    package = SITE_PACKAGES.match(f"/{path}")
    if package:
        return BESIDES_THE_PACKAGE.sub("", package["top"])
    return "/" + "/".join(path.removeprefix("./").split("/")[:-1][:3])


def _plain(created_by: str) -> str:
    """The instruction as the Dockerfile has it, without the marks of BuildKit and Dagger and with its spaces folded."""
    words = " ".join(created_by.removesuffix("# buildkit").split())
    return DAGGERS_RUN.sub("RUN ", DAGGERS_STEP.sub("", words))


def _blob(layout: tarfile.TarFile, digest: str) -> bytes:
    content = _bytes(layout, _blob_name(digest))
    actual = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if actual != digest:
        raise ValueError(f"blob {digest} holds {actual}")
    return content


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _bytes(layout: tarfile.TarFile, name: str) -> bytes:
    member = layout.extractfile(name)
    if member is None:
        raise KeyError(name)
    return member.read()
