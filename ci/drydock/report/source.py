"""What a run starts from: the commit, and the pinned images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from drydock.report.base import Time, Value


class Revision(Value):
    """The commit that an image is built from; `dirty` if the work tree differs from it."""

    commit: str
    dirty: bool
    source_url: str = ""
    committed_at: Time = Field(default="1980-01-01T00:00:00Z", description="1980 if there is no commit")

    @property
    def name(self) -> str:
        """The commit as the image's label has it, with `-dirty` if the work tree differs."""
        return f"{self.commit}-dirty" if self.dirty else self.commit


class Images(Value):
    """The images that a run builds on, scans and signs with, each by digest, and the sources of advisories.

    `base_images` is `official`, or `local` if the images were made from Debian packages because no container
    registry could be reached. `databases` are tried in turn: OCI repositories, or a folder with trivy.db in it.
    """

    base_images: Literal["official", "local"]
    builder: str
    base: str
    trivy: str
    cosign: str
    databases: tuple[str, ...] = Field(min_length=1)
