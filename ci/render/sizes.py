"""Says sizes as people read them: MB is 10^6 bytes, kB 10^3."""

from __future__ import annotations

from report import MB

KB = 1_000


def human(size_bytes: int) -> str:
    """Whole MB; whole kB below 1 MB, and bytes below 1 kB, so that nothing that is there reads as nothing."""
    for unit_bytes, unit in ((MB, "MB"), (KB, "kB")):
        # What would round to 1000 of a unit is 1 of the next.
        if abs(size_bytes) >= unit_bytes - unit_bytes // (2 * KB):
            return f"{round(size_bytes / unit_bytes)} {unit}"
    return f"{size_bytes} byte{'' if abs(size_bytes) == 1 else 's'}"


def difference(size_bytes: int) -> str:
    """The same with its sign, a plus too."""
    return f"{'+' if size_bytes > 0 else ''}{human(size_bytes)}"
