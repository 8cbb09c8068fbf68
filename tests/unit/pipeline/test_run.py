from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import anyio
import pytest

from drydock import checks
from drydock.errors import BuildError, DrydockError, EngineError, RegistryError, ScanError, UsageError, VersionTaken
from drydock.pipeline import run as pipeline
from drydock.pipeline.plan import Plan
from drydock.policy import IgnoreEntry, Policy
from drydock.render import text
from drydock.report import CheckResult, Disposition, IgnoreState, Report, Secret, Updates, Verdict
from drydock.tools import trivy
from tests.support import examples
from tests.support.fake_stages import FakeStages, RecordingListener


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return examples.plan(tmp_path / "dist")


def run(plan: Plan, stages: FakeStages, listener: RecordingListener | None = None) -> Report:
    async def ran() -> Report:
        interruption = anyio.CancelScope()
        stages.interrupt = interruption.cancel
        return await pipeline.run(plan, stages.connect, listener or RecordingListener(), interruption)

    return anyio.run(ran)


def test_a_good_image_is_published_after_everything_else(plan: Plan) -> None:
    stages, listener = FakeStages(), RecordingListener()
    report = run(plan, stages, listener)
    prepared = ["check-registry", "check-signing-key", "find-previous", "train", "build"]
    assert stages.called[:6] == ["connect", *prepared]
    assert set(stages.called[6:11]) == {"inspect", "smoke", "drift", "scan", "pending-updates"}
    assert stages.called[11:] == ["push", "attest", "tag", "disconnect"]
    assert report.exit_code == 0
    assert report.publication == examples.publication()
    assert report.signing == examples.SIGNED
    assert [stage.name for stage in report.stages][:5] == prepared
    assert listener.events[-1] == ("finished", "tag")


def test_what_is_published_is_the_archive_that_was_judged(plan: Plan) -> None:
    stages = FakeStages()
    run(plan, stages)
    assert [approval.manifest_digest for approval in stages.approvals] == [examples.MANIFEST_DIGEST]


def test_what_is_attested_is_the_verdict_before_anything_was_tagged(plan: Plan) -> None:
    stages = FakeStages()
    report = run(plan, stages)
    [verdict] = stages.verdicts
    assert verdict.publication is None
    assert verdict.checks == report.checks[:-1]
    assert (report.checks[-1].name, report.checks[-1].verdict) == ("signed and attested", Verdict.PASS)


def test_a_tag_that_stays_where_it_is_is_warned_of_and_the_image_is_out(plan: Plan) -> None:
    reason = "ghcr.io answered 412 PRECONDITION to PUT manifest of owner/name"
    stages = FakeStages(publication=examples.publication().model_copy(update={"unmoved": {"1.2": reason, "1": reason}}))
    report = run(plan, stages)
    assert report.exit_code == 0
    assert report.checks[-1] == CheckResult(
        name="moving tags",
        measured="1.2, 1 stay where they are",
        limit="",
        verdict=Verdict.WARN,
        details=(
            f"1.2: {reason}",
            f"1: {reason}",
            "if the registry lets no tag move: moving_tags = false under [image] gives none",
        ),
    )
    assert text.verdict(report) == f"published  {examples.publication().reference}"


def test_the_image_before_is_started_after_the_smoke_test_and_found_before_anything_is_built(plan: Plan) -> None:
    stages, listener = FakeStages(), RecordingListener()
    report = run(plan, stages, listener)
    steps = [("finished", "find-previous"), ("started", "train"), ("finished", "smoke"), ("started", "drift")]
    assert [event for event in listener.events if event in steps] == steps
    assert report.drift == examples.drift()


def test_an_image_that_never_became_ready_is_not_compared(plan: Plan) -> None:
    report = run(plan, stages := FakeStages(smoked=examples.smoke(ready_seconds=None, not_ready="it hangs")))
    assert "drift" not in stages.called
    assert judged(report, "answers as before") == (Verdict.SKIP, ("the image never became ready",))
    broken = run(plan, FakeStages(breaks={"smoke": EngineError("gone", next_step="start it")}))
    assert judged(broken, "answers as before") == (Verdict.NOT_RUN, ("smoke broke before it",))


def judged(report: Report, name: str) -> tuple[Verdict, tuple[str, ...]]:
    row = next(row for row in report.checks if row.name == name)
    return row.verdict, row.details


