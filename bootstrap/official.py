"""The official world: Docker or Podman gets the engine and a registry from their own makers, and runs both."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from bootstrap import services
from bootstrap.binaries import ENGINE_VERSION
from bootstrap.cache import Cache, write_whole
from bootstrap.errors import BootstrapError
from bootstrap.tools import output

ENGINE_IMAGE = f"registry.dagger.io/engine:v{ENGINE_VERSION}"
REGISTRY_IMAGE = (
    "docker.io/library/registry:2.8.3@sha256:a3d8aaa63ed8681a604f1dea0aa03f100d5895b6a58ace528858a7b332415373"
)
REGISTRY_NAME = "drydock-registry"
ASK_SECONDS = 10
# As Dagger names them; it has an old name for Docker alone.
SCHEMES = {"docker": "docker-container", "podman": "container+podman"}


def runtime(cache: Cache) -> str | None:
    """`docker` or `podman`, whichever runs here and has the official engine or can get it; else None."""
    for command in ("docker", "podman"):
        if not shutil.which(command) or output([command, "info"], ASK_SECONDS) is None:
            continue
        if output([command, "image", "inspect", ENGINE_IMAGE], ASK_SECONDS) is not None:
            return command
        with cache.watcher.step(f"{command} pull {ENGINE_IMAGE}"):
            if (
                subprocess.run([command, "pull", "--quiet", ENGINE_IMAGE], capture_output=True, check=False).returncode
                == 0
            ):
                return command
            cache.watcher.say(f"    {command} cannot get it")
    return None


def up(cache: Cache, command: str) -> None:
    """Run the engine and the registry, on the host's network so that the engine reaches the registry."""
    config = cache.root / "official-engine.json"
    write_whole(config, json.dumps({"registries": {services.REGISTRY: {"http": True}}}))
    _started(command, services.ENGINE, ENGINE_IMAGE, engine_options(config))
    _started(command, REGISTRY_NAME, REGISTRY_IMAGE, registry_options())


def engine_options(config: Path) -> list[str]:
    """The engine: privileged, since it runs containers itself; its cache in a volume of its own."""
    return [
        *("--privileged", "--network", "host", "--volume", f"{services.ENGINE}:/var/lib/dagger"),
        *("--volume", f"{config}:/etc/dagger/engine.json:ro"),
    ]


def registry_options() -> list[str]:
    """The registry: on this machine's own address only."""
    return [
        *("--network", "host", "--volume", f"{REGISTRY_NAME}:/var/lib/registry"),
        *("--env", f"REGISTRY_HTTP_ADDR={services.REGISTRY}"),
    ]


def environment(command: str) -> dict[str, str]:
    """What a shell needs to run `ci/main.py` in this world; the SDK gets the Dagger CLI by itself."""
    return {"_EXPERIMENTAL_DAGGER_RUNNER_HOST": f"{SCHEMES[command]}://{services.ENGINE}", "DAGGER_NO_NAG": "1"}


def down(command: str) -> None:
    """Remove both containers; their volumes stay."""
    if shutil.which(command):
        subprocess.run([command, "rm", "--force", services.ENGINE, REGISTRY_NAME], capture_output=True, check=False)


def _started(command: str, name: str, image: str, options: list[str]) -> None:
    """Have a container of `image` running under `name`; one of another image is replaced."""
    words = [command, "run", "--detach", "--name", name, *options, image]
    match output([command, "inspect", "--format", "{{.State.Running}} {{.Config.Image}}", name], ASK_SECONDS):
        case found if found == f"true {image}":
            return
        case found if found == f"false {image}":
            words = [command, "start", name]
        case str():
            subprocess.run([command, "rm", "--force", name], capture_output=True, check=False)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BootstrapError(
            f"{command} could not start {name}",
            f"{command} logs {name} says why; python -m bootstrap down, then up, starts from nothing",
            done.stderr.strip(),
        )
