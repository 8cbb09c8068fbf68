"""The command line as a process, with stages that need no engine: `python -m tests.support.program TRICK ARGS`."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

import anyio

from drydock import stages
from drydock.report import Archive, Image, Updates
from tests.support import examples
from tests.support.fake_stages import FakeStages

ROOT = Path(__file__).parents[2]


class Busy(FakeStages):
    """Reads its archive for a minute, in a thread that looks at nothing else."""

    async def inspect(self, archive: Archive) -> Image:
        def read() -> Image:
            sys.stderr.write("reading\n")
            time.sleep(60)
            return self.image

        return await anyio.to_thread.run_sync(read, abandon_on_cancel=True)


TRICKS = {
    "good": FakeStages,
    # A row that warns has an arrow in it.
    "warned": lambda: FakeStages(updated=Updates(pending=(examples.LIBC,))),
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
