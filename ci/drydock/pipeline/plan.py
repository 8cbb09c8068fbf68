"""The plan of a run: values only, gathered from the command line, the policy, git and the pins."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from drydock import checks
from drydock.checks import verification
from drydock.errors import UsageError
from drydock.oci import registry
from drydock.oci.media_types import PINNED
from drydock.oci.tags import ImageTags
from drydock.policy import REMOTE_LOCK, RUNTIME_FIELD, Policy, load_policy, require_near_expiry
from drydock.report import Artifact, Contract, Images, Release, Revision, files, publication
from drydock.tools import attestations, build_secrets, cosign, origin, revision, trivy, worktree
from drydock.tools.worktree import Inputs, Model

IMAGES_VARIABLE = "DRYDOCK_IMAGES"
VERSION_LABEL = "org.opencontainers.image.version"
SOURCE_LABEL = "org.opencontainers.image.source"
# Training rows beside a model: a conversion is compared with the model on each of them, and counts them.
TRAINING_ROWS = "training.npy"


@dataclass(frozen=True)
class Plan:
    """All that a run needs to know. `root` is the folder of the Dockerfile, its locks and the model."""

    root: Path
    policy: Policy
    images: Images
    revision: Revision
    name: ImageTags
    push: bool
    report_dir: Path
    published: tuple[Release, ...]
    locked_packages: dict[str, str]
    login: registry.Credentials | None
    source_login: registry.Credentials | None
    trust: cosign.Trust
    signer: cosign.Signer | cosign.NoSigner
    builder: attestations.Builder
    no_cache: bool
    # In PEM: what is to be trusted beyond a container's own.
    certificates: str = field(repr=False)
    build_secrets: Mapping[str, str] = field(repr=False)
    inputs: Inputs = worktree.NOTHING

    @property
    def source(self) -> str:
        """The web address of the code that an image may have been built from: the policy's, else this checkout's."""
        return self.policy.image.source or self.revision.source_url

    def create_labels(self, model_sha256: str) -> dict[str, str]:
        """What the image says of itself, by the label's key; what is empty is not known, and has no label.

        All of it follows from the commit, but for the version of a release and the address that a checkout came from.
        https://github.com/opencontainers/image-spec/blob/v1.1.0/annotations.md
        """
        is_known = self.revision.commit != revision.NO_COMMIT
        commit_tag = f"sha-{self.revision.name}" if is_known else ""
        return {
            "org.opencontainers.image.title": self.policy.image.name,
            verification.REVISION_LABEL: self.revision.name,
            VERSION_LABEL: self.name.tag if self.name.is_version else commit_tag,
            SOURCE_LABEL: self.source,
            "org.opencontainers.image.created": self.revision.committed_at if is_known else "",
            verification.MODEL_LABEL: model_sha256,
        }

    @property
    def reference(self) -> str:
        """Where the image goes, by its tag."""
        return f"{self.policy.image.repository}:{self.name.tag}"


def create_plan(
    *,
    policy_path: Path,
    environment: Mapping[str, str],
    publishes: bool = False,
    builds: bool = False,
    mounts_secrets: bool = False,
    report_dir: Path | None = None,
    tag: str | None = None,
    push: bool = False,
    key: Path | None = None,
    no_cache: bool = False,
) -> Plan:
    """Gather what a run needs. Raises UsageError before anything is started.

    `report_dir` is the folder of the report, dist/<image.name> by default. `key` is a public key to trust.

    Only what `publishes`, or would, gives an image a name, and so needs a commit or a `tag` to name it by. What only
    looks at images, and neither publishes nor `builds` one, does not need git. What runs instructions of the Dockerfile
    `mounts_secrets`.
    """
    policy = _with_readable_source(load_policy(policy_path, environment))
    checks.require_known_skips(policy)
    require_near_expiry(policy, datetime.now(UTC).date())
    root = _find_root(policy_path, policy)
    _require_runtime(policy, root)
    report_dir = (report_dir or files.default_report_dir(policy.image.name)).resolve()
    inputs = _find_inputs(policy, root, policy_path)
    commit = revision.read_revision(root, inputs) if publishes or builds else _read_source(root)
    images = _read_images(Path(environment.get(IMAGES_VARIABLE) or root / "images.toml"))
    # A commit names the model that it has, also if something else in the checkout is not as the commit has it.
    named_by_commit = not inputs.model or not commit.dirty or worktree.is_committed(root, inputs.model)
    model_sha256 = inputs.model.sha256 if inputs.model and not named_by_commit else ""
    name = revision.name_image(commit, tag, environment, model_sha256) if publishes else ImageTags(tag="")
    if push:
        revision.require_plausible_time(commit, datetime.now(UTC))
    if push and name.is_version:
        revision.require_release(root, commit, name.tag, inputs)
    host = policy.image.repository.partition("/")[0]
    if push and images.base_images == "local" and name.is_version and not registry.is_local(host):
        raise UsageError(
            f"{name.tag} would be a release built on local base images",
            likely_cause="this machine reaches no container registry, so its base images are not the official ones",
            next_step="tag the commit and let a machine with the official images release it, or say --no-push",
        )
    signer = cosign.find_signer(environment) if publishes else cosign.NoSigner("nothing is published")
    if publishes and not policy.image.attachments:
        signer = cosign.NoSigner(f"{policy.origins['image.attachments']} says that nothing is attached to the image")
    if not isinstance(signer, cosign.NoSigner):
        cosign.require_image(images.cosign)
    if push and name.is_version and isinstance(signer, cosign.NoSigner) and not registry.is_local(host):
        if not policy.image.attachments:
            raise UsageError(
                f"{name.tag} would be a release that nobody signed: {signer.reason}",
                likely_cause="the registry takes images only",
                next_step="push it to a registry that takes signatures, without that line; then run again",
            )
        raise UsageError(
            f"{name.tag} would be a release that nobody signed: {signer.reason}",
            likely_cause="COSIGN_KEY is not set, or the workflow's job has not the permission id-token: write",
            next_step=f"set {cosign.KEY_VARIABLE} and {cosign.PASSWORD_VARIABLE}, then run again",
        )
    return Plan(
        root=root,
        policy=policy,
        images=images,
        revision=commit,
        name=name,
        push=push,
        report_dir=report_dir,
        published=publication.read_records(report_dir),
        locked_packages={
            name: version
            for lock in policy.build.lock_paths
            for name, version in _read_locked_packages(root / lock, policy).items()
        },
        login=registry.read_credentials(environment, host),
        source_login=registry.read_source_credentials(environment),
        trust=_read_trust(policy, root, policy.image.source or commit.source_url, key),
        signer=signer,
        builder=attestations.detect_builder(environment),
        no_cache=no_cache,
        inputs=inputs,
        certificates=registry.read_ca_certificates(environment),
        build_secrets=build_secrets.read_secrets(policy, root, environment) if mounts_secrets else {},
    )


def _find_inputs(policy: Policy, root: Path, policy_path: Path) -> Inputs:
    """What an image is made of and a commit should have: the build's context, its policy, a model that came trained.

    A model that is trained in the run follows from the rest.
    """
    files = [policy_path.resolve(), root / policy.build.dockerfile, *(root / lock for lock in policy.build.lock_paths)]
    if policy.model.train:
        return Inputs(tuple(policy.build.context), tuple(files))
    folder = (root / policy.model.path).resolve()
    contract, rows = folder / "model.json", folder / TRAINING_ROWS
    description = (contract, *([rows] if rows.exists() else []))
    artifact = _read_artifact(contract)
    model = Model(folder / artifact.file, description, artifact.sha256) if artifact else None
    return Inputs(tuple(policy.build.context), (*files, *description), model)


def _read_artifact(contract: Path) -> Artifact | None:
    """Return the model file that a contract names; None if it is not a contract: the run refuses it later."""
    if not contract.is_file():
        return None
    try:
        return Contract.model_validate_json(contract.read_bytes()).artifact
    except (OSError, ValidationError):
        return None


def _read_source(root: Path) -> Revision:
    """What is known of a checkout that nothing is built from."""
    return Revision(commit=revision.NO_COMMIT, dirty=True, source_url=revision.read_source(root))


def _with_readable_source(policy: Policy) -> Policy:
    """The policy with image.source as a plain web address: a public label says it, and no credential may be in it."""
    if not policy.image.source:
        return policy
    if address := origin.parse_web_address(policy.image.source):
        return policy.model_copy(update={"image": policy.image.model_copy(update={"source": address})})
    raise UsageError(
        f"{policy.origins.get('image.source', 'the policy')}: image.source is no web address",
        likely_cause="it is a path, or has a character that no address has",
        next_step="write it like https://github.com/owner/name, or leave it empty: then it is that of origin",
    )


def _find_root(policy_path: Path, policy: Policy) -> Path:
    """The folder that the policy names, seen from its own."""
    root = (policy_path.resolve().parent / policy.build.root).resolve()
    if root.is_dir():
        return root
    raise UsageError(
        f"{policy.origins.get('build.root', 'the default')}: build.root is no folder: {root}",
        likely_cause="the path is relative to the folder of the policy, not to the current folder",
        next_step='name the folder that has the Dockerfile, such as ".." for the one above the policy',
    )


def _require_runtime(policy: Policy, root: Path) -> None:
    """Raise UsageError if only other runtimes than the policy's have a lock file."""
    lock, runtime = root / policy.build.lock, policy.build.runtime
    # No other program has a list of the runtimes, and a server of one's own may have one lock for all.
    if RUNTIME_FIELD not in lock.name:
        return
    pattern = re.compile(re.escape(lock.name).replace(re.escape(RUNTIME_FIELD), "(.+)"))
    names = {path.name for path in lock.parent.glob("*")}
    runtimes = sorted(match[1] for name in names - {Path(REMOTE_LOCK).name} if (match := pattern.fullmatch(name)))
    if runtimes and runtime not in runtimes:
        raise UsageError(
            f"{policy.origins.get('build.runtime', 'the default')}: build.runtime is {runtime!r}, and the runtimes are"
            f" {', '.join(runtimes)}",
            likely_cause="its name is misspelt: each runtime has its lock,"
            f" {policy.build.lock.replace(RUNTIME_FIELD, 'NAME')}",
            next_step="name one of them under [build]; CONTRIBUTING.md#add-a-runtime says how to add one",
        )


