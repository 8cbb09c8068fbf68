from __future__ import annotations

import json

import pytest

from drydock.errors import RegistryError, UsageError, VersionTaken
from drydock.oci import media_types
from drydock.oci.reference import Reference
from drydock.oci.registry import Repository, referrers
from drydock.oci.registry import manifest as values
from drydock.report import CheckResult, Verdict
from drydock.tools import cosign
from drydock.tools.cosign import Verified
from tests.integration.registry import proxy
from tests.integration.registry.proxy import ALWAYS, Door, Rule
from tests.support import examples
from tests.support.published_images import (
    BUNDLE,
    DOCUMENT,
    OTHER_COMMIT,
    TRUSTED,
    Registries,
    create_bundle,
    create_verified,
)

pytestmark = pytest.mark.registry


def test_an_image_is_promoted_with_all_that_belongs_to_it_and_its_version(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    assessment = registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    assert assessment.exit_code == 0
    assert assessment.conclusion == f"promoted   {registries.there}:1.2.3@{digest}"
    assert [row.name for row in assessment.checks][:2] == ["signature", "provenance"]
    assert assessment.checks[-1] == CheckResult(
        name="copied", measured="1 image, 2 of 2 referrers", limit="", verdict=Verdict.PASS
    )
    assert registries.read_tags(registries.there) == {"1": digest, "1.2": digest, "1.2.3": digest}
    assert registries.referrers(registries.there, digest) == registries.referrers(registries.here, digest)
    assert registries.listener.events == [
        (event, stage) for stage in ("verify", "builder", "copy", "tag") for event in ("started", "finished")
    ]


def test_what_strangers_attached_is_named_and_left(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    ours = registries.referrers(registries.here, digest)
    strangers = [
        registries.attach(digest, b'{"bomFormat": "CycloneDX", "components": []}', cosign.SBOM_MEDIA_TYPE),
        registries.attach(digest, b'{"components": [], ' + DOCUMENT[1:], cosign.SBOM_MEDIA_TYPE),
        registries.attach(digest, b"not JSON", cosign.SBOM_MEDIA_TYPE),
        registries.attach(digest, create_bundle("of a stranger"), BUNDLE),
        registries.attach(digest, b"[]", BUNDLE),
        registries.attach(digest, DOCUMENT, "text/plain\x1b[2J"),
    ]
    # What refers to a verified document is not the verified document.
    registries.attach(ours[0].digest, create_bundle(TRUSTED), BUNDLE)
    assessment = registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    assert assessment.exit_code == 0
    assert registries.referrers(registries.there, digest) == ours
    assert registries.referrers(registries.there, ours[0].digest) == ()
    row = assessment.checks[-1]
    assert (row.name, row.measured, row.verdict) == ("copied", "1 image, 2 of 8 referrers", Verdict.WARN)
    assert [detail.partition(",")[0] for detail in row.details] == [f"left {stranger}" for stranger in strangers]


def test_a_verified_document_brings_nothing_else_with_it(registries: Registries) -> None:
    """A manifest of a stranger's may name a bundle that verified, and anything besides."""
    digest = registries.publish_signed("1.2.3")
    other = registries.attach(digest, b"2 GB of it", "a/large")

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

    made = registries.run_at(registries.here, meddle)
    row = registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there)).checks[-1]
    assert row.measured == "1 image, 2 of 6 referrers"
    assert [detail.split()[1].strip(",") for detail in row.details] == [other, *made]


def test_of_many_that_are_left_some_are_named(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    for number in range(12):
        registries.attach(digest, str(number).encode(), "a/kind")
    row = registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there)).checks[-1]
    assert (row.measured, len(row.details), row.details[-1]) == ("1 image, 2 of 14 referrers", 11, "left 2 more")


