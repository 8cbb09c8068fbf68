"""Two registries with published images, for the tests of verify, promote, rescan and reproduce."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from gzip import compress
from pathlib import Path
from typing import Any, TypeVar

import anyio

from drydock.oci import archive as image
from drydock.oci import registry
from drydock.oci.reference import Reference
from drydock.oci.registry import Credentials, Descriptor, Repository
from drydock.pipeline.plan import Plan
from drydock.pipeline.promote import promote
from drydock.pipeline.reproduce import reproduce
from drydock.pipeline.rescan import rescan
from drydock.pipeline.verify import verify
from drydock.policy import Policy
from drydock.report import Archive, Assessment, Release, Scan, Updates
from drydock.tools import attestations, cosign
from drydock.tools.attestations import Builder
from drydock.tools.cosign import Statement, Trust, Verified
from tests.integration.registry import archives
from tests.support import examples
from tests.support.fake_stages import FakeStages, RecordingListener
from tests.unit.checks.test_verification import BY_WORKFLOW, KEYLESS, LABELS, SBOM
from tests.unit.oci.test_archive import packed

REVISION = "org.opencontainers.image.revision"
LOGIN, SOURCE_LOGIN = Credentials("someone", "s3cret"), Credentials("another", "s3cret")
FILES = {"app/server.py": b"1", "app/model.pkl": b"2"}
DOCUMENT = json.dumps(SBOM, indent=1).encode()
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
TRUSTED = "of a trusted workflow"
OTHER_COMMIT = f"sha-{'f' * 40}"
Result = TypeVar("Result")


class Noon(datetime):
    """Two days after the scan of the examples."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Noon:
        return cls(2026, 11, 24, 12, tzinfo=tz or UTC)


@dataclass
class RecordingStages(FakeStages):
    """Records the images that the stages get. A build returns `built`, and each scan the next of `scans`.

    `by_builder` is what verifies if only one builder is trusted and something else then verifies.
    """

    built: Path = Path("image.tar")
    scans: list[Scan] = field(default_factory=list)
    verified_digests: list[tuple[str, str]] = field(default_factory=list)
    imported_paths: list[Path] = field(default_factory=list)
    by_builder: Verified | None = None

    async def build(self, contract: Any) -> Archive:  # noqa: ANN401 - what becomes of it is no matter of these tests
        await super().build(contract)
        return examples.archive(self.built)

    async def import_archive(self, path: Path) -> Archive:
        self.imported_paths.append(path)
        return await super().import_archive(path)

    async def scan(self, archive: Archive) -> Scan:
        await super().scan(archive)
        return self.scans.pop(0).model_copy(update={"config_digest": image.read_image(archive.path).config_digest})

    async def verify(self, repository: str, digest: str, trust: Trust) -> Verified:
        self.verified_digests.append((repository, digest))
        found = await super().verify(repository, digest, trust)
        return self.by_builder if self.by_builder and trust != KEYLESS else found


