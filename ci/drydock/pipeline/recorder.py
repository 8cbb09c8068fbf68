"""Records how long each stage took and which one broke, so that every run ends in a report."""

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
from drydock.report import CheckResult, Contract, Failure, Publication, Report, Signing, Stage, faults

Result = TypeVar("Result")


class ProgressListener(Protocol):
    """Gets the progress of a run: each stage, and a sentence now and then, such as another try."""

    def stage_started(self, stage: str) -> None: ...  # noqa: D102
    def stage_finished(self, stage: str, duration_seconds: float, *, broken: bool) -> None: ...  # noqa: D102
    def message(self, sentence: str) -> None: ...  # noqa: D102


async def track_stage(listener: ProgressListener, stage: str, work: Awaitable[Result]) -> Result:
    """Await `work`; the listener gets its start, and its end with its duration."""
    listener.stage_started(stage)
    started = time.monotonic()
    broken = True
    try:
        result = await work
        broken = False
    finally:
        listener.stage_finished(stage, time.monotonic() - started, broken=broken)
    return result


class RunRecorder:
    """Records one run; `reasons` says of each stage that broke why its facts are missing."""

    def __init__(self, plan: Plan, listener: ProgressListener) -> None:
        self.reasons: dict[str, str] = {}
        self._plan = plan
        self._listener = listener
        self._started_at = datetime.now(UTC)
        self._last_stage = "engine"
        self._stages: list[Stage] = []
        self._failures: list[Failure] = []

    async def run_required(self, name: str, work: Awaitable[Result]) -> Result:
        """Await `work` as the stage `name`. An error in it ends the run."""
        started = time.monotonic()
        self._last_stage = name
        broken = True
        try:
            result = await track_stage(self._listener, name, work)
            broken = False
        finally:
            if broken:
                # Of stages that run side by side, the one that began last need not be the one that broke.
                self._last_stage = name
            duration_seconds = time.monotonic() - started
            self._stages.append(Stage(name=name, duration_seconds=round(duration_seconds, 3)))
        return result

    async def run_optional(self, name: str, work: Awaitable[Result]) -> Result | None:
        """Await `work` as the stage `name`. An error in it is recorded; the run goes on without its facts."""
        try:
            return await self.run_required(name, work)
        except Exception as error:
            self._record_error(name, error)
            return None

    @contextmanager
    def record_failure(self) -> Iterator[None]:
        """Record the error that ends the run, by its stage. The run still comes to its report."""
        try:
            yield
        except Exception as error:
            self._record_error(self._last_stage, error)

    def record_interruption(self) -> None:
        """Record that somebody stopped the run; errors that followed from that are dropped."""
        self._failures.clear()
        self._record_error(
            self._last_stage, Interrupted("stopped by a signal", next_step="run again; nothing has to be cleaned up")
        )

    def create_report(
        self,
        contract: Contract | None,
        facts: Facts,
        results: tuple[CheckResult, ...],
        signing: Signing | None = None,
        publication: Publication | None = None,
    ) -> Report:
        """Return the run, its facts and the results of its checks as one value."""
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
                analysis.compare_packages(facts.image, plan.published, plan.policy.image.repository)
                if facts.image
                else None
            ),
            smoke=facts.smoke,
            drift=facts.drift,
            scan=scan,
            updates=facts.updates,
            findings=findings.judge(scan, plan.policy) if scan else (),
            ignores=findings.judge_ignores(scan, plan.policy) if scan else (),
            checks=(
                *results,
                *([checks.check_signing(signing)] if signing else []),
                *checks.check_moving_tags(publication.unmoved if publication else {}),
            ),
            stages=tuple(self._stages),
            failures=tuple(self._failures),
            signing=signing,
            publication=publication,
        )

    def _record_error(self, stage: str, exception: Exception) -> None:
        error = (
            exception
            if isinstance(exception, DrydockError)
            else faults.internal_error(exception, self._plan.report_dir)
        )
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
