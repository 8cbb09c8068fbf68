"""A repository in the registry of this machine, written into by hand, as a meddler would."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.integration.engine.project import MANIFEST, REGISTRY

INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Repository:
    """A repository of its own in this machine's registry, and what a meddler may do to it."""

    name: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:12]}")
    host: str = REGISTRY

    @property
    def address(self) -> str:
        return f"{self.host}/{self.name}"

    def blob(self, content: bytes) -> dict[str, Any]:
        digest = digest_of(content)
        started = httpx.post(f"http://{REGISTRY}/v2/{self.name}/blobs/uploads/").raise_for_status()
        where = httpx.URL(started.headers["Location"]).copy_merge_params({"digest": digest})
        httpx.put(httpx.URL(f"http://{REGISTRY}").join(where), content=content).raise_for_status()
        return {"digest": digest, "size": len(content)}

    def put(self, tag: str, manifest: dict[str, Any]) -> str:
        content = json.dumps(manifest).encode()
        url = f"http://{REGISTRY}/v2/{self.name}/manifests/{tag or digest_of(content)}"
        httpx.put(url, content=content, headers={"Content-Type": manifest["mediaType"]}).raise_for_status()
        return digest_of(content)

    def get(self, reference: str) -> dict[str, Any]:
        url = f"http://{REGISTRY}/v2/{self.name}/manifests/{reference}"
        found: dict[str, Any] = httpx.get(url, headers={"Accept": f"{MANIFEST}, {INDEX}"}).raise_for_status().json()
        return found

    def image(self, user: str) -> str:
        """Push an image that is nothing but its configuration; its digest."""
        described = {"architecture": "amd64", "os": "linux", "config": {"User": user}, "rootfs": {"type": "layers"}}
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", **self.blob(json.dumps(described).encode())}
        return self.put("", {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []})

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """The manifests that refer to an image, each beside its entry in the list that all of them share."""
        return [self.get(entry["digest"]) for entry in self.get(tag_of(digest))["manifests"]]

    def refer(self, digest: str, referrers: list[dict[str, Any]]) -> None:
        """Let these manifests, and no others, refer to an image."""
        size = len(
            httpx.get(f"http://{REGISTRY}/v2/{self.name}/manifests/{digest}", headers={"Accept": MANIFEST}).content
        )
        entries = []
        for referrer in referrers:
            manifest = {**referrer, "subject": {"mediaType": MANIFEST, "digest": digest, "size": size}}
            entry = {"mediaType": MANIFEST, "digest": self.put("", manifest), "size": len(json.dumps(manifest))}
            entries.append({**entry, "artifactType": manifest["layers"][0]["mediaType"]})
        self.put(tag_of(digest), {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})

    def bundle(self, referrer: dict[str, Any]) -> dict[str, Any]:
        url = f"http://{REGISTRY}/v2/{self.name}/blobs/{referrer['layers'][0]['digest']}"
        found: dict[str, Any] = httpx.get(url).raise_for_status().json()
        return found


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tag_of(digest: str) -> str:
    """Where a registry without a referrers API has the list of what refers to a digest."""
    return digest.replace(":", "-")


def type_of(referrer: dict[str, Any]) -> str:
    return str(referrer["annotations"]["dev.sigstore.bundle.predicateType"])
