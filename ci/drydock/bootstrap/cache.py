"""Keeps what is slow to build, by a hash of its inputs: a step is built again only if an input changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from drydock.bootstrap.processes import CommandRunner
from drydock.errors import EngineError

CACHE_VARIABLE = "DRYDOCK_CACHE"


def cache_root(environment: Mapping[str, str]) -> Path:
    """The folder of the cache: DRYDOCK_CACHE, or ~/.cache/drydock. Raises EngineError if there is neither."""
    path = environment.get(CACHE_VARIABLE)
    try:
        return Path(path).absolute() if path else Path.home() / ".cache" / "drydock"
    except RuntimeError as error:
        raise EngineError(
            "this user has no home directory, so there is no place for the cache",
            next_step=f"set {CACHE_VARIABLE} to a folder that can be written, then run again",
        ) from error


@dataclass(frozen=True)
class Cache:
    """A folder for each step under `root`, named by the key of its inputs. It is renamed into place when complete."""

    root: Path
    runner: CommandRunner

    def get_or_build(self, step: str, inputs: Mapping[str, object], make: Callable[[Path], None]) -> Path:
        """The folder that `make` fills for these inputs; `make` runs only if there is none. Other keys are removed."""
        finished = self.entry_path(step, inputs)
        if finished.is_dir():
            return finished
        started = finished.with_name(f".{finished.name}.part")
        shutil.rmtree(started, ignore_errors=True)
        started.mkdir(parents=True)
        with self.runner.step(step):
            make(started)
            started.rename(finished)
        for other in finished.parent.iterdir():
            if other != finished:
                shutil.rmtree(other, ignore_errors=True)
        return finished

    def entry_path(self, step: str, inputs: Mapping[str, object]) -> Path:
        """The folder of `get_or_build` for these inputs."""
        return self.root / step / hash_inputs(inputs)

    def log_path(self, name: str) -> Path:
        """The file with the output of a program."""
        return self.root / "logs" / f"{name}.log"


def hash_inputs(inputs: object) -> str:
    """A key for inputs: 16 hex digits of the SHA-256 of their JSON."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hash_tree(directory: Path) -> dict[str, str]:
    """The SHA-256 of each file under `directory`, by relative path: a folder as an input."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
