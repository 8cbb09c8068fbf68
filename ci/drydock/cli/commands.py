"""Drydock's command line: one function per command, which shows its result and returns the exit code.

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

from drydock import stages
from drydock.cli import arguments
from drydock.cli.console import Terminal
from drydock.cli.guard import run_guarded
from drydock.cli.interrupts import Interrupts
from drydock.errors import BuildError, Interrupted, UsageError
from drydock.oci import analysis, archive, media_types, reference
from drydock.pipeline.plan import Plan, create_plan
from drydock.pipeline.promote import promote
from drydock.pipeline.record import create_record
from drydock.pipeline.reproduce import reproduce
from drydock.pipeline.rescan import rescan
from drydock.pipeline.run import run
from drydock.pipeline.update_pins import find_digest, update_pins
from drydock.pipeline.verify import verify
from drydock.policy import load_policy
from drydock.render import github_annotations, layers, text
from drydock.render.files import write_reports
from drydock.render.progress import ConsoleProgress
from drydock.report import MB, Assessment, Report, Verdict, files, publication, units
from drydock.tools import cosign, dockerfile, git, github_issue, revision

Result = TypeVar("Result")
DATA_LIMIT_MB = 50
INTERRUPTS = Interrupts()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; return the exit code that docs/reference.md lists."""
    terminal = Terminal(on_github=os.environ.get("GITHUB_ACTIONS") == "true")
    args = arguments.parse_arguments(sys.argv[1:] if argv is None else argv)
    report_dir = getattr(args, "report_dir", None) or files.REPORTS
    return run_guarded(partial(COMMANDS[args.command], args, terminal), terminal, INTERRUPTS, report_dir)


def _run(args: Namespace, terminal: Terminal) -> int:
    plan = _create_plan(args, publishes=True, mounts_secrets=True, tag=args.tag, push=args.push)
    with files.lock_directory(plan.report_dir):
        files.prepare_directory(plan.report_dir)
        terminal.note(describe_plan(plan))
        # What was published has its record, whatever is shown of it, and shown whatever becomes of the record.
        with INTERRUPTS.defer_signals():
            with ConsoleProgress(terminal.errors) as progress:
                report = anyio.run(_run_pipeline, plan, progress)
            try:
                write_reports(
                    report, create_record(report) if report.publication else None, plan.report_dir, os.environ
                )
            except BaseException:
                _show_report(report, args, plan, terminal)
                raise
        _show_report(report, args, plan, terminal)
    return report.exit_code


def _show_report(report: Report, args: Namespace, plan: Plan, terminal: Terminal) -> None:
    with terminal.stop_github_commands():
        terminal.show(text.render(report))
        if args.debug and (log := plan.report_dir / "engine.log").exists():
            terminal.note(log.read_text(encoding="utf-8", errors="replace"))
    terminal.command_github(github_annotations.render(report))


def _train(args: Namespace, terminal: Terminal) -> int:
    plan = _create_plan(args, mounts_secrets=True)
    model = plan.policy.model
    if not model.train:
        raise UsageError(
            "there is nothing to train: model.train is empty",
            likely_cause=f"{plan.policy.origins['model.train']} says that the model is trained already",
            next_step="name a train command under [model], or run the pipeline as it is",
        )

    async def train() -> None:
        async with stages.connect(plan) as engine:
            await engine.train_to(plan.root / model.path)

    with files.lock_directory(plan.report_dir):
        files.prepare_directory(plan.report_dir)
        run_cancellable(train())
    terminal.note(f"trained    {Path(model.path) / 'model.json'}, and the model that it names\n")
    return 0


