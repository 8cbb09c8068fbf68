"""Gives an image that is in the registry its tags: a version once and for ever, a moving tag never backwards.

Registries cannot compare and swap, and two runs may push at once. So whoever wrote a tag waits until the other must
have written, too, and looks again: all see the same tag then, and only one of them its own digest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio

import tags
from errors import RegistryError, VersionTaken
from registry.repository import Repository
from tags import Name

SETTLE_SECONDS = 2.0
# How often somebody else may write between our look and our write before we give up.
ROUNDS = 10


async def push(repository: Repository, archive: Path, digest: str, name: Name) -> None:
    """Push an image by its digest alone; raises VersionTaken, before a byte is sent, where another has its version."""
    if name.is_version and (served := await repository.digest(name.tag)):
        _require_ours(repository, name.tag, digest, served)
    await repository.push(archive, digest)


@dataclass(frozen=True)
class Named:
    """All tags that lead to an image now; `before` is the digest that the first of them had until then."""

    tags: tuple[str, ...]
    before: str


async def name(
    repository: Repository,
    digest: str,
    name: Name,
    created: datetime | None = None,
    settle_seconds: float = SETTLE_SECONDS,
) -> Named:
    """Give an image that is here all its names.

    `created` is the time of its commit, by which a branch's tag only goes forward; without one it does not move.
    """
    if name.is_version:
        before = await release_version(repository, digest, name.tag, settle_seconds)
        given = [name.tag]
        if name.by_commit:
            await repository.tag(digest, name.by_commit)
            given.append(name.by_commit)
        moved = await move_forward(repository, name.tag)
        # Once more and last: another run's write may have been on its way for longer than anybody waits.
        _require_ours(repository, name.tag, digest, await repository.served(name.tag))
        return Named((*given, *(tag for tag, version in moved.items() if version == name.tag)), before)
    before = await repository.digest(name.tag) or ""
    await repository.tag(digest, name.tag)
    if name.branch and created and await move_branch(repository, digest, name.branch, created, settle_seconds):
        return Named((name.tag, name.branch), before)
    return Named((name.tag,), before)


async def release_version(
    repository: Repository, digest: str, version: str, settle_seconds: float = SETTLE_SECONDS
) -> str:
    """Give an image its version; empty, or its digest where it had it already. A version that is taken stays as it is.

    Raises VersionTaken where the version has another digest, or where another run wrote it at the same moment, last.
    """
    before = await repository.claim(digest, version)
    if before:
        _require_ours(repository, version, digest, before)
        return before
    await anyio.sleep(settle_seconds)
    _require_ours(repository, version, digest, await repository.served(version))
    return ""


async def move_forward(repository: Repository, version: str) -> dict[str, str]:
    """Let each moving tag of a version point to the highest version that there is; which one that is, by tag.

    Looks at all versions again after each write, so an older run that finishes last takes no tag back.
    """
    gone: set[str] = set()
    for _ in range(ROUNDS):
        highest = tags.targets({*await repository.tags(), version} - gone)
        wanted = {tag: highest[tag] for tag in tags.moving(version) if tag in highest}
        digests = {target: await repository.digest(target) for target in set(wanted.values())}
        # A deleted version may be listed for a while.
        gone |= {target for target, digest in digests.items() if not digest}
        late = [tag for tag, target in wanted.items() if await repository.digest(tag) != digests[target]]
        if not late:
            return wanted
        for tag in late:
            if digest := digests[wanted[tag]]:
                await repository.point(digest, tag)
    raise _restless(repository, " and ".join(tags.moving(version)))


async def move_branch(
    repository: Repository, digest: str, tag: str, created: datetime, settle_seconds: float = SETTLE_SECONDS
) -> bool:
    """Let a branch's tag point to an image made at `created`, and say so; it stays where a later image has it."""
    for number in range(ROUNDS):
        current = await repository.digest(tag)
        if current == digest:
            return True
        theirs = await _created(repository, current) if current else None
        # Who came in between after our write was made in the same second at the earliest; both would go on for ever.
        if theirs and (theirs > created or (number > 0 and theirs == created)):
            return False
        await repository.point(digest, tag)
        await anyio.sleep(settle_seconds)
    raise _restless(repository, tag)


async def _created(repository: Repository, digest: str) -> datetime | None:
    """When an image says that it was made; None for what does not say it, such as an index."""
    manifest = await repository.manifest(digest)
    if not manifest or not manifest.config:
        return None
    try:
        created = datetime.fromisoformat(json.loads(await repository.blob(manifest.config.digest))["created"])
    except (LookupError, ValueError, TypeError, RecursionError):
        return None
    return created if created.tzinfo else created.replace(tzinfo=UTC)


def _require_ours(repository: Repository, version: str, ours: str, theirs: str) -> None:
    if theirs != ours:
        raise VersionTaken(
            f"{repository.where}:{version} exists, with digest {theirs}; this image is {ours}",
            usually="the version was released before, or at the same moment, from another commit or on other bases",
            next_step="release under the next version; a published one never changes",
        )


def _restless(repository: Repository, tag: str) -> RegistryError:
    return RegistryError(
        f"{repository.where}: {tag} does not stay where it is put",
        usually="something else writes this tag all the time",
        next_step="find out who writes to the repository, then run again",
    )
