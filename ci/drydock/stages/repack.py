"""Lets the pinned builder's Python repack what was built, so that a commit has one digest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagger
from dagger import dag

from drydock.errors import BuildError
from drydock.oci import repack
from drydock.pipeline.plan import Plan
from drydock.stages import session
from drydock.tools import dagger_log

FOLDER = "/repack"
CACHE = "/cache"
OCI = dagger.ImageMediaTypes.OCIMediaTypes


async def repack_image(
    plan: Plan, built: dagger.Container, *, healthcheck: dict[str, Any] | None, drop_label: str
) -> dagger.File:
    """The image as one OCI archive, the same on every machine that builds its commit."""
    options = ["--created", plan.revision.committed_at, "--drop-label", drop_label, "--cache", CACHE]
    options += ["--healthcheck", json.dumps(healthcheck)] if healthcheck else []
    with _repack_errors():
        platform = dagger.Platform(plan.policy.build.platform)
        base = dag.container(platform=platform).from_(plan.images.base)
        container = (
            # Of the image's own platform, even if it is emulated: the compressed bytes are those of its zlib.
            dag.container(platform=platform)
            .from_(plan.images.builder)
            .with_workdir(FOLDER)
            .with_directory(".", _read_shipped_files())
            .with_mounted_file("built.tar", built.as_tarball(media_types=OCI))
            .with_mounted_file("base.tar", base.as_tarball(media_types=OCI))
            # Another builder may compress differently, so it has a cache of its own.
            .with_mounted_cache(CACHE, dag.cache_volume(f"drydock-repacked-layers {plan.images.builder}"))
            # Without the image's own packages and variables (-S, -E); -I would hide the folder as well.
            .with_exec(["python", "-ES", "-m", repack.__name__, "built.tar", "base.tar", "image.tar", *options])
        )
        return await container.file("image.tar").sync()


def _read_shipped_files() -> dagger.Directory:
    folder = dag.directory()
    for name in repack.SHIPPED_FILES:
        folder = folder.with_new_file(name, (repack.PACKAGE_PARENT / name).read_text(encoding="utf-8"))
    return folder


@contextmanager
def _repack_errors() -> Iterator[None]:
    with session.engine_errors():
        try:
            yield
        except dagger.QueryError as error:
            stderr = error.stderr if isinstance(error, dagger.ExecError) else ""
            reason = dagger_log.get_last_line(stderr) if stderr.strip() else dagger_log.get_first_line(str(error))
            raise BuildError(
                f"the image was built, but could not be repacked: {reason}",
                likely_cause=("the disk is full, a layer has an unknown format, or the builder image has no `python`"),
                next_step="free some space, or set other images for builder or base in images.toml",
                log=dagger_log.get_tail(
                    error.stderr or error.stdout if isinstance(error, dagger.ExecError) else str(error)
                ),
            ) from error
