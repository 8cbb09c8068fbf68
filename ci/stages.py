"""The stages as a Dagger engine runs them: train, build, export, smoke, scan, publish. The only room that knows Dagger.

Every stage after `build` works on the one archive that `build` made: the engine keeps its bytes, so nothing can be
swapped between the scan and the push. Whatever Dagger raises leaves this room as one of `errors`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import anyio
import dagger
import httpx
import psutil
from dagger import BuildArg, PortForward, ReturnType, dag

import canary
import contract as contract_of
import engine_log
import image
import records
import registry
import revision
import smoke as conversation
import trivy
import updates
from checks import Approval
from errors import BuildError, DrydockError, EngineError, RegistryError, ScanError, UsageError, VersionTaken
from plan import Plan
from report import Answer, Archive, Contract, Image, Malformed, Publication, Scan, Smoke, Updates

ENGINE_VARIABLE = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
ANSWER_SECONDS = 5
SERVICE_PORT = 8000
CONTEXT_LABEL = "dev.drydock.context.digest"
STOP_SECONDS = 10
PROBE_SECONDS = 2
GOODBYE_SECONDS = 15
# Upstream renews its database every six hours; a step that was cached longer would scan with yesterday's.
PERIOD_HOURS = 6


@asynccontextmanager
async def connect(plan: Plan) -> AsyncIterator[EngineStages]:
    """Hold a session with the engine that the environment names, or that the Dagger CLI starts."""
    address = os.environ.get(ENGINE_VARIABLE, "")
    _require_engine(address)
    path = plan.report_dir / "engine.log"
    try:
        with path.open("w", encoding="utf-8") as log, _engine_errors(), _client_dies_with_engine(address):
            async with AsyncExitStack() as session:
                # What did not reach the engine is not asked again: the client keeps no state to go on from.
                await session.enter_async_context(dagger.connection(dagger.Config(log_output=log, retry=None)))
                try:
                    yield EngineStages(plan)
                finally:
                    with suppress(dagger.SessionError), _client_within(GOODBYE_SECONDS):
                        await session.aclose()
    except BuildError as error:
        # The engine has written all of its log by now; its answer has only the instruction's exit code.
        error.log = engine_log.failed_instruction(path.read_text(encoding="utf-8", errors="replace")) or error.log
        raise


@dataclass(frozen=True)
class EngineStages:
    """The stages of one plan, in one session of the engine."""

    plan: Plan

    async def reach_registry(self) -> None:
        """Fail now, before any work, where the registry does not answer."""
        await registry.require_answer(self.plan.policy.image.repository)

    async def train(self) -> Contract:
        """Train in a container, or take the model that `artifacts/` holds; its file is what its contract says.

        The model is then in the report directory, under model/.
        """
        if self.plan.policy.build.train:
            await self.train_into(self._model)
        return contract_of.read(self._model)

    async def train_into(self, directory: Path) -> None:
        """Build the Dockerfile's stage `train` and put the model that it made, and its contract, into `directory`."""
        dockerfile = self.plan.policy.build.dockerfile
        with _build_errors(f"the stage `train` of {dockerfile}"):
            trained = self._context().docker_build(
                dockerfile=dockerfile, target="train", build_args=self._base_images()
            )
            await trained.directory("/artifacts").export(str(directory), wipe=True)

    async def build(self, contract: Contract) -> Archive:
        """Build the image around the model and export it as one OCI archive, image.tar in the report directory."""
        plan = self.plan
        context = self._context().with_directory(
            "artifacts", dag.host().directory(str(self._model), include=["model.json", contract.artefact.file])
        )
        arguments = {
            "REVISION": plan.revision.name,
            "SOURCE": plan.revision.source_url,
            "VERSION": plan.tag,
            "MODEL_SHA256": contract.artefact.sha256,
        }
        path = plan.report_dir / "image.tar"
        with _build_errors(plan.policy.build.dockerfile):
            built = context.docker_build(
                dockerfile=plan.policy.build.dockerfile,
                build_args=[*self._base_images(), *(BuildArg(name, value) for name, value in arguments.items())],
            )
            # Dagger finds a tarball again by the image's files and configuration; that they lie in other layers now it
            # would not see. The context's digest makes the configuration differ wherever the build does.
            labelled = built.with_label(CONTEXT_LABEL, await context.digest())
            archive = await labelled.as_tarball(media_types=dagger.ImageMediaTypes.OCIMediaTypes).sync()
            await archive.export(str(path))
        return Archive(path=path, handle=archive)

    async def inspect(self, archive: Archive) -> Image:
        """Read the archive's layers; in a thread, since decompressing them takes a second or two."""
        return await anyio.to_thread.run_sync(image.read, archive.path)

    async def smoke(self, archive: Archive, contract: Contract) -> Smoke:
        """Start the image as its users will, ask for every golden row, and note which user it runs as."""
        with _engine_errors():
            return await self._smoke(archive, contract)

    async def _smoke(self, archive: Archive, contract: Contract) -> Smoke:
        limits = self.plan.policy.limits
        container = _container(archive)
        uid = await _uid(container)
        # The engine's own wait for the port has no end where a container never listens; ours has.
        service = container.with_exposed_port(SERVICE_PORT, experimental_skip_healthcheck=True).as_service(
            use_entrypoint=True
        )
        tunnel = dag.host().tunnel(service, ports=[PortForward(backend=SERVICE_PORT)])
        ready_seconds: float | None = None
        answers: tuple[Answer, ...] = ()
        malformed: tuple[Malformed, ...] = ()
        not_ready = f"not started within {limits.start_seconds} s"
        try:
            with anyio.move_on_after(limits.start_seconds):
                running = await tunnel.start()
                base_url = await running.endpoint(scheme="http")
                ready_seconds, not_ready = await conversation.wait_until_ready(base_url, limits)
            if ready_seconds is not None:
                answers, malformed = await conversation.ask(base_url, contract, limits)
        except dagger.QueryError as error:
            not_ready = engine_log.first_line(str(error))
        finally:
            # Stopping what has stopped already is not worth a word, and no reason to wait.
            with anyio.move_on_after(STOP_SECONDS, shield=True), suppress(dagger.DaggerError):
                await tunnel.stop(kill=True)
                await service.stop(kill=True)
        last_words = LastWords("", "")
        if ready_seconds is None:
            last_words = await _last_words(container, limits.log_lines)
        return Smoke(
            uid=uid,
            ready_seconds=None if ready_seconds is None else round(ready_seconds, 1),
            not_ready="; ".join(filter(None, (not_ready, last_words.ending))),
            log=last_words.log,
            answers=answers,
            tolerance=contract.tolerance,
            malformed=malformed,
        )

    async def scan(self, archive: Archive) -> Scan:
        """Let the pinned Trivy read the archive once, offline, and the canary beside it; read its one report twice."""
        plan = self.plan
        lock = plan.root / plan.policy.build.lock
        with _scan_errors(), anyio.fail_after(plan.policy.scan.timeout_seconds):
            trivy.require_pinned(plan.images.trivy)
            scanner = dag.container().from_(plan.images.trivy)
            database, files = await self._database(scanner)
            now = datetime.now(UTC)
            trivy.require_recent(database, now, plan.policy.scan)
            # The database's digest is part of these steps' inputs, so a verdict is never replayed for another database.
            prepared = scanner.with_mounted_temp("/tmp").with_mounted_directory(  # noqa: S108 - the scanner's own
                f"{trivy.CACHE}/db", files
            )
            scanned, canary_document = await asyncio.gather(
                _scanned(prepared, _file(archive)), _report(_scanned(prepared, _canary()))
            )
            document = await scanned.file(trivy.REPORT).contents()
            gated = scanned.with_exec(
                trivy.second_reading_arguments(plan.policy.scan.severities), expect=ReturnType.ANY
            )
            gate_exit_code = await gated.exit_code()
            version = await scanner.with_exec(["trivy", "--version", "--format", "json"]).stdout()
            converted = await asyncio.gather(
                *(scanned.with_exec(trivy.convert_arguments(form)).stdout() for form in trivy.CONVERTED.values())
            )
            documents = {"trivy.json": document, "canary.json": canary_document}
            documents |= dict(zip(trivy.CONVERTED, converted, strict=True))
            for name, text in documents.items():
                records.write_whole(plan.report_dir / name, text)
            scan = trivy.read(
                document,
                version=version,
                database=database,
                scanned_at=now,
                canary_document=canary_document,
                locked_packages=trivy.locked_packages(lock.read_text(encoding="utf-8")),
            )
            trivy.require_agreement(scan, plan.policy.scan.severities, gate_exit_code)
            return scan

    async def updates(self, archive: Archive) -> Updates:
        """Ask the image's package manager, as root and in a throw-away container, which updates are pending."""
        container = _container(archive).with_user("0").with_env_variable("DRYDOCK_PERIOD", _period())
        with _engine_errors():
            try:
                with anyio.fail_after(self.plan.policy.scan.timeout_seconds):
                    asked = container.with_exec(list(updates.COMMAND), expect=ReturnType.ANY)
                    return updates.read(await asked.exit_code(), await asked.stdout(), await asked.stderr())
            except TimeoutError:
                return Updates(why_not="apt-get took longer than scan.timeout_seconds")
            except dagger.QueryError as error:
                return Updates(why_not=f"the image has no shell to ask in: {engine_log.first_line(str(error))}")

    async def publish(self, approval: Approval) -> Publication:
        """Push the approved archive as it is, and read back what the registry now serves under its tag."""
        plan = self.plan
        repository, tag = plan.policy.image.repository, plan.tag
        served = await registry.manifest_digest(repository, tag, plan.login)
        if revision.is_version(tag) and served not in (None, approval.manifest_digest):
            raise VersionTaken(
                f"{plan.reference} exists, with digest {served}; this image is {approval.manifest_digest}",
                usually="the version was released before, from another commit or on other base images",
                next_step="release under the next version; a published one never changes",
            )
        container = _container(approval.archive)
        if plan.login:
            password = dag.set_secret("registry-password", plan.login.password)
            container = container.with_registry_auth(repository.partition("/")[0], plan.login.user, password)
        with _push_errors(plan.reference):
            await container.publish(plan.reference, media_types=dagger.ImageMediaTypes.OCIMediaTypes)
        served = await registry.manifest_digest(repository, tag, plan.login)
        if served != approval.manifest_digest:
            raise RegistryError(
                f"{plan.reference} serves {served or 'nothing'}, approved was {approval.manifest_digest}",
                usually="something else pushed this tag at the same time, or a proxy rewrites manifests",
                next_step="do not deploy this tag; find out who writes to the repository, then run again",
            )
        return Publication(repository=repository, tag=tag, digest=served)

    @property
    def _model(self) -> Path:
        return self.plan.report_dir / "model" if self.plan.policy.build.train else self.plan.root / "artifacts"

    def _context(self) -> dagger.Directory:
        return dag.host().directory(str(self.plan.root), include=self.plan.policy.build.context)

    def _base_images(self) -> list[BuildArg]:
        return [BuildArg("BUILDER", self.plan.images.builder), BuildArg("RUNTIME", self.plan.images.runtime)]

    async def _database(self, scanner: dagger.Container) -> tuple[trivy.Database, dagger.Directory]:
        """The first advisory database that can be had: a folder of this machine, or downloaded by the scanner."""
        refusals: list[str] = []
        for source in self.plan.images.databases:
            try:
                files = await self._database_files(scanner, source).sync()
                metadata, digest = await files.file("metadata.json").contents(), await files.digest()
            except dagger.QueryError as error:
                words = error.stderr if isinstance(error, dagger.ExecError) else str(error)
                refusals.append(f"{source}: {engine_log.last_line(words)}")
            else:
                is_sample = self.plan.images.world == "stand-in"
                return trivy.database(metadata, source=source, digest=digest, is_sample=is_sample), files
        raise ScanError(
            "no source of the advisory database could be read",
            usually="the network does not reach them, they are asked too often, or a folder is not there",
            next_step="wait and run again, or name another source under databases in images.toml",
            log="\n".join(refusals),
        )

    def _database_files(self, scanner: dagger.Container, source: str) -> dagger.Directory:
        if Path(source).is_absolute():
            return dag.host().directory(source, include=["trivy.db", "metadata.json"])
        downloaded = (
            scanner.with_env_variable("DRYDOCK_PERIOD", _period())
            .with_mounted_temp("/tmp")  # noqa: S108 - in the scanner's own container
            .with_exec(trivy.download_arguments(source))
        )
        return downloaded.directory(f"{trivy.CACHE}/db")


