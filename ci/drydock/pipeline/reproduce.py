"""The order of `reproduce`: build the released commit again, compare digests, and name what differs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from drydock.checks import verification
from drydock.errors import UsageError
from drydock.oci import archive, diff, diff_summary, registry, tags
from drydock.oci.reference import Reference
from drydock.oci.tags import ImageTags
from drydock.pipeline.plan import SOURCE_LABEL, VERSION_LABEL, Plan
from drydock.pipeline.published import read_labels, resolve_digest, with_credentials
from drydock.pipeline.recorder import ProgressListener, track_stage
from drydock.pipeline.run import Connect
from drydock.pipeline.threads import run_in_thread
from drydock.report import Assessment, CheckResult, Release, Verdict, units


async def reproduce(
    plan: Plan, digest: str, record: Release | None, connect: Connect, listener: ProgressListener
) -> Assessment:
    """Build the same commit again and compare digests; if they differ, say which layers and files do."""
    name = record.repository if record else plan.policy.image.repository
    plan = with_credentials(plan, name, plan.policy.image.repository)
    async with registry.open_repository(name, plan.source_login, listener.message) as repository:
        labels = await read_labels(repository, await resolve_digest(repository, Reference(name, digest=digest)))
        _require_same_commit(plan, digest, labels.get(verification.REVISION_LABEL, ""))
        plan = _with_released_names(plan, labels)
        async with connect(plan, listener.message) as stages:
            model = await track_stage(listener, "train", stages.train())
            built = await track_stage(listener, "build", stages.build(model))
            await stages.recheck_commit()
        image = await run_in_thread(lambda is_cancelled: archive.read_image(built.path, is_cancelled=is_cancelled))
        if image.manifest_digest == digest:
            result = CheckResult(name="digest", measured=digest, limit="", verdict=Verdict.PASS)
            return Assessment(checks=(result,), conclusion=f"reproduced {name}@{digest}")
        path = plan.report_dir / "released.tar"
        await track_stage(listener, "pull", repository.pull(digest, path))
    differences = await run_in_thread(partial(diff.compare_images, path, built.path))
    path.unlink()
    details = diff_summary.summarize(differences)
    if record and record.pinned_images != {"builder": plan.images.builder, "base": plan.images.base}:
        details.insert(0, "the base images are not those of the release")
    result = CheckResult(
        name="digest", measured=image.manifest_digest, limit=digest, verdict=Verdict.FAIL, details=tuple(details)
    )
    return Assessment(checks=(result,), conclusion=f"differs    {name}@{digest} cannot be had from this commit here")


def _require_same_commit(plan: Plan, digest: str, released_from: str) -> None:
    if released_from == plan.revision.name:
        return
    # A label may say anything, and only a commit is something to type.
    is_commit = re.fullmatch("[0-9a-f]{40,64}", released_from)
    raise UsageError(
        f"{digest} was built from {units.sanitize(released_from) or 'no commit'},"
        f" and this checkout is {plan.revision.name}",
        likely_cause="another commit is checked out, or the work tree holds more than its commit",
        next_step=f"git checkout {released_from}, then run again" if is_commit else "name another image",
    )


def _with_released_names(plan: Plan, labels: Mapping[str, str]) -> Plan:
    """The plan with the version and the source's address of a released image: a commit does not know either."""
    version, source_url = labels.get(VERSION_LABEL, ""), labels.get(SOURCE_LABEL, "")
    name = ImageTags(version) if tags.is_version(version) else plan.name
    return replace(plan, name=name, revision=plan.revision.model_copy(update={"source_url": source_url}))
