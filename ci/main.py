"""Drydock's command line: arguments in, one run, its report out, its exit code back.

`dagger run python ci/main.py` and `python ci/main.py` do the same. Only this file prints and exits.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
from rich.console import Console
from rich.text import Text

import contents
import image
import pipeline
import plan
import records
import stages
from errors import DrydockError, UsageError
from render import commands, text
from render import contents as render_contents
from render.progress import Live
from report import Report

STYLES = {"PASS": "green", "WARN": "yellow", "FAIL": "bold red", "SKIP": "yellow", "NOT RUN": "yellow"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for and return the exit code that README.md lists."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.command != "explain" and (asked.archive or asked.layer is not None):
        parser.error("--archive and --layer belong to explain")
    on_github = os.environ.get("GITHUB_ACTIONS") == "true"
    # GitHub reads commands from both streams, and their order only within one.
    errors = Console(stderr=not on_github, soft_wrap=True)
    try:
        if asked.command == "explain":
            words = explanation(asked.archive or asked.report_dir / "image.tar", asked.layer, asked.report_dir)
            with _no_commands(on_github):
                Console(soft_wrap=True).print(Text(words), end="")
            return 0
        run = plan.make(
            policy_path=asked.config,
            report_dir=asked.report_dir,
            tag=asked.tag,
            push=asked.push,
            environment=os.environ,
        )
        records.clear(run.report_dir)
        if asked.command == "train":
            anyio.run(_train, run)
            errors.print("trained    artifacts/model.pkl and artifacts/model.json", highlight=False)
            return 0
        errors.print(preamble(run), highlight=False)
        with Live(errors) as live:
            report = anyio.run(_run, run, live)
        # First, since what was published has to be known even where the disk is full.
        with _no_commands(on_github):
            _show(report, Console(soft_wrap=True))
            if asked.debug and (log := run.report_dir / "engine.log").exists():
                errors.print(Text(log.read_text(encoding="utf-8", errors="replace")))
        if on_github:
            print(commands.render(report), end="")
        records.write(report, run.report_dir, os.environ)
        return report.exit_code
    except DrydockError as error:
        with _no_commands(on_github):
            errors.print(Text(f"{error.what}\n"), end="", style="bold red")
            errors.print(Text("".join(f"  {line}\n" for line in error.log.splitlines())), end="")
            errors.print(Text(f"  usually   {error.usually}\n" if error.usually else ""), end="")
            errors.print(Text(f"  next      {error.next_step}"))
        return error.exit_code


def preamble(run: plan.Plan) -> str:
    """What the run is about to do, and where each value that was set comes from."""
    target = f"push to {run.reference}" if run.push else "push nothing"
    origins = run.policy.origins.get("image.repository", "default")
    return (
        f"policy     {run.root.name}: {target} ({origins}); {run.images.world} images; report in {run.report_dir.name}/"
    )


def explanation(archive: Path, layer: int | None, report_dir: Path) -> str:
    """Where the bytes of the image in `archive` are, or every file of one of its layers."""
    if not archive.is_file():
        raise UsageError(
            f"{archive} is not there",
            usually="no run has built an image yet, or its report went into another folder",
            next_step="run the pipeline first, or name an OCI archive with --archive",
        )
    if layer is not None:
        return render_contents.layer(layer, *image.layer_files(archive, layer))
    read = image.read(archive)
    return render_contents.explain(read, contents.compare(read, records.published(report_dir)))


async def _train(run: plan.Plan) -> None:
    async with stages.connect(run) as engine:
        await engine.train_into(run.root / "artifacts")


async def _run(run: plan.Plan, live: Live) -> Report:
    interruption = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(_watch_signals, interruption)
        report = await pipeline.run(run, stages.connect, live, interruption)
        group.cancel_scope.cancel()
    return report


async def _watch_signals(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


@contextmanager
def _no_commands(on_github: bool) -> Iterator[None]:
    """On GitHub, let no line that is printed in here be a command: only who knows the token can end that."""
    token = secrets.token_hex(16)
    if on_github:
        print(f"::stop-commands::{token}", flush=True)
    try:
        yield
    finally:
        if on_github:
            print(f"::{token}::", flush=True)


def _show(report: Report, console: Console) -> None:
    words = Text(text.render(report))
    for word, style in STYLES.items():
        words.highlight_regex(rf"(?m)^ {word}\b", style)
    console.print(words, end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python ci/main.py",
        description="Build a model image, run it, scan it, judge it, and push it only if every check passed.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("run", "train", "explain"),
        default="run",
        help="run (default): all of it; train: only the model, into artifacts/; explain: where an image's bytes are",
    )
    parser.add_argument("--push", action=argparse.BooleanOptionalAction, default=True, help="push the approved image")
    parser.add_argument("--tag", help="push under this tag, instead of the one that git gives")
    parser.add_argument("--config", type=Path, default=Path("pipeline.toml"), metavar="FILE", help="the policy")
    parser.add_argument("--report-dir", type=Path, default=Path("dist"), metavar="DIR", help="where the report goes")
    parser.add_argument("--debug", action="store_true", help="show the engine's whole log at the end")
    parser.add_argument("--archive", type=Path, metavar="FILE", help="explain: an OCI archive, not the last run's")
    parser.add_argument(
        "--layer", type=int, metavar="N", help="explain: every file of this layer; the base's first is 1"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
