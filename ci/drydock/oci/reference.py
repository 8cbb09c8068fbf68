"""References to images as people type them: host/name, a tag, a digest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from drydock.errors import UsageError
from drydock.oci.media_types import DIGEST
from drydock.oci.tags import TAG

# The grammar of a repository name, with a registry's host before it:
# https://github.com/distribution/reference/blob/v0.6.0/reference.go
REPOSITORY = re.compile(
    r"[A-Za-z0-9.-]+(:[0-9]+)?/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
)
MAX_REPOSITORY_CHARACTERS = 255


@dataclass(frozen=True)
class Reference:
    """An image in a registry; `tag` and `digest` may be empty. The digest, if there is one, decides."""

    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        """As Docker writes it."""
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def is_repository(name: str) -> bool:
    """Whether a name is that of a repository with its registry's host, such as ghcr.io/owner/name."""
    try:
        is_valid_port = urlsplit(f"//{name}").port != 0
    except ValueError:
        return False
    return is_valid_port and len(name) <= MAX_REPOSITORY_CHARACTERS and REPOSITORY.fullmatch(name) is not None


def parse_reference(words: str) -> Reference:
    """Parse host/name[:tag][@digest]; raises UsageError for anything else."""
    name, _, digest = words.partition("@")
    # A colon before the last slash is a port's.
    stem, _, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    name = f"{stem}/{last}"
    if not is_repository(name) or (colon and not TAG.fullmatch(tag)) or ("@" in words and not DIGEST.fullmatch(digest)):
        raise UsageError(
            f"{words!r} names no image",
            likely_cause="the registry's host is missing, or the digest is not whole",
            next_step="write it like ghcr.io/owner/name:1.2.3, or ghcr.io/owner/name@sha256:…",
        )
    return Reference(name, tag, digest)
