"""Makes the model of a runtime from a trained one: `python -m export RUNTIME SOURCE TARGET`."""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from export.errors import ConversionError
from service.contract import ModelLoadError
from service.model import read_files


def export_model(runtime: str, source: Path, target: Path) -> str:
    """Write the model in `source` into `target`, converted if `runtime` has a converter; return what was converted.

    A converter is a module of the runtime's name beside this one. Without one the files stay as they are.
    Raises ModelLoadError, ConversionError.
    """
    contract, _ = read_files(source)
    if contract.runtime == runtime or not find_spec(f"export.{runtime}"):
        shutil.copytree(source, target, dirs_exist_ok=True)
        return ""
    summary: str = import_module(f"export.{runtime}").convert(source, target)
    # The pipeline asks images these rows; the Dockerfile puts them into none.
    if contract.reference and (rows := source / contract.reference.file).exists():
        shutil.copyfile(rows, target / rows.name)
    return summary


def main() -> None:
    """Export, and print a converter's summary."""
    parser = argparse.ArgumentParser(prog="python -m export", description="Make the model of a runtime.")
    parser.add_argument("runtime", help="a module of service/runtimes/")
    parser.add_argument("source", type=Path, help="the folder of the trained model and its contract")
    parser.add_argument("target", type=Path, help="the folder to write to")
    args = parser.parse_args()
    try:
        summary = export_model(args.runtime, args.source, args.target)
    except ModelLoadError as error:
        sys.exit(str(error))
    except ConversionError as error:
        sys.exit(
            f'{error}\n→ set runtime = "sklearn" under [build] to serve the model as it is, or '
            '"pandas" if it takes named columns or strings'
        )
    if summary:
        print(f"converted  {summary}")


if __name__ == "__main__":
    main()
