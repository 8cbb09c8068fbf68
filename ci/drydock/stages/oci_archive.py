"""The OCI archive in the engine: one file, and the container that it unpacks to."""

from __future__ import annotations

from typing import cast

import dagger
from dagger import dag

from drydock.pipeline.plan import Plan
from drydock.report import Archive


def load_archive(archive: Archive) -> dagger.File:
    """The OCI archive itself."""
    return cast("dagger.File", archive.handle)


def load_container(plan: Plan, archive: Archive) -> dagger.Container:
    """The image in it, as a container that has not been started."""
    return dag.container(platform=dagger.Platform(plan.policy.build.platform)).import_(load_archive(archive))
