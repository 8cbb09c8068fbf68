"""Pure judgement: facts and the policy go in, and a result for each check comes out."""

from drydock.checks.approval import Approval, approve
from drydock.checks.check import Facts
from drydock.checks.publication import check_moving_tags, check_signing
from drydock.checks.table import CHECKS, judge, require_known_skips

__all__ = [
    "CHECKS",
    "Approval",
    "Facts",
    "approve",
    "check_moving_tags",
    "check_signing",
    "judge",
    "require_known_skips",
]
