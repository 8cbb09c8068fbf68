from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, tzinfo
from functools import partial
from gzip import compress
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from drydock.errors import RegistryError, ScanError, UsageError, VersionTaken
from drydock.oci import archive as image
from drydock.oci import media_types, registry
from drydock.oci.reference import Reference
from drydock.oci.registry import Credentials, Descriptor, Repository, referrers
from drydock.oci.registry import manifest as values
from drydock.pipeline.plan import Plan
from drydock.pipeline.promote import promote
from drydock.pipeline.reproduce import reproduce
from drydock.pipeline.rescan import rescan
from drydock.pipeline.verify import verify
from drydock.policy import Policy
from drydock.report import (
    Archive,
    Assessment,
    CheckResult,
    Finding,
    Package,
    Release,
    Revision,
    Scan,
    Secret,
    Updates,
    Verdict,
)
from drydock.tools import attestations, cosign
from drydock.tools.attestations import Builder
from drydock.tools.cosign import PublicKey, Statement, Trust, Verified
from tests.integration.registry import archives, program, proxy
from tests.integration.registry.proxy import ALWAYS, Door, Rule
from tests.support import examples
from tests.support.fake_stages import FakeStages, RecordingListener
from tests.unit.checks.test_verification import BY_WORKFLOW, KEYLESS, LABELS, SBOM
from tests.unit.oci.test_archive import packed

pytestmark = pytest.mark.registry

REVISION = "org.opencontainers.image.revision"
LOGIN, SOURCE_LOGIN = Credentials("someone", "s3cret"), Credentials("another", "s3cret")
FILES = {"app/server.py": b"1", "app/model.pkl": b"2"}
DOCUMENT = json.dumps(SBOM, indent=1).encode()
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
TRUSTED = "of a trusted workflow"
Result = TypeVar("Result")


