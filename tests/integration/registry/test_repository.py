from __future__ import annotations

import json
import tarfile
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import anyio
import pytest

from drydock.errors import RegistryError, VersionTaken
from drydock.oci import archive, registry
from drydock.oci.media_types import IMAGE_INDEX
from drydock.oci.registry import Repository, tagging, transfer
from drydock.oci.registry.manifest import Descriptor, Manifest, canonical_json, parse_manifest
from drydock.oci.tags import ImageTags, Order
from drydock.stages import signer
from drydock.tools.cosign import PublicKey, Verified
from tests.integration.registry import archives, program, proxy, referring
from tests.integration.registry.proxy import ALWAYS, Door, Rule

Result = TypeVar("Result")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LABELS = {"commit": tagging.REVISION_LABEL, "model": tagging.MODEL_LABEL}
SBOM = "application/vnd.cyclonedx+json"


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    """A registry that knows no referrers."""
    with program.running() as (host, _):
        yield host


@pytest.fixture(scope="module")
def listing(plain: str) -> Iterator[Door]:
    """One that lists them itself."""
    with referring.listing(plain) as door:
        yield door


@asynccontextmanager
async def opened(host: str) -> AsyncIterator[Repository]:
    async with registry.open_repository(f"{host}/test-{uuid.uuid4().hex[:12]}", None) as repository:
        yield repository


