"""Keeps what is slow to make, by its inputs: made once, found again, made anew only when an input changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from drydock.bootstrap.errors import BootstrapError
from drydock.bootstrap.processes import Watcher

CACHE_VARIABLE = "DRYDOCK_CACHE"


def root(environment: Mapping[str, str]) -> Path:
    """Where everything is kept: ~/.cache/drydock, or where DRYDOCK_CACHE says. Raises BootstrapError without either."""
    named = environment.get(CACHE_VARIABLE)
    try:
        return Path(named).absolute() if named else Path.home() / ".cache" / "drydock"
    except RuntimeError as error:
        raise BootstrapError(
            "this user has no home directory to keep anything in",
            f"set {CACHE_VARIABLE} to a folder that can be written, then run again",
        ) from error


@dataclass(frozen=True)
class Cache:
    """Folders under `root`, one a step and key; what is there is whole, since it was renamed into place."""

    root: Path
    watcher: Watcher

    def made(self, step: str, inputs: Mapping[str, object], make: Callable[[Path], None]) -> Path:
        """The folder that `make` filled for these inputs: found, or made now. A half-made one never counts."""
        finished = self.folder(step, inputs)
        if finished.is_dir():
            return finished
        started = finished.with_name(f".{finished.name}.part")
        shutil.rmtree(started, ignore_errors=True)
        started.mkdir(parents=True)
        with self.watcher.step(step):
            make(started)
            started.rename(finished)
        for other in finished.parent.iterdir():
            if other != finished:
                shutil.rmtree(other, ignore_errors=True)
        return finished

    def folder(self, step: str, inputs: Mapping[str, object]) -> Path:
        """Where `made` puts what it makes for these inputs."""
        return self.root / step / key_of(inputs)

    def log(self, name: str) -> Path:
        """Where a tool's words are kept."""
        return self.root / "logs" / f"{name}.log"


def key_of(inputs: object) -> str:
    """A short name for inputs: the same for the same ones."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:16]


def contents(directory: Path) -> dict[str, str]:
    """The files under `directory` by their relative paths and hashes: a folder as an input."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def write_whole(path: Path, content: str) -> None:
    """Write a file so that readers see the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(content, encoding="utf-8")
    part.replace(path)
