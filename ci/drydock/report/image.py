"""The image: its layers, packages and files, and the difference to the published one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from drydock.report.base import Value


@dataclass(frozen=True)
class Archive:
    """The OCI archive that was built: a file, and the engine's handle on the same bytes."""

    path: Path
    handle: object


class Contributor(Value):
    """A package or folder, and the bytes of its own files."""

    name: str
    size_bytes: int


class Package(Value):
    """An installed package and the bytes of its files in the finished file system."""

    name: str
    version: str
    kind: Literal["python", "debian"]
    size_bytes: int


class File(Value):
    """A file of the finished file system."""

    path: str
    size_bytes: int
    layer: int = Field(description="counted from 1, the base's first")


class Waste(Value):
    """Bytes in a layer that are stored and pulled for nothing.

    `removed` and `replaced` were deleted or written again by a later layer; a `duplicate` is in the finished file
    system under another path as well, with the same content.
    """

    path: str
    size_bytes: int
    layer: int = Field(description="counted from 1, the base's first")
    why: Literal["removed", "replaced", "duplicate"]


class Layer(Value):
    """One layer: its digest in the registry, the instruction that made it, and its largest files.

    `dockerfile_line` is the first line of that instruction; None if it is not in the Dockerfile.
    """

    digest: str
    created_by: str
    dockerfile_line: int | None = Field(default=None, description="Counts from 1.")
    compressed_bytes: int
    size_bytes: int
    files_added: int = Field(default=0, description="files that no earlier layer has")
    files_replaced: int = Field(default=0, description="files that an earlier layer has as well")
    files_removed: int = Field(default=0, description="files of earlier layers that it deletes")
    largest: tuple[Contributor, ...] = ()


class Image(Value):
    """The contents of an OCI archive.

    `packages` and `other_folders` together are the finished file system. `files` and `waste` list only the largest;
    `wasted_bytes` is the sum of all waste. Each list has its largest first.
    """

    manifest_digest: str
    config_digest: str
    user: str
    labels: dict[str, str]
    layers: tuple[Layer, ...]
    packages: tuple[Package, ...] = ()
    other_folders: tuple[Contributor, ...] = ()
    files: tuple[File, ...] = ()
    waste: tuple[Waste, ...] = ()
    wasted_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """The sum of the layers, uncompressed."""
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def compressed_bytes(self) -> int:
        """What a node pulls if it has no layer yet."""
        return sum(layer.compressed_bytes for layer in self.layers)

    @property
    def efficiency(self) -> float:
        """The share of the stored bytes that is not waste, from 0 to 1."""
        return 1 - self.wasted_bytes / self.size_bytes if self.size_bytes else 1.0


class Change(Value):
    """A package that changed since the record before: its two versions, "" if it is missing there."""

    name: str
    kind: Literal["python", "debian"]
    version_before: str
    version_after: str
    difference_bytes: int


class Comparison(Value):
    """The difference between this image and the one that was published before."""

    image: str
    size_before_bytes: int
    size_after_bytes: int
    changes: tuple[Change, ...] = ()

    @property
    def difference_bytes(self) -> int:
        """By how much the image grew; negative if it shrank."""
        return self.size_after_bytes - self.size_before_bytes
