"""Asks the registries which digest each pinned tag has now, and writes it into the lock file of the images."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from drydock.errors import RegistryError, UsageError
from drydock.oci import registry
from drydock.report.files import write_atomic

# A line such as: trivy = "docker.io/aquasec/trivy:0.74.0@sha256:…"
PIN = re.compile(
    r'^(?P<name>\w+) *= *"(?P<repository>[^":@]+(?::[0-9]+)?/[^":@]+):(?P<tag>[^":@]+)@(?P<digest>[^"]+)"', re.M
)

# Asks for the digest under a repository's tag; None where there is none.
Ask = Callable[[str, str], Awaitable[str | None]]


async def from_registries(repository: str, tag: str) -> str | None:
    """The digest that a registry has under a tag now; nobody's credentials are asked for what is public."""
    async with registry.open_repository(repository, None) as opened:
        return await opened.get_digest(tag)


async def refresh(path: Path, ask: Ask) -> list[str]:
    """Write the digest that each tag of the lock file at `path` has now; a line for each pin, and what became of it.

    Nothing is written unless every tag could be asked for. Raises UsageError and RegistryError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", next_step="run in the folder that has images.toml"
        ) from error
    said, renewed, kept = [], [], 0
    for pin in PIN.finditer(text):
        digest = await ask(pin["repository"], pin["tag"])
        if digest is None:
            raise RegistryError(
                f"{pin['repository']} has no tag {pin['tag']}",
                likely_cause="it was misspelt, or its makers took it back",
                next_step=f"mend the line of {pin['name']} in {path.name}, then run again",
            )
        renewed += [text[kept : pin.start("digest")], digest]
        kept = pin.end("digest")
        change = "as it was" if digest == pin["digest"] else f"was {pin['digest'][:19]}…"
        said.append(f"{pin['name']:<9} {pin['repository']}:{pin['tag']} {digest[:19]}…  {change}")
    if not said:
        raise UsageError(f"{path} pins no image", next_step="git checkout images.toml")
    write_atomic(path, "".join([*renewed, text[kept:]]))
    return said
