"""Runs every mutant against the real engine and shows who caught it: mutant, its own gate, the gate that did.

Ends with exit code 1 where a mutant survived, was caught by another gate than its own or for another reason, or where
the good image was not published in the same run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.mutation.mutants import GOOD, MUTANTS, Mutant, caught_by, reason


def main() -> int:
    """Run the good images first, then the mutants, one after the other."""
    table = Table("mutant", "its gate", "caught by", "", box=None)
    failures = 0
    spinner = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as directory, Progress(*spinner, console=Console(stderr=True)) as progress:
        everything = (*GOOD, *MUTANTS)
        for number, mutant in enumerate(everything, start=1):
            task = progress.add_task(f"{number} of {len(everything)}  {mutant.name}", total=1)
            caught, as_told = run(mutant, Path(directory) / str(number))
            progress.update(task, completed=1)
            failures += not as_told
            table.add_row(mutant.name, mutant.gate, caught, "" if as_told else "[bold red]NOT AS IT SHOULD[/]")
    console = Console(width=120)
    console.print(table)
    wrong = f"survived   {failures} of {len(everything)} came out wrong"
    right = f"caught     {len(MUTANTS)} mutants, each by its own gate; the {len(GOOD)} good images were published"
    console.print(f"\n{wrong if failures else right}")
    return 1 if failures else 0


def run(mutant: Mutant, root: Path) -> tuple[str, bool]:
    """Which gate caught a mutant, and whether that is its own, for its own reason, with nothing in the registry."""
    project = mutant.project(root)
    finished = project.run()
    caught = caught_by(finished)
    as_told = caught == mutant.gate and not mutant.unsaid(reason(finished))
    return caught, as_told and bool(project.tags()) == (mutant in GOOD)


if __name__ == "__main__":
    sys.exit(main())
