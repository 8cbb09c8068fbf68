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
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from isal import igzip, igzip_lib

from drydock import report
from drydock.errors import BuildError, UsageError
from drydock.oci import analysis
from drydock.oci.analysis import Entry, Touched, Written
from drydock.oci.media_types import GZIP_MAGIC, ZSTD_MAGIC, blob_name
from drydock.report import MB

BLOCK_BYTES = 1024 * 1024

# An archive is anybody's, and a kB of it can say that it is a GB. What follows bounds what reading one costs.
# An image over its limit is measured all the same, up to this many times the limit.
TIMES_THE_LIMIT = 20
MOST_BYTES = TIMES_THE_LIMIT * 500 * MB
# Paths and extended attributes: Linux has 4 kB for a path and 64 kB for the attributes of a file.
HEADER_BYTES = 1024 * 1024
PATH_CHARACTERS = 4096
# Large images of CUDA and notebooks have some 250,000.
MOST_MEMBERS = 500_000
# The largest RECORD on PyPI, and a full desktop's status, have 2 to 5 MB; a larger one is a file like any other.
RECORD_BYTES = 8_000_000
RECORDS_BYTES = 32_000_000
# A registry takes manifests of 4 MB.
DOCUMENT_BYTES = 16_000_000
# What reading raises: the JSON of an archive may have anything, or nothing, in every place.
BROKEN: tuple[type[Exception], ...] = (
    *(tarfile.TarError, OSError, EOFError),
    igzip_lib.IsalError,  # type: ignore[assignment]  # its stub calls it an instance
    *(LookupError, ValueError, TypeError, AttributeError, RecursionError),
)
# How Dagger writes an instruction into an image's history.
DAGGERS_STEP = re.compile(r"^\[[^\]]+ \d+/\d+\] ")
DAGGERS_RUN = re.compile(r"^mount / from exec (/bin/sh -c )?")


def read(
    archive: Path, *, most_bytes: int = MOST_BYTES, is_cancelled: Callable[[], bool] = lambda: False
) -> report.Image:
    """Read the one image of the OCI archive at `archive`; `is_cancelled` says if nobody waits for it any more.

    Raises BuildError if the file is no OCI archive, if a blob is not what its digest says, or if the layers unpack to
    more than `most_bytes`. Raises CancelledError if it was cancelled.
    """
    with open_archive(archive) as layout:
        return _read(layout, Budget(most_bytes, is_cancelled))[0]


def layer_files(archive: Path, number: int) -> tuple[report.Layer, tuple[Touched, ...]]:
    """Read one layer and every file that it brought, wrote anew or took away; the base's first layer is 1.

    Raises UsageError where there is no such layer, and what `read` raises.
    """
    with open_archive(archive) as layout:
        image, written = _read(layout, Budget())
    if not 1 <= number <= len(written):
        raise UsageError(
            f"{archive} has no layer {number}",
            likely_cause="layers count from 1, the base's first",
            next_step=f"name one from 1 to {len(written)}",
        )
    return image.layers[number - 1], analysis.touched(written[number - 1])


