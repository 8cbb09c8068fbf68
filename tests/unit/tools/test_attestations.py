from __future__ import annotations

import json

import pytest

from drydock.report import Revision
from drydock.tools import attestations, cosign
from drydock.tools.attestations import Builder
from tests.support import examples

ON_GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "owner/name",
    "GITHUB_WORKFLOW_REF": "owner/name/.github/workflows/release.yml@refs/tags/v1.2.3",
    "GITHUB_RUN_ID": "42",
    "GITHUB_RUN_ATTEMPT": "2",
}
WORKFLOW = Builder(
    id="https://github.com/owner/name/.github/workflows/release.yml@refs/tags/v1.2.3",
    invocation="https://github.com/owner/name/actions/runs/42/attempts/2",
)


def test_a_workflow_is_named_as_its_certificate_names_it() -> None:
    assert attestations.detect_builder(ON_GITHUB) == WORKFLOW


@pytest.mark.parametrize("missing", ["GITHUB_ACTIONS", "GITHUB_WORKFLOW_REF"])
def test_whoever_is_no_workflow_is_a_local_builder(missing: str) -> None:
    assert attestations.detect_builder({**ON_GITHUB, missing: ""}) == Builder("https://drydock.dev/builders/local", "")


def test_the_provenance_names_commit_builder_and_all_that_it_was_made_with() -> None:
    source = {"uri": "git+https://github.com/owner/name", "digest": {"gitCommit": examples.COMMIT}}
    images = examples.OFFICIAL

    def image(name: str, reference: str) -> dict[str, object]:
        uri, digest = reference.split("@sha256:")
        return {"name": name, "uri": f"docker://{uri}", "digest": {"sha256": digest}}

    assert attestations.create_provenance(examples.report(), WORKFLOW) == {
        "buildDefinition": {
            "buildType": "https://drydock.dev/pipeline/v1",
            "externalParameters": {"source": source, "image": "iris-classifier", "tag": "1.2.3"},
            "internalParameters": {"dirty": False, "base_images": "official", "platforms": ["linux/amd64"]},
            "resolvedDependencies": [
                source,
                {"name": "model", "digest": {"sha256": examples.MODEL_SHA256}},
                image("builder", images.builder),
                image("runtime", images.base),
                image("trivy", images.trivy),
                image("cosign", images.cosign),
            ],
        },
        "runDetails": {
            "builder": {"id": WORKFLOW.id},
            "metadata": {"startedOn": "2026-11-22T12:00:00+00:00", "invocationId": WORKFLOW.invocation},
        },
    }


def test_the_provenance_of_a_converted_model_names_the_one_that_it_was_made_from() -> None:
    definition = attestations.create_provenance(examples.report(contract=examples.LEAN), Builder())["buildDefinition"]
    assert definition["resolvedDependencies"][1:3] == [
        {"name": "model", "digest": {"sha256": examples.LEAN.artifact.sha256}},
        {"name": "model before its conversion", "digest": {"sha256": examples.MODEL_SHA256}},
    ]


def test_a_work_tree_with_more_than_its_commit_is_not_called_by_it() -> None:
    dirty = examples.report(revision=Revision(commit=examples.COMMIT, dirty=True))
    definition = attestations.create_provenance(dirty, Builder())["buildDefinition"]
    assert definition["externalParameters"]["source"] == {"uri": "git", "digest": {}}
    assert examples.COMMIT not in json.dumps(definition)


def test_a_verdict_is_the_report_and_reads_back_as_one() -> None:
    report = examples.report()
    predicates = attestations.create_predicates(report, Builder(), '{"bomFormat": "CycloneDX"}')
    assert set(predicates) == {cosign.SBOM, cosign.PROVENANCE, cosign.VERDICT}
    read = attestations.read_verdict(json.loads(predicates[cosign.VERDICT]))
    judged = report.model_copy(update={"push": False, "signing": None, "publication": None})
    # All but the golden rows' inputs, which are somebody's data.
    assert read.model_dump() == judged.model_dump()
    assert read.exit_code == 0


def test_no_input_of_a_golden_row_is_in_a_report_or_a_signed_verdict() -> None:
    report = examples.report()
    assert report.contract == examples.CONTRACT
    assert report.smoke is not None
    assert report.smoke.answers[0].expected in examples.CONTRACT.golden
    for written in (report.model_dump(mode="json", by_alias=True), attestations.create_verdict(report)):
        assert "golden" not in written["contract"]
        answers = written["smoke"]["answers"]
        assert answers
        fields = {"label", "labels", "probabilities", "value", "values", "score"}
        assert [answer["expected"].keys() for answer in answers] == [fields] * len(answers)


def test_numbers_survive_whoever_writes_one_as_an_integer() -> None:
    document = json.dumps(attestations.create_verdict(examples.report())).replace("5.0,", "5,").replace("1.0,", "1,")
    contract = attestations.read_verdict(json.loads(document)).contract
    assert contract
    assert contract.model_dump() == examples.CONTRACT.model_dump(exclude={"golden"})


def test_what_is_no_verdict_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="validation error"):
        attestations.read_verdict({"rows": []})
