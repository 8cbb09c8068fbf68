"""Small images in OCI archives, each bit of them chosen by a test."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

IMAGE = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CREATED = "2026-11-22T10:00:00Z"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def image(path: Path, *layers: bytes, created: str = CREATED, labels: Mapping[str, str] | None = None) -> str:
    """Write an image of these layers to `path`; the digest of its manifest."""
    settings = {"Healthcheck": {}, **({"Labels": labels} if labels else {})}
    config = encoded({"architecture": "amd64", "os": "linux", "created": created, "config": settings})
    manifest = encoded(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": described(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [described(layer, LAYER) for layer in layers],
        }
    )
    write(path, {digest_of(blob): blob for blob in (config, *layers, manifest)}, described(manifest, IMAGE))
    return digest_of(manifest)


def write(path: Path, blobs: Mapping[str, bytes], *named: Mapping[str, Any]) -> None:
    """Write an OCI archive of blobs, whatever the digests say that name them."""
    files = {f"blobs/{digest.replace(':', '/')}": blob for digest, blob in blobs.items()}
    files["index.json"] = encoded({"schemaVersion": 2, "manifests": named})
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def described(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def encoded(document: Mapping[str, Any]) -> bytes:
    # Not as Drydock writes it: bytes that come have to stay.
    return json.dumps(document, indent=3).encode()
