"""What a fault happens to: a real registry, a door before it, archives, and a run that publishes through the door."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drydock.errors import DrydockError
from drydock.oci import registry
from drydock.oci.registry import Credentials, RetryPolicy, tagging
from drydock.oci.tags import ImageTags
from tests.integration.registry import archives, program, proxy
from tests.integration.registry.proxy import Door

# Tries as always, waits as short as can be.
RETRY_POLICY = RetryPolicy(first_wait_seconds=0.001)
VERSION = "1.2.3"


@dataclass
class World:
    """A repository of its own at a registry, which only a fault's work changes."""

    host: str
    door: Door
    kept: Path
    folder: Path
    name: str
    login: Credentials | None = None
    retry_policy: RetryPolicy = RETRY_POLICY
    moving_tags: bool = True
    told: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> Path:
        """Where the registry keeps which blobs this repository has."""
        return self.kept / "docker" / "registry" / "v2" / "repositories" / self.name / "_layers"

    def image(self, name: str = "ours") -> tuple[Path, str]:
        """An archive and the digest in it; other names are other images."""
        path = self.folder / f"{name}.tar"
        digest = archives.image(path, b"a layer that all have", name.encode() * 50_000)
        self.names[digest] = name
        return path, digest

    async def publish(self, name: str = "ours", tag: str = VERSION, *, directly: bool = False) -> None:
        """Push an image, then tag it, as a run does; `directly` as somebody else, who does not use the door."""
        await self.publish_archive(*self.image(name), tag, directly=directly)

    async def publish_archive(self, archive: Path, digest: str, tag: str = VERSION, *, directly: bool = False) -> None:
        host, on_retry = (self.host, lambda _: None) if directly else (self.door.host, self.told.append)
        async with registry.open_repository(
            f"{host}/{self.name}", self.login, on_retry, self.retry_policy
        ) as repository:
            await tagging.push(repository, archive, digest, ImageTags(tag=tag))
            named = await tagging.apply_tags(
                repository, digest, ImageTags(tag=tag), settle_seconds=0, moving_tags=directly or self.moving_tags
            )
        if not directly:
            self.warnings += [f"{tag} stays: {reason}" for tag, reason in named.unmoved.items()]

    async def attach(self, digest: str) -> tuple[str, ...]:
        """Attach a document to an image that is there; the digests of all that is attached."""
        async with registry.open_repository(
            f"{self.door.host}/{self.name}", None, self.told.append, self.retry_policy
        ) as repository:
            self.names[await repository.attach(digest, "a/document", b"{}", {})] = "its document"
            return tuple(found.digest for found in await repository.list_referrers(digest))

    async def state(self) -> tuple[dict[str, str], list[str]]:
        """Which image each tag serves, and whose manifests are there, as the registry itself says."""
        login = Credentials(program.USER, program.PASSWORD)
        async with registry.open_repository(f"{self.host}/{self.name}", login) as repository:
            tags = {
                tag: self.names.get(await repository.get_digest(tag) or "", "?") for tag in await repository.list_tags()
            }
            there = [name for digest, name in self.names.items() if await repository.get_digest(digest)]
        # The list of referrers, of a registry that does not keep it itself, is named for the image's digest.
        named = {"sha256-…" if tag.startswith("sha256-") else tag: image for tag, image in tags.items()}
        return dict(sorted(named.items())), sorted(there)


@dataclass(frozen=True)
class Outcome:
    """What became of a run: its exit code, its error's words, and all that was said, to people and in logs."""

    exit_code: int
    what: str
    said: str


@contextmanager
def worlds(folder: Path) -> Iterator[Callable[[str, bool], World]]:
    """Make worlds, each with a door and a repository of its own; a registry with a password is another registry."""
    with ExitStack() as stack:
        programs = {locked: stack.enter_context(program.running(password=locked)) for locked in (False, True)}

        def make(name: str, locked: bool) -> World:
            host, kept = programs[locked]
            door = stack.enter_context(proxy.before(host))
            (folder / name).mkdir()
            return World(host, door, kept, folder / name, name)

        yield make


async def run(work: Awaitable[None]) -> Outcome:
    """Do it, and note everything that anybody could read of it."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level, handlers = root.level, root.handlers
    # Alone: each byte on the wire is a line, and nobody else has to write it down.
    root.handlers = [handler]
    root.setLevel(logging.DEBUG)
    try:
        await work
    except DrydockError as error:
        said = "".join(
            [*traceback.format_exception(error), error.message, error.likely_cause, error.next_step, error.log]
        )
        return Outcome(error.exit_code, error.message, said + log.getvalue())
    else:
        return Outcome(0, "", log.getvalue())
    finally:
        root.handlers = handlers
        root.setLevel(level)
