"""Reads and writes images as OCI archives: the OCI image layout in one tar file, its blobs streamed.

https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import anyio

from drydock.errors import RegistryError
from drydock.oci import media_types
from drydock.oci.registry import manifest as values
from drydock.oci.registry.manifest import BROKEN, Descriptor, Manifest
from drydock.oci.registry.repository_client import verified

CHUNK_BYTES = 1024 * 1024
# Larger ones no registry takes.
MANIFEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Archive:
    """An opened archive: where in the file each blob lies, and as which type `index.json` names manifests.

    The file stays open: were another put in its place in mid-push, this one would still be read.
    """

    path: Path
    file: IO[bytes] = field(repr=False)
    places: dict[str, tuple[int, int]]
    named: dict[str, str]

    @property
    def where(self) -> str:
        """The archive's name for people."""
        return str(self.path)

    async def manifest(self, digest: str) -> Manifest | None:
        """A manifest in the archive; None where there is none."""
        offset, size_bytes = self.places.get(digest, (0, 0))
        if not 0 < size_bytes <= MANIFEST_BYTES:
            return None
        content = os.pread(self.file.fileno(), size_bytes, offset)
        found = values.manifest(content, self.named.get(digest, media_types.IMAGE_MANIFEST))
        if found.digest != digest:
            raise not_approved(self.path, f"its blob {digest} holds {found.digest}")
        return found

    def chunks(self, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """A blob's bytes; they have an end only if all of them are right."""
        return verified(self._read(blob), blob, f"{self.path} holds")

    async def verify(self, blob: Descriptor) -> None:
        """Raise RegistryError where the archive has not the blob, or other bytes in its place."""
        if blob.digest not in self.places:
            raise not_approved(self.path, f"it has no blob {blob.digest}")
        try:
            async with aclosing(self.chunks(blob)) as chunks:
                async for _ in chunks:
                    pass
        except RegistryError as error:
            raise not_approved(self.path, f"its blob {blob.digest} holds other bytes") from error

    async def _read(self, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        offset, size_bytes = self.places[blob.digest]
        end = offset + size_bytes
        while offset < end:
            part = await anyio.to_thread.run_sync(os.pread, self.file.fileno(), min(CHUNK_BYTES, end - offset), offset)
            if not part:
                return
            offset += len(part)
            yield part


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open the archive at `path`; raises RegistryError where it is no whole OCI archive."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise not_approved(path, str(error)) from error
    with file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as layout:
                members = {member.name: member for member in layout if member.isreg()}
                index = layout.extractfile(members["index.json"])
                manifests = json.loads(index.read())["manifests"] if index else []
            named = {entry["digest"]: str(entry["mediaType"]) for entry in manifests}
        except (tarfile.TarError, OSError, *BROKEN) as error:
            raise not_approved(path, f"it is no whole OCI archive: {error}") from error
        places = {
            f"sha256:{name.removeprefix(media_types.BLOBS)}": (member.offset_data, member.size)
            for name, member in members.items()
            if name.startswith(media_types.BLOBS)
        }
        yield Archive(path, file, places, named)


def not_approved(path: Path, why: str) -> RegistryError:
    """What is said of an archive that is another one than was judged."""
    return RegistryError(
        f"the archive is not what was approved: {path}: {why}",
        likely_cause="something wrote the file after it was judged",
        next_step="find out who writes there, then run again",
    )


class Writer:
    """Writes an OCI archive, blob by blob; `finish` names the image and ends the file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._small("oci-layout", values.encoded({"imageLayoutVersion": "1.0.0"}))

    async def add(self, blob: Descriptor, chunks: AsyncGenerator[bytes, None]) -> None:
        """Write one blob; where that breaks, the file is as it was before."""
        start = self._file.tell()
        try:
            self._head(_name(blob.digest), blob.size_bytes)
            async with aclosing(chunks):
                async for chunk in chunks:
                    await anyio.to_thread.run_sync(self._file.write, chunk)
            self._pad(blob.size_bytes)
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise

    def finish(self, manifest: Manifest) -> None:
        """Name the image in the layout's index, and end the tar file."""
        named = Descriptor(manifest.digest, manifest.media_type, len(manifest.content))
        index = {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "manifests": [named.as_json()]}
        self._small("index.json", values.encoded(index))
        if config := manifest.config:
            # What Trivy reads, and `docker load` before 25, in place of index.json.
            layers = [_name(layer.digest) for layer in manifest.layers]
            self._small("manifest.json", values.encoded([{"Config": _name(config.digest), "Layers": layers}]))
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))

    def _small(self, name: str, content: bytes) -> None:
        self._head(name, len(content))
        self._file.write(content)
        self._pad(len(content))

    def _head(self, name: str, size_bytes: int) -> None:
        member = tarfile.TarInfo(name)
        member.size = size_bytes
        self._file.write(member.tobuf())

    def _pad(self, size_bytes: int) -> None:
        self._file.write(bytes(-size_bytes % tarfile.BLOCKSIZE))


def _name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
