"""Which mode a machine is in, and the actions of `drydock bootstrap`: up, env, status, down, clean."""

from __future__ import annotations

import fcntl
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from drydock.bootstrap import local_images, official_images, services
from drydock.bootstrap.cache import Cache
from drydock.bootstrap.processes import read_output
from drydock.report.files import write_atomic

ENGINE_VARIABLE = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
# A run signs what it publishes if it has a key, or an identity from a GitHub job.
SIGNER_VARIABLES = ("COSIGN_KEY", "ACTIONS_ID_TOKEN_REQUEST_URL")


class Mode(StrEnum):
    """Where the engine comes from: the environment names it, Docker or Podman runs it, or this machine builds it."""

    EXTERNAL = "external"
    DOCKER = "docker"
    PODMAN = "podman"
    LOCAL = "local"


OFFICIAL = (Mode.DOCKER, Mode.PODMAN)


def up(cache: Cache, environment: Mapping[str, str], *, with_cosign: bool = False) -> Mode:
    """Start an engine and a registry, build what they need, and return the mode of this machine.

    An engine that the environment names comes first, then Docker or Podman with the official images, then local images.
    """
    if uses_external_engine(cache, environment):
        return Mode.EXTERNAL
    with _lock(cache):
        mode = _choose_mode(cache)
        if mode is Mode.LOCAL:
            local_images.up(cache, with_cosign=with_cosign or any(environment.get(name) for name in SIGNER_VARIABLES))
        else:
            official_images.up(cache, mode, environment)
        write_atomic(cache.root / "mode", mode)
    return mode


def uses_external_engine(cache: Cache, environment: Mapping[str, str]) -> bool:
    """Whether the environment names an engine that is not one of ours."""
    ours = [official_images.shell_environment(cache, command)[ENGINE_VARIABLE] for command in OFFICIAL]
    ours.append(local_images.shell_environment(cache.root)[ENGINE_VARIABLE])
    return environment.get(ENGINE_VARIABLE, "") not in ("", *ours)


def shell_exports(cache: Cache, environment: Mapping[str, str]) -> str:
    """Lines for `eval`: what a shell needs to run `drydock` here."""
    if uses_external_engine(cache, environment):
        return "# the environment names an engine of its own\n"
    mode = read_recorded_mode(cache.root)
    if mode is None:
        return "# nothing is up yet: drydock bootstrap\n"
    values = (
        official_images.shell_environment(cache, mode)
        if mode in OFFICIAL
        else local_images.shell_environment(cache.root)
    )
    # The shell that reads PATH expands it, so it alone is in double quotes.
    return "".join(
        f'export {name}="{value}"\n' if name == "PATH" else f"export {name}={shlex.quote(value)}\n"
        for name, value in values.items()
    )


def status(cache: Cache) -> list[tuple[str, bool, str]]:
    """What a run needs, whether it is there, and its place."""
    mode = read_recorded_mode(cache.root)
    if mode in OFFICIAL:
        running = [
            (name, read_output([mode, "inspect", "--format", "{{.State.Running}}", container]) == "true", container)
            for name, container in (("engine", services.ENGINE), ("registry", official_images.REGISTRY_NAME))
        ]
        return [("mode", True, f"{mode}, official images"), *running]
    socket_path = services.socket_path(cache.root)
    images = local_images.images_path(cache.root)
    return [
        ("mode", bool(mode), "local images" if mode else "none yet"),
        ("images", images.exists(), str(images)),
        ("registry", services.is_registry_up(), services.REGISTRY),
        ("engine", services.is_engine_up(socket_path), f"unix://{socket_path}"),
    ]


def read_recorded_mode(root: Path) -> Mode | None:
    """The mode of the last `up`; without its record, local if an engine of this machine's own is running, else None."""
    path = root / "mode"
    if path.exists():
        return Mode(path.read_text(encoding="utf-8"))
    return Mode.LOCAL if services.is_engine_up(services.socket_path(root)) else None


def down(cache: Cache) -> None:
    """Stop the engine and the registry; what was built stays."""
    with _lock(cache):
        _stop_services(cache)


def clean(cache: Cache) -> None:
    """Stop the engine and the registry; remove everything that was built."""
    with _lock(cache):
        _stop_services(cache)
        if shutil.which("podman"):
            images = (
                read_output(["podman", "images", "--quiet", "--filter", f"reference=localhost/{services.ENGINE}"]) or ""
            )
            subprocess.run(["podman", "rmi", "--force", "--ignore", *images.split()], capture_output=True, check=False)
        shutil.rmtree(cache.root, ignore_errors=True)


def _choose_mode(cache: Cache) -> Mode:
    if services.is_engine_up(services.socket_path(cache.root)):
        return Mode.LOCAL
    command = official_images.find_runtime(cache)
    return Mode(command) if command else Mode.LOCAL


def _stop_services(cache: Cache) -> None:
    mode = read_recorded_mode(cache.root)
    if mode in OFFICIAL:
        official_images.down(mode)
    elif mode:
        services.stop_engine()
        services.stop_registry(cache.root)


@contextmanager
def _lock(cache: Cache) -> Iterator[None]:
    """One bootstrap at a time: a second one waits, and then finds what the first one built."""
    cache.root.mkdir(parents=True, exist_ok=True)
    with (cache.root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            cache.runner.print_line("waiting for another bootstrap on this machine")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
