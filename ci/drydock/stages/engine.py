"""The stages of one plan, in a session with the engine: from train to tag, then verify and rescan."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import cast

import anyio
import dagger
from dagger import BuildArg, dag

from drydock.checks import Approval, verification
from drydock.errors import BuildError, RegistryError
from drydock.oci import registry
from drydock.oci.archive import read_image
from drydock.oci.layers import max_unpacked_bytes
from drydock.oci.registry import Repository, tagging
from drydock.pipeline import previous
from drydock.pipeline.plan import Plan
from drydock.pipeline.previous import PreviousImage
from drydock.pipeline.threads import run_in_thread
from drydock.report import Archive, Contract, Drift, Image, Model, Publication, Report, Scan, Signing, Smoke, Updates
from drydock.stages import drift, host, repack, scanner, session, signer, smoke
from drydock.stages.session import Session
from drydock.tools import attestations, cosign, dagger_log, dockerfile, model_contract, revision
from drydock.tools.cosign import KeyPair, Trust, Verified

# Rows beside a model: neither is in an image.
ROWS_FILES = ("training.npy", "reference.jsonl")
MODEL_FILES = ("model.json", "model.pkl", "model.forest", *ROWS_FILES)
CONTEXT_LABEL = "dev.drydock.context.digest"
MAX_FILES = 100
ATTEST_ROUNDS = 5


@asynccontextmanager
async def connect(plan: Plan, on_retry: Callable[[str], None] = registry.ignore_retries) -> AsyncIterator[EngineStages]:
    """Open a session with the engine for the stages of one plan; `on_retry` as in `session.open_session`."""
    secrets = plan.build_secrets.values()
    log_path = plan.report_dir / "engine.log"
    async with session.open_session(log_path, on_retry, secrets=secrets, no_cache=plan.no_cache) as shared:
        yield EngineStages(shared, plan)


@dataclass(frozen=True)
class EngineStages:
    """The stages of one plan. Several plans can share one session."""

    session: Session
    plan: Plan

    async def check_registry(self) -> None:
        """Fail now, before any work, if the registry does not answer."""
        await registry.require_answer(self.plan.policy.image.repository)

    async def check_signing_key(self) -> None:
        """Fail now if the key that signs cannot be opened."""
        if not isinstance(self.plan.signer, cosign.NoSigner):
            await self._read_signer(self.plan.signer)

    async def generate_key_pair(self, password: str) -> KeyPair:
        """A new key pair of cosign's, for releases that no workflow signs."""
        return await signer.generate_key_pair(self.plan.images.cosign, password)

    async def train(self) -> Model:
        """Train in a container, or take the model that `model.path` holds; its file is what its contract says.

        What was trained, or converted for the runtime, is then in the report directory, under model/.
        """
        plan, policy = self.plan, self.plan.policy
        if policy.model.train:
            return await self._build_model("train", self._load_context(), plan.report_dir / "model")
        contract = await _read_contract(self._model_dir)
        # The one pair that has a converter. Any other model stays as it is, and is refused below.
        if (contract.runtime, policy.build.runtime) == ("sklearn", "compiled"):
            given = host.load_directory(self._model_dir, ["model.json", "model.pkl", *ROWS_FILES])
            context = self._load_context().with_directory("artifacts", given)
            return await self._build_model("convert", context, plan.report_dir / "model")
        contract = await _read_contract(self._model_dir, policy.build.runtime)
        names = ["model.json", contract.artifact.file]
        with session.engine_errors():
            files = await host.load_directory(self._model_dir, names).sync()
        if await _read_contract(self._model_dir, policy.build.runtime) != contract:
            raise BuildError(
                f"the model in {self._model_dir} was changed while it was read",
                likely_cause="another run, or a copy of a model, writes there at the same time",
                next_step="wait for its end, then run again",
            )
        return Model(contract, files, self._model_dir)

    async def train_to(self, directory: Path) -> None:
        """Build the Dockerfile's stage `train` and put the model that it made, and its contract, into `directory`."""
        await self._build_files("train", self._load_context(), directory)

    async def create_contract(self, model: Path, data: Path, options: Sequence[str]) -> str:
        """Build the Dockerfile's stage `contract`, which creates the contract of a trained model; return its summary.

        The model and its contract are then in the folder that `model.path` names. `options` are those of
        `python -m export.contract`, each with its value. `data` keeps its name, because errors say it.
        """
        context = (
            self._load_context()
            .with_file("input/model.pkl", host.load_file(model))
            .with_file(f"input/data/{data.name}", host.load_file(data))
            .with_new_file("input/arguments.txt", "\n".join([f"/input/data/{data.name}", *options]))
        )
        made = self._build_stage("contract", context)
        with _build_errors(
            f"the contract of {model.name}",
            likely_cause="the image lacks a package of the model, or the columns are not the model's features",
            next_step="the log ends with what to change; then run again",
        ):
            summary = await made.file("/summary.txt").contents()
            await _export_model(made, self._model_dir)
        return summary

    async def _build_model(self, stage: str, context: dagger.Directory, directory: Path) -> Model:
        """The model that a stage made; what is read of it, in `directory`, are the bytes that the engine has."""
        files = await self._build_files(stage, context, directory)
        contract = await _read_contract(directory, self.plan.policy.build.runtime)
        return Model(contract, _select_files(files, "model.json", contract.artifact.file), directory)

    async def _build_files(self, stage: str, context: dagger.Directory, directory: Path) -> dagger.Directory:
        with _build_errors(f"the stage `{stage}` of {self.plan.policy.build.dockerfile}"):
            return await _export_model(self._build_stage(stage, context), directory)

    def _build_stage(
        self, stage: str, context: dagger.Directory, arguments: Mapping[str, str] | None = None
    ) -> dagger.Container:
        return context.docker_build(
            dockerfile=self.plan.policy.build.dockerfile,
            target=stage,
            build_args=self._build_arguments(arguments or {}),
            secrets=self._create_secrets(),
            platform=self._platform,
        )

    async def build(self, model: Model) -> Archive:
        """Build the image around the model; export it in its normal form, as image.tar in the report directory."""
        plan = self.plan
        context = self._load_context().with_directory("artifacts", _load_model_files(model))
        path = plan.report_dir / "image.tar"
        with _build_errors(plan.policy.build.dockerfile):
            built = context.docker_build(
                dockerfile=plan.policy.build.dockerfile,
                build_args=self._build_arguments(
                    {"REVISION": plan.revision.name, "UNKNOWN_CATEGORIES": plan.policy.model.unknown_categories}
                ),
                secrets=self._create_secrets(),
                platform=self._platform,
            )
            for key, value in plan.create_labels(model.contract.artifact.sha256).items():
                # The base image's own label would speak of the base.
                built = built.with_label(key, value) if value else built.without_label(key)
            # Dagger finds a tarball again by the image's files and configuration; that they lie in other layers now it
            # would not see. The context's digest makes the configuration differ wherever the build does.
            labelled = built.with_label(CONTEXT_LABEL, await context.digest())
            await labelled.sync()
        archive = await repack.repack_image(
            plan, labelled, healthcheck=dockerfile.find_healthcheck(self._read_dockerfile()), drop_label=CONTEXT_LABEL
        )
        await archive.export(str(path))
        return Archive(path=path, handle=archive)

    async def recheck_commit(self) -> None:
        """Fail if the work tree changed since the plan was made: the engine has read it twice since."""
        plan = self.plan
        await anyio.to_thread.run_sync(revision.require_unchanged, plan.root, plan.revision, plan.inputs)

    async def inspect(self, archive: Archive) -> Image:
        """Read the archive's layers; in a thread, since decompressing them takes a second or two."""
        max_bytes = max_unpacked_bytes(self.plan.policy.limits.image_size_mb)
        read = await run_in_thread(
            lambda is_cancelled: read_image(archive.path, max_bytes=max_bytes, is_cancelled=is_cancelled)
        )
        return dockerfile.add_line_numbers(read, self._read_dockerfile())

    async def smoke(self, archive: Archive, model: Model) -> Smoke:
        """Start the image as its users will, ask for every golden row, and note which user it runs as."""
        remote = _load_model_files(model) if self.plan.policy.build.model == "remote" else None
        return await smoke.smoke(self.plan, archive, model.contract, remote)

    async def find_previous(self) -> PreviousImage:
        """Find the image that the new one is compared with. If there is none, the result has the reason."""
        return await previous.find_previous(self.plan, self.session.on_retry)

    async def compare(self, previous_image: PreviousImage, archive: Archive, model: Model) -> Drift:
        """Ask the new image and the image before the same rows; what is wrong with the latter is a reason."""
        remote = _load_model_files(model) if self.plan.policy.build.model == "remote" else None
        return await drift.compare(self.session, self.plan, previous_image, archive, model, remote)

    async def scan(self, archive: Archive) -> Scan:
        """Let the pinned Trivy read the archive once, offline, and the canary beside it; read its one report twice."""
        return await scanner.scan(self.plan, archive)

    async def check_updates(self, archive: Archive) -> Updates:
        """Ask the image's package manager, as root and in a throw-away container, which updates are pending."""
        return await smoke.check_updates(self.plan, archive)

    async def verify(self, repository: str, digest: str, trust: Trust) -> Verified:
        """Return what somebody trusted signed about a published image."""
        return await self._verify_image(repository, digest, trust, self.plan.source_login)

    async def import_archive(self, path: Path) -> Archive:
        """Import an OCI archive of this machine into the engine."""
        return Archive(path=path, handle=host.load_file(path))

    async def push(self, approval: Approval) -> None:
        """Push the approved archive as it is, by its digest: no tag leads to it before all is there that belongs to it.

        A version that is there already, with another digest, stops this before a byte is sent.
        """
        async with self._open_repository() as repository:
            await tagging.push(repository, approval.archive.path, approval.manifest_digest, self.plan.name)

    async def attest(self, approval: Approval, verdict: Report) -> Signing:
        """Attach the SBOM; with a key or a workflow's identity, sign the image, its SBOM, provenance and verdict.

        Then all of it is read back and verified: two runs of one commit write one list of referrers, in which the last
        writer wins, and what was lost so is signed once more.
        """
        plan, digest, repository = self.plan, approval.manifest_digest, self.plan.policy.image.repository
        sbom = verdict.scan.sbom if verdict.scan else ""
        if isinstance(plan.signer, cosign.NoSigner):
            if plan.policy.image.attachments:
                await self._attach_sbom(digest, sbom)
            return Signing(reason=plan.signer.reason)
        signed_by, trust = await self._read_signer(plan.signer)
        predicates = attestations.create_predicates(verdict, plan.builder, sbom)
        unsigned, lost = True, predicates
        for _ in range(ATTEST_ROUNDS):
            listed = await self._attach_sbom(digest, sbom)
            if unsigned or lost:
                await signer.sign_image(plan, plan.signer, digest, lost, signature=unsigned)
            # Another length each time, so that two runs do not go on to write at the same moment.
            await anyio.sleep(tagging.SETTLE_SECONDS * random.uniform(1, 2))  # noqa: S311 - no secret
            verified = await self._verify_image(
                repository, digest, trust, registry.choose_login(repository, plan.login)
            )
            unsigned, lost = bool(verified.signature_failure), attestations.find_missing(predicates, verified)
            if not unsigned and not lost and listed in await self._list_referrers(digest):
                attached = ("signature", *(attestations.WORDS[kind] for kind in predicates))
                return Signing(signed_by=signed_by, attached=attached)
        raise RegistryError(
            f"{repository} does not keep all that was signed of {digest}",
            likely_cause="something else writes to the list of its referrers all the time",
            next_step="find out who writes to the repository, then run again",
        )

    async def tag(self, approval: Approval) -> Publication:
        """Name the image that was pushed, and read back what the registry now serves under each name."""
        plan, digest = self.plan, approval.manifest_digest
        async with self._open_repository() as repository:
            created = datetime.fromisoformat(plan.revision.committed_at)
            moving_tags = plan.policy.image.moving_tags
            order = partial(revision.compare_commits, plan.root, plan.revision.commit)
            named = await tagging.apply_tags(
                repository, digest, plan.name, created, moving_tags=moving_tags, order=order
            )
        return Publication(
            repository=plan.policy.image.repository,
            tag=plan.name.tag,
            digest=digest,
            tags=named.tags,
            already_published=named.previous_digests.get(plan.name.tag) == digest,
            previous_digests={
                tag: previous
                for tag, previous in named.previous_digests.items()
                if tag in named.tags and previous != digest
            },
            unmoved=dict(named.unmoved),
        )

    async def _read_signer(self, by: cosign.Signer) -> tuple[str, Trust]:
        """Return the signer's name as a reader can check it, and a trust in this signer alone."""
        match by:
            case cosign.Key():
                pem = await signer.read_public_key(self.plan.images.cosign, by)
                return f"key {cosign.compute_fingerprint(pem)}", cosign.PublicKey(pem)
            case cosign.Keyless():
                name = self.plan.builder.id
                return name, cosign.trust_identity(name, verification.ISSUER)

    async def _verify_image(
        self, repository: str, digest: str, trust: Trust, login: registry.Credentials | None
    ) -> Verified:
        plan, types = self.plan, tuple(attestations.WORDS)
        return await signer.verify_image(plan.images.cosign, repository, digest, trust, login, types, plan.certificates)

    async def _attach_sbom(self, digest: str, sbom: str) -> str:
        """For tools that read no signatures, such as a scanner that takes its packages from here."""
        async with self._open_repository() as repository:
            return await repository.attach(digest, cosign.SBOM_MEDIA_TYPE, sbom.encode(), {})

    async def _list_referrers(self, digest: str) -> set[str]:
        async with self._open_repository() as repository:
            return {found.digest for found in await repository.list_referrers(digest)}

    def _open_repository(self) -> AbstractAsyncContextManager[Repository]:
        return registry.open_repository(self.plan.policy.image.repository, self.plan.login, self.session.on_retry)

    @property
    def _platform(self) -> dagger.Platform:
        return dagger.Platform(self.plan.policy.build.platform)

    @property
    def _model_dir(self) -> Path:
        return self.plan.root / self.plan.policy.model.path

    def _read_dockerfile(self) -> str:
        return dockerfile.read_dockerfile(self.plan.root / self.plan.policy.build.dockerfile)

    def _load_context(self) -> dagger.Directory:
        return host.load_directory(self.plan.root, self.plan.policy.build.context)

    def _build_arguments(self, more: Mapping[str, str]) -> list[BuildArg]:
        """Return the arguments of every build, and `more`."""
        images, policy = self.plan.images, self.plan.policy
        common = {
            "BUILDER": images.builder,
            "BASE_IMAGE": images.base,
            "MODEL_RUNTIME": policy.build.runtime,
            "MODEL": policy.build.model,
            "TRAIN": policy.model.train,
        }
        return [BuildArg(name, value) for name, value in {**common, **more}.items()]

    def _create_secrets(self) -> list[dagger.Secret]:
        """What instructions may mount: the policy's secrets, and the certificates to trust.

        A missing one is empty: Dagger would give it a random name, and its step would never be cached.
        """
        declared = dockerfile.find_secrets(self._read_dockerfile())
        missing = {name: "" for name, required in declared.items() if not required}
        secrets = {**missing, session.CERTIFICATES_ID: self.plan.certificates, **self.plan.build_secrets}
        return [dag.set_secret(name, text) for name, text in secrets.items()]


