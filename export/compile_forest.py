"""Compiles forest.c, the evaluator of the runtime `compiled`: `python -m export.compile_forest [LIBRARY]`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("forest.c")
LIBRARY = Path(__file__).parents[1] / "service" / "runtimes" / "libforest.so"
# No fused multiply-add and no reordering: the sums must be scikit-learn's.
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
# No build id and no symbols: the same source gives the same bytes on every machine.
REPRODUCIBLE = ("-Wl,--build-id=none", "-Wl,-z,noexecstack", "-nostdlib")


def compile_library(path: Path) -> None:
    """Compile forest.c to the shared library `path`."""
    # Renamed at the end, so that nobody loads half a library.
    part = path.absolute().with_name(f".{path.name}.{os.getpid()}")
    subprocess.run(["gcc", *FLAGS, *REPRODUCIBLE, "-o", str(part), SOURCE.name], cwd=SOURCE.parent, check=True)
    part.replace(path)


if __name__ == "__main__":
    compile_library(Path(sys.argv[1]) if len(sys.argv) > 1 else LIBRARY)