@dataclass
class Registries:
    """Two registries, a repository of one name at each, and the credentials with which the commands opened them."""

    here: str
    there: str
    folder: Path
    stages: RecordingStages = field(default_factory=RecordingStages)
    listener: RecordingListener = field(default_factory=RecordingListener)
    opened_repositories: list[tuple[str, Credentials | None]] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        """The plan of a command, with the policy that pushes images to `here`."""
        made = examples.plan(self.folder, policy=self.policy())
        return replace(made, trust=KEYLESS)

    def policy(self, **sections: dict[str, object]) -> Policy:
        return examples.policy(image={"repository": self.here}, **sections)

    def write_image(
        self, name: str = "released", files: dict[str, bytes] = FILES, labels: dict[str, str] = LABELS
    ) -> str:
        """Write an archive with one image, and return the digest."""
        layer = compress(packed(files), mtime=0)
        config = archives.encoded(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"User": "10001", "Labels": labels},
                "history": [{"created_by": "COPY app/ /app # buildkit"}],
            }
        )
        manifest = archives.encoded(
            {
                "schemaVersion": 2,
                "mediaType": archives.IMAGE,
                "config": archives.described(config, "application/vnd.oci.image.config.v1+json"),
                "layers": [archives.described(layer, archives.LAYER)],
            }
        )
        blobs = {archives.digest_of(blob): blob for blob in (config, layer, manifest)}
        archives.write(self.path(name), blobs, archives.described(manifest, archives.IMAGE))
        return archives.digest_of(manifest)

    def login(self, login: Credentials, of: str = "here") -> Credentials:
        """The same credentials for one of the two registries."""
        return replace(login, host=(self.here if of == "here" else self.there).partition("/")[0])

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.tar"

    def publish(
        self,
        *tags: str,
        repository: str = "",
        files: dict[str, bytes] = FILES,
        labels: dict[str, str] = LABELS,
    ) -> str:
        """Push an image with its SBOM, and return the digest. A trusted workflow vouches for it."""
        digest = self.write_image("released", files, labels)

        async def push(there: Repository) -> None:
            await there.push(self.path("released"), digest)
            await there.attach(digest, cosign.SBOM_MEDIA_TYPE, DOCUMENT, {})
            for tag in tags:
                await there.tag(digest, tag)

        self.run_at(repository or self.here, push)
        self.stages.verified = create_verified(digest)
        return digest

    def publish_signed(self, *tags: str, **more: Any) -> str:  # noqa: ANN401 - as `publish` has them
        """The same with a bundle of the trusted signer, which has every attestation of the image."""
        digest = self.publish(*tags, **more)
        self.attach(digest, create_bundle(TRUSTED), BUNDLE)
        return digest

    def attach(self, digest: str, document: bytes, kind: str) -> str:
        """Attach a document as anybody who may push there can, and return its digest."""
        return self.run_at(self.here, lambda there: there.attach(digest, kind, document, {}))

    def run_at(self, repository: str, work: Callable[[Repository], Awaitable[Result]]) -> Result:
        """Do something at a registry without the command that is tested."""

        async def done() -> Result:
            async with registry.repository.open_repository(repository, None) as there:
                return await work(there)

        return anyio.run(done)

    def read_tags(self, repository: str) -> dict[str, str]:
        """The digest of each tag, without the lists of referrers."""

        async def read_tags(there: Repository) -> dict[str, str]:
            tags = [tag for tag in await there.list_tags() if not tag.startswith("sha256-")]
            return {tag: await there.get_digest(tag) or "" for tag in sorted(tags)}

        return self.run_at(repository, read_tags)

    def referrers(self, repository: str, digest: str) -> tuple[Descriptor, ...]:
        return self.run_at(repository, lambda there: there.list_referrers(digest))

    def verify(self, asked: Reference, plan: Plan | None = None) -> Assessment:
        return anyio.run(verify, plan or self.plan, asked, self.stages.connect, self.listener)

    def promote(self, source: Reference, target: Reference, plan: Plan | None = None) -> Assessment:
        return anyio.run(promote, plan or self.plan, source, target, self.stages.connect, self.listener)

    def rescan(self, *records: Release, plan: Plan | None = None) -> Assessment:
        return anyio.run(rescan, plan or self.plan, records, self.stages.connect, self.listener)

    def reproduce(self, digest: str, record: Release | None = None, plan: Plan | None = None) -> Assessment:
        return anyio.run(reproduce, plan or self.plan, digest, record, self.stages.connect, self.listener)

    def record(self, digest: str, repository: str = "") -> Release:
        return examples.release(digest).model_copy(update={"image": f"{repository or self.here}:1.2.3@{digest}"})


def create_verified(digest: str, builder: Builder = BY_WORKFLOW, **changed: object) -> Verified:
    """Everything that a trusted workflow says about an image."""
    about = examples.image().model_copy(update={"manifest_digest": digest})
    report = examples.report(image=about, updates=Updates(), **changed)
    said = {
        cosign.SBOM: SBOM,
        cosign.PROVENANCE: attestations.create_provenance(report, builder),
        cosign.VERDICT: attestations.create_verdict(report),
    }
    envelope = cosign.parse_bundle(create_bundle(TRUSTED))
    assert envelope
    signed = {kind: (Statement((digest,), kind, predicate, envelope.envelope),) for kind, predicate in said.items()}
    return Verified("", signed, {})


def create_bundle(signature: str, *, by_key: bool = False) -> bytes:
    """A bundle with this signature in it, as cosign leaves it in a registry."""
    encoded = base64.b64encode(signature.encode()).decode()
    envelope = {"payload": "e30=", "payloadType": cosign.IN_TOTO, "signatures": [{"sig": encoded}]}
    signer = {"publicKey": {"hint": ""}} if by_key else {"certificate": {"rawBytes": "MIIC"}}
    return json.dumps({"mediaType": BUNDLE, "verificationMaterial": signer, "dsseEnvelope": envelope}).encode()