def _contract(args: Namespace, terminal: Terminal) -> int:
    plan = _create_plan(args, mounts_secrets=True)
    _require_stage(plan, "contract")
    model, data = (_resolve_file(path) for path in (args.model, args.data))
    size_bytes, limit_bytes = data.stat().st_size, DATA_LIMIT_MB * MB
    if size_bytes > limit_bytes:
        raise UsageError(
            f"{args.data} has {units.format_against_limit(size_bytes, limit_bytes)}, and {DATA_LIMIT_MB} MB"
            " are the most",
            likely_cause="it is all that the model was trained on",
            next_step="name a file with some hundred rows that it has not seen: they are enough",
        )

    values = {
        "name": args.name or plan.policy.image.name,
        "target": ",".join(args.target),
        "string-columns": ",".join(args.string_columns),
        "number-columns": ",".join(args.number_columns),
        "private-columns": ",".join(args.private_columns),
        "golden": args.golden,
        "decimal": args.decimal,
        "encoding": args.encoding,
    }
    options = [f"--{name}={value}" for name, value in values.items() if value]

    async def create_contract() -> str:
        async with stages.connect(plan) as engine:
            return await engine.create_contract(model, data, options)

    with files.lock_directory(plan.report_dir):
        files.prepare_directory(plan.report_dir)
        try:
            lines = run_cancellable(create_contract()).splitlines()
        except BuildError as error:
            raise _shorten_refusal(error, args.model) from error
    if plan.policy.model.train:
        lines.append(f'next       set train = "" under [model] in {args.config}, or the next run trains its own model')
    terminal.show("".join(f"{line}\n" for line in lines))
    return 0


def _shorten_refusal(error: BuildError, model: Path) -> BuildError:
    """The sentence in which a contract is refused, instead of the command that said it; else the error itself."""
    [*others, sentence] = error.log.splitlines() or [""]
    if others or not sentence.endswith("."):
        return error
    return BuildError(f"{model.name} gets no contract: {sentence}", next_step="change what it names, then run again")


def _require_stage(plan: Plan, stage: str) -> None:
    """Raise UsageError if the Dockerfile has no such stage; one that cannot be read is for the build to report."""
    text = dockerfile.read_dockerfile(plan.root / plan.policy.build.dockerfile)
    if text and stage not in dockerfile.find_stages(text):
        raise UsageError(
            f"{plan.policy.build.dockerfile} has no stage `{stage}`",
            likely_cause="it is a Dockerfile of your own",
            next_step=f"run drydock {stage} in a clone of Drydock, and copy model.json and the model",
        )


def _resolve_file(path: Path) -> Path:
    """Return the path of a file without links: the engine follows none."""
    if path.is_file():
        return path.resolve()
    raise UsageError(
        f"{path} is no file that is there",
        likely_cause="its name is written differently, or it is seen from another folder",
        next_step="drydock contract MODEL DATA: a model that joblib saved, and a CSV or Parquet file",
    )


def _explain(args: Namespace, terminal: Terminal) -> int:
    if args.archive:
        # A named archive needs no policy; its report is beside it.
        terminal.show(explain_archive(args.archive, args.layer, args.report_dir or args.archive.parent))
    else:
        report_dir = args.report_dir or files.default_report_dir(load_policy(args.config, os.environ).image.name)
        terminal.show(explain_archive(report_dir / "image.tar", args.layer, report_dir))
    return 0


def _generate_key_pair(args: Namespace, terminal: Terminal) -> int:
    plan, folder = _create_plan(args), args.folder.expanduser()
    password = cosign.read_new_password(os.environ, folder)

    async def generate() -> cosign.KeyPair:
        async with stages.connect(plan) as engine:
            return await engine.generate_key_pair(password)

    with files.lock_directory(plan.report_dir):
        pair = run_cancellable(generate())
    cosign.write_key_pair(pair, folder)
    fingerprint = cosign.compute_fingerprint(pair.public_key)
    note = "note       this folder is in a git work tree: better keep the private key outside it\n"
    terminal.show(
        f"private    {folder / cosign.PRIVATE_KEY}: keep it, and its password, where nobody else can read them\n"
        f"{note if git.is_in_work_tree(folder) else ''}"
        f"public     {folder / cosign.PUBLIC_KEY}: give it to those who verify; key {fingerprint}\n"
        f"next       {cosign.KEY_VARIABLE}={folder / cosign.PRIVATE_KEY} make run signs with it\n"
    )
    return 0


def _verify(args: Namespace, terminal: Terminal) -> int:
    plan, image = _create_plan(args, key=args.key), reference.parse_reference(args.image)
    return _run_assessment(partial(verify, plan, image, stages.connect), plan, terminal)


def _promote(args: Namespace, terminal: Terminal) -> int:
    plan, source, target = (
        _create_plan(args, key=args.key),
        reference.parse_reference(args.source),
        reference.parse_reference(args.target),
    )
    return _run_assessment(partial(promote, plan, source, target, stages.connect), plan, terminal)


