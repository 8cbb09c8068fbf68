"""The order of a run, and nothing else. Read `run` as the table of contents; each step is a room of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import anyio

from drydock import checks
from drydock.checks import Approval, Facts
from drydock.pipeline.plan import Plan
from drydock.pipeline.previous import PreviousImage
from drydock.pipeline.recorder import ProgressListener, RunRecorder
from drydock.report import (
    Archive,
    CheckResult,
    Contract,
    Drift,
    Image,
    Model,
    Publication,
    Report,
    Scan,
    Signing,
    Smoke,
    Updates,
)
from drydock.tools import trivy
from drydock.tools.cosign import Trust, Verified
from drydock.tools.drift import compare_findings


class Stages(Protocol):
    """The one seam to the outside: whatever needs an engine, a scanner or a registry. `stages` has the real ones."""

    async def check_registry(self) -> None: ...  # noqa: D102
    async def check_signing_key(self) -> None: ...  # noqa: D102
    async def train(self) -> Model: ...  # noqa: D102
    async def build(self, model: Model) -> Archive: ...  # noqa: D102
    async def recheck_commit(self) -> None: ...  # noqa: D102
    async def inspect(self, archive: Archive) -> Image: ...  # noqa: D102
    async def smoke(self, archive: Archive, model: Model) -> Smoke: ...  # noqa: D102
    async def find_previous(self) -> PreviousImage: ...  # noqa: D102
    async def compare(self, previous: PreviousImage, archive: Archive, model: Model) -> Drift: ...  # noqa: D102
    async def scan(self, archive: Archive) -> Scan: ...  # noqa: D102
    async def check_updates(self, archive: Archive) -> Updates: ...  # noqa: D102
    async def push(self, approval: Approval) -> None: ...  # noqa: D102
    async def attest(self, approval: Approval, verdict: Report) -> Signing: ...  # noqa: D102
    async def tag(self, approval: Approval) -> Publication: ...  # noqa: D102
    async def import_archive(self, path: Path) -> Archive: ...  # noqa: D102
    async def verify(self, repository: str, digest: str, trust: Trust) -> Verified: ...  # noqa: D102


class Connect(Protocol):
    """How a run gets its stages: for as long as it lasts, and no longer."""

    def __call__(self, plan: Plan, on_retry: Callable[[str], None], /) -> AbstractAsyncContextManager[Stages]: ...  # noqa: D102


async def run(plan: Plan, connect: Connect, listener: ProgressListener, interruption: anyio.CancelScope) -> Report:
    """Build, look, judge, and publish only what was approved. Ends in a report, whatever broke."""
    recorder = RunRecorder(plan, listener)
    facts = Facts(reasons=recorder.reasons)
    results: tuple[CheckResult, ...] = ()
    contract: Contract | None = None
    signing: Signing | None = None
    publication: Publication | None = None
    with interruption, recorder.record_failure():
        async with connect(plan, listener.message) as stages:
            if plan.push:
                await recorder.run_required("check-registry", stages.check_registry())
                await recorder.run_required("check-signing-key", stages.check_signing_key())
            previous = await recorder.run_required("find-previous", stages.find_previous())
            model = await recorder.run_required("train", stages.train())
            contract = model.contract
            archive = await recorder.run_required("build", stages.build(model))
            await stages.recheck_commit()
            async with asyncio.TaskGroup() as side_by_side:
                image = side_by_side.create_task(recorder.run_optional("inspect", stages.inspect(archive)))
                smoke = side_by_side.create_task(recorder.run_optional("smoke", stages.smoke(archive, model)))
                drift = side_by_side.create_task(_compare(recorder, stages, previous, archive, model, smoke))
                scan = side_by_side.create_task(recorder.run_optional("scan", stages.scan(archive)))
                updates = side_by_side.create_task(
                    recorder.run_optional("pending-updates", stages.check_updates(archive))
                )
            covered = await recorder.run_optional("coverage", trivy.require_coverage(scan.result(), image.result()))
            shown = trivy.hide_instructions(image.result(), covered)
            compared = compare_findings(drift.result(), covered)
            facts = Facts(shown, smoke.result(), covered, updates.result(), recorder.reasons, model.contract, compared)
            results = checks.judge(facts, plan.policy)
            approval = checks.approve(archive, facts, results)
            if plan.push and approval:
                await recorder.run_required("push", stages.push(approval))
                verdict = recorder.create_report(contract, facts, results)
                signing = await recorder.run_required("attest", stages.attest(approval, verdict))
                # The tags come last: a tag then always leads to all that belongs to the image.
                publication = await recorder.run_required("tag", stages.tag(approval))
    if interruption.cancelled_caught:
        recorder.record_interruption()
    # A run that broke before its facts were complete is judged by what there is.
    results = results or checks.judge(facts, plan.policy)
    return recorder.create_report(contract, facts, results, signing, publication)


async def _compare(
    recorder: RunRecorder,
    stages: Stages,
    previous: PreviousImage,
    archive: Archive,
    model: Model,
    smoke: Awaitable[Smoke | None],
) -> Drift | None:
    """Compare after the smoke test: the image before must not slow its measured start and answers."""
    smoked = await smoke
    if smoked is None:
        return None
    if smoked.ready_seconds is None:
        return Drift(reason="the image never became ready")
    return await recorder.run_optional("drift", stages.compare(previous, archive, model))
