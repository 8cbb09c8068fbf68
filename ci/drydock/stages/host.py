"""Gives the engine files of this machine. It takes every name for a pattern, those of the folders above it as well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import dagger
from dagger import dag

from drydock.errors import UsageError

# With these in the path of a folder the client finds nothing, or reads the whole file system for it: seen with 0.19.10.
PATTERN_CHARACTERS = "*?[]^|\\"


def load_directory(path: Path, include: Sequence[str], exclude: Sequence[str] = ()) -> dagger.Directory:
    """Return what these patterns match in a folder. Raises UsageError if the engine cannot read its name."""
    _require_plain(path)
    return dag.host().directory(str(path), include=list(include), exclude=list(exclude))


def load_file(path: Path) -> dagger.File:
    """A file by its very name. Raises UsageError like `directory`."""
    # Of what the pattern matches besides nothing is taken, and no folder is looked into.
    pattern = re.sub(r"[^\w.-]", "?", path.name, flags=re.ASCII)
    return load_directory(path.parent, [pattern], ["*/*"]).file(path.name)


def _require_plain(path: Path) -> None:
    # The client resolves links first.
    place = str(path.resolve())
    unknown = next((character for character in PATTERN_CHARACTERS if character in place), "")
    if place != place.encode(errors="replace").decode():
        unknown = "bytes that are no UTF-8"
    elif place.startswith("/!"):
        unknown = "!"
    elif place.endswith(" "):
        unknown = "a blank at its end"
    if unknown:
        raise UsageError(
            f"the engine cannot read the folder {place}: its name has {unknown}",
            likely_cause="the engine takes a folder's name for a pattern",
            next_step="rename the folder, or move what is in it to another one",
        )
