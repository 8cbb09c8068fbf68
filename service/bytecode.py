"""Compiles what a start of the server loads, so that no start has to: `python -m service.bytecode TREE`.

A module without bytecode is compiled anew at every start, which takes longer than all else together, and neither pip
nor the base image is asked for any: theirs would name the time, and make each build another image.
"""

from __future__ import annotations

import argparse
import py_compile
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import cache_from_source
from pathlib import Path

from service.__main__ import ARTIFACTS
from service.app import App
from service.documented import create
from service.model import ModelRefused, load
from service.settings import Settings


def compile_into(tree: Path, sources: list[Path]) -> list[Path]:
    """Write the bytecode of these files, where there is none yet, below `tree` under the path that it belongs to.

    It names no time, and nobody looks whether its source has changed: in an image nothing does.
    """
    made = []
    for source in sources:
        place = Path(cache_from_source(str(source)))
        if not place.exists():
            path = tree / place.relative_to(place.anchor)
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(source), str(path), doraise=True, invalidation_mode=mode)
            made.append(path)
    return made


def loaded() -> list[Path]:
    """The Python files of all that is loaded now."""
    files = {getattr(module, "__file__", None) for module in sys.modules.values()}
    return sorted(Path(file).absolute() for file in files if file and file.endswith(".py"))


def main() -> None:
    """Load the model, predict, open the documentation; then compile whatever that took."""
    parser = argparse.ArgumentParser(prog="python -m service.bytecode", description="Compile what a start loads.")
    parser.add_argument("tree", type=Path, help="where the bytecode goes, each file below its own path")
    tree = parser.parse_args().tree
    # A model that is refused here is refused again where the image is tried, and the report says why.
    with suppress(ModelRefused):
        app = App(load(ARTIFACTS), Settings(), "")
        app.model.complaint()
        create(app).openapi()
    # In an image that fetches its model.
    with suppress(ModuleNotFoundError):
        for name in ("service.outside", "fsspec.implementations.http", "s3fs", "tenacity"):
            import_module(name)
    made = compile_into(tree, [path for path in loaded() if path != Path(__file__)])
    size_bytes = sum(path.stat().st_size for path in made)
    print(f"compiled   {len(made)} of {len(loaded())} modules that a start loads, {size_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
