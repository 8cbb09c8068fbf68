from __future__ import annotations

from dataclasses import replace

import pytest

from drydock.errors import RegistryError, UsageError
from drydock.oci import media_types
from drydock.oci.reference import Reference
from drydock.oci.registry import manifest as values
from drydock.report import Verdict
from drydock.tools import cosign
from drydock.tools.attestations import Builder
from drydock.tools.cosign import PublicKey, Verified
from tests.support import examples
from tests.support.published_images import (
    BUNDLE,
    OTHER_COMMIT,
    REVISION,
    TRUSTED,
    Noon,
    Registries,
    create_bundle,
    create_verified,
)
from tests.unit.checks.test_verification import BY_WORKFLOW, KEYLESS, LABELS

pytestmark = pytest.mark.registry


def test_an_image_whose_builders_vouch_for_it_is_verified_by_the_digest_that_its_tag_serves(
    registries: Registries,
) -> None:
    digest = registries.publish("1.2.3")
    assessment = registries.verify(Reference(registries.here, "1.2.3"))
    assert (assessment.exit_code, assessment.conclusion) == (0, f"verified   {registries.here}:1.2.3@{digest}")
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
    assert set(registries.stages.verified_digests) == {(registries.here, digest)}


def test_what_the_builder_did_not_sign_itself_does_not_count(registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    registries.stages.by_builder = Verified("no signatures found", {}, {})
    assessment = registries.verify(Reference(registries.here, "1.2.3"))
    assert assessment.conclusion == f"refused    8 of 8 lines fail for {registries.here}:1.2.3@{digest}"
    assert registries.stages.trusted == [KEYLESS, cosign.trust_identity(BY_WORKFLOW.id, KEYLESS.issuer)]
    assert registries.stages.called == ["connect", "verify", "verify", "disconnect"]
    assert registries.listener.events == [
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
def test_a_builder_that_is_not_trusted_is_asked_for_nothing(builder: Builder, registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    registries.stages.verified = create_verified(digest, builder)
    assessment = registries.verify(Reference(registries.here, "1.2.3"))
    assert [row.name for row in assessment.checks if row.verdict is Verdict.FAIL] == ["provenance"]
    assert registries.stages.trusted == [KEYLESS]


def test_the_holder_of_a_key_is_asked_once(registries: Registries) -> None:
    digest, key = registries.publish("1.2.3"), PublicKey("of a test")
    registries.stages.verified = create_verified(digest, Builder())
    assert registries.verify(Reference(registries.here, "1.2.3"), replace(registries.plan, trust=key)).exit_code == 0
    assert registries.stages.trusted == [key]


@pytest.mark.parametrize("command", ["verify", "promote"])
def test_what_a_key_signed_is_not_verified_without_a_key(command: str, registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    registries.attach(digest, create_bundle(TRUSTED, by_key=True), BUNDLE)
    asked = Reference(registries.here, "1.2.3")
    with pytest.raises(UsageError) as refused:
        registries.verify(asked) if command == "verify" else registries.promote(asked, Reference(registries.there))
    assert refused.value.message == f"{asked} was signed with a key, and no public key was given to verify it"
    assert refused.value.next_step == (
        'give the public key of the releaser: --key FILE, or key = "cosign.pub" under [trust] in the policy'
    )
    assert registries.stages.called == []


def test_a_strangers_key_keeps_no_workflows_signature_from_being_verified(registries: Registries) -> None:
    digest = registries.publish_signed("1.2.3")
    registries.attach(digest, create_bundle("of a stranger", by_key=True), BUNDLE)
    assert registries.verify(Reference(registries.here, "1.2.3")).exit_code == 0


def test_an_image_can_be_verified_by_its_digest_alone(registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    assessment = registries.verify(Reference(registries.here, digest=digest))
    assert (assessment.exit_code, assessment.conclusion) == (0, f"verified   {registries.here}@{digest}")
    assert "tag" not in [row.name for row in assessment.checks]


def test_a_tag_that_has_moved_on_is_told_of(registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    assert registries.verify(Reference(registries.here, "1.2.3", digest)).exit_code == 0
    registries.publish("1.2.3", files={"a": b"later"})
    with pytest.raises(RegistryError) as moved:
        registries.verify(Reference(registries.here, "1.2.3", digest))
    assert moved.value.message == f"{registries.here}:1.2.3 serves another image than {digest}"


@pytest.mark.parametrize(("tag", "against"), [("1.2.3", 8), ("main", 7)])
def test_an_image_that_nobody_signed_is_refused(tag: str, against: int, registries: Registries) -> None:
    digest = registries.publish(tag)
    registries.stages.verified = Verified("no signatures found", {}, {})
    assessment = registries.verify(Reference(registries.here, tag))
    assert assessment.exit_code == 1
    assert assessment.conclusion == f"refused    {against} of 8 lines fail for {registries.here}:{tag}@{digest}"


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
def test_a_tag_that_points_to_another_image_is_refused(tag: str, measured: str, registries: Registries) -> None:
    digest = registries.publish(tag)
    assessment = registries.verify(Reference(registries.here, tag))
    assert assessment.conclusion == f"refused    1 of 8 lines fail for {registries.here}:{tag}@{digest}"
    [row] = [row for row in assessment.checks if row.verdict is Verdict.FAIL]
    assert (row.name, row.measured, row.limit) == ("tag", measured, tag)


@pytest.mark.parametrize("tag", ["v1.2.3", "1.2", f"sha-{examples.COMMIT}"])
def test_a_tag_that_fits_what_was_signed_is_verified(tag: str, registries: Registries) -> None:
    digest = registries.publish(tag)
    assert registries.verify(Reference(registries.here, tag, digest)).exit_code == 0


def test_nobody_vouches_for_another_tag_and_a_warning_says_so(registries: Registries) -> None:
    registries.publish("main")
    assessment = registries.verify(Reference(registries.here, "main"))
    assert assessment.exit_code == 0
    [row] = [row for row in assessment.checks if row.verdict is Verdict.WARN]
    assert (row.name, row.details[0].partition(":")[0]) == ("tag", "nothing proves this tag")


def test_an_image_is_refused_by_what_its_own_labels_say(registries: Registries) -> None:
    digest = registries.publish("1.2.3", labels={**LABELS, REVISION: "0" * 40})
    assessment = registries.verify(Reference(registries.here, "1.2.3"))
    assert assessment.exit_code == 1
    assert assessment.conclusion == f"refused    1 of 8 lines fail for {registries.here}:1.2.3@{digest}"


def test_what_is_said_of_another_image_vouches_for_none(registries: Registries) -> None:
    registries.publish("1.2.3")
    registries.stages.verified = create_verified(examples.MANIFEST_DIGEST)
    assert registries.verify(Reference(registries.here, "1.2.3")).exit_code == 1


def test_a_scan_is_as_old_as_it_is_today(registries: Registries, monkeypatch: pytest.MonkeyPatch) -> None:
    registries.publish("1.2.3")
    monkeypatch.setattr(Noon, "now", classmethod(lambda cls, tz: cls(2026, 12, 24, tzinfo=tz)))
    assessment = registries.verify(Reference(registries.here, "1.2.3"))
    assert [(row.name, row.measured) for row in assessment.checks if row.verdict is Verdict.FAIL] == [
        ("last scan", "31 days ago")
    ]


@pytest.mark.parametrize(
    "reference", [Reference("", "9.9.9"), Reference("", digest="sha256:" + "0" * 64), Reference("")]
)
def test_what_is_not_there_is_not_verified(reference: Reference, registries: Registries) -> None:
    registries.publish("1.2.3")
    asked = replace(reference, repository=registries.here)
    with pytest.raises(RegistryError) as missing:
        registries.verify(asked)
    assert missing.value.message == f"there is no {asked}"
    assert registries.stages.called == []


def test_an_index_of_several_platforms_is_no_image_to_verify(registries: Registries) -> None:
    digest = registries.publish()
    described = {"mediaType": media_types.IMAGE_MANIFEST, "digest": digest, "size": 1}
    index = values.parse_manifest(
        values.canonical_json({"schemaVersion": 2, "manifests": [described]}), media_types.IMAGE_INDEX
    )
    registries.run_at(registries.here, lambda there: there.put_manifest(index, "1.2.3"))
    with pytest.raises(RegistryError) as several:
        registries.verify(Reference(registries.here, "1.2.3"))
    assert several.value.message == f"{registries.here}@{index.digest} is no image of one platform"
    assert several.value.next_step == "name the manifest of one platform by its digest"
    assert registries.stages.called == []