def _read_trust(policy: Policy, root: Path, source: str, key: Path | None) -> cosign.Trust:
    """Return whom to trust: the holder of the key if one is named, else the workflows of the repository."""
    key = key or (root / policy.trust.key if policy.trust.key else None)
    if key is None:
        return cosign.Identity(verification.identity_pattern(source, policy.trust), verification.ISSUER)
    try:
        return cosign.PublicKey(key.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{key} is no public key that can be read: {error}",
            likely_cause="trust.key in the policy, or --key, names another file",
            next_step="name the cosign.pub that was made with the private key",
        ) from error


def _read_locked_packages(path: Path, policy: Policy) -> dict[str, str]:
    """What the image installs, and so what a scanner has to see in it."""
    python, platform = policy.build.python, policy.build.platform
    try:
        return trivy.parse_locked_packages(path.read_text(encoding="utf-8"), python=python, platform=platform)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is no lock of packages: {error}",
            likely_cause="build.lock in the policy names another file than the Dockerfile installs, or none",
            next_step="name the requirements.txt with hashes that the Dockerfile installs",
        ) from error


def _read_images(path: Path) -> Images:
    try:
        images = Images.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise UsageError(
            f"{path} does not name the images of a run: {str(error).splitlines()[0]}",
            likely_cause=f"it is missing, or {IMAGES_VARIABLE} names another file",
            next_step="git checkout images.toml, or drydock bootstrap if no container registry is reachable",
        ) from error
    # Only who signs or verifies needs cosign, and bootstrap builds a local one only on request.
    pinned = ("builder", "base", *(["cosign"] if images.cosign or images.base_images == "official" else []))
    for name in pinned:
        if not PINNED.search(getattr(images, name)):
            raise UsageError(
                f"{path} names {name} by no digest: {getattr(images, name)}",
                likely_cause="a tag was written by hand, and nobody could say afterwards which image that was",
                next_step="drydock update-pins writes the digests that the tags have now",
            )
    return images
