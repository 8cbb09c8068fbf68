"""Which world this machine is in, and the few things one can ask of it: up, env, status, down, clean."""

from __future__ import annotations

import fcntl
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from drydock.bootstrap import local_images, official_images, services
from drydock.bootstrap.cache import Cache, write_whole
from drydock.bootstrap.processes import output

ENGINE_VARIABLE = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
# A run with a key, or in a GitHub job that lends its identity, signs what it publishes.
SIGNER_VARIABLES = ("COSIGN_KEY", "ACTIONS_ID_TOKEN_REQUEST_URL")
NAMED, STAND_IN = "named", "stand-in"


def up(cache: Cache, environment: Mapping[str, str], *, with_cosign: bool = False) -> str:
    """Bring up what this machine needs, and say in a word which world it is: `named`, `docker`, `podman`, `stand-in`.

    An engine that the environment names comes first, then Docker or Podman with the official images, then stand-ins.
    """
    if names_an_engine(cache, environment):
        return NAMED
    with _alone(cache):
        world = STAND_IN if services.engine_answers(services.socket_path(cache.root)) else None
        world = world or official_images.runtime(cache) or STAND_IN
        if world == STAND_IN:
            local_images.up(cache, with_cosign=with_cosign or any(environment.get(name) for name in SIGNER_VARIABLES))
        else:
            official_images.up(cache, world, environment)
        write_whole(cache.root / "world", world)
    return world


def names_an_engine(cache: Cache, environment: Mapping[str, str]) -> bool:
    """Whether the environment names an engine that is not one of ours."""
    ours = [official_images.environment(cache, command)[ENGINE_VARIABLE] for command in ("docker", "podman")]
    ours.append(local_images.environment(cache.root)[ENGINE_VARIABLE])
    return environment.get(ENGINE_VARIABLE, "") not in ("", *ours)


def shell(cache: Cache, environment: Mapping[str, str]) -> str:
    """Lines for `eval`: what a shell needs to run `ci/main.py` here."""
    if names_an_engine(cache, environment):
        return "# the environment names an engine of its own\n"
    world = _last(cache)
    if not world:
        return "# nothing is up yet: drydock bootstrap\n"
    values = local_images.environment(cache.root) if world == STAND_IN else official_images.environment(cache, world)
    # PATH is to be expanded by the shell that reads it, so it alone is in double quotes.
    return "".join(
        f'export {name}="{value}"\n' if name == "PATH" else f"export {name}={shlex.quote(value)}\n"
        for name, value in values.items()
    )


def status(cache: Cache) -> list[tuple[str, bool, str]]:
    """What there should be, whether it is there, and where."""
    world = _last(cache)
    if world in ("docker", "podman"):
        running = [
            (name, output([world, "inspect", "--format", "{{.State.Running}}", container]) == "true", container)
            for name, container in (("engine", services.ENGINE), ("registry", official_images.REGISTRY_NAME))
        ]
        return [("world", True, f"{world}, official images"), *running]
    socket_path = services.socket_path(cache.root)
    images = local_images.images_path(cache.root)
    return [
        ("world", bool(world), f"{STAND_IN} images" if world else "none yet"),
        ("images", images.exists(), str(images)),
        ("registry", services.registry_answers(), services.REGISTRY),
        ("engine", services.engine_answers(socket_path), f"unix://{socket_path}"),
    ]


def down(cache: Cache) -> None:
    """Stop the engine and the registry; what was built stays."""
    with _alone(cache):
        _stop(cache)


def clean(cache: Cache) -> None:
    """Stop everything and remove all that was built."""
    with _alone(cache):
        _stop(cache)
        if shutil.which("podman"):
            images = output(["podman", "images", "--quiet", "--filter", f"reference=localhost/{services.ENGINE}"]) or ""
            subprocess.run(["podman", "rmi", "--force", "--ignore", *images.split()], capture_output=True, check=False)
        shutil.rmtree(cache.root, ignore_errors=True)


def _stop(cache: Cache) -> None:
    world = _last(cache)
    if world in ("docker", "podman"):
        official_images.down(world)
    elif world:
        services.stop_engine()
        services.stop_registry(cache.root)


def _last(cache: Cache) -> str:
    path = cache.root / "world"
    return path.read_text(encoding="utf-8") if path.exists() else ""


@contextmanager
def _alone(cache: Cache) -> Iterator[None]:
    """One bootstrap at a time: a second one waits, and then finds all that the first one made."""
    cache.root.mkdir(parents=True, exist_ok=True)
    with (cache.root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            cache.watcher.say("waiting for another bootstrap on this machine")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
