"""Reads OCI archives: the OCI image layout in one tar file. The only reader of this format.

`index.json` names the manifest. The manifest names the configuration and the layers. Each is a blob under
`blobs/<algorithm>/<hex>`. Imports only the standard library, because `repack` runs in the builder's container.
https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

from drydock.oci.media_types import GZIP_MAGIC, ZSTD_MAGIC, blob_name

BLOCK_BYTES = 1024 * 1024
INDEX = "index.json"
# How Dagger begins an entry of the history: the stage, and the position of the instruction in it.
DAGGERS_STEP = re.compile(r"^\[[^\]]+ \d+/\d+\] ")
# A registry takes manifests of 4 MB.
MAX_DOCUMENT_BYTES = 16_000_000
# An image has some dozens of blobs, an archive of `docker save` some thousands.
MAX_ARCHIVE_MEMBERS = 100_000
# What reading a JSON document raises: it may have anything, or nothing, in every place.
MALFORMED_JSON_ERRORS = (LookupError, ValueError, TypeError, AttributeError, RecursionError)
# What reading an archive raises.
MALFORMED_ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error, *MALFORMED_JSON_ERRORS)


class ImageDocuments(NamedTuple):
    """The documents of the one image in an archive; `descriptor` is the manifest's in the index."""

    descriptor: dict[str, Any]
    manifest: dict[str, Any]
    config: dict[str, Any]


class Layout:
    """An open OCI archive. Every method raises one of MALFORMED_ERRORS if the archive is damaged."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    @cached_property
    def _members(self) -> Mapping[str, tarfile.TarInfo]:
        members: dict[str, tarfile.TarInfo] = {}
        for number, member in enumerate(self._tar):
            if number == MAX_ARCHIVE_MEMBERS:
                raise ValueError(f"it has more than {MAX_ARCHIVE_MEMBERS:,} files")
            members[member.name] = member
        return members

    def read_index(self) -> list[dict[str, Any]]:
        """The descriptors of the manifests in the archive."""
        manifests: list[dict[str, Any]] = json.loads(self._read_file(INDEX))["manifests"]
        return manifests

    def read_image(self) -> ImageDocuments:
        """The documents of the first image in the index."""
        descriptor = self.read_index()[0]
        manifest = json.loads(self.read_blob(descriptor["digest"]))
        return ImageDocuments(descriptor, manifest, json.loads(self.read_blob(manifest["config"]["digest"])))

    def has_blob(self, digest: str) -> bool:
        """Whether the archive has a blob with this digest."""
        return blob_name(digest) in self._members

    def get_blob_size_bytes(self, digest: str) -> int:
        """The size of a blob in the archive."""
        return self._get_file(blob_name(digest)).size

    def read_blob(self, digest: str) -> bytes:
        """A document of at most MAX_DOCUMENT_BYTES, verified against its digest."""
        content = self._read_file(blob_name(digest))
        require_digest(digest, hashlib.sha256(content).hexdigest())
        return content

    def open_blob(self, digest: str) -> IO[bytes]:
        """Open a blob, which is not verified."""
        return self._open_file(blob_name(digest))

    def verify_blob(self, digest: str, on_block: Callable[[], None] = lambda: None) -> None:
        """Raise ValueError if the content of a blob does not match its digest. Calls `on_block` after each block."""
        with self.open_blob(digest) as blob:
            sha256 = hashlib.sha256()
            while block := blob.read(BLOCK_BYTES):
                sha256.update(block)
                on_block()
        require_digest(digest, sha256.hexdigest())

    @contextmanager
    def open_layer(self, digest: str, open_gzip: Callable[[Any], Any] = gzip.open) -> Iterator[IO[bytes]]:
        """Open the unpacked tar of a layer; `docker save` stores layers uncompressed.

        Raises ValueError for zstd: Python 3.13 does not read it, and the checks must read every layer.
        """
        with self.open_blob(digest) as blob:
            magic = blob.read(len(ZSTD_MAGIC))
            blob.seek(0)
            if magic == ZSTD_MAGIC:
                raise ValueError(
                    f"layer {digest} is compressed with zstd: build it with gzip, or on another base image"
                )
            with open_gzip(blob) if magic.startswith(GZIP_MAGIC) else blob as unpacked:
                yield unpacked

    def _read_file(self, name: str) -> bytes:
        if self._get_file(name).size > MAX_DOCUMENT_BYTES:
            raise ValueError(f"{name} has more than {MAX_DOCUMENT_BYTES // 1_000_000} MB")
        with self._open_file(name) as file:
            return file.read()

    def _open_file(self, name: str) -> IO[bytes]:
        file = self._tar.extractfile(self._get_file(name))
        if file is None:
            raise ValueError(f"{name} is not a regular file")
        return file

    def _get_file(self, name: str) -> tarfile.TarInfo:
        member = self._members.get(name)
        if member is None:
            raise KeyError(f"filename {name!r} not found")
        if not member.isreg():
            raise ValueError(f"{name} is not a regular file")
        require_not_sparse(member)
        return member


@contextmanager
def open_layout(path: Path) -> Iterator[Layout]:
    """Open the OCI archive at `path`. Raises one of MALFORMED_ERRORS if the file is not a tar file."""
    with tarfile.open(path, "r:") as tar:
        yield Layout(tar)


def clean_path(name: str) -> str:
    """A member's path, with no slash at either end; empty for the root."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def hash_file(file: IO[bytes]) -> str:
    """The SHA-256 of the rest of an open file, in hexadecimal digits."""
    # A file can be larger than the memory. The stub does not know that any file that can be read will do.
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def require_digest(digest: str, sha256: str) -> None:
    """Raise ValueError if the blob with this digest has another SHA-256, in hexadecimal digits."""
    if digest != f"sha256:{sha256}":
        raise ValueError(f"blob {digest} holds sha256:{sha256}")


def require_not_sparse(member: tarfile.TarInfo) -> None:
    """Raise ValueError for a sparse file: its header may claim any size, and no image builder writes one."""
    if member.issparse():
        raise ValueError(f"{member.name[:40]!r} is a sparse file")
