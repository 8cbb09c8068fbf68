"""Writes the digest that each pinned tag has now into the lock file of the images."""

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

# Finds the digest of a tag in a repository; None if it has no such tag.
FindDigest = Callable[[str, str], Awaitable[str | None]]


async def find_digest(repository: str, tag: str) -> str | None:
    """Return the digest that a registry has under a tag now. No credentials are sent: pinned images are public."""
    async with registry.open_repository(repository, None) as opened:
        return await opened.get_digest(tag)


async def update_pins(path: Path, find_digest: FindDigest) -> list[str]:
    """Write the digest that each tag of the lock file at `path` has now; return a line for each pin.

    Nothing is written if one tag has no digest. Raises UsageError and RegistryError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", next_step="run in the folder that has images.toml"
        ) from error
    lines, parts, end = [], [], 0
    for pin in PIN.finditer(text):
        digest = await find_digest(pin["repository"], pin["tag"])
        if digest is None:
            raise RegistryError(
                f"{pin['repository']} has no tag {pin['tag']}",
                likely_cause="it was misspelt, or its makers took it back",
                next_step=f"fix the line of {pin['name']} in {path.name}, then run again",
            )
        parts += [text[end : pin.start("digest")], digest]
        end = pin.end("digest")
        change = "as it was" if digest == pin["digest"] else f"was {pin['digest'][:19]}…"
        lines.append(f"{pin['name']:<9} {pin['repository']}:{pin['tag']} {digest[:19]}…  {change}")
    if not lines:
        raise UsageError(f"{path} pins no image", next_step="git checkout images.toml")
    write_atomic(path, "".join([*parts, text[end:]]))
    return lines
