"""Drydock's command line: arguments in, what was asked for, its words out, its exit code back.

`drydock`, `python ci/main.py` and `dagger run python ci/main.py` do the same.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from drydock import policy as config
from drydock import stages
from drydock.cli import arguments
from drydock.cli.console import Terminal
from drydock.cli.guard import run_guarded
from drydock.cli.interrupts import Interrupts
from drydock.errors import Interrupted, UsageError
from drydock.oci import analysis, media_types, reference
from drydock.oci import archive as image
from drydock.pipeline import plan, update_pins
from drydock.pipeline.promote import promote
from drydock.pipeline.record import create_record
from drydock.pipeline.reproduce import reproduce
from drydock.pipeline.rescan import rescan
from drydock.pipeline.run import run as run_pipeline
from drydock.pipeline.verify import verify
from drydock.render import files as report_files
from drydock.render import github_annotations, text
from drydock.render import layers as render_contents
from drydock.render.progress import Live
from drydock.report import MB, Assessment, Report, Verdict, files, publication, units
from drydock.tools import cosign, github_issue

Result = TypeVar("Result")
DATA_LIMIT_MB = 50
INTERRUPTS = Interrupts()


def main(given: Sequence[str] | None = None) -> int:
    """Do what was asked for and return the exit code that docs/reference.md lists."""
    terminal = Terminal(on_github=os.environ.get("GITHUB_ACTIONS") == "true")
    asked = arguments.parse(sys.argv[1:] if given is None else given)
    report_dir = getattr(asked, "report_dir", None) or files.REPORTS
    return run_guarded(partial(COMMANDS[asked.command], asked, terminal), terminal, INTERRUPTS, report_dir)


def _run(asked: Namespace, terminal: Terminal) -> int:
    run = _plan(asked, publishes=True, mounts_secrets=True, tag=asked.tag, push=asked.push)
    with files.exclusive(run.report_dir):
        files.prepare(run.report_dir)
        terminal.note(preamble(run))
        # What was published has its record, whatever is shown of it, and shown whatever becomes of the record.
        with INTERRUPTS.deferred():
            with Live(terminal.errors) as live:
                report = anyio.run(_to_its_report, run, live)
            try:
                report_files.write(
                    report, create_record(report) if report.publication else None, run.report_dir, os.environ
                )
            except BaseException:
                _show_report(report, asked, run, terminal)
                raise
        _show_report(report, asked, run, terminal)
    return report.exit_code


def _show_report(report: Report, asked: Namespace, run: plan.Plan, terminal: Terminal) -> None:
    with terminal.no_commands():
        terminal.show(text.render(report))
        if asked.debug and (log := run.report_dir / "engine.log").exists():
            terminal.note(log.read_text(encoding="utf-8", errors="replace"))
    terminal.command_github(github_annotations.render(report))


def _train(asked: Namespace, terminal: Terminal) -> int:
    run = _plan(asked, mounts_secrets=True)
    model = run.policy.model
    if not model.train:
        raise UsageError(
            "there is nothing to train: model.train is empty",
            likely_cause=f"{run.policy.origins['model.train']} says that the model is trained already",
            next_step="name a train command under [model], or run the pipeline as it is",
        )

    async def train() -> None:
        async with stages.connect(run) as engine:
            await engine.train_into(run.root / model.path)

    with files.exclusive(run.report_dir):
        files.prepare(run.report_dir)
        _unless_interrupted(train())
    terminal.note(f"trained    {Path(model.path) / 'model.json'}, and the model that it names\n")
    return 0


def _contract(asked: Namespace, terminal: Terminal) -> int:
    run = _plan(asked, mounts_secrets=True)
    model, data = (_given(path) for path in (asked.model, asked.data))
    size_bytes, limit_bytes = data.stat().st_size, DATA_LIMIT_MB * MB
    if size_bytes > limit_bytes:
        raise UsageError(
            f"{asked.data} has {units.format_against_limit(size_bytes, limit_bytes)}, and {DATA_LIMIT_MB} MB"
            " are the most",
            likely_cause="it is all that the model was trained on",
            next_step="name a file with some hundred rows that it has not seen: they are enough",
        )

    async def create_contract() -> str:
        async with stages.connect(run) as engine:
            return await engine.create_contract(
                model, data, asked.name or run.policy.image.name, asked.target, asked.string_columns
            )

    with files.exclusive(run.report_dir):
        files.prepare(run.report_dir)
        lines = _unless_interrupted(create_contract()).splitlines()
    if run.policy.model.train:
        lines.append('next       say train = "" under [model], or the next run trains a model of its own')
    terminal.show("".join(f"{line}\n" for line in lines))
    return 0


def _given(path: Path) -> Path:
    """Where a file that was named really is: the engine follows no links."""
    if path.is_file():
        return path.resolve()
    raise UsageError(
        f"{path} is no file that is there",
        likely_cause="its name is written differently, or it is seen from another folder",
        next_step="drydock contract MODEL DATA: a model that joblib saved, and a CSV file",
    )


def _explain(asked: Namespace, terminal: Terminal) -> int:
    report_dir = asked.report_dir or files.default_report_dir(config.load(asked.config, os.environ).image.name)
    terminal.show(explanation(asked.archive or report_dir / "image.tar", asked.layer, report_dir))
    return 0


def _generate_key_pair(asked: Namespace, terminal: Terminal) -> int:
    run, folder = _plan(asked), asked.folder.expanduser()
    password = cosign.new_password(os.environ, folder)

    async def generate() -> cosign.KeyPair:
        async with stages.connect(run) as engine:
            return await engine.generate_key_pair(password)

    with files.exclusive(run.report_dir):
        pair = _unless_interrupted(generate())
    cosign.write_key_pair(pair, folder)
    fingerprint = cosign.fingerprint(pair.public_key)
    terminal.show(
        f"private    {folder / cosign.PRIVATE_KEY}: keep it, and its password, where nobody else can read them\n"
        f"public     {folder / cosign.PUBLIC_KEY}: give it to whoever verifies; key {fingerprint}\n"
        f"next       {cosign.KEY_VARIABLE}={folder / cosign.PRIVATE_KEY} make run signs with it\n"
    )
    return 0


def _verify(asked: Namespace, terminal: Terminal) -> int:
    run, subject = _plan(asked, key=asked.key), reference.parse(asked.image)

    return _assessed(partial(verify, run, subject, stages.connect), run, terminal)


def _promote(asked: Namespace, terminal: Terminal) -> int:
    run, source, target = _plan(asked, key=asked.key), reference.parse(asked.source), reference.parse(asked.target)
    return _assessed(partial(promote, run, source, target, stages.connect), run, terminal)


def _rescan(asked: Namespace, terminal: Terminal) -> int:
    run = _plan(asked)
    records = [publication.read(path) for path in asked.records or [run.report_dir / publication.RECORD]]

    async def rescan_and_report(live: Live) -> Assessment:
        assessment = await rescan(run, records, stages.connect, live)
        if asked.issues:
            # Of an image that was not scanned there is nothing to say.
            for row in (row for row in assessment.checks if row.verdict is not Verdict.NOT_RUN):
                await github_issue.say(github_issue.compose(row), os.environ)
        return assessment

    return _assessed(rescan_and_report, run, terminal)


def _reproduce(asked: Namespace, terminal: Terminal) -> int:
    run = _plan(asked, builds=True, mounts_secrets=True, no_cache=asked.no_cache)
    run = replace(run, report_dir=run.report_dir / "reproduced")
    record = None if media_types.DIGEST.fullmatch(asked.released) else publication.read(Path(asked.released))
    digest = record.digest if record else asked.released
    return _assessed(partial(reproduce, run, digest, record, stages.connect), run, terminal)


def _update_pins(asked: Namespace, terminal: Terminal) -> int:
    lines = _unless_interrupted(update_pins.refresh(asked.images, update_pins.from_registries))
    terminal.show("\n".join([*lines, f"locked     {len(lines)} images in {asked.images}", ""]))
    return 0


COMMANDS: dict[str, Callable[[Namespace, Terminal], int]] = {
    "run": _run,
    "train": _train,
    "contract": _contract,
    "explain": _explain,
    "generate-key-pair": _generate_key_pair,
    "verify": _verify,
    "promote": _promote,
    "rescan": _rescan,
    "reproduce": _reproduce,
    "update-pins": _update_pins,
}


def preamble(run: plan.Plan) -> str:
    """What the run is about to do, and where each value that was set comes from."""
    target = f"push to {run.reference}" if run.push else "push nothing"
    origins = run.policy.origins.get("image.repository", "default")
    images = f"{run.images.base_images} images"
    here = Path.cwd()
    folder = run.report_dir.relative_to(here) if run.report_dir.is_relative_to(here) else run.report_dir
    return f"policy     {run.root.name}: {target} ({origins}); {images}; report in {folder}/\n"


def explanation(archive: Path, layer: int | None, report_dir: Path) -> str:
    """Where the bytes of the image in `archive` are, or every file of one of its layers."""
    if not archive.is_file():
        raise UsageError(
            f"{archive} is not there",
            likely_cause="no run has built an image yet, or its report went into another folder",
            next_step="run the pipeline first, or name an OCI archive with --archive",
        )
    if layer is not None:
        return render_contents.layer(layer, *image.read_layer(archive, layer))
    read = image.read_image(archive)
    repository = publication.repository_of_last_run(report_dir, read.manifest_digest)
    return render_contents.explain(read, analysis.compare(read, publication.read_records(report_dir), repository))


def _plan(
    asked: Namespace,
    *,
    publishes: bool = False,
    builds: bool = False,
    mounts_secrets: bool = False,
    tag: str | None = None,
    push: bool = False,
    key: Path | None = None,
    no_cache: bool = False,
) -> plan.Plan:
    return plan.make(
        policy_path=asked.config,
        report_dir=asked.report_dir,
        publishes=publishes,
        builds=builds,
        mounts_secrets=mounts_secrets,
        tag=tag,
        push=push,
        key=key,
        no_cache=no_cache,
        environment=os.environ,
    )


def _assessed(work: Callable[[Live], Awaitable[Assessment]], run: plan.Plan, terminal: Terminal) -> int:
    """Do what looks at published images, and show its lines."""
    with files.exclusive(run.report_dir), Live(terminal.errors) as live:
        assessment = _unless_interrupted(work(live))
    terminal.show(text.assessment(assessment))
    return assessment.exit_code


def _unless_interrupted(work: Awaitable[Result]) -> Result:
    """Await `work`. Raises what it raises, and Interrupted if somebody stops it."""
    done: list[Result] = []

    async def watched() -> None:
        interruption = anyio.CancelScope()
        with INTERRUPTS.cancel(interruption), interruption:
            done.append(await work)

    anyio.run(watched)
    for result in done:
        return result
    raise Interrupted("stopped by a signal", next_step="run again; nothing has to be cleaned up")


async def _to_its_report(run: plan.Plan, live: Live) -> Report:
    interruption = anyio.CancelScope()
    with INTERRUPTS.cancel(interruption):
        return await run_pipeline(run, stages.connect, live, interruption)
