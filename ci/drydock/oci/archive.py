"""Reads an image from an OCI archive: its digests, its configuration, its layers and what fills them."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from drydock import report
from drydock.errors import BuildError, UsageError
from drydock.oci import analysis
from drydock.oci.analysis import Entry, FileChange, LayerDiff
from drydock.oci.layers import MAX_UNPACKED_BYTES, READ_ERRORS, Budget, iter_layer
from drydock.oci.layout import DAGGERS_STEP, Layout, clean_path, hash_file, open_layout

# How Dagger writes a RUN into an image's history.
DAGGERS_RUN = re.compile(r"^mount / from exec (/bin/sh -c )?")


def read_image(
    archive: Path, *, max_bytes: int = MAX_UNPACKED_BYTES, is_cancelled: Callable[[], bool] = lambda: False
) -> report.Image:
    """Read the one image of the OCI archive at `archive`; `is_cancelled` answers True if nobody waits for the result.

    Raises BuildError if the file is not an OCI archive, if a blob does not match its digest, or if the layers unpack
    to more than `max_bytes`. Raises CancelledError if it was cancelled.
    """
    with open_archive(archive) as layout:
        return _read_image(layout, Budget(max_bytes, is_cancelled))[0]


def read_layer(archive: Path, number: int) -> tuple[report.Layer, tuple[FileChange, ...]]:
    """Read one layer and every file that it added, replaced or removed; the base's first layer is 1.

    Raises UsageError if there is no such layer, and what `read_image` raises.
    """
    with open_archive(archive) as layout:
        image, written = _read_image(layout, Budget())
    if not 1 <= number <= len(written):
        raise UsageError(
            f"{archive} has no layer {number}",
            likely_cause="layers count from 1, the base's first",
            next_step=f"name one from 1 to {len(written)}",
        )
    return image.layers[number - 1], analysis.list_changes(written[number - 1])


@contextmanager
def open_archive(archive: Path) -> Iterator[Layout]:
    """Open an OCI archive; raises BuildError if it, or what is then read from it, is damaged."""
    try:
        with open_layout(archive) as layout:
            yield layout
    except READ_ERRORS as error:
        raise BuildError(
            f"{archive} is not a whole OCI archive: {error}",
            likely_cause="the disk is full, something else wrote the file, or it was made to cost more than it weighs",
            next_step="free some space, then run again",
        ) from error


def list_instructions(manifest: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """The instruction that made each layer, as the Dockerfile has it; empty if the history does not say."""
    history = [entry for entry in config.get("history") or [] if not entry.get("empty_layer")]
    if len(history) != len(manifest["layers"]):
        return [""] * len(manifest["layers"])
    return [_clean_instruction(entry.get("created_by", "")) for entry in history]


def _read_image(layout: Layout, budget: Budget) -> tuple[report.Image, tuple[LayerDiff, ...]]:
    descriptor, manifest, config = layout.read_image()
    settings: dict[str, Any] = config.get("config") or {}
    written, file_system = analysis.apply_layers(
        (_read_entry(tar, member, budget) for tar, member in iter_layer(layout, layer["digest"], budget))
        for layer in manifest["layers"]
    )
    package_index = analysis.index_packages([placed.entry for placed in file_system.values()])
    wasted = analysis.find_waste(written, file_system)
    image = report.Image(
        manifest_digest=descriptor["digest"],
        config_digest=manifest["config"]["digest"],
        user=settings.get("User", ""),
        labels=settings.get("Labels") or {},
        layers=_create_layers(manifest["layers"], list_instructions(manifest, config), written),
        packages=analysis.list_packages(file_system, package_index),
        other_folders=analysis.list_other_folders(file_system, package_index),
        files=analysis.list_largest_files(file_system),
        waste=wasted[: analysis.MAX_ITEMS],
        wasted_bytes=sum(item.size_bytes for item in wasted),
    )
    return image, written


def _create_layers(
    descriptors: list[dict[str, Any]], made_by: list[str], written: tuple[LayerDiff, ...]
) -> tuple[report.Layer, ...]:
    # A layer may hold files of a package that a later one completes, replaces or removes.
    package_index = analysis.index_packages(list(chain.from_iterable(layer.files.values() for layer in written)))
    return tuple(
        report.Layer(
            digest=descriptor["digest"],
            created_by=instruction,
            compressed_bytes=descriptor["size"],
            size_bytes=layer.size_bytes,
            files_added=layer.added,
            files_replaced=layer.replaced,
            files_removed=layer.removed,
            largest=analysis.list_contributors(layer, package_index),
        )
        for descriptor, instruction, layer in zip(descriptors, made_by, written, strict=True)
    )


def _read_entry(layer: tarfile.TarFile, member: tarfile.TarInfo, budget: Budget) -> Entry:
    path = clean_path(member.name)
    file = layer.extractfile(member) if member.isreg() else None
    if file is None:
        return Entry(path, is_folder=member.isdir())
    is_record = analysis.PACKAGE_RECORD.fullmatch(path) and budget.take_record(member.size)
    content = file.read() if is_record else b""
    sha256 = ""
    if member.size >= analysis.DUPLICATE_BYTES and not content:
        sha256 = hash_file(file)
    return Entry(path, member.size, sha256=sha256, content=content)


def _clean_instruction(created_by: str) -> str:
    """The instruction as the Dockerfile has it, without the marks of BuildKit and Dagger and with its spaces folded."""
    words = " ".join(created_by.removesuffix("# buildkit").split())
    return DAGGERS_RUN.sub("RUN ", DAGGERS_STEP.sub("", words))