def _period() -> str:
    """The quarter of the day, as an input of what has to be asked anew in each."""
    now = datetime.now(UTC)
    return f"{now:%Y-%m-%d}-{now.hour // PERIOD_HOURS}"


def _canary() -> dagger.File:
    files = dag.directory()
    for path, content in canary.FILES.items():
        files = files.with_new_file(path, content)
    return dag.container().with_rootfs(files).as_tarball()


async def _scanned(prepared: dagger.Container, archive: dagger.File) -> dagger.Container:
    """The scanner's container after it has read one archive."""
    scanned = prepared.with_mounted_file(trivy.ARCHIVE, archive).with_exec(
        trivy.scan_arguments(), expect=ReturnType.ANY
    )
    if await scanned.exit_code():
        raise _scanner_broke(await scanned.stderr())
    return scanned


async def _report(scanned: Awaitable[dagger.Container]) -> str:
    return await (await scanned).file(trivy.REPORT).contents()


def _file(archive: Archive) -> dagger.File:
    return cast("dagger.File", archive.handle)


def _container(archive: Archive) -> dagger.Container:
    return dag.container().import_(_file(archive))


async def _uid(container: dagger.Container) -> int | None:
    """The uid that a process of this image runs with, asked of the image itself; None where it cannot say."""
    try:
        return int(await container.with_exec(["id", "-u"]).stdout())
    except (dagger.QueryError, ValueError):
        return None


