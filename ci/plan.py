"""What a run is told before it starts: values only, gathered from the command line, the policy, git and the pins."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

import checks
import config
import records
import registry
import revision
import trivy
from config import Policy
from errors import UsageError
from report import Images, Release, Revision

IMAGES_VARIABLE = "DRYDOCK_IMAGES"


@dataclass(frozen=True)
class Plan:
    """All that a run is told; `root` is the folder of the policy, with the Dockerfile and the model beside it."""

    root: Path
    policy: Policy
    images: Images
    revision: Revision
    tag: str
    push: bool
    report_dir: Path
    published: tuple[Release, ...]
    locked_packages: dict[str, str]
    login: registry.Credentials | None

    @property
    def reference(self) -> str:
        """Where the image goes, by its tag."""
        return f"{self.policy.image.repository}:{self.tag}"


def make(*, policy_path: Path, report_dir: Path, tag: str | None, push: bool, environment: Mapping[str, str]) -> Plan:
    """Gather what a run needs. Raises UsageError before anything is started."""
    policy = config.load(policy_path, environment)
    checks.require_known_skips(policy)
    config.require_near_expiry(policy, datetime.now(UTC).date())
    root = policy_path.resolve().parent
    commit = revision.read(root)
    images = _images(Path(environment.get(IMAGES_VARIABLE) or root / "images.toml"))
    chosen = revision.tag(commit, tag, environment)
    if tag is None:
        revision.require_tags_commit(root, environment)
    host = policy.image.repository.partition("/")[0]
    if push and images.world == "stand-in" and revision.is_version(chosen) and not registry.is_local(host):
        raise UsageError(
            f"{chosen} would be a release built on stand-in images",
            usually="this machine reaches no container registry, so its base images are not the official ones",
            next_step="tag the commit and let a machine with the official images release it, or say --no-push",
        )
    return Plan(
        root=root,
        policy=policy,
        images=images,
        revision=commit,
        tag=chosen,
        push=push,
        report_dir=report_dir.resolve(),
        published=records.published(report_dir),
        locked_packages=_locked_packages(root / policy.build.lock),
        login=registry.credentials(environment),
    )


def _locked_packages(path: Path) -> dict[str, str]:
    """What the image installs, and so what a scanner has to see in it."""
    try:
        return trivy.locked_packages(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is no lock of packages: {error}",
            usually="build.lock in the policy names another file than the Dockerfile installs, or none",
            next_step="name the requirements.txt with hashes that the Dockerfile installs",
        ) from error


def _images(path: Path) -> Images:
    try:
        return Images.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise UsageError(
            f"{path} does not name the images of a run: {str(error).splitlines()[0]}",
            usually=f"it is missing, or {IMAGES_VARIABLE} names another file",
            next_step="git checkout images.toml, or python -m bootstrap where no container registry is reached",
        ) from error