def _rescan(args: Namespace, terminal: Terminal) -> int:
    plan = _create_plan(args)
    records = [publication.read_record(path) for path in args.records or [plan.report_dir / publication.RECORD]]

    async def rescan_and_report(progress: ConsoleProgress) -> Assessment:
        assessment = await rescan(plan, records, stages.connect, progress)
        if args.issues:
            # An image that was not scanned needs no issue.
            for row in (row for row in assessment.checks if row.verdict is not Verdict.NOT_RUN):
                await github_issue.sync_issue(github_issue.compose_issue(row), os.environ)
        return assessment

    return _run_assessment(rescan_and_report, plan, terminal)


def _reproduce(args: Namespace, terminal: Terminal) -> int:
    plan = _create_plan(args, builds=True, mounts_secrets=True, no_cache=args.no_cache)
    plan = replace(plan, report_dir=plan.report_dir / "reproduced")
    record = None if media_types.DIGEST.fullmatch(args.released) else publication.read_record(Path(args.released))
    digest = record.digest if record else args.released
    return _run_assessment(partial(reproduce, plan, digest, record, stages.connect), plan, terminal)


def _update_pins(args: Namespace, terminal: Terminal) -> int:
    lines = run_cancellable(update_pins(args.images, find_digest))
    terminal.show("\n".join([*lines, f"locked     {len(lines)} images in {args.images}", ""]))
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


def describe_plan(plan: Plan) -> str:
    """Return what the run is about to do, and where each value that was set comes from."""
    target = f"push to {plan.reference}" if plan.push else "push nothing"
    origins = plan.policy.origins.get("image.repository", "default")
    images = f"{plan.images.base_images} images"
    here = Path.cwd()
    folder = plan.report_dir.relative_to(here) if plan.report_dir.is_relative_to(here) else plan.report_dir
    changes = revision.describe_changes(plan.root, plan.inputs) if plan.revision.dirty else ""
    dirty = f"dirty      {changes}\n" if changes else ""
    return f"policy     {plan.root.name}: {target} ({origins}); {images}; report in {folder}/\n{dirty}"


def explain_archive(path: Path, layer: int | None, report_dir: Path) -> str:
    """Return where the bytes of the image in the archive at `path` are, or every file of one of its layers."""
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist",
            likely_cause="no run has built an image yet, or its report went into another folder",
            next_step="run the pipeline first, or name an OCI archive with --archive",
        )
    if layer is not None:
        return layers.layer(layer, *archive.read_layer(path, layer))
    image = archive.read_image(path)
    repository = publication.find_last_repository(report_dir, image.manifest_digest)
    return layers.explain(image, analysis.compare_packages(image, publication.read_records(report_dir), repository))


def _create_plan(
    args: Namespace,
    *,
    publishes: bool = False,
    builds: bool = False,
    mounts_secrets: bool = False,
    tag: str | None = None,
    push: bool = False,
    key: Path | None = None,
    no_cache: bool = False,
) -> Plan:
    return create_plan(
        policy_path=args.config,
        report_dir=args.report_dir,
        publishes=publishes,
        builds=builds,
        mounts_secrets=mounts_secrets,
        tag=tag,
        push=push,
        key=key,
        no_cache=no_cache,
        environment=os.environ,
    )


def _run_assessment(work: Callable[[ConsoleProgress], Awaitable[Assessment]], plan: Plan, terminal: Terminal) -> int:
    """Assess published images, and show the result of each check."""
    with files.lock_directory(plan.report_dir), ConsoleProgress(terminal.errors) as progress:
        assessment = run_cancellable(work(progress))
    terminal.show(text.assessment(assessment))
    return assessment.exit_code


def run_cancellable(work: Awaitable[Result]) -> Result:
    """Await `work`. Raises what it raises, and Interrupted if somebody stops it."""
    done: list[Result] = []

    async def watched() -> None:
        interruption = anyio.CancelScope()
        with INTERRUPTS.cancel_on_signal(interruption), interruption:
            done.append(await work)

    anyio.run(watched)
    for result in done:
        return result
    raise Interrupted("stopped by a signal", next_step="run again; nothing has to be cleaned up")


async def _run_pipeline(plan: Plan, progress: ConsoleProgress) -> Report:
    interruption = anyio.CancelScope()
    with INTERRUPTS.cancel_on_signal(interruption):
        return await run(plan, stages.connect, progress, interruption)
