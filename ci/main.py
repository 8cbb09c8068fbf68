"""Drydock's command line: arguments in, what was asked for, its words out, its exit code back.

`dagger run python ci/main.py` and `python ci/main.py` do the same. Only this file prints and exits.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from rich.console import Console
from rich.text import Text

import arguments
import checks
import contents
import github_issue
import image
import lock
import pipeline
import plan
import records
import reference
import released
import stages
from errors import DrydockError, Interrupted, UsageError
from render import commands, text, words
from render import contents as render_contents
from render.progress import Live
from report import MB, Assessment, Report, Verdict

Result = TypeVar("Result")
DATA_LIMIT_MB = 50
STYLES = {"PASS": "green", "WARN": "yellow", "FAIL": "bold red", "SKIP": "yellow", "NOT RUN": "yellow"}


@dataclass(frozen=True)
class Terminal:
    """Where words go: what was asked for to one stream, what is said on the way there to the other."""

    out: Console
    errors: Console
    on_github: bool


def main(given: Sequence[str] | None = None) -> int:
    """Do what was asked for and return the exit code that README.md lists."""
    asked = arguments.parse(sys.argv[1:] if given is None else given)
    on_github = os.environ.get("GITHUB_ACTIONS") == "true"
    # GitHub reads commands from both streams, and their order only within one.
    terminal = Terminal(Console(soft_wrap=True), Console(stderr=not on_github, soft_wrap=True), on_github)
    try:
        return COMMANDS[asked.command](asked, terminal)
    except DrydockError as error:
        with _no_commands(on_github):
            terminal.errors.print(Text(f"{error.what}\n"), end="", style="bold red")
            terminal.errors.print(Text("".join(f"  {line}\n" for line in error.log.splitlines())), end="")
            terminal.errors.print(Text(f"  usually   {error.usually}\n" if error.usually else ""), end="")
            terminal.errors.print(Text(f"  next      {error.next_step}"))
        return error.exit_code


def _run(asked: Namespace, terminal: Terminal) -> int:
    run = _plan(asked, publishes=True, tag=asked.tag, push=asked.push)
    records.clear(run.report_dir)
    terminal.errors.print(preamble(run), highlight=False)
    with Live(terminal.errors) as live:
        report = anyio.run(_to_its_report, run, live)
    # First, since what was published has to be known even where the disk is full.
    with _no_commands(terminal.on_github):
        _show(text.render(report), terminal.out)
        if asked.debug and (log := run.report_dir / "engine.log").exists():
            terminal.errors.print(Text(log.read_text(encoding="utf-8", errors="replace")))
    if terminal.on_github:
        print(commands.render(report), end="")
    records.write(report, run.report_dir, os.environ)
    return report.exit_code


def _train(asked: Namespace, terminal: Terminal) -> int:
    run = _plan(asked)
    model = run.policy.model
    if not model.train:
        raise UsageError(
            "there is nothing to train: model.train is empty",
            usually=f"{run.policy.origins['model.train']} says that the model is trained already",
            next_step="name a train command under [model], or run the pipeline as it is",
        )
    records.clear(run.report_dir)

    async def train() -> None:
        async with stages.connect(run) as engine:
            await engine.train_into(run.root / model.path)

    _unless_interrupted(train())
    terminal.errors.print(Text(f"trained    {Path(model.path) / 'model.json'}, and the model that it names"))
    return 0


def _contract(asked: Namespace, terminal: Terminal) -> int:
    run = _plan(asked)
    model, data = (_given(path) for path in (asked.model, asked.data))
    size_bytes, limit_bytes = data.stat().st_size, DATA_LIMIT_MB * MB
    if size_bytes > limit_bytes:
        raise UsageError(
            f"{asked.data} has {checks.megabytes(size_bytes, limit_bytes)}, and {DATA_LIMIT_MB} MB are the most",
            usually="it is all that the model was trained on",
            next_step="name a file with some hundred rows that it has not seen: they are enough",
        )
    records.clear(run.report_dir)

    async def describe() -> str:
        async with stages.connect(run) as engine:
            return await engine.describe(model, data, asked.name or run.policy.image.name, asked.target, asked.words)

    lines = _unless_interrupted(describe()).splitlines()
    if run.policy.model.train:
        lines.append('next       say train = "" under [model], or the next run trains a model of its own')
    with _no_commands(terminal.on_github):
        terminal.out.print(Text("".join(f"{words.printable(line)}\n" for line in lines)), end="")
    return 0


def _given(path: Path) -> Path:
    """Where a file that was named really is: the engine follows no links."""
    if path.is_file():
        return path.resolve()
    raise UsageError(
        f"{path} is no file that is there",
        usually="its name is written differently, or it is seen from another folder",
        next_step="python ci/main.py contract MODEL DATA: a model that joblib saved, and a CSV file",
    )


def _explain(asked: Namespace, terminal: Terminal) -> int:
    words = explanation(asked.archive or asked.report_dir / "image.tar", asked.layer, asked.report_dir)
    with _no_commands(terminal.on_github):
        terminal.out.print(Text(words), end="")
    return 0


def _verify(asked: Namespace, terminal: Terminal) -> int:
    run, subject = _plan(asked, key=asked.key), reference.parse(asked.image)

    return _assessed(partial(released.verify, run, subject, stages.connect), run, terminal)


def _promote(asked: Namespace, terminal: Terminal) -> int:
    run, source, target = _plan(asked, key=asked.key), reference.parse(asked.source), reference.parse(asked.target)
    return _assessed(partial(released.promote, run, source, target, stages.connect), run, terminal)


def _rescan(asked: Namespace, terminal: Terminal) -> int:
    run = _plan(asked)
    released_images = [records.read(path) for path in asked.records or [asked.report_dir / records.RECORD]]

    async def rescan(live: Live) -> Assessment:
        assessment = await released.rescan(run, released_images, stages.connect, live)
        if asked.issues:
            # Of an image that was not scanned there is nothing to say.
            for row in (row for row in assessment.rows if row.verdict is not Verdict.NOT_RUN):
                await github_issue.say(github_issue.compose(row), os.environ)
        return assessment

    return _assessed(rescan, run, terminal)


def _reproduce(asked: Namespace, terminal: Terminal) -> int:
    run = _plan(asked, report_dir=asked.report_dir / "reproduced", no_cache=asked.no_cache)
    record = None if reference.DIGEST.fullmatch(asked.released) else records.read(Path(asked.released))
    digest = record.digest if record else asked.released
    return _assessed(partial(released.reproduce, run, digest, record, stages.connect), run, terminal)


def _lock(asked: Namespace, terminal: Terminal) -> int:
    lines = _unless_interrupted(lock.refresh(asked.images, lock.from_registries))
    terminal.out.print(Text("\n".join([*lines, f"locked     {len(lines)} images in {asked.images}"])))
    return 0


COMMANDS: dict[str, Callable[[Namespace, Terminal], int]] = {
    "run": _run,
    "train": _train,
    "contract": _contract,
    "explain": _explain,
    "verify": _verify,
    "promote": _promote,
    "rescan": _rescan,
    "reproduce": _reproduce,
    "lock": _lock,
}


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
    repository = records.judged_for(report_dir, read.manifest_digest)
    return render_contents.explain(read, contents.compare(read, records.published(report_dir), repository))


def _plan(
    asked: Namespace,
    *,
    publishes: bool = False,
    tag: str | None = None,
    push: bool = False,
    report_dir: Path | None = None,
    key: Path | None = None,
    no_cache: bool = False,
) -> plan.Plan:
    return plan.make(
        policy_path=asked.config,
        report_dir=report_dir or asked.report_dir,
        publishes=publishes,
        tag=tag,
        push=push,
        key=key,
        no_cache=no_cache,
        environment=os.environ,
    )


def _assessed(work: Callable[[Live], Awaitable[Assessment]], run: plan.Plan, terminal: Terminal) -> int:
    """Do what looks at published images, and show its lines."""
    records.make(run.report_dir)
    with Live(terminal.errors) as live:
        assessment = _unless_interrupted(work(live))
    with _no_commands(terminal.on_github):
        _show(text.assessment(assessment), terminal.out)
    return assessment.exit_code


def _unless_interrupted(work: Awaitable[Result]) -> Result:
    """Await `work`. Raises what it raises, and Interrupted where somebody stops it."""
    done: list[Result] = []
    broken: list[DrydockError] = []

    async def watched() -> None:
        interruption = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(_watch_signals, interruption)
            with interruption:
                try:
                    done.append(await work)
                except DrydockError as error:
                    broken.append(error)
            group.cancel_scope.cancel()

    anyio.run(watched)
    for error in broken:
        raise error
    for result in done:
        return result
    raise Interrupted("stopped by a signal", next_step="run again; nothing has to be cleaned up")


async def _to_its_report(run: plan.Plan, live: Live) -> Report:
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


def _show(rendered: str, console: Console) -> None:
    words = Text(rendered)
    for word, style in STYLES.items():
        words.highlight_regex(rf"(?m)^ {word}\b", style)
    console.print(words, end="")


if __name__ == "__main__":
    sys.exit(main())
