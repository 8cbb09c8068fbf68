"""The checks of an image, in the order in which people read them."""

from __future__ import annotations

import difflib
from typing import Any

from drydock.checks import drift, image, model, scan, serving
from drydock.checks.check import Check, Facts, Input
from drydock.errors import UsageError
from drydock.policy import Policy
from drydock.report import CheckResult

SMOKE = Input(("smoke",), lambda facts: facts.smoke)
IMAGE = Input(("inspect",), lambda facts: facts.image)
IMAGE_AND_SMOKE = Input(
    ("inspect", "smoke"), lambda facts: (facts.image, facts.smoke) if facts.image and facts.smoke else None
)
SCAN = Input(("scan", "coverage"), lambda facts: facts.scan)
MODEL = Input(("train",), lambda facts: facts.model)
DRIFT = Input(("drift",), lambda facts: facts.drift)
UPDATES = Input(("pending-updates",), lambda facts: facts.updates)

CHECKS: tuple[Check[Any], ...] = (
    Check("answers /predict as trained", SMOKE, model.check_answers),
    Check("model is good enough", MODEL, model.check_quality),
    Check("answers as before", DRIFT, drift.check_answers),
    Check("schema as before", DRIFT, drift.check_schema),
    Check("starts in time", SMOKE, serving.check_startup),
    Check("answers in time", SMOKE, serving.check_latency),
    Check("refuses malformed requests", SMOKE, serving.check_malformed_requests),
    Check("runs as non-root", IMAGE_AND_SMOKE, image.check_user),
    Check("image size", IMAGE, image.check_image_size),
    Check("largest layer", IMAGE, image.check_largest_layer),
    Check("wasted space", IMAGE, image.check_wasted_space),
    Check("scanner covers every package", SCAN, scan.check_coverage),
    Check("scanner passes its self-test", SCAN, scan.check_self_test),
    Check("advisories are recent", SCAN, scan.check_advisories),
    Check("HIGH or CRITICAL", SCAN, scan.check_vulnerabilities),
    Check("no expired or unused ignores", SCAN, scan.check_ignores),
    Check("no security update pending", UPDATES, scan.check_pending_updates),
    Check("secrets in the image", SCAN, scan.check_secrets),
)


def judge(facts: Facts, policy: Policy) -> tuple[CheckResult, ...]:
    """Judge the facts by every check. The results are in the order of `CHECKS`."""
    return tuple(check.judge(facts, policy) for check in CHECKS)


def require_known_skips(policy: Policy) -> None:
    """Require that every name under [skip] is the name of a check. Otherwise raise UsageError."""
    names = [check.name for check in CHECKS]
    for skipped in policy.skip:
        if skipped not in names:
            nearest = difflib.get_close_matches(skipped, names, n=1, cutoff=0.4)
            raise UsageError(
                f"{policy.origins.get(f'skip.{skipped}', 'skip')}: there is no check {skipped!r} to skip",
                likely_cause=f"did you mean {nearest[0]!r}?"
                if nearest
                else f"the checks are {', '.join(map(repr, names))}",
                next_step="fix or remove that line, then run again",
            )