async def _export_model(made: dagger.Container, directory: Path) -> dagger.Directory:
    """Export the model that a stage made into `directory`; files of another model there are removed."""
    artifacts = made.directory("/artifacts")
    names = await _list_plain_files(artifacts)
    files = _select_files(artifacts, *names)
    # Not wiped: the folder is the user's, who may keep more in it than the model.
    await files.export(str(directory))
    for name in set(MODEL_FILES).difference(names):
        (directory / name).unlink(missing_ok=True)
    return files


async def _list_plain_files(directory: dagger.Directory) -> list[str]:
    """The names of its files: a link that somebody's code made would lead to any place of this machine."""
    names = await directory.entries()
    if len(names) > MAX_FILES:
        raise BuildError(
            f"training wrote {len(names)} files beside the model, and {MAX_FILES} are the most",
            likely_cause="its own notes or checkpoints are in the folder of the model",
            next_step="let it write them into another folder",
        )
    plain = [
        name
        for name in names
        if await directory.exists(name, expected_type=dagger.ExistsType.REGULAR_TYPE, do_not_follow_symlinks=True)
    ]
    if other := [name for name in names if name.rstrip("/") in MODEL_FILES and name not in plain]:
        raise BuildError(
            f"what was trained has {other[0]} as a link or a folder",
            likely_cause="the command linked the model to where it lies",
            next_step="let it write a copy of the file itself",
        )
    return plain


def _select_files(directory: dagger.Directory, *names: str) -> dagger.Directory:
    """These files of a directory, and nothing else."""
    files = dag.directory()
    for name in names:
        files = files.with_file(name, directory.file(name))
    return files


def _load_model_files(model: Model) -> dagger.Directory:
    return cast("dagger.Directory", model.handle)


async def _read_contract(directory: Path, runtime: str | None = None) -> Contract:
    """In a thread, since a large model takes seconds."""
    return await anyio.to_thread.run_sync(model_contract.read_contract, directory, runtime, abandon_on_cancel=True)


@contextmanager
def _build_errors(
    what: str,
    likely_cause: str = "a package or a base image cannot be had, a hash does not match, or an instruction fails",
    next_step: str = "fix the instruction that the log ends with; --debug shows all of the engine's log",
) -> Iterator[None]:
    with session.engine_errors():
        try:
            yield
        except dagger.QueryError as error:
            raise BuildError(
                f"{what} did not build: {dagger_log.get_first_line(str(error))}",
                likely_cause=likely_cause,
                next_step=next_step,
                log=dagger_log.get_tail(
                    error.stderr or error.stdout if isinstance(error, dagger.ExecError) else str(error)
                ),
            ) from error