@pytest.mark.parametrize(("limit", "value"), [("DOCUMENTS_LIMIT", 2), ("DOCUMENTS_BYTES", 700)])
def test_what_is_read_of_strangers_has_a_bound(
    limit: str, value: int, registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = registries.publish("1.2.3")
    for number in range(2):
        registries.attach(digest, create_bundle(f"of stranger {number} {' ' * 200}"), BUNDLE)
    registries.attach(digest, create_bundle(TRUSTED), BUNDLE)
    monkeypatch.setattr(referrers, limit, value)
    with pytest.raises(RegistryError) as missing:
        registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    assert missing.value.message == f"{registries.here} does not serve all that verified of {digest}"
    assert registries.run_at(registries.there, lambda there: there.get_digest(digest)) is None


def test_a_promoted_image_gets_the_tag_that_was_asked_for(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    assessment = registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there, "stable"))
    assert assessment.conclusion == f"promoted   {registries.there}:stable@{digest}"
    assert registries.read_tags(registries.there) == {"stable": digest}


def test_an_image_that_is_named_by_its_digest_alone_gets_no_tag(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    assessment = registries.promote(Reference(registries.here, digest=digest), Reference(registries.there))
    assert assessment.conclusion == f"promoted   {registries.there}@{digest}"
    assert registries.read_tags(registries.there) == {}
    assert registries.run_at(registries.there, lambda there: there.get_digest(digest)) == digest


def test_a_version_can_be_named_as_git_has_it(registries: Registries) -> None:
    digest = registries.publish_signed("main")
    assessment = registries.promote(Reference(registries.here, "main"), Reference(registries.there, "v1.2.3"))
    assert assessment.conclusion == f"promoted   {registries.there}:1.2.3@{digest}"
    assert registries.read_tags(registries.there) == {"1": digest, "1.2": digest, "1.2.3": digest}


def test_no_image_is_promoted_to_be_another_version_than_it_was_built_as(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    assessment = registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there, "1.2.4"))
    assert assessment.exit_code == 1
    assert [row.name for row in assessment.checks if row.verdict is Verdict.FAIL] == ["tag"]
    assert registries.run_at(registries.there, lambda there: there.get_digest(digest)) is None


@pytest.mark.parametrize(
    ("source", "target"), [("1.2.4", "stable"), ("1.3", "v1.2.3"), (OTHER_COMMIT, f"sha-{examples.COMMIT}")]
)
def test_no_image_is_promoted_that_is_not_what_its_source_is_called(
    source: str, target: str, registries: Registries
) -> None:
    """A version that was rolled back to another image is the same fraud, whatever the image is called afterwards."""
    digest = registries.publish_signed(source)
    assessment = registries.promote(Reference(registries.here, source), Reference(registries.there, target))
    assert assessment.exit_code == 1
    assert [row.limit for row in assessment.checks if row.verdict is Verdict.FAIL] == [source]
    assert registries.run_at(registries.there, lambda there: there.get_digest(digest)) is None


@pytest.mark.parametrize("source", ["1.2.3", "1.2", f"sha-{examples.COMMIT}"])
def test_source_and_target_are_both_compared_with_what_was_signed(source: str, registries: Registries) -> None:
    registries.publish_signed(source)
    assessment = registries.promote(Reference(registries.here, source), Reference(registries.there, "v1.2.3"))
    assert assessment.exit_code == 0
    limits = [row.limit for row in assessment.checks if row.name == "tag"]
    assert limits == ([source] if source == "1.2.3" else [source, "1.2.3"])


@pytest.mark.parametrize("tag", ["latest", "1.2", "v1"])
def test_no_image_is_promoted_to_a_tag_that_a_run_refuses(tag: str, registries: Registries) -> None:
    registries.publish_signed("1.2.3", tag)
    for source, target in ((Reference(registries.here, "1.2.3"), tag), (Reference(registries.here, tag), "")):
        with pytest.raises(UsageError) as refused:
            registries.promote(source, Reference(registries.there, target))
        assert refused.value.message.startswith("the promoted tag ")
    assert registries.opened_repositories == []


def test_what_is_promoted_twice_is_there_once(registries: Registries) -> None:
    registries.publish_signed("1.2.3")
    once = registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    state = registries.read_tags(registries.there)
    assert registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there)) == once
    assert registries.read_tags(registries.there) == state


