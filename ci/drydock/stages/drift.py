"""Starts the image before beside the new one, and asks both the same rows."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagger

from drydock.errors import RegistryError, ScanError
from drydock.oci import registry
from drydock.oci.reference import Reference
from drydock.oci.registry import Manifest, archive_io
from drydock.pipeline.plan import Plan
from drydock.pipeline.previous import PreviousImage, find_platform_digest
from drydock.report import Archive, Drift, Finding, Model
from drydock.report.drift import Pair
from drydock.report.files import PREVIOUS_ARCHIVE
from drydock.stages import host, oci_archive, scanner, session, smoke
from drydock.stages.session import Session
from drydock.stages.smoke import Server
from drydock.tools import dagger_log, drift, model_contract, predict_client

# Where an image of ours has its contract, with its golden rows.
CONTRACT = "/app/artifacts/model.json"


async def compare(
    shared: Session,
    plan: Plan,
    previous: PreviousImage,
    archive: Archive,
    model: Model,
    remote_model: dagger.Directory | None,
) -> Drift:
    """Compare an image that was ready before with the image before.

    Whatever is wrong with the image before is a reason in the result, and no error.
    """
    image = previous.reference
    if image is None:
        return Drift(reason=previous.reason)
    found = Drift(image=str(image), digest=image.digest)
    path = plan.report_dir / PREVIOUS_ARCHIVE
    with session.engine_errors():
        try:
            with archive_io.open_archive(archive.path) as ours:
                [digest] = ours.index
                manifest = await ours.get_manifest(digest)
            pulled = await _pull(shared, plan, image, digest, path)
            if pulled is None:
                return _skip(found, f"it is the same image as {image}")
            sizes = Pair(before=_sum_layers(pulled), after=_sum_layers(manifest))
            found = found.model_copy(update={"compressed_bytes": sizes})
            before = Archive(path=path, handle=await host.load_file(path).sync())
            return await _compare_images(plan, found, before, archive, model, remote_model)
        except RegistryError as error:
            return _skip(found, f"the image before cannot be pulled: {error.message}")
        except dagger.QueryError as error:
            return _skip(found, f"the image before cannot be started: {dagger_log.get_first_line(str(error))}")
        finally:
            path.unlink(missing_ok=True)


def _skip(found: Drift, reason: str) -> Drift:
    return found.model_copy(update={"reason": reason})


async def _pull(shared: Session, plan: Plan, image: Reference, own_digest: str, path: Path) -> Manifest | None:
    """Pull the image into an archive; its manifest, or None if it is the very image of `own_digest`."""
    login = registry.choose_login(image.repository, plan.login, plan.source_login)
    async with registry.open_repository(image.repository, login, shared.on_retry) as repository:
        digest = await find_platform_digest(repository, image.digest, plan.policy.build.platform)
        if digest == own_digest:
            return None
        try:
            await repository.pull(digest, path)
        except OSError as error:
            raise RegistryError(f"{path} cannot be written: {error.strerror}", next_step="free some space") from error
        return await repository.get_manifest(digest)


def _sum_layers(manifest: Manifest | None) -> int:
    return sum(layer.size_bytes for layer in manifest.layers) if manifest else 0


async def _compare_images(
    plan: Plan, found: Drift, before: Archive, after: Archive, model: Model, remote_model: dagger.Directory | None
) -> Drift:
    limits = plan.policy.limits
    container = oci_archive.load_container(plan, before)
    servers: list[Server] = []
    for each in (container, smoke.load_container(plan, after, model.contract, remote_model)):
        server = await Server.create(each)
        if isinstance(server, str):
            return _skip(found, f"the image before cannot be asked: {server}")
        servers.append(server)
    try:
        findings, starts = await asyncio.gather(
            _find_vulnerabilities(plan, before), asyncio.gather(*(server.start(limits) for server in servers))
        )
        found = found.model_copy(update={"findings_before": findings})
        for name, (ready_seconds, not_ready) in zip(("image before", "new image"), starts, strict=True):
            if ready_seconds is None:
                return _skip(found, f"the {name} did not start: {not_ready}")
        return await _ask(plan, found, servers, model, await _read_contract(container))
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


async def _find_vulnerabilities(plan: Plan, archive: Archive) -> tuple[Finding, ...] | None:
    """None if it cannot be scanned: its findings are then unknown, and nothing else is."""
    try:
        return await scanner.find_vulnerabilities(plan, archive)
    except ScanError:
        return None


async def _read_contract(container: dagger.Container) -> object:
    """The contract in the image, as JSON; None if it has none."""
    with suppress(dagger.QueryError, ValueError, RecursionError):
        file = container.file(CONTRACT)
        if await file.size() <= model_contract.CONTRACT_LIMIT_BYTES:
            contract: object = json.loads(await file.contents())
            return contract
    return None


async def _ask(plan: Plan, found: Drift, servers: list[Server], model: Model, in_image: object) -> Drift:
    """Ask both for their schema and for rows that both can be asked, and conclude."""
    limits = plan.policy.limits
    urls = [server.base_url for server in servers]
    after = drift.create_schema(model.contract.model_dump(mode="json"))
    answered = await predict_client.read_contract(urls[0], limits)
    before = drift.parse_schema(answered) or drift.parse_schema(in_image)
    if before:
        found = found.model_copy(update={"schema_changes": drift.compare_schemas(before, after)})
        if before.task != after.task:
            return _skip(found, f"the image before has another task: {before.task}, and this one {after.task}")
    # Without a contract it is asked what the new one takes, and may refuse.
    before = before or after
    reference, note = model_contract.read_reference_rows(model.directory, model.contract)
    golden: list[Any] = [row.features for row in model.contract.golden]
    rows = drift.collect_rows(after, reference, golden, in_image)
    chosen = drift.choose_rows(before, after, rows)
    notes = (note, drift.describe_skipped_rows(before, after, rows))
    found = found.model_copy(update={"notes": tuple(filter(None, notes))})
    if not chosen:
        return _skip(found, "no row has the features of both images")
    bodies = [[drift.select_values(row, schema) for row in chosen] for schema in (before, after)]
    medians = await predict_client.measure_medians(urls, bodies, limits)
    answers = [
        await predict_client.predict_rows(url, body, limits, median_seconds)
        for url, body, median_seconds in zip(urls, bodies, medians, strict=True)
    ]
    concluded = drift.conclude(found, chosen, *answers)
    # How long an error took is not how long an answer takes.
    seconds = Pair(before=round(medians[0], 5), after=round(medians[1], 5)) if concluded.groups else None
    return concluded.model_copy(update={"median_seconds": seconds})
