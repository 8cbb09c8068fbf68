from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from drydock.checks import CHECKS, verification
from drydock.checks.verification import Evidence
from drydock.policy import Policy, TrustSection
from drydock.report import CheckResult, Contract, Report, Updates, Verdict
from drydock.tools import attestations, cosign
from drydock.tools.attestations import LOCAL_BUILDER, Builder
from drydock.tools.cosign import Identity, PublicKey, Statement, Trust, Verified
from tests.support import examples

SOURCE = "https://github.com/owner/name"
BY_WORKFLOW = Builder(f"{SOURCE}/.github/workflows/release.yml@refs/tags/v1.2.3")
KEYLESS = Identity(verification.identity_pattern(SOURCE, TrustSection()), verification.ISSUER)
KEY = PublicKey("-----BEGIN PUBLIC KEY-----")
LABELS = {
    "org.opencontainers.image.revision": examples.COMMIT,
    "dev.drydock.model.sha256": examples.MODEL_SHA256,
}
SBOM = {"bomFormat": "CycloneDX", "components": [{"name": "numpy"}]}
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def statement(predicate_type: str, predicate: dict[str, Any]) -> tuple[Statement, ...]:
    return (Statement((examples.MANIFEST_DIGEST,), predicate_type, predicate),)


def good(**changed: object) -> Report:
    return examples.report(**{"updates": Updates(), **changed})


def evidence(report: Report | None = None, builder: Builder = BY_WORKFLOW, **predicates: dict[str, Any]) -> Evidence:
    judged = report or good()
    said = {
        cosign.SBOM: predicates.get("sbom", SBOM),
        cosign.PROVENANCE: predicates.get("provenance", attestations.create_provenance(judged, builder)),
        cosign.VERDICT: predicates.get("verdict", attestations.create_verdict(judged)),
    }
    statements = {kind: statement(kind, predicate) for kind, predicate in said.items()}
    return Evidence(examples.MANIFEST_DIGEST, LABELS, Verified("", statements, {}))


def tagged(*tags: str, built_as: str = "1.2.3", found: Evidence | None = None) -> dict[str, CheckResult]:
    """The lines about an image that these tags lead to, built under another one."""
    return judged(replace(found or evidence(good(tag=built_as)), tags=tags))


def judged(
    found: Evidence, policy: Policy | None = None, trust: Trust = KEYLESS, source: str = SOURCE, now: datetime = NOW
) -> dict[str, CheckResult]:
    rows = verification.judge(found, policy or Policy(), trust=trust, source=source, now=now)
    return {row.name: row for row in rows}


def against(rows: dict[str, CheckResult]) -> dict[str, tuple[str, ...]]:
    return {name: row.details for name, row in rows.items() if row.verdict is not Verdict.PASS}


def test_an_image_of_a_trusted_workflow_passes_line_by_line() -> None:
    rows = judged(evidence())
    assert [(row.verdict, row.name, row.measured, row.limit) for row in rows.values()] == [
        ("PASS", "signature", "by a trusted workflow", ""),
        ("PASS", "provenance", f"commit {examples.COMMIT[:12]} by {BY_WORKFLOW.id}", ""),
        ("PASS", "model", "sha256 d4d4d4d4d4d4, accuracy 0.950 on 38 rows", ""),
        ("PASS", "verdict", f"{len(CHECKS)} of {len(CHECKS)} checks allow it", ""),
        ("PASS", "last scan", "2 days ago", "30 days"),
        ("PASS", "SBOM", "1 components", ""),
        ("PASS", "base images", "official", ""),
    ]


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (examples.REGRESSION, "r2 0.451, mean absolute error 44.1 on 111 rows"),
        (examples.MIXED, "accuracy 0.900 on 20 rows"),
    ],
)
def test_how_good_a_model_was_is_said_by_its_own_scores(contract: Contract, said: str) -> None:
    row = judged(evidence(good(contract=contract)))["model"]
    assert (row.verdict, row.measured) == (Verdict.PASS, f"sha256 d4d4d4d4d4d4, {said}")


def test_an_image_that_was_pushed_by_hand_fails_in_every_line() -> None:
    nothing = dict.fromkeys((cosign.SBOM, cosign.PROVENANCE, cosign.VERDICT), "no such attestation")
    found = Evidence(examples.MANIFEST_DIGEST, {}, Verified("no signatures found", {}, nothing))
    rows = judged(found)
    assert {row.verdict for row in rows.values()} == {Verdict.FAIL}
    assert rows["signature"].details == ("no signatures found",)
    assert rows["provenance"].details == ("no such attestation",)


def test_a_key_vouches_for_a_local_builder_and_no_workflow_does() -> None:
    local = evidence(builder=Builder())
    assert against(judged(local, trust=KEY)) == {}
    assert against(judged(local)) == {
        "provenance": (f"built by {LOCAL_BUILDER}, which trust in the policy does not name",)
    }


