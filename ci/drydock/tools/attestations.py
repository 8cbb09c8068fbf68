"""What is said of an image by those who built it: SLSA provenance and the verdict, as in-toto predicates. Pure.

https://slsa.dev/spec/v1.0/provenance, https://github.com/in-toto/attestation/blob/main/spec/v1/predicate.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drydock.report import Report
from drydock.tools import cosign
from drydock.tools.cosign import Verified

BUILD_TYPE = "https://drydock.dev/pipeline/v1"
# The builder, if no service vouches for it: the owner of the key.
LOCAL_BUILDER = "https://drydock.dev/builders/local"
# What is signed of an image, by its type, as people call it.
WORDS = {cosign.SBOM: "SBOM", cosign.PROVENANCE: "provenance", cosign.VERDICT: "verdict"}
# What is known only after the verdict was signed, or follows from what else it says.
NOT_IN_VERDICT = {"push", "signing", "publication", "exit_code"}


@dataclass(frozen=True)
class Builder:
    """Who runs the pipeline: `id` names the workflow and its ref, `invocation` this very run, by its address."""

    id: str = LOCAL_BUILDER
    invocation: str = ""


def detect_builder(environment: Mapping[str, str]) -> Builder:
    """The workflow of GitHub Actions that runs this, named as its signing certificate names it; else this machine."""
    workflow = environment.get("GITHUB_WORKFLOW_REF")
    if environment.get("GITHUB_ACTIONS") != "true" or not workflow:
        return Builder()
    server, repository = environment.get("GITHUB_SERVER_URL", ""), environment.get("GITHUB_REPOSITORY", "")
    run, attempt = environment.get("GITHUB_RUN_ID", ""), environment.get("GITHUB_RUN_ATTEMPT", "1")
    return Builder(id=f"{server}/{workflow}", invocation=f"{server}/{repository}/actions/runs/{run}/attempts/{attempt}")


def create_predicates(report: Report, builder: Builder, sbom: str) -> dict[str, str]:
    """All predicates of an approved image, by their type: JSON, each."""
    return {
        cosign.SBOM: sbom,
        cosign.PROVENANCE: json.dumps(create_provenance(report, builder)),
        cosign.VERDICT: json.dumps(create_verdict(report)),
    }


def find_missing(predicates: Mapping[str, str], verified: Verified) -> dict[str, str]:
    """Those of which no statement verified that says the same."""
    return {
        kind: predicate
        for kind, predicate in predicates.items()
        if json.loads(predicate) not in [found.predicate for found in verified.statements.get(kind, ())]
    }


def create_provenance(report: Report, builder: Builder) -> dict[str, Any]:
    """Which commit and model were built by whom, from which base images, and with which parameters."""
    revision, images = report.revision, report.images
    source = {"uri": f"git+{revision.source_url}" if revision.source_url else "git", "digest": _describe_commit(report)}
    tools = [
        _describe_image(name, reference)
        for name, reference in (
            ("builder", images.builder),
            ("runtime", images.base),
            ("trivy", images.trivy),
            ("cosign", images.cosign),
        )
    ]
    # Large models are in no commit, and one that was trained on the way came from somewhere, too.
    models = [("model", report.contract.artifact.sha256)] if report.contract else []
    if report.contract and report.contract.equivalence:
        models.append(("model before its conversion", report.contract.equivalence.source_sha256))
    materials = [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in models]
    metadata = {"startedOn": report.started_at} | ({"invocationId": builder.invocation} if builder.invocation else {})
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"source": source, "image": report.image_name, "tag": report.tag},
            "internalParameters": {
                "dirty": revision.dirty,
                "base_images": images.base_images,
                "platforms": list(report.platforms),
            },
            "resolvedDependencies": [source, *materials, *tools],
        },
        "runDetails": {"builder": {"id": builder.id}, "metadata": metadata},
    }


def create_verdict(report: Report) -> dict[str, Any]:
    """The report as it stood when the image was approved: all that was measured, and how it was judged."""
    return report.model_dump(mode="json", by_alias=True, exclude=NOT_IN_VERDICT)


def read_verdict(predicate: Mapping[str, Any]) -> Report:
    """The report that a verdict holds, without fields that a later version added. Raises ValueError if it is none."""
    return Report.model_validate_json(json.dumps({**predicate, "push": False}), extra="ignore")


def is_sbom(document: bytes, verified: Verified) -> bool:
    """Whether an unsigned document says what an SBOM says that verified, and says it once."""
    try:
        read = json.loads(document, object_pairs_hook=_require_unique_keys)
    except (ValueError, RecursionError):
        return False
    return read in [statement.predicate for statement in verified.statements.get(cosign.SBOM, ())]


def _require_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of a key that stands there twice one reader takes the first value and another the last.
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def read_tag(predicate: Mapping[str, Any]) -> str:
    """Under which tag the image of a provenance was built; empty if it does not say so."""
    try:
        return str(predicate["buildDefinition"]["externalParameters"]["tag"])
    except (KeyError, TypeError):
        return ""


def read_commit(predicate: Mapping[str, Any]) -> str:
    """From which commit, and nothing more, the image of a provenance was built; empty if it does not say so."""
    try:
        return str(predicate["buildDefinition"]["externalParameters"]["source"]["digest"]["gitCommit"])
    except (KeyError, TypeError):
        return ""


def _describe_commit(report: Report) -> dict[str, str]:
    # A work tree that holds more than its commit is nothing that a digest could name.
    return {} if report.revision.dirty else {"gitCommit": report.revision.commit}


def _describe_image(name: str, reference: str) -> dict[str, Any]:
    uri, _, digest = reference.partition("@sha256:")
    return {"name": name, "uri": f"docker://{uri}", "digest": {"sha256": digest}}