@dataclass(frozen=True)
class LastWords:
    """How a container ended, and what it printed."""

    ending: str
    log: str


async def _last_words(container: dagger.Container, log_lines: int) -> LastWords:
    """Start the image once more for a few seconds, listen, and look whom its port is open to.

    The log of a service, and its sockets, cannot be had.
    """
    try:
        start = [*await container.entrypoint(), *await container.default_args()]
        again = container.with_exec(["sh", "-c", conversation.WATCHED_START, "sh", *start], expect=ReturnType.ANY)
        exit_code, stdout, stderr = await again.exit_code(), await again.stdout(), await again.stderr()
    except dagger.QueryError as error:
        return LastWords("it cannot be started", engine_log.tail(str(error)))
    printed, _, sockets = stdout.partition(conversation.SOCKETS)
    lines = f"{printed}\n{stderr}".strip().splitlines()
    return LastWords(conversation.ending(exit_code, sockets, SERVICE_PORT), "\n".join(lines[-log_lines:]))


def _require_engine(address: str) -> None:
    """Ask at the socket that the environment names: the Dagger CLI itself would keep trying for minutes."""
    kind, _, place = address.partition("://")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(ANSWER_SECONDS)
                probe.connect(place)
        elif kind == "tcp":
            host, _, port = place.rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _no_engine(f"no engine answers at {address}: {error}") from error


