"""The record of what a run published."""

from __future__ import annotations

from datetime import UTC, datetime

from drydock.oci.tags import is_version
from drydock.report import Release, Report


def create_record(report: Report) -> Release:
    """The record of a published image: what it is, what it was made from, and the checks that it passed."""
    published, image, scan, contract = report.publication, report.image, report.scan, report.contract
    if published is None or image is None or scan is None or contract is None:
        raise ValueError("only a published image has a record")
    not_because = [
        reason
        for applies, reason in (
            (report.images.base_images == "local", "built on local base images and scanned with sample advisories"),
            (report.revision.dirty, "built from a work tree with uncommitted changes"),
            (not is_version(published.tag), f"{published.tag} is no version"),
            (report.signing is None or not report.signing.signed_by, "nobody signed it"),
        )
        if applies
    ]
    return Release(
        image=published.reference,
        digest=published.digest,
        tags=published.tags,
        published_at=datetime.now(UTC).isoformat(timespec="seconds"),
        revision=report.revision,
        model_sha256=contract.artifact.sha256,
        size_bytes=image.size_bytes,
        packages=image.packages,
        pinned_images={"builder": report.images.builder, "base": report.images.base},
        scanner=report.images.trivy,
        scanner_version=scan.scanner_version,
        database_version=scan.database_version,
        database_updated_at=scan.database_updated_at,
        database_digest=scan.database_digest,
        signed_by=report.signing.signed_by if report.signing else "",
        checks=report.checks,
        base_images=report.images.base_images,
        is_release=not not_because,
        not_a_release_because="; ".join(not_because),
    )
