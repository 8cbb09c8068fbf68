"""Reads the members of a layer within bounds: anybody can write an archive, and a kB of it can claim to be a GB."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import IO, cast

from isal import igzip, igzip_lib

from drydock.oci.layout import MALFORMED_ERRORS, Layout, require_not_sparse
from drydock.report import MB

# An image over its size limit is measured all the same, up to this many times the limit.
TIMES_THE_LIMIT = 20
MAX_UNPACKED_BYTES = TIMES_THE_LIMIT * 500 * MB
# Paths and extended attributes: Linux has 4 kB for a path and 64 kB for the attributes of a file.
MAX_HEADER_BYTES = 1024 * 1024
MAX_PATH_CHARACTERS = 4096
# Large images of CUDA and notebooks have some 250,000.
MAX_MEMBERS = 500_000
# The largest RECORD on PyPI, and the status file of a full desktop, have 2 to 5 MB.
MAX_RECORD_BYTES = 8_000_000
MAX_RECORDS_BYTES = 32_000_000
# What reading an archive and its layers raises; isal's stub says that its error is an instance.
READ_ERRORS: tuple[type[Exception], ...] = (*MALFORMED_ERRORS, igzip_lib.IsalError)  # type: ignore[assignment]


def max_unpacked_bytes(image_size_mb: int) -> int:
    """How many bytes the layers of an image with this size limit may unpack to before reading stops."""
    return image_size_mb * MB * TIMES_THE_LIMIT


class Budget:
    """What reading one image may still cost.

    Methods raise ValueError if the budget is spent, and CancelledError if `is_cancelled` answers True.
    """

    def __init__(self, max_bytes: int = MAX_UNPACKED_BYTES, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """`max_bytes` is for all layers, unpacked."""
        self._max_bytes = self._left_bytes = max_bytes
        self._left_members = MAX_MEMBERS
        self._left_record_bytes = MAX_RECORDS_BYTES
        self._is_cancelled = is_cancelled

    def require_not_cancelled(self) -> None:
        """Raise CancelledError if nobody waits for the result."""
        if self._is_cancelled():
            raise CancelledError

    def spend(self, unpacked_bytes: int) -> None:
        """Count unpacked bytes."""
        self.require_not_cancelled()
        self.require(unpacked_bytes)
        self._left_bytes -= unpacked_bytes

    def require(self, unpacked_bytes: int) -> None:
        """Raise ValueError if a size is more than what is left."""
        if not 0 <= unpacked_bytes <= self._left_bytes:
            raise ValueError(f"it unpacks to more than {self._max_bytes // MB} MB")

    def take_member(self) -> None:
        """Count a file, a folder or a link."""
        self._left_members -= 1
        if self._left_members < 0:
            raise ValueError(f"it has more than {MAX_MEMBERS:,} files")

    def take_record(self, size_bytes: int) -> bool:
        """Whether there is room for a package manager's record of this size."""
        fits = size_bytes <= min(MAX_RECORD_BYTES, self._left_record_bytes)
        self._left_record_bytes -= size_bytes if fits else 0
        return fits


class _BoundedTar:
    """The unpacked bytes of a layer, read only as far as the budget allows."""

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
        if self.is_header and self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError(f"it has a header of more than {MAX_HEADER_BYTES // MB} MB")
        return block


def iter_layer(layout: Layout, digest: str, budget: Budget) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Each member of a layer, with the tar that has the member's content until the next one is read."""
    layout.verify_blob(digest, budget.require_not_cancelled)
    with layout.open_layer(digest, igzip.open) as unpacked:
        bounded = _BoundedTar(unpacked, budget)
        # As a stream: tarfile never seeks back in it, which would unpack the layer again from its beginning.
        # A name need not be UTF-8, but a report is.
        with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|", encoding="utf-8", errors="replace") as tar:
            yield from ((tar, member) for member in _iter_members(tar, bounded, budget))


def _iter_members(tar: tarfile.TarFile, bounded: _BoundedTar, budget: Budget) -> Iterator[tarfile.TarInfo]:
    while True:
        bounded.next_header()
        member = tar.next()
        bounded.is_header = False
        if member is None:
            return
        require_not_sparse(member)
        if len(member.name) > MAX_PATH_CHARACTERS:
            raise ValueError(f"{member.name[:40]!r}… has a name of {len(member.name):,} characters")
        budget.take_member()
        budget.require(member.size)
        yield member
        # What is skipped here is not part of the next header; and tarfile would keep every member.
        tar.fileobj.seek(tar.offset)
        tar.members.clear()  # type: ignore[attr-defined]  # its stub does not have them
