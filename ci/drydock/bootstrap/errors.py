"""What bootstrap cannot do, in one line, with the next step."""

from __future__ import annotations


class BootstrapError(Exception):
    """What happened, and what to type or install next; `log` is the tail of the tool that broke."""

    def __init__(self, what: str, next_step: str, log: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step
        self.log = log
