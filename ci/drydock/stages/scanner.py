"""Lets the pinned Trivy read the archive and the canary, offline, with a database that is whole and recent."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
import dagger
from dagger import ReturnType, dag

from drydock import report
from drydock.errors import ScanError
from drydock.oci.layers import max_unpacked_bytes
from drydock.pipeline.plan import Plan
from drydock.pipeline.threads import run_in_thread
from drydock.report import Archive, Scan
from drydock.report.files import write_documents
from drydock.stages import host, oci_archive, session
from drydock.tools import dagger_log, scanner_self_test, text_extraction, trivy


async def scan(plan: Plan, archive: Archive) -> Scan:
    """Let the pinned Trivy read the archive once, offline, and the canary beside it; read its one report twice."""
    with _scan_errors(), anyio.fail_after(plan.policy.scan.timeout_seconds):
        trivy.require_pinned(plan.images.trivy)
        scanner = dag.container().from_(plan.images.trivy)
        database, files = await _find_database(plan, scanner)
        now = datetime.now(UTC)
        trivy.require_recent(database, now, plan.policy.scan)
        prepared = _mount_database(scanner, files)
        scanned, canary_document, (text_secrets, text_exit_code) = await asyncio.gather(
            _scan_archive(plan, prepared, oci_archive.load_archive(archive)),
            _read_report(_scan_archive(plan, prepared, _build_canary())),
            _scan_texts(plan, prepared, archive),
        )
        document = await scanned.file(trivy.REPORT).contents()
        gate_exit_code = max(text_exit_code, await _run_gate(plan, scanned))
        version = await scanner.with_exec(["trivy", "--version", "--format", "json"]).stdout()
        converted = await asyncio.gather(
            *(scanned.with_exec(trivy.convert_arguments(form)).stdout() for form in trivy.CONVERTED.values())
        )
        documents = {"trivy.json": trivy.redact_report(document), "canary.json": canary_document}
        documents |= dict(zip(trivy.CONVERTED, converted, strict=True))
        write_documents(plan.report_dir, documents)
        scan = trivy.read_scan(
            document,
            version=version,
            database=database,
            scanned_at=now,
            canary_document=canary_document,
            locked_packages=plan.locked_packages,
        )
        scan = scan.model_copy(update={"secrets": tuple(dict.fromkeys((*scan.secrets, *text_secrets)))})
        trivy.require_agreement(scan, plan.policy.scan.severities, gate_exit_code)
        return scan.model_copy(update={"sbom": documents["sbom.cdx.json"]})


async def find_vulnerabilities(plan: Plan, archive: Archive) -> tuple[report.Finding, ...]:
    """What the same Trivy, with the same advisories, finds in another image. It looks for no secrets: that is slow."""
    timeout_seconds = plan.policy.scan.timeout_seconds
    with _scan_errors(), anyio.fail_after(timeout_seconds):
        scanner = dag.container().from_(plan.images.trivy)
        _, files = await _find_database(plan, scanner)
        container = _mount_database(scanner, files).with_mounted_file(trivy.ARCHIVE, oci_archive.load_archive(archive))
        scanned = await _run_trivy(container, trivy.scan_arguments(timeout_seconds, scanners="vuln"))
        return trivy.read_findings(await scanned.file(trivy.REPORT).contents())


def _mount_database(scanner: dagger.Container, files: dagger.Directory) -> dagger.Container:
    """The scanner with its advisories. Their digest is an input of its steps, so no other database's are replayed."""
    return (
        scanner.with_mounted_temp("/tmp")  # noqa: S108 - the scanner's own
        .with_mounted_directory(f"{trivy.CACHE}/db", files)
        .with_new_file(trivy.SECRET_CONFIG, trivy.SECRET_RULES.read_text(encoding="utf-8"))
    )


async def _scan_archive(plan: Plan, prepared: dagger.Container, archive: dagger.File) -> dagger.Container:
    """The scanner's container after it has read one archive."""
    return await _run_trivy(
        prepared.with_mounted_file(trivy.ARCHIVE, archive), trivy.scan_arguments(plan.policy.scan.timeout_seconds)
    )


async def _run_trivy(prepared: dagger.Container, arguments: list[str]) -> dagger.Container:
    scanned = prepared.with_exec(arguments, expect=ReturnType.ANY)
    if await scanned.exit_code():
        raise _scanner_error(await scanned.stderr())
    return scanned


