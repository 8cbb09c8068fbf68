"""The official images: Docker or Podman gets the engine and a registry from their own makers, and runs both."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from drydock.bootstrap import client, services
from drydock.bootstrap.binaries import ENGINE_VERSION
from drydock.bootstrap.cache import Cache, contents, key_of, write_whole
from drydock.bootstrap.errors import BootstrapError
from drydock.bootstrap.processes import output

ENGINE_IMAGE = f"registry.dagger.io/engine:v{ENGINE_VERSION}"
REGISTRY_IMAGE = (
    "docker.io/library/registry:2.8.3@sha256:a3d8aaa63ed8681a604f1dea0aa03f100d5895b6a58ace528858a7b332415373"
)
REGISTRY_NAME = "drydock-registry"
# What a container was made from: its image, its options and its certificates.
INPUTS_LABEL = "dev.drydock.inputs"
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


def up(cache: Cache, command: str, environment: Mapping[str, str]) -> None:
    """Get the client; run the engine and the registry, on the host's network so that one reaches the other."""
    if not environment.get(client.VARIABLE):
        client.download(cache)
    config = cache.root / "official-engine.json"
    write_whole(config, json.dumps({"registries": {services.REGISTRY: {"http": True}}}))
    certificates = services.copy_certificates(cache.root, environment)
    _start(command, services.ENGINE, ENGINE_IMAGE, engine_options(config, certificates))
    _wait_for_engine(cache, command)
    # A registry that is there already, by whatever means, is used like one of ours.
    if _exists(command, REGISTRY_NAME) or not services.registry_answers():
        _start(command, REGISTRY_NAME, REGISTRY_IMAGE, registry_options())


def engine_options(config: Path, certificates: Path) -> list[str]:
    """The engine: privileged, since it runs containers itself; its cache in a volume of its own.

    It installs the certificates into every container that it runs, so pip works behind a company's proxy. It reads
    them when it starts, so other certificates need another container.
    """
    return [
        *("--privileged", "--network", "host", "--volume", f"{services.ENGINE}:/var/lib/dagger"),
        *("--volume", f"{config}:/etc/dagger/engine.json:ro"),
        *("--volume", f"{certificates}:/usr/local/share/ca-certificates:ro"),
        *("--label", f"dev.drydock.certificates={key_of(contents(certificates))}"),
    ]


def registry_options() -> list[str]:
    """The registry: on this machine's own address only."""
    return [
        *("--network", "host", "--volume", f"{REGISTRY_NAME}:/var/lib/registry"),
        *("--env", f"REGISTRY_HTTP_ADDR={services.REGISTRY}"),
    ]


def environment(cache: Cache, command: str) -> dict[str, str]:
    """What a shell needs to run `ci/main.py` with the official images."""
    program = client.path(cache)
    return {
        "_EXPERIMENTAL_DAGGER_RUNNER_HOST": f"{SCHEMES[command]}://{services.ENGINE}",
        **({client.VARIABLE: str(program)} if program.exists() else {}),
        "DAGGER_NO_NAG": "1",
    }


def down(command: str) -> None:
    """Remove both containers; their volumes stay."""
    if shutil.which(command):
        subprocess.run([command, "rm", "--force", services.ENGINE, REGISTRY_NAME], capture_output=True, check=False)


def _wait_for_engine(cache: Cache, command: str) -> None:
    """Wait until the engine takes a call by the way that the client goes. Raises BootstrapError with its last words."""
    log = cache.log("engine")
    log.parent.mkdir(parents=True, exist_ok=True)

    def alive() -> bool:
        words = subprocess.run([command, "logs", services.ENGINE], capture_output=True, text=True, check=False)
        log.write_text(words.stdout + words.stderr, encoding="utf-8")
        return output([command, "inspect", "--format", "{{.State.Running}}", services.ENGINE], ASK_SECONDS) == "true"

    def answers() -> bool:
        return output([command, "exec", services.ENGINE, "buildctl", "dial-stdio"], ASK_SECONDS) is not None

    if not answers():
        with cache.watcher.step("engine"):
            services.wait_for(answers, "the engine", log, alive)


def _exists(command: str, name: str) -> bool:
    return output([command, "container", "inspect", "--format", "{{.Id}}", name], ASK_SECONDS) is not None


def _start(command: str, name: str, image: str, options: Sequence[str]) -> None:
    """Have a container running under `name`; one that was made from another image or other options is replaced."""
    inputs = key_of([image, *options])
    words = [command, "run", "--detach", "--name", name, "--label", f"{INPUTS_LABEL}={inputs}", *options, image]
    question = f'{{{{.State.Running}}}} {{{{index .Config.Labels "{INPUTS_LABEL}"}}}}'
    match output([command, "container", "inspect", "--format", question, name], ASK_SECONDS):
        case found if found == f"true {inputs}":
            return
        case found if found == f"false {inputs}":
            words = [command, "start", name]
        case str():
            subprocess.run([command, "rm", "--force", name], capture_output=True, check=False)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BootstrapError(
            f"{command} could not start {name}",
            f"{command} logs {name} says why; drydock bootstrap down, then up, starts from nothing",
            done.stderr.strip(),
        )
