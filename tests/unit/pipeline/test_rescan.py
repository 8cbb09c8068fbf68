from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from drydock.errors import ScanError
from drydock.report import CheckResult, Finding, Package, Scan, Secret, Verdict
from tests.support import examples
from tests.support.fake_stages import FakeStages
from tests.support.published_images import RecordingStages, Registries

pytestmark = pytest.mark.registry

HIGH = examples.HIGH
LESS = HIGH.model_copy(update={"severity": "MEDIUM"})
IN_WORDS = "CVE-2024-24762 HIGH python-multipart 0.0.6, fixed in 0.0.7"


@pytest.mark.parametrize("finding", [None, examples.UNFIXED, LESS], ids=["nothing", "no fix yet", "not severe"])
def test_an_image_that_would_be_published_today_passes(finding: Finding | None, registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    registries.stages.scans = [examples.scan([finding] if finding else [])]
    assessment = registries.rescan(registries.record(digest))
    assert assessment.checks == (
        CheckResult(name=f"{registries.here}:1.2.3@{digest}", measured="0 new", limit="0", verdict=Verdict.PASS),
    )
    assert (assessment.conclusion, assessment.exit_code) == ("rescanned  1 image", 0)


def test_what_rejects_an_image_today_is_new_and_named(registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    registries.stages.scans = [examples.scan([LESS, HIGH, examples.UNFIXED])]
    assessment = registries.rescan(registries.record(digest))
    assert assessment.checks == (
        CheckResult(
            name=f"{registries.here}:1.2.3@{digest}",
            measured="1 new",
            limit="0",
            verdict=Verdict.FAIL,
            details=(IN_WORDS,),
        ),
    )
    assert assessment.conclusion == "rescanned  1 image; 1 should be released again"
    assert assessment.exit_code == 1


def test_a_secret_that_todays_scanner_sees_is_new_and_named(registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    secret = Secret(rule="github-pat", target="/app/tests/config.env", severity="CRITICAL")
    registries.stages.scans = [examples.scan().model_copy(update={"secrets": (secret,)})]
    (row,) = registries.rescan(registries.record(digest)).checks
    assert (row.verdict, row.details) == (Verdict.FAIL, ("github-pat in /app/tests/config.env",))


def test_what_the_policy_ignores_is_known_until_its_last_day(registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    registries.stages.scans = [examples.scan([HIGH]), examples.scan([HIGH])]

    def rescanned(expires: date) -> int:
        policy = examples.ignoring(HIGH, expires).model_copy(update={"image": registries.policy().image})
        return registries.rescan(registries.record(digest), plan=replace(registries.plan, policy=policy)).exit_code

    assert rescanned(examples.TODAY) == 0
    assert rescanned(examples.YESTERDAY) == 1


def test_each_image_has_its_line_and_one_that_fails_is_enough(registries: Registries) -> None:
    first, second = registries.publish("1.2.3"), registries.publish("1.2.4", files={"a": b"1"})
    registries.stages.scans = [examples.scan(), examples.scan([HIGH])]
    assessment = registries.rescan(registries.record(first), registries.record(second))
    assert [(row.name.partition("@")[2], row.verdict) for row in assessment.checks] == [
        (first, Verdict.PASS),
        (second, Verdict.FAIL),
    ]
    assert assessment.conclusion == "rescanned  2 images; 1 should be released again"
    assert assessment.exit_code == 1
    stages = [f"rescan {digest[7:15]}" for digest in (first, second)]
    assert registries.listener.events == [(event, stage) for stage in stages for event in ("started", "finished")]


@pytest.mark.parametrize(
    ("others", "exit_code"), [(examples.scan(), 6), (examples.scan([HIGH]), 1)], ids=["clean", "not clean"]
)
def test_an_image_that_cannot_be_scanned_keeps_no_other_from_its_line_and_is_not_called_clean(
    others: Scan, exit_code: int, registries: Registries
) -> None:
    digest = registries.publish("1.2.3")
    registries.stages.scans = [others, examples.scan(canary=examples.FOUND.model_copy(update={"found": ()}))]
    gone = registries.record(examples.MANIFEST_DIGEST)
    assessment = registries.rescan(gone, registries.record(digest), registries.record(digest))
    first, second, third = assessment.checks
    assert first == CheckResult(
        name=gone.image,
        measured="",
        limit="",
        verdict=Verdict.NOT_RUN,
        details=(
            f"{registries.here} has no manifest {examples.MANIFEST_DIGEST}",
            "look at what is there, then run again",
        ),
    )
    assert second.verdict is (Verdict.FAIL if exit_code == 1 else Verdict.PASS)
    assert third.verdict is Verdict.NOT_RUN
    assert third.details[0].startswith("the scanner did not find CVE-1 in canary in the canary")
    assert assessment.exit_code == exit_code
    again = "; 1 should be released again" if exit_code == 1 else ""
    assert assessment.conclusion == f"rescanned  3 images{again}; 2 could not be scanned"
    assert [event for event, _ in registries.listener.events] == [
        "started",
        "broke",
        "started",
        "finished",
        "started",
        "broke",
    ]


def test_what_a_broken_tool_said_itself_stands_in_the_line(registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    registries.stages.breaks = {"scan": ScanError("no database", next_step="fetch it", log="FATAL 1\nFATAL 2")}
    assessment = registries.rescan(registries.record(digest))
    assert assessment.checks[0].details == ("no database", "fetch it", "FATAL 1", "FATAL 2")
    assert assessment.exit_code == 5


def test_without_a_record_nothing_speaks_for_anything(registries: Registries) -> None:
    assessment = registries.rescan()
    assert (assessment.conclusion, assessment.exit_code) == ("rescanned  0 images", 1)


def test_what_is_scanned_is_what_the_registry_serves_against_what_its_record_says(registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    packages = (
        Package(name="Foo_Bar", version="1.0", kind="python", size_bytes=1),
        Package(name="libc6", version="2.41", kind="debian", size_bytes=1),
    )
    registries.stages.scans = [examples.scan()]
    registries.rescan(registries.record(digest).model_copy(update={"packages": packages}))
    folder = registries.folder / digest.replace(":", "-")
    assert registries.stages.imported_paths == [folder / "image.tar"]
    [plan] = registries.stages.plans
    assert (plan.report_dir, plan.locked_packages) == (folder, {"foo-bar": "1.0"})
    # Its findings stay, and an image is large.
    assert list(folder.iterdir()) == []


def test_a_scan_of_something_else_is_none_of_the_image(registries: Registries, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = registries.publish("1.2.3")
    monkeypatch.setattr(RecordingStages, "scan", FakeStages.scan)
    [row] = registries.rescan(registries.record(digest)).checks
    assert row.verdict is Verdict.NOT_RUN
    assert row.details[0].startswith(f"the scanner read image {examples.CONFIG_DIGEST}, the archive holds sha256:")
