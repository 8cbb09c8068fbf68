"""Runs the official images of the engine and of a registry with Docker or Podman."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from drydock.bootstrap import client, services
from drydock.bootstrap.binaries import ENGINE_VERSION
from drydock.bootstrap.cache import Cache, hash_inputs, hash_tree
from drydock.bootstrap.processes import read_output
from drydock.errors import EngineError
from drydock.report.files import write_atomic

ENGINE_IMAGE = f"registry.dagger.io/engine:v{ENGINE_VERSION}"
REGISTRY_IMAGE = (
    "docker.io/library/registry:2.8.3@sha256:a3d8aaa63ed8681a604f1dea0aa03f100d5895b6a58ace528858a7b332415373"
)
REGISTRY_NAME = "drydock-registry"
# The hash of what a container was made from: its image, its options and its certificates.
INPUTS_LABEL = "dev.drydock.inputs"
TIMEOUT_SECONDS = 10
# The names in Dagger. The name for Docker is its older one, which has no counterpart for Podman.
SCHEMES = {"docker": "docker-container", "podman": "container+podman"}


def find_runtime(cache: Cache) -> str | None:
    """`docker` or `podman`: the first that works here and has the official engine, or can pull it; else None."""
    for command in ("docker", "podman"):
        if not shutil.which(command) or read_output([command, "info"], TIMEOUT_SECONDS) is None:
            continue
        if read_output([command, "image", "inspect", ENGINE_IMAGE], TIMEOUT_SECONDS) is not None:
            return command
        with cache.runner.step(f"{command} pull {ENGINE_IMAGE}"):
            pull = subprocess.run([command, "pull", "--quiet", ENGINE_IMAGE], capture_output=True, check=False)
            if pull.returncode == 0:
                return command
            cache.runner.print_line(f"    {command} cannot pull it")
    return None


def up(cache: Cache, command: str, environment: Mapping[str, str]) -> None:
    """Download the client; run the engine and the registry on the host's network, so that one reaches the other."""
    if not environment.get(client.VARIABLE):
        client.download_cli(cache)
    certificates = services.copy_certificates(cache.root, environment)
    config = cache.root / "official-engine.json"
    write_atomic(config, json.dumps({"registries": {services.REGISTRY: {"http": True}}}))
    _ensure_running(command, services.ENGINE, ENGINE_IMAGE, engine_options(config, certificates))
    _wait_for_engine(cache, command)
    # A registry that runs already is used.
    if _container_exists(command, REGISTRY_NAME) or not services.is_registry_up():
        _ensure_running(command, REGISTRY_NAME, REGISTRY_IMAGE, registry_options())


def engine_options(config: Path, certificates: Path) -> list[str]:
    """The options of the engine's container: privileged, because it runs containers itself; its cache in a volume.

    The engine reads the certificates when it starts, so other certificates need another container.
    """
    return [
        *("--privileged", "--network", "host", "--volume", f"{services.ENGINE}:/var/lib/dagger"),
        *("--volume", f"{config}:/etc/dagger/engine.json:ro"),
        *("--volume", f"{certificates}:/usr/local/share/ca-certificates:ro"),
        *("--label", f"dev.drydock.certificates={hash_inputs(hash_tree(certificates))}"),
    ]


def registry_options() -> list[str]:
    """The options of the registry's container: it listens on this machine's own address only."""
    return [
        *("--network", "host", "--volume", f"{REGISTRY_NAME}:/var/lib/registry"),
        *("--env", f"REGISTRY_HTTP_ADDR={services.REGISTRY}"),
    ]


def shell_environment(cache: Cache, command: str) -> dict[str, str]:
    """What a shell needs to run `drydock` with the official images."""
    program = client.cli_path(cache)
    return {
        "_EXPERIMENTAL_DAGGER_RUNNER_HOST": f"{SCHEMES[command]}://{services.ENGINE}",
        **({client.VARIABLE: str(program)} if program.exists() else {}),
        "DAGGER_NO_NAG": "1",
    }


def down(command: str) -> None:
    """Remove both containers and keep their volumes."""
    if shutil.which(command):
        subprocess.run([command, "rm", "--force", services.ENGINE, REGISTRY_NAME], capture_output=True, check=False)


def _wait_for_engine(cache: Cache, command: str) -> None:
    """Wait until the engine answers in the way that the client calls it. Raises EngineError with the end of its log."""
    log = cache.log_path("engine")
    log.parent.mkdir(parents=True, exist_ok=True)

    def alive() -> bool:
        logs = subprocess.run([command, "logs", services.ENGINE], capture_output=True, text=True, check=False)
        log.write_text(logs.stdout + logs.stderr, encoding="utf-8")
        return (
            read_output([command, "inspect", "--format", "{{.State.Running}}", services.ENGINE], TIMEOUT_SECONDS)
            == "true"
        )

    def answers() -> bool:
        return read_output([command, "exec", services.ENGINE, "buildctl", "dial-stdio"], TIMEOUT_SECONDS) is not None

    if not answers():
        with cache.runner.step("engine"):
            services.wait_for(answers, "the engine", log, alive)


def _container_exists(command: str, name: str) -> bool:
    return read_output([command, "container", "inspect", "--format", "{{.Id}}", name], TIMEOUT_SECONDS) is not None


def _ensure_running(command: str, name: str, image: str, options: Sequence[str]) -> None:
    """Start the container `name`; replace one that was made from another image or with other options."""
    inputs = hash_inputs([image, *options])
    start = [command, "run", "--detach", "--name", name, "--label", f"{INPUTS_LABEL}={inputs}", *options, image]
    inspect_format = f'{{{{.State.Running}}}} {{{{index .Config.Labels "{INPUTS_LABEL}"}}}}'
    match read_output([command, "container", "inspect", "--format", inspect_format, name], TIMEOUT_SECONDS):
        case found if found == f"true {inputs}":
            return
        case found if found == f"false {inputs}":
            start = [command, "start", name]
        case str():
            subprocess.run([command, "rm", "--force", name], capture_output=True, check=False)
    done = subprocess.run(start, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(
            f"{command} could not start {name}",
            next_step=f"{command} logs {name} says why; drydock bootstrap down removes it, and up starts it again",
            log=done.stderr.strip(),
        )
