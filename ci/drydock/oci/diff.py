"""Compares two images: their settings, their layers, and what differs in each file."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from drydock.oci.archive import list_instructions, open_archive
from drydock.oci.layers import Budget, iter_layer
from drydock.oci.layout import clean_path, hash_file
from drydock.oci.media_types import XATTR_PREFIX

ONLY_BEFORE = ("only in the release",)
ONLY_AFTER = ("only in this build",)


class LayerFile(NamedTuple):
    """All that a layer keeps of a file; reports use a field's name if it differs."""

    kind: str
    content: str
    mode: int
    owner: tuple[int, int]
    link: str
    time: float
    attributes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FileDifference:
    """A path, and what of it differs: names of LayerFile's fields, or that only one image has it."""

    path: str
    what: tuple[str, ...]


@dataclass(frozen=True)
class LayerDifference:
    """A layer, from 1, with another digest; `files` is empty if only their order or the compression differs."""

    number: int
    created_by: str
    files: tuple[FileDifference, ...]


@dataclass(frozen=True)
class Differences:
    """Keys of the configuration that differ, as `config.Labels`, and the layers that do."""

    settings: tuple[str, ...]
    layers: tuple[LayerDifference, ...]


def compare_images(released: Path, built: Path, is_cancelled: Callable[[], bool] = lambda: False) -> Differences:
    """Compare the images of two OCI archives, layer by layer in their order.

    Raises BuildError for a damaged one, and CancelledError if `is_cancelled` answers True.
    """
    old_digests, old_instructions, old_config = _read_description(released)
    new_digests, new_instructions, new_config = _read_description(built)
    made_by = zip_longest(old_instructions, new_instructions)
    files = partial(_read_layer, is_cancelled=is_cancelled)
    layers = tuple(
        LayerDifference(
            number, new or old or "", tuple(_compare_files(files(released, old_digest), files(built, new_digest)))
        )
        for number, ((old, new), (old_digest, new_digest)) in enumerate(
            zip(made_by, zip_longest(old_digests, new_digests), strict=True), start=1
        )
        if old_digest != new_digest
    )
    return Differences(tuple(_compare_settings(old_config, new_config)), layers)


def _read_description(archive: Path) -> tuple[list[str], list[str], dict[str, Any]]:
    """The digest of each layer, the instruction that made it, and the configuration."""
    with open_archive(archive) as layout:
        _, manifest, config = layout.read_image()
        return [layer["digest"] for layer in manifest["layers"]], list_instructions(manifest, config), config


def _compare_files(old: Mapping[str, LayerFile], new: Mapping[str, LayerFile]) -> Iterator[FileDifference]:
    for path in sorted(old.keys() | new.keys()):
        if path not in new:
            yield FileDifference(path, ONLY_BEFORE)
        elif path not in old:
            yield FileDifference(path, ONLY_AFTER)
        elif what := tuple(
            name for name, one, other in zip(LayerFile._fields, old[path], new[path], strict=True) if one != other
        ):
            yield FileDifference(path, what)


def _read_layer(archive: Path, digest: str | None, is_cancelled: Callable[[], bool]) -> dict[str, LayerFile]:
    """The layer's files by path; of two files with one path the last one, which a container sees."""
    if digest is None:
        return {}
    # Opened for each layer, so that an archive that is damaged is the one that the error names.
    with open_archive(archive) as layout:
        members = iter_layer(layout, digest, Budget(is_cancelled=is_cancelled))
        return {clean_path(member.name): _read_file(tar, member) for tar, member in members}


def _read_file(layer: tarfile.TarFile, member: tarfile.TarInfo) -> LayerFile:
    content = layer.extractfile(member) if member.isreg() else None
    return LayerFile(
        kind=member.type.decode(),
        content=hash_file(content) if content else "",
        mode=member.mode,
        owner=(member.uid, member.gid),
        link=member.linkname,
        time=member.mtime,
        attributes=tuple(sorted(item for item in member.pax_headers.items() if item[0].startswith(XATTR_PREFIX))),
    )


def _compare_settings(old: object, new: object, name: str = "") -> Iterator[str]:
    """The keys under which two documents differ, down to values that are not objects; `rootfs` is left out."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if (inner := f"{name}.{key}" if name else key) != "rootfs":
                yield from _compare_settings(old.get(key), new.get(key), inner)
    elif old != new:
        yield name