def test_what_the_scanner_finds_in_one_of_both_images_alone_is_new_or_gone(plan: Plan) -> None:
    drift = examples.drift(findings_before=(examples.HIGH, examples.UNFIXED), findings_new=None, findings_gone=None)
    newer = examples.HIGH.model_copy(update={"id": "CVE-2026-1"})
    report = run(plan, FakeStages(drift=drift, scanned=examples.scan([examples.UNFIXED, newer])))
    assert report.drift
    assert (report.drift.findings_new, report.drift.findings_gone) == ((newer,), (examples.HIGH,))
    assert "findings_before" not in report.drift.model_dump()
    unscanned = run(plan, FakeStages(drift=drift, breaks={"scan": ScanError("no database", next_step="fetch it")}))
    assert unscanned.drift == drift


def test_without_a_push_the_registry_is_not_asked_to_take_anything(tmp_path: Path) -> None:
    stages = FakeStages()
    report = run(examples.plan(tmp_path, push=False), stages)
    assert {"check-registry", "check-signing-key", "push", "attest", "tag"}.isdisjoint(stages.called)
    assert (report.exit_code, report.publication) == (0, None)


@pytest.mark.parametrize(
    ("stages", "failed"),
    [
        (FakeStages(image=examples.image(user="root"), smoked=examples.smoke(uid=0)), ["runs as non-root"]),
        (FakeStages(scanned=examples.scan([examples.HIGH])), ["HIGH or CRITICAL"]),
        (
            FakeStages(smoked=examples.smoke(examples.answer(examples.SMALL, "large"))),
            ["answers /predict as trained"],
        ),
    ],
)
def test_a_rejected_image_is_not_published(plan: Plan, stages: FakeStages, failed: list[str]) -> None:
    report = run(plan, stages)
    assert {"push", "attest", "tag"}.isdisjoint(stages.called)
    assert (report.exit_code, report.publication) == (1, None)
    assert [row.name for row in report.checks if row.verdict is Verdict.FAIL] == failed


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("check-registry", RegistryError("no registry answers", next_step="start it")),
        ("train", BuildError("no model", next_step="train it")),
        ("build", BuildError("RUN failed", next_step="mend it")),
        ("inspect", BuildError("cut short", next_step="again")),
        ("smoke", EngineError("gone", next_step="start it")),
        ("scan", ScanError("no database", next_step="fetch it")),
        ("pending-updates", EngineError("gone", next_step="start it")),
        ("check-signing-key", UsageError("no such key", next_step="make one")),
        ("push", RegistryError("refused", next_step="log in")),
        ("push", VersionTaken("exists", next_step="next version")),
        ("attest", RegistryError("refused", next_step="log in")),
        ("tag", VersionTaken("exists", next_step="next version")),
    ],
)
def test_whatever_breaks_the_run_ends_in_a_report_and_publishes_nothing(
    plan: Plan, stage: str, error: DrydockError
) -> None:
    stages, listener = FakeStages(breaks={stage: error}), RecordingListener()
    report = run(plan, stages, listener)
    assert [(failure.stage, failure.message) for failure in report.failures] == [(stage, error.message)]
    assert report.exit_code == error.exit_code
    assert report.publication is None
    assert ("broke", stage) in listener.events
    assert stage in ("push", "attest", "tag") or not stages.approvals


def test_an_engine_that_does_not_answer_is_a_report_too(plan: Plan) -> None:
    report = run(plan, FakeStages(breaks={"connect": EngineError("no engine answers", next_step="start it")}))
    assert [(failure.stage, failure.exit_code) for failure in report.failures] == [("engine", 3)]
    assert {(row.verdict, row.details) for row in report.checks} == {(Verdict.NOT_RUN, ("engine broke before it",))}


def test_a_work_tree_that_changed_while_it_was_built_is_not_judged(plan: Plan) -> None:
    stages = FakeStages(breaks={"commit": UsageError("the work tree changed", next_step="run again")})
    report = run(plan, stages)
    assert (report.exit_code, report.failures[0].stage, report.image) == (2, "build", None)
    assert stages.called == ["connect", "check-registry", "check-signing-key", "find-previous", "train", "build"]


def test_one_look_that_breaks_leaves_the_others_their_verdicts(plan: Plan) -> None:
    report = run(plan, FakeStages(breaks={"scan": ScanError("no database", next_step="fetch it")}))
    verdicts = {row.name: row.verdict for row in report.checks}
    assert verdicts["answers /predict as trained"] is Verdict.PASS
    assert verdicts["image size"] is Verdict.PASS
    assert verdicts["HIGH or CRITICAL"] is Verdict.NOT_RUN
    assert report.exit_code == 5


