"""The command line as a process, with stages that need no engine: `python -m tests.ci.program TRICK ARGS`."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "ci")]

import anyio  # noqa: E402

import stages  # noqa: E402
from report import Archive, Image, Updates  # noqa: E402
from tests.ci import examples  # noqa: E402
from tests.ci.stand_in import StandIn  # noqa: E402


class Busy(StandIn):
    """Reads its archive for a minute, in a thread that looks at nothing else."""

    async def inspect(self, archive: Archive) -> Image:
        def read() -> Image:
            sys.stderr.write("reading\n")
            time.sleep(60)
            return self.image

        return await anyio.to_thread.run_sync(read, abandon_on_cancel=True)


TRICKS = {
    "good": StandIn,
    # A row that warns has an arrow in it.
    "warned": lambda: StandIn(updated=Updates(pending=(examples.LIBC,))),
    "busy": Busy,
}


def main() -> None:
    """Play one trick, with the rest of the arguments."""
    trick, *arguments = sys.argv[1:]
    setattr(stages, "connect", TRICKS[trick]().connect)  # noqa: B010 - these stages have another type
    sys.argv = ["ci/main.py", *arguments]
    runpy.run_path(str(ROOT / "ci" / "main.py"), run_name="__main__")


if __name__ == "__main__":
    main()