@contextmanager
def _client_dies_with_engine(address: str) -> Iterator[None]:
    """Kill the Dagger client once nobody answers at `address`: it would wait for minutes, and the SDK for it."""
    over = threading.Event()

    def watch() -> None:
        with suppress(EngineError):
            while not over.wait(PROBE_SECONDS):
                _require_engine(address)
            return
        _kill_client()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def _client_within(seconds: float) -> Iterator[None]:
    """Kill the Dagger client after this time, for engines at whose address nothing can be asked."""
    timer = threading.Timer(seconds, _kill_client)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill_client() -> None:
    for child in psutil.Process().children():
        child.kill()


def _no_engine(what: str, log: str = "") -> EngineError:
    return EngineError(
        what,
        usually="it is not running, or it was stopped in mid-run",
        next_step='make run starts one; by hand: python -m bootstrap, then eval "$(python -m bootstrap env)"',
        log=log,
    )


@contextmanager
def _engine_errors() -> Iterator[None]:
    """Whatever breaks between us and the engine, and is not a stage's own error, means that the engine is not there."""
    try:
        yield
    except DrydockError:
        raise
    except (dagger.DaggerError, httpx.HTTPError, OSError) as error:
        raise _no_engine(
            f"the engine did not answer: {engine_log.first_line(str(error))}", engine_log.rest(str(error))
        ) from error


@contextmanager
def _build_errors(what: str) -> Iterator[None]:
    with _engine_errors():
        try:
            yield
        except dagger.QueryError as error:
            raise BuildError(
                f"{what} did not build: {engine_log.first_line(str(error))}",
                usually="a package or a base image cannot be had, a hash does not match, or an instruction fails",
                next_step="mend the instruction that the log ends with; --debug shows all of the engine's log",
                log=engine_log.tail(
                    error.stderr or error.stdout if isinstance(error, dagger.ExecError) else str(error)
                ),
            ) from error


@contextmanager
def _scan_errors() -> Iterator[None]:
    with _engine_errors():
        try:
            yield
        except TimeoutError as error:
            raise ScanError(
                "the scanner took longer than scan.timeout_seconds",
                usually="the machine is overloaded, or the image has very many files",
                next_step="run again, or raise scan.timeout_seconds in the policy",
            ) from error
        except dagger.ExecError as error:
            raise _scanner_broke(error.stderr) from error
        except dagger.QueryError as error:
            raise ScanError(
                f"the scanner or its database could not be had: {engine_log.first_line(str(error))}",
                usually="images.toml names a scanner or a database that this machine cannot reach",
                next_step="check the network; on a machine without a container registry: python -m bootstrap",
                log=engine_log.rest(str(error)),
            ) from error
        except OSError as error:
            raise UsageError(
                f"{error.filename} cannot be read: {error.strerror}",
                next_step="name the lock that the Dockerfile installs as build.lock in the policy",
            ) from error


@contextmanager
def _push_errors(reference: str) -> Iterator[None]:
    with _engine_errors():
        try:
            yield
        except dagger.QueryError as error:
            raise RegistryError(
                f"{reference} could not be pushed: {engine_log.first_line(str(error))}",
                usually="the credentials are missing or may not write there, or the registry is out of space",
                next_step=f"set {registry.USER_VARIABLE} and {registry.PASSWORD_VARIABLE}, then run again",
                log=engine_log.rest(str(error)),
            ) from error


def _scanner_broke(log: str) -> ScanError:
    return ScanError(
        "Trivy stopped without a report",
        usually="its database is damaged or of another schema, or the archive is not an image to it",
        next_step="read its last lines below; where they name the database, fetch it anew",
        log=engine_log.tail(log),
    )
