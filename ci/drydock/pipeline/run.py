"""The order of a run, and nothing else. Read `run` as the table of contents; each step is a room of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import anyio

from drydock import checks
from drydock.checks import Approval, Facts
from drydock.pipeline.plan import Plan
from drydock.pipeline.recorder import Journal, Tell
from drydock.report import Archive, Contract, Image, Model, Publication, Report, Scan, Signing, Smoke, Updates
from drydock.tools import trivy
from drydock.tools.cosign import Trust, Verified


class Stages(Protocol):
    """The one seam to the outside: whatever needs an engine, a scanner or a registry. `stages` has the real ones."""

    async def reach_registry(self) -> None: ...  # noqa: D102
    async def try_key(self) -> None: ...  # noqa: D102
    async def train(self) -> Model: ...  # noqa: D102
    async def build(self, model: Model) -> Archive: ...  # noqa: D102
    async def recheck_commit(self) -> None: ...  # noqa: D102
    async def inspect(self, archive: Archive) -> Image: ...  # noqa: D102
    async def smoke(self, archive: Archive, model: Model) -> Smoke: ...  # noqa: D102
    async def scan(self, archive: Archive) -> Scan: ...  # noqa: D102
    async def updates(self, archive: Archive) -> Updates: ...  # noqa: D102
    async def push(self, approval: Approval) -> None: ...  # noqa: D102
    async def attest(self, approval: Approval, verdict: Report) -> Signing: ...  # noqa: D102
    async def publish(self, approval: Approval) -> Publication: ...  # noqa: D102
    async def hold(self, path: Path) -> Archive: ...  # noqa: D102
    async def verify(self, repository: str, digest: str, trust: Trust) -> Verified: ...  # noqa: D102


class Connect(Protocol):
    """How a run gets its stages: for as long as it lasts, and no longer."""

    def __call__(self, plan: Plan, on_retry: Callable[[str], None], /) -> AbstractAsyncContextManager[Stages]: ...  # noqa: D102


async def run(plan: Plan, connect: Connect, tell: Tell, interruption: anyio.CancelScope) -> Report:
    """Build, look, judge, and publish only what was approved. Ends in a report, whatever broke."""
    journal = Journal(plan, tell)
    facts = Facts(reasons=journal.reasons)
    contract: Contract | None = None
    signing: Signing | None = None
    publication: Publication | None = None
    with interruption, journal.ends_in_a_report():
        async with connect(plan, tell.notes) as stages:
            if plan.push:
                await journal.stage("check-registry", stages.reach_registry())
                await journal.stage("check-signing-key", stages.try_key())
            model = await journal.stage("train", stages.train())
            contract = model.contract
            archive = await journal.stage("build", stages.build(model))
            await stages.recheck_commit()
            async with asyncio.TaskGroup() as side_by_side:
                image = side_by_side.create_task(journal.attempt("inspect", stages.inspect(archive)))
                smoke = side_by_side.create_task(journal.attempt("smoke", stages.smoke(archive, model)))
                scan = side_by_side.create_task(journal.attempt("scan", stages.scan(archive)))
                updates = side_by_side.create_task(journal.attempt("pending-updates", stages.updates(archive)))
            covered = await journal.attempt("coverage", trivy.require_coverage(scan.result(), image.result()))
            shown = trivy.hide_instructions(image.result(), covered)
            facts = Facts(shown, smoke.result(), covered, updates.result(), journal.reasons)
            approval = checks.approve(archive, facts, checks.judge(facts, plan.policy))
            if plan.push and approval:
                await journal.stage("push", stages.push(approval))
                verdict = journal.report(contract, facts)
                signing = await journal.stage("attest", stages.attest(approval, verdict))
                # The tags come last: whoever pulls by one finds all that belongs to the image.
                publication = await journal.stage("tag", stages.publish(approval))
    if interruption.cancelled_caught:
        journal.interrupted()
    return journal.report(contract, facts, signing, publication)