class Noon(datetime):
    """Two days after the scan of the examples."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Noon:
        return cls(2026, 11, 24, 12, tzinfo=tz or UTC)


@dataclass
class Shipyard(FakeStages):
    """Stages that note what they are told; `built` is what a build makes, `scans` what one scan after the other sees.

    `by_builder` is what verifies where only one builder is trusted, if that is something else.
    """

    built: Path = Path("image.tar")
    scans: list[Scan] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    held: list[Path] = field(default_factory=list)
    by_builder: Verified | None = None

    async def build(self, contract: Any) -> Archive:  # noqa: ANN401 - what becomes of it is no matter of these tests
        await super().build(contract)
        return examples.archive(self.built)

    async def import_archive(self, path: Path) -> Archive:
        self.held.append(path)
        return await super().import_archive(path)

    async def scan(self, archive: Archive) -> Scan:
        await super().scan(archive)
        return self.scans.pop(0).model_copy(update={"config_digest": image.read_image(archive.path).config_digest})

    async def verify(self, repository: str, digest: str, trust: Trust) -> Verified:
        self.asked.append((repository, digest))
        found = await super().verify(repository, digest, trust)
        return self.by_builder if self.by_builder and trust != KEYLESS else found


@dataclass
class World:
    """Two registries, a repository of that name at each, and who asked which of them with what."""

    here: str
    there: str
    folder: Path
    stages: Shipyard = field(default_factory=Shipyard)
    listener: RecordingListener = field(default_factory=RecordingListener)
    opened: list[tuple[str, Credentials | None]] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        """What whoever looks at the images here has, with the policy that pushes them here."""
        made = examples.plan(self.folder, policy=self.policy())
        return replace(made, trust=KEYLESS)

    def policy(self, **sections: dict[str, object]) -> Policy:
        return examples.policy(image={"repository": self.here}, **sections)

    def image(self, name: str = "released", files: dict[str, bytes] = FILES, labels: dict[str, str] = LABELS) -> str:
        """An archive with one image; its digest."""
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
        """The same for one of the two registries."""
        return replace(login, host=(self.here if of == "here" else self.there).partition("/")[0])

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.tar"

    def published(
        self,
        *tags: str,
        repository: str = "",
        files: dict[str, bytes] = FILES,
        labels: dict[str, str] = LABELS,
    ) -> str:
        """Push an image with what refers to it; its digest. What is believed of it is all that has to be said."""
        digest = self.image("released", files, labels)

        async def push(there: Repository) -> None:
            await there.push(self.path("released"), digest)
            await there.attach(digest, cosign.SBOM_MEDIA_TYPE, DOCUMENT, {})
            for tag in tags:
                await there.tag(digest, tag)

        self.at(repository or self.here, push)
        self.stages.verified = vouched(digest)
        return digest

    def signed(self, *tags: str, **more: Any) -> str:  # noqa: ANN401 - as `published` has them
        """The same with a bundle of the trusted signer, which has all that is believed of the image."""
        digest = self.published(*tags, **more)
        self.attach(digest, bundle(TRUSTED), BUNDLE)
        return digest

    def attach(self, digest: str, document: bytes, kind: str) -> str:
        """What somebody who may push there attaches to an image; its digest."""
        return self.at(self.here, lambda there: there.attach(digest, kind, document, {}))

    def at(self, repository: str, work: Callable[[Repository], Awaitable[Result]]) -> Result:
        """Do something at a registry by other means than what is tested."""

        async def done() -> Result:
            async with registry.repository.open_repository(repository, None) as there:
                return await work(there)

        return anyio.run(done)

    def state(self, repository: str) -> dict[str, str]:
        """Which digest each tag serves; lists of referrers are no tags of ours."""

        async def state(there: Repository) -> dict[str, str]:
            tags = [tag for tag in await there.list_tags() if not tag.startswith("sha256-")]
            return {tag: await there.get_digest(tag) or "" for tag in sorted(tags)}

        return self.at(repository, state)

    def referrers(self, repository: str, digest: str) -> tuple[Descriptor, ...]:
        return self.at(repository, lambda there: there.list_referrers(digest))

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


def vouched(digest: str, builder: Builder = BY_WORKFLOW, **changed: object) -> Verified:
    """All that a trusted workflow has to say about an image, and says."""
    about = examples.image().model_copy(update={"manifest_digest": digest})
    report = examples.report(image=about, updates=Updates(), **changed)
    said = {
        cosign.SBOM: SBOM,
        cosign.PROVENANCE: attestations.provenance(report, builder),
        cosign.VERDICT: attestations.verdict(report),
    }
    envelope = cosign.bundle(bundle(TRUSTED))
    assert envelope
    signed = {kind: (Statement((digest,), kind, predicate, envelope.envelope),) for kind, predicate in said.items()}
    return Verified("", signed, {})


def bundle(signature: str, *, by_key: bool = False) -> bytes:
    """A bundle with this signature in it, as cosign leaves it in a registry."""
    encoded = base64.b64encode(signature.encode()).decode()
    envelope = {"payload": "e30=", "payloadType": cosign.IN_TOTO, "signatures": [{"sig": encoded}]}
    signer = {"publicKey": {"hint": ""}} if by_key else {"certificate": {"rawBytes": "MIIC"}}
    return json.dumps({"mediaType": BUNDLE, "verificationMaterial": signer, "dsseEnvelope": envelope}).encode()


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[str, str]]:
    with program.running() as (here, _), program.running() as (there, _):
        yield here, there


numbers = itertools.count()


@pytest.fixture
def world(hosts: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    name = f"owner/name-{next(numbers)}"
    world = World(f"{hosts[0]}/{name}", f"{hosts[1]}/{name}", tmp_path / "dist")
    world.folder.mkdir()
    opened = registry.open_repository

    def noted(
        repository: str, login: Credentials | None, on_retry: Callable[[str], None]
    ) -> AbstractAsyncContextManager[Repository]:
        world.opened.append((repository, login))
        return opened(repository, login, on_retry)

    async def at_once(_: float) -> None: ...

    monkeypatch.setattr(registry, "open_repository", noted)
    monkeypatch.setattr("drydock.pipeline.verify.datetime", Noon)
    # Of two runs that push a version at the same moment each waits for the other; here is one.
    monkeypatch.setattr(anyio, "sleep", at_once)
    return world


@pytest.fixture
def door(world: World) -> Iterator[Door]:
    """A door before the other registry."""
    host, _, name = world.there.partition("/")
    with proxy.before(host) as door:
        world.there = f"{door.host}/{name}"
        yield door


# --- verify ---------------------------------------------------------------------------------------------------------


def test_an_image_whose_builders_vouch_for_it_is_verified_by_the_digest_that_its_tag_serves(world: World) -> None:
    digest = world.published("1.2.3")
    assessment = world.verify(Reference(world.here, "1.2.3"))
    assert (assessment.exit_code, assessment.conclusion) == (0, f"verified   {world.here}:1.2.3@{digest}")
    assert [(row.verdict, row.name) for row in assessment.checks] == [
        ("PASS", "signature"),
        ("PASS", "provenance"),
        ("PASS", "tag"),
        ("PASS", "model"),
        ("PASS", "verdict"),
        ("PASS", "last scan"),
        ("PASS", "SBOM"),
        ("PASS", "base images"),
    ]
    assert set(world.stages.asked) == {(world.here, digest)}


def test_what_the_builder_did_not_sign_itself_does_not_count(world: World) -> None:
    digest = world.published("1.2.3")
    world.stages.by_builder = Verified("no signatures found", {}, {})
    assessment = world.verify(Reference(world.here, "1.2.3"))
    assert assessment.conclusion == f"refused    8 of 8 lines fail for {world.here}:1.2.3@{digest}"
    assert world.stages.trusted == [KEYLESS, cosign.exactly(BY_WORKFLOW.id, KEYLESS.issuer)]
    assert world.stages.called == ["connect", "verify", "verify", "disconnect"]
    assert world.listener.events == [
        (event, stage) for stage in ("verify", "builder") for event in ("started", "finished")
    ]


@pytest.mark.parametrize(
    "builder",
    [
        Builder(),
        Builder(BY_WORKFLOW.id.replace("tags/v1.2.3", "heads/evil")),
        Builder(BY_WORKFLOW.id.replace("release.yml", "evil.yml")),
    ],
)
def test_a_builder_that_is_not_trusted_is_asked_for_nothing(builder: Builder, world: World) -> None:
    digest = world.published("1.2.3")
    world.stages.verified = vouched(digest, builder)
    assessment = world.verify(Reference(world.here, "1.2.3"))
    assert [row.name for row in assessment.checks if row.verdict is Verdict.FAIL] == ["provenance"]
    assert world.stages.trusted == [KEYLESS]


def test_the_holder_of_a_key_is_asked_once(world: World) -> None:
    digest, key = world.published("1.2.3"), PublicKey("of a test")
    world.stages.verified = vouched(digest, Builder())
    assert world.verify(Reference(world.here, "1.2.3"), replace(world.plan, trust=key)).exit_code == 0
    assert world.stages.trusted == [key]


@pytest.mark.parametrize("command", ["verify", "promote"])
def test_what_a_key_signed_is_not_verified_without_a_key(command: str, world: World) -> None:
    digest = world.published("1.2.3")
    world.attach(digest, bundle(TRUSTED, by_key=True), BUNDLE)
    asked = Reference(world.here, "1.2.3")
    with pytest.raises(UsageError) as refused:
        world.verify(asked) if command == "verify" else world.promote(asked, Reference(world.there))
    assert refused.value.message == f"{asked} was signed with a key, and no public key was given to verify it"
    assert refused.value.next_step == (
        'give the public key of the releaser: --key FILE, or key = "cosign.pub" under [trust] in the policy'
    )
    assert world.stages.called == []


def test_a_strangers_key_keeps_no_workflows_signature_from_being_verified(world: World) -> None:
    digest = world.signed("1.2.3")
    world.attach(digest, bundle("of a stranger", by_key=True), BUNDLE)
    assert world.verify(Reference(world.here, "1.2.3")).exit_code == 0


def test_an_image_can_be_verified_by_its_digest_alone(world: World) -> None:
    digest = world.published("1.2.3")
    assessment = world.verify(Reference(world.here, digest=digest))
    assert (assessment.exit_code, assessment.conclusion) == (0, f"verified   {world.here}@{digest}")
    assert "tag" not in [row.name for row in assessment.checks]


def test_a_tag_that_has_moved_on_is_told_of(world: World) -> None:
    digest = world.published("1.2.3")
    assert world.verify(Reference(world.here, "1.2.3", digest)).exit_code == 0
    world.published("1.2.3", files={"a": b"later"})
    with pytest.raises(RegistryError) as moved:
        world.verify(Reference(world.here, "1.2.3", digest))
    assert moved.value.message == f"{world.here}:1.2.3 serves another image than {digest}"


@pytest.mark.parametrize(("tag", "against"), [("1.2.3", 8), ("main", 7)])
def test_an_image_that_nobody_signed_is_refused(tag: str, against: int, world: World) -> None:
    digest = world.published(tag)
    world.stages.verified = Verified("no signatures found", {}, {})
    assessment = world.verify(Reference(world.here, tag))
    assert assessment.exit_code == 1
    assert assessment.conclusion == f"refused    {against} of 8 lines fail for {world.here}:{tag}@{digest}"


OTHER_COMMIT = f"sha-{'f' * 40}"


@pytest.mark.parametrize(
    ("tag", "measured"),
    [
        *(
            ("1.2.4", "built as 1.2.3"),
            ("v1.2.4", "built as 1.2.3"),
            ("1.3", "built as 1.2.3"),
            ("2", "built as 1.2.3"),
        ),
        (OTHER_COMMIT, f"built from {examples.COMMIT}"),
    ],
)
def test_a_tag_that_points_to_another_image_is_refused(tag: str, measured: str, world: World) -> None:
    digest = world.published(tag)
    assessment = world.verify(Reference(world.here, tag))
    assert assessment.conclusion == f"refused    1 of 8 lines fail for {world.here}:{tag}@{digest}"
    [row] = [row for row in assessment.checks if row.verdict is Verdict.FAIL]
    assert (row.name, row.measured, row.limit) == ("tag", measured, tag)


@pytest.mark.parametrize("tag", ["v1.2.3", "1.2", f"sha-{examples.COMMIT}"])
def test_a_tag_that_fits_what_was_signed_is_verified(tag: str, world: World) -> None:
    digest = world.published(tag)
    assert world.verify(Reference(world.here, tag, digest)).exit_code == 0


def test_nobody_vouches_for_another_tag_and_a_warning_says_so(world: World) -> None:
    world.published("main")
    assessment = world.verify(Reference(world.here, "main"))
    assert assessment.exit_code == 0
    [row] = [row for row in assessment.checks if row.verdict is Verdict.WARN]
    assert (row.name, row.details[0].partition(":")[0]) == ("tag", "nothing proves this tag")


def test_an_image_is_refused_by_what_its_own_labels_say(world: World) -> None:
    digest = world.published("1.2.3", labels={**LABELS, REVISION: "0" * 40})
    assessment = world.verify(Reference(world.here, "1.2.3"))
    assert assessment.exit_code == 1
    assert assessment.conclusion == f"refused    1 of 8 lines fail for {world.here}:1.2.3@{digest}"


def test_what_is_said_of_another_image_vouches_for_none(world: World) -> None:
    world.published("1.2.3")
    world.stages.verified = vouched(examples.MANIFEST_DIGEST)
    assert world.verify(Reference(world.here, "1.2.3")).exit_code == 1


def test_a_scan_is_as_old_as_it_is_today(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.published("1.2.3")
    monkeypatch.setattr(Noon, "now", classmethod(lambda cls, tz: cls(2026, 12, 24, tzinfo=tz)))
    assessment = world.verify(Reference(world.here, "1.2.3"))
    assert [(row.name, row.measured) for row in assessment.checks if row.verdict is Verdict.FAIL] == [
        ("last scan", "31 days ago")
    ]


@pytest.mark.parametrize(
    "reference", [Reference("", "9.9.9"), Reference("", digest="sha256:" + "0" * 64), Reference("")]
)
def test_what_is_not_there_is_not_verified(reference: Reference, world: World) -> None:
    world.published("1.2.3")
    asked = replace(reference, repository=world.here)
    with pytest.raises(RegistryError) as missing:
        world.verify(asked)
    assert missing.value.message == f"there is no {asked}"
    assert world.stages.called == []


def test_an_index_of_several_platforms_is_no_image_to_verify(world: World) -> None:
    digest = world.published()
    described = {"mediaType": media_types.IMAGE_MANIFEST, "digest": digest, "size": 1}
    index = values.parse_manifest(
        values.canonical_json({"schemaVersion": 2, "manifests": [described]}), media_types.IMAGE_INDEX
    )
    world.at(world.here, lambda there: there.put_manifest(index, "1.2.3"))
    with pytest.raises(RegistryError) as several:
        world.verify(Reference(world.here, "1.2.3"))
    assert several.value.message == f"{world.here}@{index.digest} is no image of one platform"
    assert several.value.next_step == "name the manifest of one platform by its digest"
    assert world.stages.called == []


# --- promote --------------------------------------------------------------------------------------------------------


def test_an_image_is_promoted_with_all_that_belongs_to_it_and_its_version(world: World) -> None:
    digest = world.signed("1.2.3")
    assessment = world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    assert assessment.exit_code == 0
    assert assessment.conclusion == f"promoted   {world.there}:1.2.3@{digest}"
    assert [row.name for row in assessment.checks][:2] == ["signature", "provenance"]
    assert assessment.checks[-1] == CheckResult(
        name="copied", measured="1 image, 2 of 2 referrers", limit="", verdict=Verdict.PASS
    )
    assert world.state(world.there) == {"1": digest, "1.2": digest, "1.2.3": digest}
    assert world.referrers(world.there, digest) == world.referrers(world.here, digest)
    assert world.listener.events == [
        (event, stage) for stage in ("verify", "builder", "copy", "tag") for event in ("started", "finished")
    ]


def test_what_strangers_attached_is_named_and_left(world: World) -> None:
    digest = world.signed("1.2.3")
    ours = world.referrers(world.here, digest)
    strangers = [
        world.attach(digest, b'{"bomFormat": "CycloneDX", "components": []}', cosign.SBOM_MEDIA_TYPE),
        world.attach(digest, b'{"components": [], ' + DOCUMENT[1:], cosign.SBOM_MEDIA_TYPE),
        world.attach(digest, b"not JSON", cosign.SBOM_MEDIA_TYPE),
        world.attach(digest, bundle("of a stranger"), BUNDLE),
        world.attach(digest, b"[]", BUNDLE),
        world.attach(digest, DOCUMENT, "text/plain\x1b[2J"),
    ]
    # What refers to a verified document is not the verified document.
    world.attach(ours[0].digest, bundle(TRUSTED), BUNDLE)
    assessment = world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    assert assessment.exit_code == 0
    assert world.referrers(world.there, digest) == ours
    assert world.referrers(world.there, ours[0].digest) == ()
    row = assessment.checks[-1]
    assert (row.name, row.measured, row.verdict) == ("copied", "1 image, 2 of 8 referrers", Verdict.WARN)
    assert [detail.partition(",")[0] for detail in row.details] == [f"left {stranger}" for stranger in strangers]


def test_a_verified_document_brings_nothing_else_with_it(world: World) -> None:
    """A manifest of a stranger's may name a bundle that verified, and anything besides."""
    digest = world.signed("1.2.3")
    other = world.attach(digest, b"2 GB of it", "a/large")

    async def meddle(there: Repository) -> list[str]:
        found = {each.artifact_type: each.digest for each in await there.list_referrers(digest)}
        genuine, more = await there.get_manifest(found[BUNDLE]), await there.get_manifest(other)
        listed = await there.get_manifest(digest.replace(":", "-"))
        assert genuine
        assert more
        assert listed
        written, largest = json.loads(genuine.content), json.loads(more.content)["layers"][0]
        made = [
            {**written, "layers": [*written["layers"], largest]},
            {**written, "config": largest},
            {**written, "subject": {**written["subject"], "digest": other}},
        ]
        entries = json.loads(listed.content)
        for each in made:
            manifest = values.parse_manifest(values.canonical_json(each), media_types.IMAGE_MANIFEST)
            await there.put_manifest(manifest, manifest.digest)
            entries["manifests"].append(manifest.descriptor.to_json())
        await there.put_manifest(
            values.parse_manifest(values.canonical_json(entries), media_types.IMAGE_INDEX), digest.replace(":", "-")
        )
        return [each["digest"] for each in entries["manifests"][-3:]]

    made = world.at(world.here, meddle)
    row = world.promote(Reference(world.here, "1.2.3"), Reference(world.there)).checks[-1]
    assert row.measured == "1 image, 2 of 6 referrers"
    assert [detail.split()[1].strip(",") for detail in row.details] == [other, *made]


