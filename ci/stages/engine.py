"""A session with an engine, and the stages of one plan in it: train, build, inspect, smoke, scan, updates, publish."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import dagger
from dagger import BuildArg, dag

import contract as contract_of
import dockerfile
import engine_log
import image
import registry
import revision
from checks import Approval
from errors import BuildError, RegistryError, VersionTaken
from plan import Plan
from report import Archive, Contract, Image, Publication, Scan, Smoke, Updates
from stages import archives, running, scanner, session

CONTEXT_LABEL = "dev.drydock.context.digest"
GOODBYE_SECONDS = 15


@asynccontextmanager
async def connect(plan: Plan) -> AsyncIterator[EngineStages]:
    """Hold a session with the engine that the environment names, or that the Dagger CLI starts."""
    address = os.environ.get(session.ENGINE_VARIABLE, "")
    session.require_engine(address)
    path = plan.report_dir / "engine.log"
    try:
        with path.open("w", encoding="utf-8") as log, session.engine_errors(), session.client_dies_with_engine(address):
            async with AsyncExitStack() as stack:
                # What did not reach the engine is not asked again: the client keeps no state to go on from.
                with session.starts_soon(address):
                    await stack.enter_async_context(dagger.connection(dagger.Config(log_output=log, retry=None)))
                try:
                    yield EngineStages(plan)
                finally:
                    with suppress(dagger.SessionError), session.client_within(GOODBYE_SECONDS):
                        await stack.aclose()
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
        read = await anyio.to_thread.run_sync(image.read, archive.path)
        text = (self.plan.root / self.plan.policy.build.dockerfile).read_text(encoding="utf-8", errors="replace")
        return dockerfile.located(read, text)

    async def smoke(self, archive: Archive, contract: Contract) -> Smoke:
        """Start the image as its users will, ask for every golden row, and note which user it runs as."""
        return await running.smoke(self.plan, archive, contract)

    async def scan(self, archive: Archive) -> Scan:
        """Let the pinned Trivy read the archive once, offline, and the canary beside it; read its one report twice."""
        return await scanner.scan(self.plan, archive)

    async def updates(self, archive: Archive) -> Updates:
        """Ask the image's package manager, as root and in a throw-away container, which updates are pending."""
        return await running.updates(self.plan, archive)

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
        container = archives.container(approval.archive)
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


@contextmanager
def _build_errors(what: str) -> Iterator[None]:
    with session.engine_errors():
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
def _push_errors(reference: str) -> Iterator[None]:
    with session.engine_errors():
        try:
            yield
        except dagger.QueryError as error:
            raise RegistryError(
                f"{reference} could not be pushed: {engine_log.first_line(str(error))}",
                usually="the credentials are missing or may not write there, or the registry is out of space",
                next_step=f"set {registry.USER_VARIABLE} and {registry.PASSWORD_VARIABLE}, then run again",
                log=engine_log.rest(str(error)),
            ) from error
