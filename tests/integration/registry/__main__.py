"""Lets every fault happen to a real registry and shows what came of it.

A line has the fault, the exit code, what a user reads, and what the registry has afterwards.

Ends with exit code 1 where one of them came out otherwise than it should.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table

from tests.integration.registry.faults import FAULTS, Fault
from tests.integration.registry.world import Outcome, World, worlds


def main() -> int:
    """One fault after the other, each in a repository of its own."""
    table = Table("row", "fault", "exit, retries", "sentence", "tags afterwards", "manifests", "", box=None)
    failures = 0
    with tempfile.TemporaryDirectory() as directory, worlds(Path(directory)) as make:
        for number, fault in enumerate(FAULTS):
            world = make(f"fault-{number}", fault.locked)
            outcomes = anyio.run(fault.outcomes, world)
            tags, there = anyio.run(world.state)
            as_told = came_out(fault, outcomes, world) and (tags, there) == (fault.tags, list(fault.there))
            failures += not as_told
            table.add_row(
                str(fault.row),
                fault.name,
                f"{' and '.join(str(outcome.exit_code) for outcome in outcomes)}, {len(world.told)}",
                re.sub(r"(sha256:[0-9a-f]{7})[0-9a-f]+", r"\1…", outcomes[-1].what),
                " ".join(f"{tag}={name}" for tag, name in tags.items()) or "none",
                " ".join(there) or "none",
                "" if as_told else "[bold red]NOT AS IT SHOULD[/]",
            )
    console = Console(width=200)
    console.print(table)
    wrong = f"wrong      {failures} of {len(FAULTS)} faults came out otherwise than they should"
    console.print(f"\n{wrong if failures else f'survived   {len(FAULTS)} faults, each with its own outcome'}")
    return 1 if failures else 0


def came_out(fault: Fault, outcomes: list[Outcome], world: World) -> bool:
    """Whether a fault had the exit codes, the words and the retries that it should have."""
    codes, sentence = tuple(outcome.exit_code for outcome in outcomes), outcomes[-1].what
    as_told = fault.says in sentence and bool(fault.says) == bool(sentence)
    return as_told and (codes, len(world.told)) == (fault.exit_codes, fault.retries)


if __name__ == "__main__":
    sys.exit(main())