@pytest.mark.parametrize(
    "builder",
    [
        "https://github.com/owner/other/.github/workflows/release.yml@refs/tags/v1.2.3",
        f"{SOURCE}/.github/workflows/other.yml@refs/tags/v1.2.3",
        f"{SOURCE}/.github/workflows/release.yml@refs/pull/7/merge",
        f"{SOURCE}/.github/workflows/image.yml@refs/heads/evil",
        f"{SOURCE}/.github/workflows/image.yml@refs/tags/v9.9.9",
        f"{SOURCE}/.github/workflows/release.yml@refs/heads/main",
        f"{SOURCE}/.github/workflows/evil.yml@refs/heads/release.yml@refs/tags/v1",
        f"{SOURCE}/.github/workflows/image.yml@refs/heads/main/evil",
        f"{SOURCE}/.github/workflows/image.yml@refs/heads/xrefs/tags/v1",
        f"https://evil.example/?{SOURCE}/.github/workflows/release.yml@refs/tags/v1.2.3",
        f"{SOURCE}/.github/workflows/releaseXyml@refs/tags/v1.2.3",
    ],
)
def test_no_other_builder_is_trusted(builder: str) -> None:
    assert list(against(judged(evidence(builder=Builder(builder))))) == ["provenance"]
    assert not re.match(KEYLESS.regexp, builder)


def test_a_star_in_a_workflows_name_reaches_no_ref() -> None:
    any_workflow = verification.identity_pattern(SOURCE, TrustSection(signers=["*.yml@refs/heads/main"]))
    here = f"{SOURCE}/.github/workflows"
    assert re.fullmatch(any_workflow, f"{here}/image.yml@refs/heads/main")
    # A branch may be called so.
    assert not re.fullmatch(any_workflow, f"{here}/evil.yml@refs/heads/x.yml@refs/heads/main")
    assert not re.fullmatch(any_workflow, f"{here}/sub/image.yml@refs/heads/main")


def test_another_source_than_ours_is_not_trusted() -> None:
    rows = judged(evidence(), trust=KEY, source="https://github.com/owner/ours")
    assert (
        "built from https://github.com/owner/name, trusted is https://github.com/owner/ours"
        in rows["provenance"].details
    )


def test_without_a_source_to_hold_it_against_the_provenance_only_warns() -> None:
    rows = judged(evidence(builder=Builder()), trust=KEY, source="")
    assert rows["provenance"].verdict is Verdict.WARN
    assert rows["provenance"].details == ("no source to compare it with: set image.source in the policy",)


def test_the_image_has_to_say_the_commit_that_was_built() -> None:
    other = replace(evidence(), labels={**LABELS, "org.opencontainers.image.revision": "0" * 40})
    assert against(judged(other)) == {"provenance": (f"the image says {'0' * 40}",)}


def test_a_work_tree_with_more_than_a_commit_is_no_provenance() -> None:
    dirty = good(revision=examples.REVISION.model_copy(update={"dirty": True}))
    [complaint] = against(judged(evidence(dirty)))["provenance"]
    assert complaint == "built from a work tree with uncommitted changes"


@pytest.mark.parametrize("predicate", [{}, {"buildDefinition": []}, {"buildDefinition": {}, "runDetails": {}}])
def test_a_provenance_of_another_form_fails(predicate: dict[str, Any]) -> None:
    row = judged(evidence(provenance=predicate))["provenance"]
    assert (row.verdict, row.measured) == (Verdict.FAIL, "of another form")


def test_the_facts_are_judged_anew_against_this_policy() -> None:
    strict = Policy.model_validate({"limits": {"image_size_mb": 200}})
    rows = judged(evidence(), strict)
    assert rows["verdict"].measured == f"{len(CHECKS) - 1} of {len(CHECKS)} checks allow it"
    assert rows["verdict"].details == ("image size: 270 MB, limit 200 MB",)


def test_a_verdict_with_additional_fields_is_read_as_if_they_were_not_there() -> None:
    newer = attestations.create_verdict(good())
    newer["seen_by"] = "a later Drydock"
    newer["image"]["layers"][0]["media_type"] = "…"
    newer["checks"][0]["unit"] = "MB"
    newer["scan"]["canary"]["more"] = {"deeper": []}
    assert judged(evidence(verdict=newer)) == judged(evidence())


def test_a_verdict_about_another_image_is_none() -> None:
    other = examples.image().model_copy(update={"manifest_digest": "sha256:" + "0" * 64})
    rows = judged(evidence(verdict=attestations.create_verdict(good(image=other))))
    assert list(against(rows)) == ["model", "verdict", "last scan", "base images"]


