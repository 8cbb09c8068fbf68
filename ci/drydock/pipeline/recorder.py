"""Keeps what a run has been through: how long each stage took and which one broke, so that every run has a report."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from drydock import checks
from drydock.checks import Facts, findings
from drydock.errors import DrydockError, Interrupted
from drydock.oci import analysis
from drydock.pipeline.plan import Plan
from drydock.report import Contract, Failure, Publication, Report, Signing, Stage, faults

Result = TypeVar("Result")


class Tell(Protocol):
    """Whom a run tells how far it is."""

    def begins(self, stage: str) -> None: ...  # noqa: D102
    def ends(self, stage: str, duration_seconds: float, *, broken: bool) -> None: ...  # noqa: D102
    def notes(self, sentence: str) -> None: ...  # noqa: D102


async def told(tell: Tell, stage: str, work: Awaitable[Result]) -> Result:
    """Await `work` and tell of its beginning and its end."""
    tell.begins(stage)
    started = time.monotonic()
    broken = True
    try:
        result = await work
        broken = False
    finally:
        tell.ends(stage, time.monotonic() - started, broken=broken)
    return result


class Journal:
    """The notes of one run; `reasons` says of each stage that broke why its facts are missing."""

    def __init__(self, plan: Plan, tell: Tell) -> None:
        self.reasons: dict[str, str] = {}
        self._plan = plan
        self._tell = tell
        self._started_at = datetime.now(UTC)
        self._last = "engine"
        self._stages: list[Stage] = []
        self._failures: list[Failure] = []

    async def stage(self, name: str, work: Awaitable[Result]) -> Result:
        """Await `work` as the stage `name`; what breaks it ends the run."""
        started = time.monotonic()
        self._last = name
        broken = True
        try:
            result = await told(self._tell, name, work)
            broken = False
        finally:
            if broken:
                # Of stages that run side by side, the one that began last need not be the one that broke.
                self._last = name
            duration_seconds = time.monotonic() - started
            self._stages.append(Stage(name=name, duration_seconds=round(duration_seconds, 3)))
        return result

    async def attempt(self, name: str, work: Awaitable[Result]) -> Result | None:
        """Await `work` as the stage `name`; what breaks it is noted, and the others go on without its facts."""
        try:
            return await self.stage(name, work)
        except Exception as error:
            self._note(name, error)
            return None

    @contextmanager
    def ends_in_a_report(self) -> Iterator[None]:
        """Note what ended the run, by the stage that it was in, and let it come to its report."""
        try:
            yield
        except Exception as error:
            self._note(self._last, error)

    def interrupted(self) -> None:
        """Note that somebody stopped the run, whatever else broke because of that."""
        self._failures.clear()
        self._note(self._last, Interrupted("stopped by a signal", next_step="run again; nothing has to be cleaned up"))

    def report(
        self,
        contract: Contract | None,
        facts: Facts,
        signing: Signing | None = None,
        publication: Publication | None = None,
    ) -> Report:
        """All of the run, and the judgement of its facts, as one value."""
        plan, scan = self._plan, facts.scan
        return Report(
            image_name=plan.policy.image.name,
            repository=plan.policy.image.repository,
            tag=plan.name.tag,
            push=plan.push,
            platforms=(plan.policy.build.platform,),
            started_at=self._started_at.isoformat(timespec="seconds"),
            revision=plan.revision,
            images=plan.images,
            contract=contract,
            image=facts.image,
            comparison=(
                analysis.compare(facts.image, plan.published, plan.policy.image.repository) if facts.image else None
            ),
            smoke=facts.smoke,
            scan=scan,
            updates=facts.updates,
            findings=findings.judge(scan, plan.policy) if scan else (),
            ignores=findings.judge_ignores(scan, plan.policy) if scan else (),
            checks=(
                *checks.judge(facts, plan.policy),
                *([checks.check_signing(signing)] if signing else []),
                *checks.check_moving_tags(publication.unmoved if publication else {}),
            ),
            stages=tuple(self._stages),
            failures=tuple(self._failures),
            signing=signing,
            publication=publication,
        )

    def _note(self, stage: str, broken: Exception) -> None:
        error = broken if isinstance(broken, DrydockError) else faults.internal_error(broken, self._plan.report_dir)
        self.reasons[stage] = error.message
        self._failures.append(
            Failure(
                stage=stage,
                exit_code=error.exit_code,
                message=error.message,
                likely_cause=error.likely_cause,
                next_step=error.next_step,
                log=error.log,
            )
        )
