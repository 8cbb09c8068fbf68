"""The order of `rescan`: pull each released image, scan it with today's advisories, judge by today's policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from packaging.utils import canonicalize_name

from drydock.checks import findings
from drydock.errors import DrydockError
from drydock.oci import archive, registry
from drydock.pipeline.plan import Plan
from drydock.pipeline.published import with_credentials
from drydock.pipeline.recorder import ProgressListener, track_stage
from drydock.pipeline.run import Connect
from drydock.pipeline.threads import run_in_thread
from drydock.report import Assessment, CheckResult, Disposition, Release, Verdict, files
from drydock.tools import trivy


async def rescan(plan: Plan, records: Sequence[Release], connect: Connect, listener: ProgressListener) -> Assessment:
    """Scan each released image with today's advisories, and judge its findings by today's policy.

    What is found against it is new: it had none when it was published. If one cannot be scanned, the others still are.
    """
    results: list[CheckResult] = []
    broken_exit_code = 0
    for record in records:
        try:
            results.append(
                await track_stage(
                    listener, f"rescan {record.digest[7:15]}", _rescan_one(plan, record, connect, listener)
                )
            )
        except DrydockError as error:
            broken_exit_code = broken_exit_code or error.exit_code
            details = (error.message, error.next_step, *error.log.splitlines())
            results.append(
                CheckResult(name=record.image, measured="", limit="", verdict=Verdict.NOT_RUN, details=details)
            )
    return Assessment(checks=tuple(results), conclusion=_write_conclusion(results), broken_exit_code=broken_exit_code)


def _write_conclusion(results: Sequence[CheckResult]) -> str:
    verdicts = [result.verdict for result in results]
    failed, not_run = verdicts.count(Verdict.FAIL), verdicts.count(Verdict.NOT_RUN)
    images = f"{len(results)} image{'' if len(results) == 1 else 's'}"
    again = f"; {failed} should be released again" if failed else ""
    unscanned = f"; {not_run} could not be scanned" if not_run else ""
    return f"rescanned  {images}{again}{unscanned}"


async def _rescan_one(plan: Plan, record: Release, connect: Connect, listener: ProgressListener) -> CheckResult:
    plan = with_credentials(plan, record.repository, plan.policy.image.repository)
    locked_packages: dict[str, str] = {
        canonicalize_name(package.name): package.version for package in record.packages if package.kind == "python"
    }
    directory = plan.report_dir / record.digest.replace(":", "-")
    files.ensure_dir(directory)
    path = directory / "image.tar"
    async with registry.open_repository(record.repository, plan.source_login, listener.message) as released:
        await released.pull(record.digest, path)
    image = await run_in_thread(lambda is_cancelled: archive.read_image(path, is_cancelled=is_cancelled))
    async with connect(
        replace(plan, report_dir=directory, locked_packages=locked_packages), listener.message
    ) as stages:
        scan = await trivy.require_coverage(await stages.scan(await stages.import_archive(path)), image)
    path.unlink()
    new = [
        findings.describe_finding(judged)
        for judged in (findings.judge(scan, plan.policy) if scan else ())
        if judged.disposition is Disposition.REJECTS
    ]
    # Today's scanner may see one that the release's own did not.
    new += [
        findings.describe_secret(secret)
        for secret in (findings.judge_secrets(scan, plan.policy) if scan else ())
        if secret.disposition is Disposition.REJECTS
    ]
    return CheckResult(
        name=record.image,
        measured=f"{len(new)} new",
        limit="0",
        verdict=Verdict.FAIL if new else Verdict.PASS,
        details=tuple(new),
    )