def test_a_rejection_outweighs_what_broke_besides(plan: Plan) -> None:
    stages = FakeStages(
        image=examples.image(user="root"), breaks={"scan": ScanError("no database", next_step="fetch it")}
    )
    assert run(plan, stages).exit_code == 1


def test_a_scanner_that_saw_less_has_no_verdict(plan: Plan) -> None:
    report = run(plan, FakeStages(scanned=examples.scan(python_packages={})))
    assert [failure.stage for failure in report.failures] == ["coverage"]
    assert report.exit_code == 5
    assert report.publication is None


def test_a_policy_that_skips_what_a_broken_stage_should_have_shown_publishes_nothing(tmp_path: Path) -> None:
    names = [check.name for check in checks.CHECKS if "scan" in check.input.stages]
    plan = examples.plan(tmp_path, policy=examples.policy(skip=dict.fromkeys(names, "no database here")))
    stages = FakeStages(breaks={"scan": ScanError("no database", next_step="fetch it")})
    report = run(plan, stages)
    assert (report.exit_code, report.publication, stages.approvals) == (5, None, [])


def test_what_warns_is_published_and_told(plan: Plan) -> None:
    report = run(plan, FakeStages(updated=Updates(pending=(examples.LIBC,))))
    assert (report.exit_code, report.publication) == (0, examples.publication())
    assert report.updates == Updates(pending=(examples.LIBC,))
    assert [row.name for row in report.checks if row.verdict is Verdict.WARN] == ["no security update pending"]


@pytest.mark.parametrize("push", [True, False])
def test_a_check_that_could_not_be_made_is_no_success_even_where_nothing_broke(tmp_path: Path, push: bool) -> None:
    policy = examples.policy(scan={"pending_updates": "reject"})
    stages = FakeStages(updated=Updates(reason="the image has no apt-get to ask"))
    report = run(examples.plan(tmp_path, policy=policy, push=push), stages)
    assert (report.exit_code, report.failures, stages.approvals) == (1, (), [])


def test_a_report_has_every_finding_and_every_ignore_as_they_were_judged(plan: Plan) -> None:
    entry = IgnoreEntry(id=examples.HIGH.id, reason="never reached", owner="ana", expires=date(2026, 11, 22))
    policy = Policy(ignore=[entry])
    report = run(replace(plan, policy=policy), FakeStages(scanned=examples.scan([examples.HIGH, examples.UNFIXED])))
    assert [(each.finding.id, each.disposition) for each in report.findings] == [
        (examples.HIGH.id, Disposition.IGNORED),
        (examples.UNFIXED.id, Disposition.UNFIXED),
    ]
    assert [(each.id, each.state) for each in report.ignores] == [(examples.HIGH.id, IgnoreState.ACTIVE)]
    assert report.exit_code == 0


def test_a_report_does_not_repeat_an_instruction_with_a_secret_in_it(plan: Plan) -> None:
    found = Secret(rule="github-pat", target=trivy.CONFIGURATION, severity="CRITICAL")
    report = run(plan, FakeStages(scanned=examples.scan(secrets=[found])))
    assert report.image
    assert report.image.layers[1].created_by == "COPY … (it may hold a secret)"


def test_a_canary_that_was_missed_is_no_verdict(plan: Plan) -> None:
    blind = examples.scan(canary=examples.FOUND.model_copy(update={"found": ()}))
    report = run(plan, FakeStages(scanned=blind))
    assert [(failure.stage, failure.exit_code) for failure in report.failures] == [("coverage", 5)]
    assert (report.scan, report.publication) == (None, None)


@pytest.mark.parametrize("stage", ["build", "smoke", "scan", "pending-updates", "push", "attest", "tag"])
def test_an_interrupted_run_ends_in_a_report_and_publishes_nothing(plan: Plan, stage: str) -> None:
    report = run(plan, FakeStages(interrupted_in=stage))
    assert [(failure.stage, failure.exit_code) for failure in report.failures] == [(stage, 130)]
    assert report.publication is None


@pytest.mark.parametrize("stage", ["connect", "build", "smoke", "tag"])
def test_a_mistake_of_our_own_ends_in_a_report_too(plan: Plan, stage: str) -> None:
    report = run(plan, FakeStages(breaks={stage: ZeroDivisionError("division by zero")}))
    assert [(failure.stage, failure.exit_code) for failure in report.failures] == [
        ("engine" if stage == "connect" else stage, 70)
    ]
    assert report.failures[0].message == "Drydock itself broke: ZeroDivisionError: division by zero"
    assert report.publication is None
