"""Compiles forest.c, the lean runtime's evaluator, beside itself: `python -m service.evaluator`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from service.forest import LIBRARY

SOURCE = Path(__file__).with_name("forest.c")
# No fused multiply-add and no reordering: the sums have to be scikit-learn's. No build id and no symbols, so that the
# same source gives the same bytes wherever it is compiled.
FLAGS = (
    "-std=c11",
    "-O2",
    "-fPIC",
    "-shared",
    "-ffreestanding",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-s",
)
REPRODUCIBLE = ("-Wl,--build-id=none", "-Wl,-z,noexecstack", "-nostdlib")


def compile_to(path: Path) -> None:
    """Compile the evaluator into the shared library `path`; the same bytes from the same compiler every time."""
    # A rename at the end, so that nobody loads a library that is half written.
    part = path.absolute().with_name(f".{path.name}.{os.getpid()}")
    subprocess.run(["gcc", *FLAGS, *REPRODUCIBLE, "-o", str(part), SOURCE.name], cwd=SOURCE.parent, check=True)
    part.replace(path)


if __name__ == "__main__":
    compile_to(LIBRARY)