async def _scan_texts(
    plan: Plan, prepared: dagger.Container, archive: Archive
) -> tuple[tuple[report.Secret, ...], int]:
    """The secrets in what the scan of the image passes over, and the exit code of Trivy's own gate over them."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        max_bytes = max_unpacked_bytes(plan.policy.limits.image_size_mb)
        paths = await run_in_thread(
            lambda is_cancelled: text_extraction.extract_texts(
                archive.path, folder, max_bytes=max_bytes, is_cancelled=is_cancelled
            )
        )
        if not paths:
            return (), 0
        texts = await host.load_directory(folder, ["*.txt"]).sync()
        scanned = await _run_trivy(
            prepared.with_mounted_directory(trivy.TEXTS, texts),
            trivy.text_scan_arguments(plan.policy.scan.timeout_seconds),
        )
        document = await scanned.file(trivy.REPORT).contents()
        return trivy.read_text_secrets(document, paths), await _run_gate(plan, scanned)


async def _run_gate(plan: Plan, scanned: dagger.Container) -> int:
    """What Trivy's own gate says of the report that a scan left: 1 if something counts, 0 if nothing does."""
    gate = trivy.gate_arguments(plan.policy.scan.severities)
    return await scanned.with_exec(gate, expect=ReturnType.ANY).exit_code()


async def _find_database(plan: Plan, scanner: dagger.Container) -> tuple[trivy.Database, dagger.Directory]:
    """The first advisory database that can be had: a folder of this machine, or downloaded by the scanner."""
    refusals: list[str] = []
    for source in plan.images.databases:
        try:
            files = await _get_database_files(scanner, source, plan.certificates).sync()
            metadata, digest = await files.file("metadata.json").contents(), await files.digest()
        except dagger.QueryError as error:
            words = error.stderr if isinstance(error, dagger.ExecError) else str(error)
            refusals.append(f"{source}: {dagger_log.get_last_line(words)}")
        else:
            is_sample = plan.images.base_images == "local"
            return trivy.read_database(metadata, source=source, digest=digest, is_sample=is_sample), files
    raise ScanError(
        "no source of the advisory database could be read",
        likely_cause="the network does not reach them, they are asked too often, or a folder is not there",
        next_step="wait and run again, or name another source under databases in images.toml",
        log="\n".join(refusals),
    )


def _get_database_files(scanner: dagger.Container, source: str, certificates: str) -> dagger.Directory:
    if Path(source).is_absolute():
        return host.load_directory(Path(source), ["trivy.db", "metadata.json"])
    downloaded = (
        session.with_certificates(scanner, certificates)
        .with_env_variable("DRYDOCK_PERIOD", session.get_cache_window())
        .with_mounted_temp("/tmp")  # noqa: S108 - in the scanner's own container
        .with_exec(trivy.download_arguments(source))
    )
    return downloaded.directory(f"{trivy.CACHE}/db")


def _build_canary() -> dagger.File:
    files = dag.directory()
    for path, content in scanner_self_test.FILES.items():
        files = files.with_new_file(path, content)
    return dag.container().with_rootfs(files).as_tarball()


async def _read_report(scanned: Awaitable[dagger.Container]) -> str:
    return await (await scanned).file(trivy.REPORT).contents()


@contextmanager
def _scan_errors() -> Iterator[None]:
    with session.engine_errors():
        try:
            yield
        except TimeoutError as error:
            raise ScanError(
                "the scanner took longer than scan.timeout_seconds",
                likely_cause="the machine is overloaded, or the image has very many files",
                next_step="run again, or raise scan.timeout_seconds in the policy",
            ) from error
        except dagger.ExecError as error:
            raise _scanner_error(error.stderr) from error
        except dagger.QueryError as error:
            raise ScanError(
                f"the scanner or its database could not be had: {dagger_log.get_first_line(str(error))}",
                likely_cause="images.toml names a scanner or a database that this machine cannot reach",
                next_step="check the network; on a machine without a container registry: drydock bootstrap",
                log=dagger_log.skip_first_line(str(error)),
            ) from error


def _scanner_error(log: str) -> ScanError:
    return ScanError(
        "Trivy stopped without a report",
        likely_cause="its database is damaged or of another schema, or the archive is not an image to it",
        next_step="read its last lines below; if they name the database, download it again",
        log=dagger_log.get_tail(log),
    )