def within(host: str, work: Callable[[Repository], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        async with opened(host) as repository:
            return await work(repository)

    return anyio.run(run)


async def pushed(
    repository: Repository, path: Path, content: str = "ours", created: datetime = NOON, **labels: str
) -> str:
    named = {LABELS[name]: value for name, value in labels.items()}
    digest = archives.image(path, content.encode(), created=created.isoformat(), labels=named)
    await repository.push(path, digest)
    return digest


def types(found: tuple[Descriptor, ...]) -> list[str]:
    return [each.artifact_type for each in found]


def fallback(subject: str) -> str:
    return subject.replace(":", "-")


def test_a_document_is_attached_once_and_listed_under_the_images_own_tag(plain: str, tmp_path: Path) -> None:
    async def work(repository: Repository) -> None:
        digest = await pushed(repository, tmp_path / "image.tar")
        first = await repository.attach(digest, SBOM, b"{}", {"made": "today"})
        assert await repository.attach(digest, SBOM, b"{}", {"made": "today"}) == first
        second = await repository.attach(digest, SBOM, b"[]", {})
        assert second != first
        found = await repository.list_referrers(digest)
        assert [each.digest for each in found] == [first, second]
        assert (found[0].artifact_type, found[0].annotations) == (SBOM, {"made": "today"})
        assert await repository.list_tags() == (fallback(digest),)

    within(plain, work)


def test_a_registry_that_lists_referrers_gets_no_tag_for_them(listing: Door, tmp_path: Path) -> None:
    async def work(repository: Repository) -> None:
        digest = await pushed(repository, tmp_path / "image.tar")
        assert await repository.list_referrers(digest) == ()
        for kind in ("a/one", "a/two", "a/three"):
            await repository.attach(digest, kind, b"{}", {})
        assert types(await repository.list_referrers(digest)) == ["a/one", "a/two", "a/three"]
        assert await repository.list_tags() == ()

    within(listing.host, work)


@pytest.mark.parametrize("source_lists", [False, True], ids=["from tags", "from a list"])
@pytest.mark.parametrize("target_lists", [False, True], ids=["to tags", "to a list"])
def test_a_copy_takes_along_what_it_is_given_of_what_refers_to_it(
    plain: str, listing: Door, tmp_path: Path, source_lists: bool, target_lists: bool
) -> None:
    async def work() -> None:
        async with (
            opened(listing.host if source_lists else plain) as source,
            opened(listing.host if target_lists else plain) as target,
        ):
            digest = await pushed(source, tmp_path / "image.tar")
            sbom = await source.attach(digest, SBOM, b"{}", {})
            await source.attach(sbom, "a/signature", b"signed", {})
            await source.attach(digest, "a/kind", b"another", {})
            attached = [each async for each in source.list_attachments(digest, (SBOM,))]
            assert [(each.entry.artifact_type, each.document) for each in attached] == [(SBOM, b"{}"), ("a/kind", b"")]
            await source.copy(digest, target, [each.manifest for each in attached if each.manifest])
            assert [each.digest for each in await target.list_referrers(digest)] == [sbom]
            assert await target.list_referrers(sbom) == ()
            for each in (digest, sbom):
                here, there = await source.get_manifest(each), await target.get_manifest(each)
                assert here
                assert there
                assert here.content == there.content
            assert [tag for tag in await target.list_tags() if not tag.startswith("sha256-")] == []
            assert bool(await target.list_tags()) is not target_lists

    anyio.run(work)


def test_a_family_is_walked_once_however_its_members_are_related() -> None:
    """Each of twenty levels names both indexes of the next one: 41 manifests, and a million ways to the last."""
    levels = [[index([], "a"), index([], "b")]]
    for _ in range(19):
        below = [each.descriptor.to_json() for each in levels[-1]]
        levels.append([index(below, "a"), index(below, "b")])
    root = index([each.descriptor.to_json() for each in levels[-1]], "")
    source = Manifests({each.digest: each for level in [*levels, [root]] for each in level})
    found = anyio.run(transfer.resolve_manifests, source, root.digest)
    assert len(found) == 41
    assert sorted(source.fetched) == sorted(each.digest for each in found)
    place = {each.digest: number for number, each in enumerate(found)}
    assert all(place[child.digest] < place[each.digest] for each in found for child in each.children)


def test_a_family_may_be_deep_and_has_a_bound() -> None:
    chain = [index([], "")]
    for _ in range(transfer.MANIFESTS_LIMIT + 200):
        chain.append(index([chain[-1].descriptor.to_json()], ""))
    source = Manifests({each.digest: each for each in chain})
    deep = chain[transfer.MANIFESTS_LIMIT // 2 - 2]
    assert anyio.run(transfer.resolve_manifests, source, deep.digest)[-1] == deep
    with pytest.raises(RegistryError, match=f"names more than {transfer.MANIFESTS_LIMIT} manifests"):
        anyio.run(transfer.resolve_manifests, source, chain[-1].digest)


def index(children: list[dict[str, Any]], name: str) -> Manifest:
    written = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": children, "annotations": {"name": name}}
    return parse_manifest(canonical_json(written), IMAGE_INDEX)


@dataclass
class Manifests:
    """A registry of indexes, which notes what it was asked for."""

    by_digest: dict[str, Manifest]
    display_name: str = "registry.example/name"
    fetched: list[str] = field(default_factory=list)

    async def get_manifest(self, digest: str, /) -> Manifest | None:
        self.fetched.append(digest)
        return self.by_digest.get(digest)

    def stream_blob(self, blob: Descriptor, /) -> AsyncGenerator[bytes, None]:
        raise NotImplementedError


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
def test_where_cosign_cannot_look_there_is_no_verdict(status: int, plain: str, tmp_path: Path) -> None:
    """cosign 3.1.3 says of an answer like 405 that nothing matches, whatever was signed."""

    async def looked(host: str, name: str, digest: str) -> Verified:
        return await signer.verify_image("cosign", f"{host}/{name}", digest, PublicKey("of a test"), None, ())

    async def pushed_here(repository: Repository) -> tuple[str, str]:
        return repository.connection.name, await pushed(repository, tmp_path / "image.tar")

    name, digest = within(plain, pushed_here)
    with proxy.before(plain) as door, pytest.MonkeyPatch.context() as patch:
        door.rules.append(Rule("GET", "/referrers/", proxy.answers(status, "UNSUPPORTED"), ALWAYS))
        nothing = signer._Answer(1, "", "no matching attestations")
        patch.setattr(signer, "dag", mock.MagicMock())
        patch.setattr(signer, "_run_verification", mock.AsyncMock(return_value=nothing))
        if status in (405, 501):
            with pytest.raises(RegistryError, match=f"could not be verified: {door.host} answered {status}"):
                anyio.run(looked, door.host, name, digest)
        else:
            assert anyio.run(looked, door.host, name, digest).signature_failure == "no matching attestations"


def test_an_index_is_copied_with_its_images(plain: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(plain) as source, opened(plain) as target:
            digests = [await pushed(source, tmp_path / f"{name}.tar", name) for name in ("amd64", "arm64")]
            entries = [found.descriptor.to_json() for each in digests if (found := await source.get_manifest(each))]
            index = parse_manifest(
                canonical_json({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": entries}), IMAGE_INDEX
            )
            await source.put_manifest(index, index.digest)
            await source.copy(index.digest, target)
            for each in (index.digest, *digests):
                assert await target.get_digest(each) == each

    anyio.run(work)


def test_a_pulled_image_is_the_same_image_and_one_to_trivy_and_docker(plain: str, tmp_path: Path) -> None:
    async def work(repository: Repository) -> None:
        path = tmp_path / "pulled.tar"
        digest = await pushed(repository, tmp_path / "image.tar", "ours" * 10_000)
        await repository.pull(digest, path)
        with tarfile.open(path) as archive:
            for name in ("index.json", "manifest.json", "oci-layout"):
                assert archive.extractfile(name)
            docker = archive.extractfile("manifest.json")
            [described] = json.load(docker) if docker else [{}]
            assert {described["Config"], *described["Layers"]} < set(archive.getnames())
        async with opened(plain) as another:
            await another.push(path, digest)
            assert await another.get_digest(digest) == digest
        assert sorted(each.name for each in tmp_path.iterdir()) == ["image.tar", "pulled.tar"]

    within(plain, work)


def test_what_is_not_there_is_not_pulled_and_leaves_nothing(plain: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="has no manifest sha256:"):
        within(plain, lambda repository: repository.pull("sha256:" + "0" * 64, tmp_path / "none.tar"))
    assert list(tmp_path.iterdir()) == []


def test_a_branchs_tag_goes_forward_and_never_back(plain: str, tmp_path: Path) -> None:
    async def work(repository: Repository) -> None:
        async def built(content: str, created: datetime) -> tuple[str, tuple[str, ...]]:
            digest = await pushed(repository, tmp_path / "image.tar", content, created)
            name = ImageTags(tag=f"sha-{content}", branch="main")
            return digest, (await tagging.apply_tags(repository, digest, name, created, settle_seconds=0)).tags

        second, tags = await built("second", NOON)
        assert tags == ("sha-second", "main")
        _, tags = await built("first", NOON - timedelta(minutes=1))
        assert tags == ("sha-first",)
        assert await repository.get_digest("main") == second
        third, tags = await built("third", NOON + timedelta(minutes=1))
        assert tags == ("sha-third", "main")
        assert await repository.get_digest("main") == third

    within(plain, work)


def test_a_branchs_tag_follows_the_history_and_no_clock(plain: str, tmp_path: Path) -> None:
    """Commits a, b and c come one after the other, by clocks that run backwards; d is in no history of theirs."""

    async def work(repository: Repository) -> None:
        async def built(ours: str) -> tagging.TagResult:
            created = NOON - timedelta(minutes=ord(ours))
            digest = await pushed(repository, tmp_path / "image.tar", ours, created, commit=ours)

            def order(theirs: str) -> Order:
                if "d" in (ours, theirs):
                    return "apart"
                return "after" if theirs > ours else "before" if theirs < ours else "apart"

            name = ImageTags(tag=f"built-from-{ours}", branch="main")
            return await tagging.apply_tags(repository, digest, name, created, settle_seconds=0, order=order)

        for commit in ("a", "b", "c"):
            assert (await built(commit)).tags == (f"built-from-{commit}", "main")
        late = await built("b")
        assert late.tags == ("built-from-b",)
        assert late.unmoved == {
            "main": f"it leads to an image of a later commit, c of {(NOON - timedelta(minutes=99)).isoformat()}"
        }
        # A branch that was pushed by force.
        assert (await built("d")).tags == ("built-from-d", "main")

    within(plain, work)


@pytest.mark.parametrize("theirs", ["before", "after", "apart", ""])
def test_two_runs_of_one_branch_do_not_write_its_tag_for_ever(
    theirs: Order, plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run writes the tag whenever ours has."""

    async def work(repository: Repository) -> None:
        ours = await pushed(repository, tmp_path / "ours.tar", "ours", commit="a")
        other = await pushed(repository, tmp_path / "other.tar", "other", commit="b")
        writes = 0
        move = Repository.move_tag

        async def contested(self: Repository, digest: str, tag: str) -> str:
            nonlocal writes
            writes += 1
            reason = await move(self, digest, tag)
            if writes == 1:
                await self.tag_unverified(other, tag)
            return reason

        monkeypatch.setattr(Repository, "move_tag", contested)
        reason = await tagging.move_branch(repository, ours, "main", NOON, 0, lambda _: theirs)
        last = ours if theirs == "before" else other
        assert (await repository.get_digest("main"), bool(reason)) == (last, last == other)

    within(plain, work)


def test_a_commits_tag_never_changes_its_model(plain: str, tmp_path: Path) -> None:
    tag = f"sha-{'c' * 40}"

    async def work(repository: Repository) -> None:
        async def built(content: str, model: str, name: ImageTags) -> tagging.TagResult:
            path = tmp_path / "image.tar"
            digest = archives.image(path, content.encode(), labels={LABELS["model"]: model * 64})
            await tagging.push(repository, path, digest, name)
            return await tagging.apply_tags(repository, digest, name, settle_seconds=0)

        first = (await built("first", "a", ImageTags(tag))).tags
        assert first == (tag,)
        served = await repository.get_digest(tag)
        with pytest.raises(VersionTaken) as refused:
            await built("second", "b", ImageTags(tag))
        assert refused.value.message == (
            f"{repository.display_name}:{tag} exists, with the model aaaaaaaaaaaa; this image has bbbbbbbbbbbb"
        )
        assert await repository.get_digest(tag) == served
        assert await repository.get_digest(archives.image(tmp_path / "image.tar", b"second")) is None
        # A release has its version all the same.
        released = await built("third", "b", ImageTags("1.2.3", commit_tag=tag))
        assert released.tags == ("1.2.3", "1.2", "1")
        assert released.unmoved == {tag: "it leads to an image with the model aaaaaaaaaaaa"}
        assert await repository.get_digest(tag) == served
        # The same model in another image, as a release of the same commit is.
        assert (await built("fourth", "a", ImageTags(tag))).previous_digests == {tag: served}
        # A dirty one may be anything.
        for model in "ab":
            assert (await built(model, model, ImageTags(f"{tag}-dirty"))).tags == (f"{tag}-dirty",)

    within(plain, work)


def test_what_a_tag_was_before_is_told(plain: str, tmp_path: Path) -> None:
    async def work(repository: Repository) -> None:
        first = await pushed(repository, tmp_path / "image.tar", "first")
        second = await pushed(repository, tmp_path / "image.tar", "second")
        named = [
            await tagging.apply_tags(repository, digest, ImageTags(tag="mine")) for digest in (first, second, second)
        ]
        assert [each.previous_digests for each in named] == [{}, {"mine": first}, {"mine": second}]
        versions = [
            await tagging.apply_tags(repository, first, ImageTags(tag="1.2.3", commit_tag="sha-a"), settle_seconds=0)
            for _ in "12"
        ]
        every_tag = ("1.2.3", "sha-a", "1.2", "1")
        assert [each.previous_digests for each in versions] == [{}, dict.fromkeys(every_tag, first)]
        assert versions[0].tags == every_tag
        # A release of the same commit has another digest, and takes the commit's tag.
        name = ImageTags(tag="1.2.4", commit_tag="sha-a")
        released = await tagging.apply_tags(repository, second, name, settle_seconds=0)
        assert released.previous_digests == dict.fromkeys(("sha-a", "1.2", "1"), first)

    within(plain, work)


def test_the_reader_of_archives_and_the_writer_agree(plain: str, tmp_path: Path) -> None:
    """What `reproduce` compares: an image as it was pulled, read by the room that reads what was built."""

    async def work(repository: Repository) -> None:
        digest = await pushed(repository, tmp_path / "image.tar", "")
        await repository.pull(digest, tmp_path / "pulled.tar")
        with archive.open_archive(tmp_path / "pulled.tar") as layout:
            assert layout.read_image().descriptor["digest"] == digest

    within(plain, work)
