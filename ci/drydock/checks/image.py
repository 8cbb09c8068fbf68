"""Judges the image itself: its user, its size and what it wastes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from drydock import report
from drydock.checks.check import Outcome, pass_if
from drydock.policy import Policy
from drydock.report import MB, Verdict, units


def check_user(fact: tuple[report.Image, report.Smoke], _: Policy) -> Outcome:
    """The configured user and the uid at run time must be numbers other than 0.

    Docker takes a name too. But any name may be uid 0, and runAsNonRoot of Kubernetes takes a number only.
    """
    image, smoke = fact
    configured = image.user.split(":")[0]
    uid = "unknown" if smoke.uid is None else str(smoke.uid)
    is_number = re.fullmatch("0*[1-9][0-9]*", configured) is not None
    passed = is_number and smoke.uid not in (None, 0)
    cure = "end the Dockerfile with a numeric user other than 0, such as USER 10001:10001"
    if is_number and smoke.uid is None:
        cure = "its uid at run time is unknown: keep `id` in the image, and check that this user can start a process"
    return Outcome(pass_if(passed), f"USER {image.user or 'not set'}, uid {uid}", "not 0", () if passed else (cure,))


def check_image_size(image: report.Image, policy: Policy) -> Outcome:
    """The uncompressed layers must be within the limit together. Exactly the limit passes."""
    limit_bytes = policy.limits.image_size_mb * MB
    passed = image.size_bytes <= limit_bytes
    everything = (owner for layer in image.layers for owner in layer.largest)
    details = [] if passed else [f"largest: {_list_contributors(everything)}"]
    if round(image.wasted_bytes / MB) and not passed:
        details.append(f"waste: {_list_waste(image)}")
    return Outcome(
        pass_if(passed), units.format_against_limit(image.size_bytes, limit_bytes), f"{limit_bytes // MB} MB", details
    )


def check_largest_layer(image: report.Image, policy: Policy) -> Outcome:
    """Each uncompressed layer must be within the limit. Exactly the limit passes."""
    limit_bytes = policy.limits.layer_size_mb * MB
    if not image.layers:
        return Outcome(Verdict.FAIL, "no layers", f"{limit_bytes // MB} MB", ("there is nothing in the image",))
    layer = max(image.layers, key=lambda layer: layer.size_bytes)
    passed = layer.size_bytes <= limit_bytes
    measured, limit = units.format_against_limit(layer.size_bytes, limit_bytes), f"{limit_bytes // MB} MB"
    if passed:
        return Outcome(Verdict.PASS, measured, limit)
    instruction = layer.created_by or "an instruction that the image does not name"
    place = f"{policy.build.dockerfile}:{layer.dockerfile_line}" if layer.dockerfile_line else ""
    cause = f"{instruction} ({place})" if place else instruction
    words = f"{cause}: {_list_contributors(layer.largest)}. Split the layer, or drop some of it."
    return Outcome(Verdict.FAIL, measured, limit, (words,), place)


def check_wasted_space(image: report.Image, policy: Policy) -> Outcome:
    """Removed, replaced and duplicate files must be within the limit together. Exactly the limit passes."""
    limit_bytes = policy.limits.waste_mb * MB
    passed = image.wasted_bytes <= limit_bytes
    cure = "Remove a file in the instruction that writes it, and copy it once."
    details = () if passed else (f"{_list_waste(image)}. {cure}",)
    return Outcome(
        pass_if(passed), units.format_against_limit(image.wasted_bytes, limit_bytes), f"{limit_bytes // MB} MB", details
    )


def _list_waste(image: report.Image) -> str:
    """The largest wasted files, each with the reason why it is waste."""
    largest = [(each.path, each.why, round(each.size_bytes / MB)) for each in image.waste[:4]]
    return ", ".join(f"/{path} {why} {size} MB" for path, why, size in largest if size) or "many small files"


def _list_contributors(contributors: Iterable[report.Contributor]) -> str:
    """The largest packages and folders, with their sizes."""
    largest = sorted(contributors, key=lambda owner: owner.size_bytes, reverse=True)[:4]
    shares = [(owner.name, round(owner.size_bytes / MB)) for owner in largest]
    return ", ".join(f"{name} {share} MB" for name, share in shares if share) or "many small files"