def test_nothing_is_copied_of_an_image_that_is_refused(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    registries.stages.verified = Verified("no signatures found", {}, {})
    assessment = registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    assert assessment.exit_code == 1
    assert assessment.conclusion == f"refused    8 of 8 lines fail for {registries.here}:1.2.3@{digest}"
    assert {repository for repository, _ in registries.opened_repositories} == {registries.here}
    assert registries.run_at(registries.there, lambda there: there.get_digest(digest)) is None


def test_an_image_that_cannot_be_looked_at_is_not_copied(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    registries.stages.breaks = {"verify": RegistryError("no answer", next_step="run again")}
    with pytest.raises(RegistryError, match="no answer"):
        registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    assert registries.run_at(registries.there, lambda there: there.get_digest(digest)) is None


def test_an_image_on_local_base_images_never_leaves_this_machine(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    registries.stages.verified = create_verified(digest, images=examples.LOCAL)
    with pytest.raises(UsageError) as refused:
        registries.promote(Reference(registries.here, "1.2.3"), Reference("ghcr.io/owner/name"))
    assert refused.value.message == (
        f"{registries.here}:1.2.3 was built on local base images and cannot leave this machine"
    )
    assert {repository for repository, _ in registries.opened_repositories} == {registries.here}


def test_an_image_on_local_base_images_may_go_to_another_registry_of_this_machine(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    registries.stages.verified = create_verified(digest, images=examples.LOCAL)
    assert registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there)).exit_code == 0
    assert registries.read_tags(registries.there)["1.2.3"] == digest


def test_without_all_that_belongs_to_it_a_promoted_image_gets_no_tag(registries: Registries, door: Door) -> None:
    digest = registries.publish_signed("1.2.3")
    listed = rf"/manifests/{digest.replace(':', '-')}$"
    nothing = values.canonical_json({"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "manifests": []})
    # Read twice while each is added to the list; what is lost then is lost to somebody else who writes it.
    door.rules += [Rule("GET", listed, proxy.passes, times=4), Rule("GET", listed, proxy.rewrites(nothing), ALWAYS)]
    with pytest.raises(RegistryError) as incomplete:
        registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    assert incomplete.value.message == f"{registries.there} does not list all that belongs to {digest}"
    assert incomplete.value.next_step == "run again; what is there already is not sent twice"
    assert registries.read_tags(registries.there) == {}


def test_what_is_promoted_is_out_though_no_tag_moves_there(registries: Registries, door: Door) -> None:
    registries.publish("1.2.2", "1.2", "1", repository=registries.there, files={"app/server.py": b"before"})
    digest = registries.publish_signed("1.2.3")
    act = proxy.keeps_tags(412, "PRECONDITION")
    door.rules.append(Rule("PUT", r"/manifests/(?!sha256[:-])", act, ALWAYS))
    assessment = registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    assert (assessment.exit_code, assessment.conclusion) == (0, f"promoted   {registries.there}:1.2.3@{digest}")
    assert (assessment.checks[-1].verdict, assessment.checks[-1].measured) == (
        Verdict.WARN,
        "1.2, 1 stay where they are",
    )


def test_a_registry_that_takes_images_only_is_no_place_for_what_is_to_be_verified(
    registries: Registries, door: Door
) -> None:
    registries.publish_signed("1.2.3")
    door.rules.append(Rule("PUT", "/manifests/", proxy.takes_images_only, ALWAYS))
    with pytest.raises(RegistryError) as refused:
        registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    assert refused.value.message.startswith(f"{registries.there} takes the image, and nothing that belongs to it: ")
    assert refused.value.next_step == "use a repository for OCI artifacts, or a newer version of the registry"
    assert registries.read_tags(registries.there) == {}


def test_what_is_not_served_after_all_gets_no_tag(registries: Registries, door: Door) -> None:
    digest = registries.publish_signed("1.2.3")
    by_digest = rf"/manifests/{digest}$"
    door.rules += [Rule("GET", by_digest, proxy.passes), Rule("GET", by_digest, proxy.answers(404), ALWAYS)]
    with pytest.raises(RegistryError, match=f"does not list all that belongs to {digest}"):
        registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    assert registries.read_tags(registries.there) == {}


def test_a_version_that_is_another_image_there_stays_it(registries: Registries) -> None:
    theirs = registries.publish("1.2.3", repository=registries.there, files={"a": b"theirs"})
    registries.publish_signed("1.2.3")
    with pytest.raises(VersionTaken):
        registries.promote(Reference(registries.here, "1.2.3"), Reference(registries.there))
    assert registries.read_tags(registries.there) == {"1.2.3": theirs}