@contextmanager
def open_archive(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open an OCI archive; raises BuildError where it, or what is then read from it, is damaged."""
    try:
        with tarfile.open(archive, "r:") as layout:
            yield layout
    except BROKEN as error:
        raise BuildError(
            f"{archive} is not a whole OCI archive: {error}",
            likely_cause="the disk is full, something else wrote the file, or it was made to cost more than it weighs",
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


def max_unpacked_bytes(image_size_mb: int) -> int:
    """How many bytes the layers of an image with this size limit may unpack to before reading stops."""
    return image_size_mb * MB * TIMES_THE_LIMIT


class Budget:
    """What reading one image may still cost. Raises ValueError when it is spent, CancelledError when nobody waits."""

    def __init__(self, most_bytes: int = MOST_BYTES, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """`most_bytes` is for all layers, unpacked."""
        self._most_bytes = self._left_bytes = most_bytes
        self._left_members = MOST_MEMBERS
        self._left_record_bytes = RECORDS_BYTES
        self._is_cancelled = is_cancelled

    def spend(self, unpacked_bytes: int) -> None:
        """Count what was unpacked."""
        if self._is_cancelled():
            raise CancelledError
        self.require(unpacked_bytes)
        self._left_bytes -= unpacked_bytes

    def require(self, unpacked_bytes: int) -> None:
        """Refuse what says that it has more than is left."""
        if not 0 <= unpacked_bytes <= self._left_bytes:
            raise ValueError(f"it unpacks to more than {self._most_bytes // MB} MB")

    def take_member(self) -> None:
        """Count a file, a folder or a link."""
        self._left_members -= 1
        if self._left_members < 0:
            raise ValueError(f"it has more than {MOST_MEMBERS:,} files")

    def take_record(self, size_bytes: int) -> bool:
        """Whether there is room for a package manager's record of this size."""
        fits = size_bytes <= min(RECORD_BYTES, self._left_record_bytes)
        self._left_record_bytes -= size_bytes if fits else 0
        return fits


class _Tar:
    """The unpacked bytes of a layer, of which no more is read than the budget has."""

    def __init__(self, unpacked: IO[bytes], budget: Budget) -> None:
        self._unpacked, self._budget = unpacked, budget
        # tarfile reads the first header when it is opened.
        self.is_header, self._header_bytes = True, 0

    def next_header(self) -> None:
        """Count from here on what a header costs."""
        self.is_header, self._header_bytes = True, 0

    def read(self, size: int) -> bytes:
        block = self._unpacked.read(size)
        self._budget.spend(len(block))
        self._header_bytes += len(block)
        if self.is_header and self._header_bytes > HEADER_BYTES:
            raise ValueError(f"it has a header of more than {HEADER_BYTES // MB} MB")
        return block


def members(layout: tarfile.TarFile, digest: str, budget: Budget) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Every member of the layer with this digest, each with the tar that has its content until the next one is read."""
    with _file(layout, blob_name(digest)) as blob:
        content = hashlib.sha256()
        while block := blob.read(BLOCK_BYTES):
            content.update(block)
            budget.spend(0)
        _require_digest(digest, content.hexdigest())
        blob.seek(0)
        # `docker save` stores its layers as they are. A name need not be UTF-8, but what is said of it is.
        magic = blob.read(len(ZSTD_MAGIC))
        blob.seek(0)
        if magic == ZSTD_MAGIC:
            raise ValueError(f"layer {digest} is compressed with zstd: build it with gzip, or on another base image")
        with igzip.open(blob) if magic.startswith(GZIP_MAGIC) else blob as unpacked:
            tar = _Tar(unpacked, budget)
            # As a stream: tarfile never goes back in it, which would unpack it from its beginning.
            with tarfile.open(fileobj=cast("IO[bytes]", tar), mode="r|", encoding="utf-8", errors="replace") as layer:
                yield from ((layer, member) for member in _members(layer, tar, budget))


def _members(layer: tarfile.TarFile, tar: _Tar, budget: Budget) -> Iterator[tarfile.TarInfo]:
    while True:
        tar.next_header()
        member = layer.next()
        tar.is_header = False
        if member is None:
            return
        _require_plain(member)
        if len(member.name) > PATH_CHARACTERS:
            raise ValueError(f"{member.name[:40]!r}… has a name of {len(member.name):,} characters")
        budget.take_member()
        budget.require(member.size)
        yield member
        # What is skipped here is no part of the next header; and tarfile would keep every member.
        layer.fileobj.seek(layer.offset)
        layer.members.clear()  # type: ignore[attr-defined]  # its stub does not have them


def _require_plain(member: tarfile.TarInfo) -> None:
    """A sparse file says any size, and has none of it: nothing that builds images writes one."""
    if member.issparse():
        raise ValueError(f"{member.name[:40]!r} is a sparse file")


def path_of(member: tarfile.TarInfo) -> str:
    """A member's path, with no slash at either end."""
    return "/".join(part for part in member.name.split("/") if part not in ("", "."))


def _read(layout: tarfile.TarFile, budget: Budget) -> tuple[report.Image, tuple[Written, ...]]:
    manifest_digest, manifest, config = documents(layout)
    config_digest = manifest["config"]["digest"]
    settings: dict[str, Any] = config.get("config") or {}
    written, file_system = analysis.stack(
        (_entry(tar, member, budget) for tar, member in members(layout, layer["digest"], budget))
        for layer in manifest["layers"]
    )
    installed = analysis.owners([placed.entry for placed in file_system.values()])
    wasted = analysis.waste(written, file_system)
    image = report.Image(
        manifest_digest=manifest_digest,
        config_digest=config_digest,
        user=settings.get("User", ""),
        labels=settings.get("Labels") or {},
        layers=_layers(manifest["layers"], instructions(manifest, config), written),
        packages=analysis.packages(file_system, installed),
        other_folders=analysis.other_folders(file_system, installed),
        files=analysis.files(file_system),
        waste=wasted[: analysis.SHOWN],
        wasted_bytes=sum(item.size_bytes for item in wasted),
    )
    return image, written


def _layers(
    descriptors: list[dict[str, Any]], made_by: list[str], written: tuple[Written, ...]
) -> tuple[report.Layer, ...]:
    # A layer may hold files of a package that a later one completes, replaces or removes.
    everybody = analysis.owners(list(chain.from_iterable(layer.files.values() for layer in written)))
    return tuple(
        report.Layer(
            digest=descriptor["digest"],
            created_by=instruction,
            compressed_bytes=descriptor["size"],
            size_bytes=layer.size_bytes,
            files_added=layer.added,
            files_replaced=layer.replaced,
            files_removed=layer.removed,
            largest=analysis.largest(layer, everybody),
        )
        for descriptor, instruction, layer in zip(descriptors, made_by, written, strict=True)
    )


def _entry(layer: tarfile.TarFile, member: tarfile.TarInfo, budget: Budget) -> Entry:
    path = path_of(member)
    file = layer.extractfile(member) if member.isreg() else None
    if file is None:
        return Entry(path, is_folder=member.isdir())
    is_record = analysis.PACKAGE_RECORD.fullmatch(path) and budget.take_record(member.size)
    content = file.read() if is_record else b""
    sha256 = ""
    if member.size >= analysis.DUPLICATE_BYTES and not content:
        # A layer can hold files that are larger than the memory; tarfile's stub does not say that they can be digested.
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return Entry(path, member.size, sha256=sha256, content=content)


def _plain(created_by: str) -> str:
    """The instruction as the Dockerfile has it, without the marks of BuildKit and Dagger and with its spaces folded."""
    words = " ".join(created_by.removesuffix("# buildkit").split())
    return DAGGERS_RUN.sub("RUN ", DAGGERS_STEP.sub("", words))


def _blob(layout: tarfile.TarFile, digest: str) -> bytes:
    content = _bytes(layout, blob_name(digest))
    _require_digest(digest, hashlib.sha256(content).hexdigest())
    return content


def _require_digest(digest: str, sha256: str) -> None:
    if digest != f"sha256:{sha256}":
        raise ValueError(f"blob {digest} holds sha256:{sha256}")


def _bytes(layout: tarfile.TarFile, name: str) -> bytes:
    with _file(layout, name) as file:
        if layout.getmember(name).size > DOCUMENT_BYTES:
            raise ValueError(f"{name} has more than {DOCUMENT_BYTES // MB} MB")
        return file.read()


def _file(layout: tarfile.TarFile, name: str) -> IO[bytes]:
    member = layout.getmember(name)
    _require_plain(member)
    file = layout.extractfile(member)
    if file is None:
        raise KeyError(name)
    return file
