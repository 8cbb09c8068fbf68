"""Names of images as people type them: host/name, a tag, a digest."""

from __future__ import annotations

from dataclasses import dataclass

from drydock import policy
from drydock.errors import UsageError
from drydock.oci.media_types import DIGEST
from drydock.oci.tags import TAG


@dataclass(frozen=True)
class Reference:
    """An image in a registry; `tag` and `digest` are empty where they were not said, and the digest is what counts."""

    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        """As Docker writes it."""
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(words: str) -> Reference:
    """Read host/name[:tag][@digest]. Raises UsageError."""
    name, _, digest = words.partition("@")
    # A colon before the last slash is a port's.
    stem, _, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    name = f"{stem}/{last}"
    if (
        not policy.is_repository(name)
        or (colon and not TAG.fullmatch(tag))
        or ("@" in words and not DIGEST.fullmatch(digest))
    ):
        raise UsageError(
            f"{words!r} names no image",
            likely_cause="the registry's host is missing, or the digest is not whole",
            next_step="write it like ghcr.io/owner/name:1.2.3, or ghcr.io/owner/name@sha256:…",
        )
    return Reference(name, tag, digest)