def test_a_model_that_is_not_the_judged_one_fails() -> None:
    other = replace(evidence(), labels={**LABELS, "dev.drydock.model.sha256": "0" * 64})
    assert against(judged(other)) == {"model": (f"judged was {examples.MODEL_SHA256}",)}


@pytest.mark.parametrize(("day", "verdict"), [(22, Verdict.PASS), (23, Verdict.FAIL)])
def test_a_scan_is_trusted_until_its_last_day(day: int, verdict: Verdict) -> None:
    now = datetime(2026, 12, day, 12, tzinfo=UTC)
    assert judged(evidence(), now=now)["last scan"].verdict is verdict


@pytest.mark.parametrize(
    ("behind", "verdict"),
    [(timedelta(seconds=1), "PASS"), (timedelta(hours=1), "PASS"), (timedelta(hours=1, seconds=1), "FAIL")],
)
def test_a_clock_may_be_an_hour_behind_that_of_the_scan(behind: timedelta, verdict: str) -> None:
    scanned = datetime(2026, 11, 22, 12, tzinfo=UTC)
    row = judged(evidence(), now=scanned - behind)["last scan"]
    said = "0 days ago" if verdict == "PASS" else "in the future"
    assert (row.verdict, row.measured) == (verdict, said)


@pytest.mark.parametrize("sbom", [{}, {"components": []}, {"components": "numpy"}])
def test_an_sbom_of_nothing_fails(sbom: dict[str, Any]) -> None:
    assert list(against(judged(evidence(sbom=sbom)))) == ["SBOM"]


def test_local_base_images_are_named() -> None:
    rows = judged(evidence(good(images=examples.LOCAL)))
    assert (rows["base images"].verdict, rows["base images"].measured) == (Verdict.WARN, "local")


def both(*found: Evidence) -> Evidence:
    """The statements of all of them about the one image."""
    kinds = (cosign.SBOM, cosign.PROVENANCE, cosign.VERDICT)
    statements = {kind: tuple(said for each in found for said in each.verified.statements[kind]) for kind in kinds}
    return Evidence(examples.MANIFEST_DIGEST, LABELS, Verified("", statements, {}))


OF_MAIN = Builder(f"{SOURCE}/.github/workflows/image.yml@refs/heads/main")
EARLIER = evidence(
    good(
        tag=f"sha-{'3' * 40}",
        revision=examples.REVISION.model_copy(update={"commit": "3" * 40}),
        started_at="2026-10-01T12:00:00+00:00",
        scan=examples.scan(scanned_at="2026-10-01T12:01:00+00:00"),
    ),
    OF_MAIN,
)


@pytest.mark.parametrize("order", [(EARLIER, evidence()), (evidence(), EARLIER)], ids=["sorted", "reversed"])
def test_the_latest_scan_counts_in_whatever_order_a_registry_lists_them(order: tuple[Evidence, ...]) -> None:
    found = both(*order)
    assert judged(found)["last scan"].measured == "2 days ago"
    assert verification.find_builder(found.verified, ()) == BY_WORKFLOW.id


@pytest.mark.parametrize("order", [(EARLIER, evidence()), (evidence(), EARLIER)], ids=["sorted", "reversed"])
def test_of_several_builders_the_one_that_built_the_version_counts(order: tuple[Evidence, ...]) -> None:
    assert verification.find_builder(both(*order).verified, ("1.2.3",)) == BY_WORKFLOW.id
    assert verification.find_builder(both(*order).verified, (f"sha-{'3' * 40}",)) == OF_MAIN.id


BY_COMMIT = f"sha-{examples.COMMIT}"


@pytest.mark.parametrize(
    ("tag", "built_as", "measured"),
    [
        ("1.2.3", "1.2.3", "built as 1.2.3"),
        ("v1.2.3", "1.2.3", "built as 1.2.3"),
        ("1.2.3-rc.1", "1.2.3-rc.1", "built as 1.2.3-rc.1"),
        ("v1.2.3-rc.1", "1.2.3-rc.1", "built as 1.2.3-rc.1"),
        ("1.2", "1.2.3", "built as 1.2.3"),
        ("v1.2", "1.2.3", "built as 1.2.3"),
        ("1", "1.2.3", "built as 1.2.3"),
        ("0", "0.9.0", "built as 0.9.0"),
        (BY_COMMIT, "1.2.3", f"built from {examples.COMMIT}"),
        (BY_COMMIT, BY_COMMIT, f"built from {examples.COMMIT}"),
    ],
)
def test_a_tag_is_compared_with_what_its_builder_signed(tag: str, built_as: str, measured: str) -> None:
    rows = tagged(tag, built_as=built_as)
    assert (rows["tag"].measured, rows["tag"].limit) == (measured, tag)
    assert against(rows) == {}


