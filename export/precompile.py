"""Compiles the modules that a start of the server loads: `python -m export.precompile TREE`, in the image's folder.

Python compiles a module without bytecode at every start, which takes longer than everything else. pip and the base
image do not compile: their bytecode would contain the time, and make each build another image.
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
from service.contract import ModelLoadError
from service.http.app import App
from service.model import load_model
from service.settings import Settings

REMOTE_MODULES = ("service.serve_remote", "fsspec.implementations.http", "s3fs", "tenacity")


def compile_sources(sources: list[Path], tree: Path) -> list[Path]:
    """Write the bytecode of `sources` that have none: beside a source of this folder, else under its path in `tree`.

    The bytecode has no time, and Python does not check whether the source has changed: in an image it cannot.
    """
    compiled = []
    for source in sources:
        path = Path(cache_from_source(str(source)))
        if path.exists():
            continue
        if not source.is_relative_to(Path.cwd()):
            path = tree / path.relative_to(path.anchor)
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(source), str(path), doraise=True, invalidation_mode=mode)
        compiled.append(path)
    return compiled


def loaded_sources() -> list[Path]:
    """The Python files of all loaded modules, without those of this package."""
    files = {getattr(module, "__file__", None) for module in sys.modules.values()}
    sources = sorted(Path(file).absolute() for file in files if file and file.endswith(".py"))
    return [source for source in sources if source.parent != Path(__file__).parent]


def main() -> None:
    """Load the model, predict, open the documentation; then compile the modules that this loaded."""
    parser = argparse.ArgumentParser(prog="python -m export.precompile", description="Compile what a start loads.")
    parser.add_argument("tree", type=Path, help="where the bytecode of packages goes, under their own paths")
    tree = parser.parse_args().tree
    # The smoke test refuses the same model, and the report says why.
    with suppress(ModelLoadError):
        app = App(load_model(ARTIFACTS), Settings(), "")
        app.model.self_test()
        app.create_docs_app().openapi()
    # Only an image for remote models has all of these.
    with suppress(ModuleNotFoundError):
        for name in REMOTE_MODULES:
            import_module(name)
    sources = loaded_sources()
    compiled = compile_sources(sources, tree)
    size_bytes = sum(path.stat().st_size for path in compiled)
    print(f"compiled   {len(compiled)} of {len(sources)} modules that a start loads, {size_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