def test_of_many_that_are_left_some_are_named(world: World) -> None:
    digest = world.signed("1.2.3")
    for number in range(12):
        world.attach(digest, str(number).encode(), "a/kind")
    row = world.promote(Reference(world.here, "1.2.3"), Reference(world.there)).checks[-1]
    assert (row.measured, len(row.details), row.details[-1]) == ("1 image, 2 of 14 referrers", 11, "left 2 more")


@pytest.mark.parametrize(("limit", "value"), [("DOCUMENTS_LIMIT", 2), ("DOCUMENTS_BYTES", 700)])
def test_what_is_read_of_strangers_has_a_bound(
    limit: str, value: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = world.published("1.2.3")
    for number in range(2):
        world.attach(digest, bundle(f"of stranger {number} {' ' * 200}"), BUNDLE)
    world.attach(digest, bundle(TRUSTED), BUNDLE)
    monkeypatch.setattr(referrers, limit, value)
    with pytest.raises(RegistryError) as missing:
        world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    assert missing.value.message == f"{world.here} does not serve all that verified of {digest}"
    assert world.at(world.there, lambda there: there.get_digest(digest)) is None


def test_a_promoted_image_gets_the_tag_that_was_asked_for(world: World) -> None:
    digest = world.signed("1.2.3")
    assessment = world.promote(Reference(world.here, "1.2.3"), Reference(world.there, "stable"))
    assert assessment.conclusion == f"promoted   {world.there}:stable@{digest}"
    assert world.state(world.there) == {"stable": digest}


def test_an_image_that_is_named_by_its_digest_alone_gets_no_tag(world: World) -> None:
    digest = world.signed("1.2.3")
    assessment = world.promote(Reference(world.here, digest=digest), Reference(world.there))
    assert assessment.conclusion == f"promoted   {world.there}@{digest}"
    assert world.state(world.there) == {}
    assert world.at(world.there, lambda there: there.get_digest(digest)) == digest


def test_a_version_can_be_named_as_git_has_it(world: World) -> None:
    digest = world.signed("main")
    assessment = world.promote(Reference(world.here, "main"), Reference(world.there, "v1.2.3"))
    assert assessment.conclusion == f"promoted   {world.there}:1.2.3@{digest}"
    assert world.state(world.there) == {"1": digest, "1.2": digest, "1.2.3": digest}


def test_no_image_is_promoted_to_be_another_version_than_it_was_built_as(world: World) -> None:
    digest = world.signed("1.2.3")
    assessment = world.promote(Reference(world.here, "1.2.3"), Reference(world.there, "1.2.4"))
    assert assessment.exit_code == 1
    assert [row.name for row in assessment.checks if row.verdict is Verdict.FAIL] == ["tag"]
    assert world.at(world.there, lambda there: there.get_digest(digest)) is None


@pytest.mark.parametrize(
    ("source", "target"), [("1.2.4", "stable"), ("1.3", "v1.2.3"), (OTHER_COMMIT, f"sha-{examples.COMMIT}")]
)
def test_no_image_is_promoted_that_is_not_what_its_source_is_called(source: str, target: str, world: World) -> None:
    """A version that was rolled back to another image is the same fraud, whatever the image is called afterwards."""
    digest = world.signed(source)
    assessment = world.promote(Reference(world.here, source), Reference(world.there, target))
    assert assessment.exit_code == 1
    assert [row.limit for row in assessment.checks if row.verdict is Verdict.FAIL] == [source]
    assert world.at(world.there, lambda there: there.get_digest(digest)) is None


@pytest.mark.parametrize("source", ["1.2.3", "1.2", f"sha-{examples.COMMIT}"])
def test_source_and_target_are_both_compared_with_what_was_signed(source: str, world: World) -> None:
    world.signed(source)
    assessment = world.promote(Reference(world.here, source), Reference(world.there, "v1.2.3"))
    assert assessment.exit_code == 0
    limits = [row.limit for row in assessment.checks if row.name == "tag"]
    assert limits == ([source] if source == "1.2.3" else [source, "1.2.3"])


@pytest.mark.parametrize("tag", ["latest", "1.2", "v1"])
def test_no_image_is_promoted_to_a_tag_that_a_run_refuses(tag: str, world: World) -> None:
    world.signed("1.2.3", tag)
    for source, target in ((Reference(world.here, "1.2.3"), tag), (Reference(world.here, tag), "")):
        with pytest.raises(UsageError) as refused:
            world.promote(source, Reference(world.there, target))
        assert refused.value.message.startswith("the promoted tag ")
    assert world.opened == []


def test_what_is_promoted_twice_is_there_once(world: World) -> None:
    world.signed("1.2.3")
    once = world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    state = world.state(world.there)
    assert world.promote(Reference(world.here, "1.2.3"), Reference(world.there)) == once
    assert world.state(world.there) == state


def test_nothing_is_copied_of_an_image_that_is_refused(world: World) -> None:
    digest = world.signed("1.2.3")
    world.stages.verified = Verified("no signatures found", {}, {})
    assessment = world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    assert assessment.exit_code == 1
    assert assessment.conclusion == f"refused    8 of 8 lines fail for {world.here}:1.2.3@{digest}"
    assert {repository for repository, _ in world.opened} == {world.here}
    assert world.at(world.there, lambda there: there.get_digest(digest)) is None


def test_an_image_that_cannot_be_looked_at_is_not_copied(world: World) -> None:
    digest = world.signed("1.2.3")
    world.stages.breaks = {"verify": RegistryError("no answer", next_step="run again")}
    with pytest.raises(RegistryError, match="no answer"):
        world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    assert world.at(world.there, lambda there: there.get_digest(digest)) is None


def test_an_image_on_local_base_images_never_leaves_this_machine(world: World) -> None:
    digest = world.signed("1.2.3")
    world.stages.verified = vouched(digest, images=examples.LOCAL)
    with pytest.raises(UsageError) as refused:
        world.promote(Reference(world.here, "1.2.3"), Reference("ghcr.io/owner/name"))
    assert refused.value.message == (f"{world.here}:1.2.3 was built on local base images and cannot leave this machine")
    assert {repository for repository, _ in world.opened} == {world.here}


def test_an_image_on_local_base_images_may_go_to_another_registry_of_this_machine(world: World) -> None:
    digest = world.signed("1.2.3")
    world.stages.verified = vouched(digest, images=examples.LOCAL)
    assert world.promote(Reference(world.here, "1.2.3"), Reference(world.there)).exit_code == 0
    assert world.state(world.there)["1.2.3"] == digest


def test_without_all_that_belongs_to_it_a_promoted_image_gets_no_tag(world: World, door: Door) -> None:
    digest = world.signed("1.2.3")
    listed = rf"/manifests/{digest.replace(':', '-')}$"
    nothing = values.canonical_json({"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "manifests": []})
    # Read twice while each is added to the list; what is lost then is lost to somebody else who writes it.
    door.rules += [Rule("GET", listed, proxy.passes, times=4), Rule("GET", listed, proxy.rewrites(nothing), ALWAYS)]
    with pytest.raises(RegistryError) as incomplete:
        world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    assert incomplete.value.message == f"{world.there} does not list all that belongs to {digest}"
    assert incomplete.value.next_step == "run again; what is there already is not sent twice"
    assert world.state(world.there) == {}


def test_what_is_promoted_is_out_though_no_tag_moves_there(world: World, door: Door) -> None:
    world.published("1.2.2", "1.2", "1", repository=world.there, files={"app/server.py": b"before"})
    digest = world.signed("1.2.3")
    act = proxy.keeps_tags(412, "PRECONDITION")
    door.rules.append(Rule("PUT", r"/manifests/(?!sha256[:-])", act, ALWAYS))
    assessment = world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    assert (assessment.exit_code, assessment.conclusion) == (0, f"promoted   {world.there}:1.2.3@{digest}")
    assert (assessment.checks[-1].verdict, assessment.checks[-1].measured) == (
        Verdict.WARN,
        "1.2, 1 stay where they are",
    )


def test_a_registry_that_takes_images_only_is_no_place_for_what_is_to_be_verified(world: World, door: Door) -> None:
    world.signed("1.2.3")
    door.rules.append(Rule("PUT", "/manifests/", proxy.takes_images_only, ALWAYS))
    with pytest.raises(RegistryError) as refused:
        world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    assert refused.value.message.startswith(f"{world.there} takes the image, and nothing that belongs to it: ")
    assert refused.value.next_step == "use a repository for OCI artifacts, or a newer version of the registry"
    assert world.state(world.there) == {}


def test_what_is_not_served_after_all_gets_no_tag(world: World, door: Door) -> None:
    digest = world.signed("1.2.3")
    by_digest = rf"/manifests/{digest}$"
    door.rules += [Rule("GET", by_digest, proxy.passes), Rule("GET", by_digest, proxy.answers(404), ALWAYS)]
    with pytest.raises(RegistryError, match=f"does not list all that belongs to {digest}"):
        world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    assert world.state(world.there) == {}


def test_a_version_that_is_another_image_there_stays_it(world: World) -> None:
    theirs = world.published("1.2.3", repository=world.there, files={"a": b"theirs"})
    world.signed("1.2.3")
    with pytest.raises(VersionTaken):
        world.promote(Reference(world.here, "1.2.3"), Reference(world.there))
    assert world.state(world.there) == {"1.2.3": theirs}


# --- rescan ---------------------------------------------------------------------------------------------------------

HIGH = examples.HIGH
LESS = HIGH.model_copy(update={"severity": "MEDIUM"})
IN_WORDS = "CVE-2024-24762 HIGH python-multipart 0.0.6, fixed in 0.0.7"


def found(*findings: Finding) -> Scan:
    return examples.scan(findings)


@pytest.mark.parametrize("finding", [None, examples.UNFIXED, LESS], ids=["nothing", "no fix yet", "not severe"])
def test_an_image_that_would_be_published_today_passes(finding: Finding | None, world: World) -> None:
    digest = world.published("1.2.3")
    world.stages.scans = [found(*([finding] if finding else []))]
    assessment = world.rescan(world.record(digest))
    assert assessment.checks == (
        CheckResult(name=f"{world.here}:1.2.3@{digest}", measured="0 new", limit="0", verdict=Verdict.PASS),
    )
    assert (assessment.conclusion, assessment.exit_code) == ("rescanned  1 image", 0)


def test_what_rejects_an_image_today_is_new_and_named(world: World) -> None:
    digest = world.published("1.2.3")
    world.stages.scans = [found(LESS, HIGH, examples.UNFIXED)]
    assessment = world.rescan(world.record(digest))
    assert assessment.checks == (
        CheckResult(
            name=f"{world.here}:1.2.3@{digest}",
            measured="1 new",
            limit="0",
            verdict=Verdict.FAIL,
            details=(IN_WORDS,),
        ),
    )
    assert assessment.conclusion == "rescanned  1 image; 1 should be released again"
    assert assessment.exit_code == 1


def test_a_secret_that_todays_scanner_sees_is_new_and_named(world: World) -> None:
    digest = world.published("1.2.3")
    secret = Secret(rule="github-pat", target="/app/tests/config.env", severity="CRITICAL")
    world.stages.scans = [found().model_copy(update={"secrets": (secret,)})]
    (row,) = world.rescan(world.record(digest)).checks
    assert (row.verdict, row.details) == (Verdict.FAIL, ("github-pat in /app/tests/config.env",))


def test_what_the_policy_ignores_is_known_until_its_last_day(world: World) -> None:
    digest = world.published("1.2.3")
    world.stages.scans = [found(HIGH), found(HIGH)]

    def rescanned(expires: date) -> int:
        policy = examples.ignoring(HIGH, expires).model_copy(update={"image": world.policy().image})
        return world.rescan(world.record(digest), plan=replace(world.plan, policy=policy)).exit_code

    assert rescanned(examples.TODAY) == 0
    assert rescanned(examples.YESTERDAY) == 1


def test_each_image_has_its_line_and_one_that_fails_is_enough(world: World) -> None:
    first, second = world.published("1.2.3"), world.published("1.2.4", files={"a": b"1"})
    world.stages.scans = [found(), found(HIGH)]
    assessment = world.rescan(world.record(first), world.record(second))
    assert [(row.name.partition("@")[2], row.verdict) for row in assessment.checks] == [
        (first, Verdict.PASS),
        (second, Verdict.FAIL),
    ]
    assert assessment.conclusion == "rescanned  2 images; 1 should be released again"
    assert assessment.exit_code == 1
    stages = [f"rescan {digest[7:15]}" for digest in (first, second)]
    assert world.listener.events == [(event, stage) for stage in stages for event in ("started", "finished")]


@pytest.mark.parametrize(("others", "exit_code"), [(found(), 6), (found(HIGH), 1)], ids=["clean", "not clean"])
def test_an_image_that_cannot_be_scanned_keeps_no_other_from_its_line_and_is_not_called_clean(
    others: Scan, exit_code: int, world: World
) -> None:
    digest = world.published("1.2.3")
    world.stages.scans = [others, examples.scan(canary=examples.FOUND.model_copy(update={"found": ()}))]
    gone = world.record(examples.MANIFEST_DIGEST)
    assessment = world.rescan(gone, world.record(digest), world.record(digest))
    first, second, third = assessment.checks
    assert first == CheckResult(
        name=gone.image,
        measured="",
        limit="",
        verdict=Verdict.NOT_RUN,
        details=(
            f"{world.here} has no manifest {examples.MANIFEST_DIGEST}",
            "look at what is there, then run again",
        ),
    )
    assert second.verdict is (Verdict.FAIL if exit_code == 1 else Verdict.PASS)
    assert third.verdict is Verdict.NOT_RUN
    assert third.details[0].startswith("the scanner did not find CVE-1 in canary in the canary")
    assert assessment.exit_code == exit_code
    again = "; 1 should be released again" if exit_code == 1 else ""
    assert assessment.conclusion == f"rescanned  3 images{again}; 2 could not be scanned"
    assert [event for event, _ in world.listener.events] == [
        "started",
        "broke",
        "started",
        "finished",
        "started",
        "broke",
    ]


def test_what_a_broken_tool_said_itself_stands_in_the_line(world: World) -> None:
    digest = world.published("1.2.3")
    world.stages.breaks = {"scan": ScanError("no database", next_step="fetch it", log="FATAL 1\nFATAL 2")}
    assessment = world.rescan(world.record(digest))
    assert assessment.checks[0].details == ("no database", "fetch it", "FATAL 1", "FATAL 2")
    assert assessment.exit_code == 5


def test_without_a_record_nothing_speaks_for_anything(world: World) -> None:
    assessment = world.rescan()
    assert (assessment.conclusion, assessment.exit_code) == ("rescanned  0 images", 1)


def test_what_is_scanned_is_what_the_registry_serves_against_what_its_record_says(world: World) -> None:
    digest = world.published("1.2.3")
    packages = (
        Package(name="Foo_Bar", version="1.0", kind="python", size_bytes=1),
        Package(name="libc6", version="2.41", kind="debian", size_bytes=1),
    )
    world.stages.scans = [found()]
    world.rescan(world.record(digest).model_copy(update={"packages": packages}))
    folder = world.folder / digest.replace(":", "-")
    assert world.stages.held == [folder / "image.tar"]
    [plan] = world.stages.plans
    assert (plan.report_dir, plan.locked_packages) == (folder, {"foo-bar": "1.0"})
    # Its findings stay, and an image is large.
    assert list(folder.iterdir()) == []


def test_a_scan_of_something_else_is_none_of_the_image(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = world.published("1.2.3")
    monkeypatch.setattr(Shipyard, "scan", FakeStages.scan)
    [row] = world.rescan(world.record(digest)).checks
    assert row.verdict is Verdict.NOT_RUN
    assert row.details[0].startswith(f"the scanner read image {examples.CONFIG_DIGEST}, the archive holds sha256:")


# --- reproduce ------------------------------------------------------------------------------------------------------


def test_the_same_commit_gives_the_same_digest(world: World) -> None:
    digest = world.published("1.2.3")
    world.image("again")
    world.stages.built = world.path("again")
    assessment = world.reproduce(digest, world.record(digest))
    assert assessment.checks == (CheckResult(name="digest", measured=digest, limit="", verdict=Verdict.PASS),)
    assert (assessment.conclusion, assessment.exit_code) == (f"reproduced {world.here}@{digest}", 0)
    assert world.stages.called == ["connect", "train", "build", "disconnect"]
    assert world.listener.events == [
        (event, stage) for stage in ("train", "build") for event in ("started", "finished")
    ]


def test_what_is_built_again_has_the_names_that_no_commit_knows(world: World) -> None:
    names = {
        "org.opencontainers.image.version": "1.2.3",
        "org.opencontainers.image.source": "https://mirror.example/owner/name",
    }
    digest = world.published("1.2.3", labels={**LABELS, **names})
    world.image("again")
    world.stages.built = world.path("again")
    world.reproduce(digest, world.record(digest))
    labels = world.stages.plans[-1].labels(examples.MODEL_SHA256)
    assert {key: labels[key] for key in names} == names


def test_nothing_is_reproduced_from_a_work_tree_that_changed(world: World) -> None:
    world.stages.breaks = {"commit": UsageError("the work tree changed", next_step="run again")}
    digest = world.published("1.2.3")
    with pytest.raises(UsageError, match="the work tree changed"):
        world.reproduce(digest, world.record(digest))


def test_where_the_digest_is_another_the_files_that_differ_are_named(world: World) -> None:
    digest = world.published("1.2.3")
    built = world.image("again", {**FILES, "app/model.pkl": b"3", "app/new": b""}, {**LABELS, "a": "b"})
    world.stages.built = world.path("again")
    assessment = world.reproduce(digest, world.record(digest))
    assert assessment.checks == (
        CheckResult(
            name="digest",
            measured=built,
            limit=digest,
            verdict=Verdict.FAIL,
            details=(
                "configuration: config.Labels.a",
                "layer 1: 2 files, from COPY app/ /app",
                "  /app/model.pkl: content",
                "  /app/new: only in this build",
            ),
        ),
    )
    assert assessment.conclusion == f"differs    {world.here}@{digest} cannot be had from this commit here"
    assert assessment.exit_code == 1
    assert world.listener.events[-2:] == [("started", "pull"), ("finished", "pull")]
    assert sorted(path.name for path in world.folder.iterdir()) == ["again.tar"]


@pytest.mark.parametrize("base", ["builder", "base"])
def test_other_base_images_are_told_of_first(base: str, world: World) -> None:
    digest = world.published("1.2.3")
    world.image("again", {})
    world.stages.built = world.path("again")
    record = world.record(digest)
    others = {**record.pinned_images, base: "docker.io/library/python:3.13@sha256:00"}
    [row] = world.reproduce(digest, record.model_copy(update={"pinned_images": others})).checks
    assert row.details[:2] == (
        "the base images are not those of the release",
        "layer 1: 2 files, from COPY app/ /app",
    )


def test_a_digest_alone_is_one_of_the_policys_repository(world: World) -> None:
    digest = world.published()
    world.image("again")
    world.stages.built = world.path("again")
    assert world.reproduce(digest).conclusion == f"reproduced {world.here}@{digest}"


def test_a_record_says_itself_where_its_image_is(world: World) -> None:
    digest = world.published(repository=world.there)
    world.image("again")
    world.stages.built = world.path("again")
    record = world.record(digest, repository=world.there)
    assert world.reproduce(digest, record).conclusion == f"reproduced {world.there}@{digest}"


@pytest.mark.parametrize(
    ("labels", "revision", "what", "next_step"),
    [
        (
            LABELS,
            Revision(commit="2" * 40, dirty=False),
            f"was built from {examples.COMMIT}, and this checkout is {'2' * 40}",
            f"git checkout {examples.COMMIT}, then run again",
        ),
        (
            LABELS,
            Revision(commit=examples.COMMIT, dirty=True),
            f"was built from {examples.COMMIT}, and this checkout is {examples.COMMIT}-dirty",
            f"git checkout {examples.COMMIT}, then run again",
        ),
        (
            {},
            examples.REVISION,
            f"was built from no commit, and this checkout is {examples.COMMIT}",
            "name another image",
        ),
    ],
    ids=["another commit", "more than the commit", "no commit"],
)
def test_what_another_checkout_built_is_not_built_here(
    labels: dict[str, str], revision: Revision, what: str, next_step: str, world: World
) -> None:
    digest = world.published("1.2.3", labels=labels)
    with pytest.raises(UsageError) as refused:
        world.reproduce(digest, plan=replace(world.plan, revision=revision))
    assert (refused.value.message, refused.value.next_step) == (f"{digest} {what}", next_step)
    assert world.stages.called == []


@pytest.mark.parametrize("said", [f"{examples.COMMIT}-dirty", "main; curl x", "\x1b[2J", "--help"])
def test_what_no_checkout_can_be_had_from_is_not_to_be_checked_out(said: str, world: World) -> None:
    digest = world.published(labels={REVISION: said})
    with pytest.raises(UsageError) as refused:
        world.reproduce(digest)
    assert refused.value.next_step == "name another image"
    assert "\x1b" not in refused.value.message


def test_what_is_not_there_is_not_built_again(world: World) -> None:
    with pytest.raises(RegistryError) as missing:
        world.reproduce(examples.MANIFEST_DIGEST)
    assert missing.value.message == f"there is no {world.here}@{examples.MANIFEST_DIGEST}"
    assert world.stages.called == []


# --- credentials ----------------------------------------------------------------------------------------------------


def reading(world: World, command: str, repository: str) -> list[tuple[str, Credentials | None]]:
    """With which credentials a command opens the repository from which it reads; cosign gets the same ones."""
    digest = world.published("1.2.3", repository=repository)
    world.image("again")
    world.stages.built, world.stages.scans = world.path("again"), [found()]
    run = replace(world.plan, login=world.login(LOGIN))
    work: dict[str, Callable[[], object]] = {
        "verify": partial(world.verify, Reference(repository, "1.2.3"), run),
        "rescan": partial(world.rescan, world.record(digest, repository=repository), plan=run),
        "reproduce": partial(world.reproduce, digest, world.record(digest, repository=repository), run),
    }
    work[command]()
    assert {plan.source_login for plan in world.stages.plans} == {login for _, login in world.opened}
    return world.opened


@pytest.mark.parametrize("command", ["verify", "rescan", "reproduce"])
def test_the_registry_of_the_policy_gets_its_credentials_and_no_other_does(command: str, world: World) -> None:
    assert reading(world, command, world.here) == [(world.here, world.login(LOGIN))]
    world.opened.clear()
    world.stages.plans.clear()
    assert reading(world, command, world.there) == [(world.there, None)]


def test_a_repository_beside_the_policys_has_the_same_credentials(world: World) -> None:
    beside = f"{world.here}-too"
    assert reading(world, "verify", beside) == [(beside, world.login(LOGIN))]


def own(world: World, host: str) -> Plan:
    """A plan with credentials of the source's own, which are those of this host."""
    return replace(world.plan, login=world.login(LOGIN), source_login=replace(SOURCE_LOGIN, host=host))


def test_a_source_with_credentials_of_its_own_gets_these(world: World) -> None:
    world.published("1.2.3")
    world.verify(Reference(world.here, "1.2.3"), own(world, world.here.partition("/")[0]))
    assert world.opened == [(world.here, world.login(SOURCE_LOGIN))]


@pytest.mark.parametrize("command", ["verify", "promote", "rescan", "reproduce"])
def test_the_sources_credentials_go_to_no_other_host(command: str, world: World) -> None:
    run, asked = own(world, "staging.example"), Reference(world.there, "1.2.3")
    record = world.record(examples.MANIFEST_DIGEST, repository=world.there)
    if command == "rescan":
        [row] = world.rescan(record, plan=run).checks
        said = row.details[0]
    else:
        work: dict[str, Callable[[], object]] = {
            "verify": partial(world.verify, asked, run),
            "promote": partial(world.promote, asked, Reference(f"{world.here}-prod"), run),
            "reproduce": partial(world.reproduce, record.digest, record, run),
        }
        with pytest.raises(UsageError) as refused:
            work[command]()
        said = refused.value.message
    assert said.startswith(
        "DRYDOCK_SOURCE_USER and DRYDOCK_SOURCE_PASSWORD are those of staging.example, and not of 127"
    )
    assert world.opened == []
    assert world.stages.called == []


def test_the_policys_registry_gets_its_own_credentials_beside_those_of_another(world: World) -> None:
    world.published("1.2.3")
    world.verify(Reference(world.here, "1.2.3"), own(world, "staging.example"))
    assert world.opened == [(world.here, world.login(LOGIN))]


@pytest.mark.parametrize(
    ("login_of", "source_login_of", "target"),
    [("here", "", "here"), ("there", "", "there"), ("there", "here", "there"), ("here", "there", "there")],
    ids=["one host", "the target's alone", "each its own", "the other way round"],
)
def test_each_of_two_registries_gets_its_own_credentials(
    login_of: str, source_login_of: str, target: str, world: World
) -> None:
    world.signed("1.2.3")
    there = world.there if target == "there" else f"{world.here}-too"
    login = world.login(LOGIN, login_of)
    source_login = world.login(SOURCE_LOGIN, source_login_of) if source_login_of else None
    known = {each.host: each for each in (login, source_login) if each}
    run = replace(world.plan, login=login, source_login=source_login)
    world.promote(Reference(world.here, "1.2.3"), Reference(there), run)
    here = known.get(world.here.partition("/")[0])
    assert world.opened == [(world.here, here), (world.here, here), (there, known.get(there.partition("/")[0]))]
    assert [plan.source_login for plan in world.stages.plans] == [here]