@pytest.mark.parametrize(
    ("tag", "built_as"),
    [
        *(("1.2.3", "0.9.0"), ("1.2.3", "1.2.3-rc.1"), ("1.2.3-rc.1", "1.2.3"), ("v1.2.3", "0.9.0")),
        *(("1.2.3", "v1.2.3"), ("1.2.3", "main"), ("1.2.3", "1.2"), ("1.2.3", BY_COMMIT)),
        *(
            ("1.2", "0.9.0"),
            ("1.2", "1.20.0"),
            ("1.2", "1.2.3-rc.1"),
            ("1.2", "main"),
            ("1.2", "1.2"),
            ("1.2", "2.1.2"),
        ),
        *(
            ("1", "0.9.0"),
            ("1", "10.0.0"),
            ("1", "1.0.0-rc.1"),
            ("1", "main"),
            ("1", "1"),
            ("v1", "2.0.0"),
            ("0", "1.0.0"),
        ),
        *((f"sha-{'f' * 40}", "1.2.3"), (f"sha-{examples.COMMIT[:12]}", "1.2.3"), (f"{BY_COMMIT}-dirty", "1.2.3")),
        *(("0", "1.0.0"), ("1.2", "1.2"), ("sha-", "1.2.3"), (f"sha-{'f' * 40}", f"sha-{'f' * 40}")),
    ],
)
def test_a_tag_that_leads_to_another_image_that_is_well_signed_fails(tag: str, built_as: str) -> None:
    rows = tagged(tag, built_as=built_as)
    assert list(against(rows)) == ["tag"]
    said = f"built from {examples.COMMIT}" if tag.startswith("sha-") else f"built as {built_as}"
    assert (rows["tag"].verdict, rows["tag"].measured, rows["tag"].limit) == (Verdict.FAIL, said, tag)


@pytest.mark.parametrize("tag", ["main", "latest", "branch-1", "1.2.x", "1.2.3.4", "01.2", "V1.2.3", "1.2.3_a"])
@pytest.mark.parametrize("built_as", ["1.2.3", "main"])
def test_nobody_vouches_for_any_other_tag(tag: str, built_as: str) -> None:
    row = tagged(tag, built_as=built_as)["tag"]
    assert (row.verdict, row.measured, row.limit) == (Verdict.WARN, f"built as {built_as}", tag)
    assert row.details == ("nothing proves this tag: it may point to any signed image; name a version or a digest",)


@pytest.mark.parametrize("tag", ["1.2.3", "1.2", BY_COMMIT])
def test_a_tag_of_an_image_without_a_provenance_fails(tag: str) -> None:
    nothing = Evidence(examples.MANIFEST_DIGEST, LABELS, Verified("no signatures found", {}, {}))
    row = tagged(tag, found=nothing)["tag"]
    assert (row.verdict, row.measured) == (Verdict.FAIL, "built from no commit" if "sha" in tag else "built as none")


def test_a_provenance_of_a_dirty_tree_is_of_no_commit() -> None:
    dirty = evidence(good(revision=examples.REVISION.model_copy(update={"dirty": True})))
    row = tagged(BY_COMMIT, found=dirty)["tag"]
    assert (row.verdict, row.measured) == (Verdict.FAIL, "built from no commit")


def test_each_of_several_tags_has_its_line() -> None:
    found = replace(evidence(), tags=("1.2.3", "1.3"))
    rows = verification.judge(found, Policy(), trust=KEYLESS, source=SOURCE, now=NOW)
    assert [(row.verdict, row.limit) for row in rows if row.name == "tag"] == [("PASS", "1.2.3"), ("FAIL", "1.3")]


@pytest.mark.parametrize("order", [(EARLIER, evidence()), (evidence(), EARLIER)], ids=["sorted", "reversed"])
@pytest.mark.parametrize("tag", ["1.2", "1", "v1.2.3"])
def test_of_several_provenances_the_one_that_fits_the_tag_counts(order: tuple[Evidence, ...], tag: str) -> None:
    found = both(*order)
    assert verification.find_builder(found.verified, (tag,)) == BY_WORKFLOW.id
    assert tagged(tag, found=found)["tag"].verdict is Verdict.PASS


def test_an_ignore_that_ended_since_the_scan_lets_nothing_through() -> None:
    ignoring = examples.ignoring(examples.HIGH, expires=date(2026, 11, 23))
    found = evidence(good(scan=examples.scan([examples.HIGH])))
    assert judged(found, ignoring, now=datetime(2026, 11, 23, 23, tzinfo=UTC))["verdict"].verdict is Verdict.PASS
    assert judged(found, ignoring, now=datetime(2026, 11, 24, 0, tzinfo=UTC))["verdict"].verdict is Verdict.FAIL
