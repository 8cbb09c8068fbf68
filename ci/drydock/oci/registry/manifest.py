"""Manifests and the descriptors in them, byte for byte as a registry served them. Pure.

The formats are those of the OCI image specification: https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from drydock.errors import RegistryError
from drydock.oci.layout import MALFORMED_JSON_ERRORS
from drydock.oci.media_types import DIGEST, compute_digest


@dataclass(frozen=True)
class Descriptor:
    """Describes a blob or a manifest: its digest, its media type and its size."""

    digest: str
    media_type: str
    size_bytes: int
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The descriptor as an object of a manifest; empty fields are left out."""
        written: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}
        if self.artifact_type:
            written["artifactType"] = self.artifact_type
        if self.annotations:
            written["annotations"] = dict(self.annotations)
        return written


@dataclass(frozen=True)
class Manifest:
    """A manifest or an index of manifests; the digest is computed from `content`."""

    digest: str
    media_type: str
    content: bytes

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of this manifest in an index, with its artifact type and its annotations."""
        config = self._document.get("config") or {}
        annotations = self._document.get("annotations") or {}
        artifact_type = self._document.get("artifactType") or config.get("mediaType") or ""
        return Descriptor(self.digest, self.media_type, len(self.content), str(artifact_type), annotations)

    @property
    def config(self) -> Descriptor | None:
        """The configuration; an index has none."""
        config = self._document.get("config")
        return parse_descriptor(config) if config else None

    @property
    def subject(self) -> str:
        """The digest of the manifest that this one refers to; empty if it refers to none."""
        subject = self._document.get("subject")
        return parse_descriptor(subject).digest if subject else ""

    @cached_property
    def layers(self) -> tuple[Descriptor, ...]:
        """The layers, the lowest first; one may be listed twice."""
        return tuple(parse_descriptor(layer) for layer in self._document.get("layers") or [])

    @cached_property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The configuration and the layers, each once."""
        found = [*([self.config] if self.config else []), *self.layers]
        return tuple({blob.digest: blob for blob in found}.values())

    @cached_property
    def children(self) -> tuple[Descriptor, ...]:
        """The manifests that an index names, each once."""
        found = [parse_descriptor(child) for child in self._document.get("manifests") or []]
        return tuple({child.digest: child for child in found}.values())

    @cached_property
    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.content)
        return document


def parse_manifest(content: bytes, media_type: str) -> Manifest:
    """Read a manifest's bytes; `media_type` is for those that do not have theirs.

    Raises RegistryError if the bytes are not a manifest.
    """
    digest = compute_digest(content)
    try:
        document = json.loads(content)
        read = Manifest(digest, str(document.get("mediaType") or media_type), content)
        # They are cached, so later reads raise no error.
        _ = read.blobs, read.children, read.descriptor, read.subject
    except MALFORMED_JSON_ERRORS as error:
        raise RegistryError(
            f"{digest} is no manifest: {error}",
            likely_cause="a proxy before the registry answers in its place",
            next_step=f"see what the registry serves with oras manifest fetch HOST/NAME@{digest}, then run again",
        ) from error
    return read


def parse_descriptor(written: Mapping[str, Any]) -> Descriptor:
    """Read a descriptor with a digest of sha256; raises one of MALFORMED_JSON_ERRORS for anything else."""
    digest, size_bytes = written["digest"], written["size"]
    if not DIGEST.fullmatch(digest) or not isinstance(size_bytes, int) or size_bytes < 0:
        raise ValueError(f"{digest!r} of {size_bytes!r} bytes names no blob")
    annotations = {str(key): str(value) for key, value in (written.get("annotations") or {}).items()}
    kinds = str(written.get("mediaType") or ""), str(written.get("artifactType") or "")
    return Descriptor(digest, kinds[0], size_bytes, kinds[1], annotations)


def canonical_json(document: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """The same document is always the same bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
