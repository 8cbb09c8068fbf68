"""The command line: which commands there are, and what each of them takes. Policy lives in pipeline.toml."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

RUN = "run"
CONTRACT_COLUMNS = {
    "target": "the right answers; else the columns that are no features",
    "string-columns": "columns of strings that look like numbers",
    "number-columns": "columns of whole numbers that take 1.5 as well",
    "private-columns": "columns whose values are shown nowhere",
}
BOOTSTRAP_ACTIONS = {
    "up": "start both, and build what they need (default)",
    "env": 'print what a shell needs: eval "$(drydock bootstrap env)"',
    "status": "print what is running",
    "down": "stop both; what was built stays",
    "clean": "stop both and remove what was built",
}


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; `command` is the name of the command, `run` by default."""
    parser = argparse.ArgumentParser(
        prog="drydock",
        description="Build a model image, run it, scan it, judge it, and push it only if every check passed.",
        epilog="Each command says with --help what it takes.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, default=Path("pipeline.toml"), metavar="FILE", help="the policy")
    shared.add_argument(
        "--report-dir", type=Path, metavar="DIR", help="the folder of the report; dist/<image.name> by default"
    )
    key = argparse.ArgumentParser(add_help=False)
    key.add_argument("--key", type=Path, metavar="FILE", help="the public key to trust, instead of the policy's")

    def command(name: str, words: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=words, description=words, parents=[shared, *parents])

    run = command(RUN, "build, look, judge, and push what was approved (the default)")
    run.add_argument("--push", action=argparse.BooleanOptionalAction, default=True, help="push the approved image")
    run.add_argument("--tag", help="push under this tag, or as the release of this version: v1.2.3")
    run.add_argument("--debug", action="store_true", help="show the engine's whole log at the end")
    command("train", "only train the model, into the folder that model.path names")
    contract = command("contract", "write the contract of a model that is trained already, beside it in model.path")
    contract.add_argument("model", type=Path, metavar="MODEL", help="a fitted estimator or pipeline, saved with joblib")
    contract.add_argument("data", type=Path, metavar="DATA", help="rows it has not seen, with right answers")
    for name, words in CONTRACT_COLUMNS.items():
        contract.add_argument(f"--{name}", action="extend", nargs="+", default=[], metavar="COLUMN", help=words)
    golden = "golden rows are rows of the data, or made up; else made up if a column is free text"
    contract.add_argument("--golden", default="", choices=["holdout", "synthetic"], help=golden)
    contract.add_argument("--decimal", default="", choices=[".", ","], help="the decimal mark of a CSV file")
    contract.add_argument("--encoding", default="", metavar="NAME", help="the encoding of a CSV file, such as cp1252")
    contract.add_argument("--name", default="", help="what the model is called; else image.name")
    explain = command("explain", "say where an image's bytes are")
    explain.add_argument("--archive", type=Path, metavar="FILE", help="an OCI archive, not the last run's")
    explain.add_argument("--layer", type=int, metavar="N", help="every file of this layer; the base's first is 1")
    pair = command("generate-key-pair", "make a key pair that signs releases: cosign.key and cosign.pub")
    pair.add_argument("folder", type=Path, metavar="FOLDER", help="where it goes: outside of the repository")
    verify = command("verify", "judge a published image by what its builders signed", key)
    verify.add_argument("image", metavar="IMAGE", help="host/name:tag, or host/name@digest")
    promote = command("promote", "verify an image, then copy it elsewhere with all that belongs to it", key)
    promote.add_argument("source", metavar="FROM", help="host/name:tag, or host/name@digest")
    promote.add_argument("target", metavar="TO", help="host/name, or host/name:tag")
    rescan = command("rescan", "scan released images with today's advisories")
    rescan.add_argument("records", nargs="*", type=Path, metavar="RECORD", help="their release.json; else the last one")
    rescan.add_argument("--issues", action="store_true", help="open or update an issue on GitHub for each image")
    reproduce = command("reproduce", "build a released commit again and compare digests")
    reproduce.add_argument(
        "released", nargs="?", default="dist/release.json", metavar="RELEASED", help="a release.json, or a digest"
    )
    reproduce.add_argument("--no-cache", action="store_true", help="empty the engine's whole cache first")
    pins = commands.add_parser("update-pins", help="write the digests that the pinned tags have now into images.toml")
    pins.add_argument("images", nargs="?", type=Path, default=Path("images.toml"), metavar="FILE", help="the lock file")
    machine = commands.add_parser(
        "bootstrap", help=(start := "start an engine and a registry on this machine"), description=start
    )
    actions = "; ".join(f"{name}: {words}" for name, words in BOOTSTRAP_ACTIONS.items())
    machine.add_argument("action", nargs="?", choices=BOOTSTRAP_ACTIONS, default="up", help=actions)
    machine.add_argument("--with-cosign", action="store_true", help="build cosign too; COSIGN_KEY does the same")
    asks_for_help = bool(argv) and argv[0] in ("-h", "--help")
    names_a_command = bool(argv) and (argv[0] in commands.choices or not argv[0].startswith("-"))
    return parser.parse_args(argv if names_a_command or asks_for_help else [RUN, *argv])
