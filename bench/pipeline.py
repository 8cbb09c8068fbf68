"""Seconds per stage, cold (the engine's cache pruned) and warm (nothing changed): `make bench`.

Wall-clock seconds of each stage come from report.json; stages of one run overlap, so they add up to more than a run.
"Python itself" is the processor time of the pipeline's own process, without the engine and its client.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import dagger
from dagger import dag
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
WHOLE, OWN = "whole run", "Python itself"
# Runs the command line, then prints the processor seconds of its own process.
MEASURED = """
import resource, sys
from drydock.cli import commands
exit_code = commands.main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
sys.exit(exit_code)
"""


def run(report_dir: Path) -> dict[str, float]:
    """Run the pipeline once, without a push: seconds by stage. Raises RuntimeError if it is not approved."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "--no-push", "--tag", "bench", "--report-dir", str(report_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    whole_seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"the run ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    stages = json.loads((report_dir / "report.json").read_text(encoding="utf-8"))["stages"]
    own_seconds = float(done.stdout.splitlines()[-1])
    return {**{stage["name"]: stage["duration_seconds"] for stage in stages}, WHOLE: whole_seconds, OWN: own_seconds}


async def prune() -> None:
    """Empty the engine's cache, so that the next run is a first one and pulls its base images again."""
    async with dagger.connection():
        await dag.engine().local_cache().prune()


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(prog="python bench/pipeline.py", description="Seconds per stage, cold and warm.")
    parser.add_argument("--warm-runs", type=int, default=3, metavar="N", help="how many warm runs; the median is shown")
    warm_runs = parser.parse_args().warm_runs
    console = Console()
    with tempfile.TemporaryDirectory() as report_dir, console.status("pruning the engine's cache") as status:
        anyio.run(prune)
        status.update("cold run")
        cold = run(Path(report_dir))
        warm = []
        for number in range(warm_runs):
            status.update(f"warm run {number + 1} of {warm_runs}")
            warm.append(run(Path(report_dir)))
    table = Table("stage", "cold", f"warm, median of {warm_runs}", title="seconds", box=None)
    for name, seconds in cold.items():
        table.add_row(name, f"{seconds:.1f}", f"{statistics.median(each[name] for each in warm):.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
