"""What can break in a run: one tree, one exit code a branch, and every error ends with what to type next.

    DrydockError
    ├── UsageError       2    the command line, the policy, the checkout or the report directory is wrong
    ├── EngineError      3    no engine answers, or it went away
    ├── BuildError       4    the image did not build
    ├── ScanError        5    the scan could not be done; never reported as clean
    ├── RegistryError    6    the registry refused, or what it serves is not what was approved; or GitHub took no issue
    ├── VersionTaken     7    this version exists with another digest
    ├── InternalError   70    Drydock itself broke: EX_SOFTWARE of sysexits.h
    └── Interrupted    130    Ctrl-C or SIGTERM

0 (published, or approved with --no-push) and 1 (judged and rejected) are verdicts, not errors: see `report.Report`.
"""

from __future__ import annotations

from typing import ClassVar


class DrydockError(Exception):
    """A tool or an input that kept the run from its verdict.

    `message` says what happened, in one sentence; `next_step` what to type or change; `log` is the tail of the
    broken tool's own output, if it had any.
    """

    exit_code: ClassVar[int]

    def __init__(self, message: str, *, likely_cause: str = "", next_step: str, log: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.likely_cause = likely_cause
        self.next_step = next_step
        self.log = log


class UsageError(DrydockError):
    """The command line, the policy or the checkout is wrong, or the report directory is in use or cannot be written."""

    exit_code = 2


class EngineError(DrydockError):
    """No engine answers, or it went away in mid-run."""

    exit_code = 3


class BuildError(DrydockError):
    """The image did not build."""

    exit_code = 4


class ScanError(DrydockError):
    """The scan could not be done, or saw less than what is there."""

    exit_code = 5


class RegistryError(DrydockError):
    """The registry refused, or what it serves is not what was approved; or GitHub took no issue."""

    exit_code = 6


class VersionTaken(DrydockError):
    """This version exists in the registry with another digest."""

    exit_code = 7


class InternalError(DrydockError):
    """Drydock itself broke, which says nothing about the image."""

    exit_code = 70


class Interrupted(DrydockError):
    """Somebody stopped the run."""

    exit_code = 130
