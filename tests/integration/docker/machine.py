"""A machine with Docker on this one: a real daemon in its own namespaces, and a registry on its own 127.0.0.1:5000.

Nothing outside sees it, and nothing outlives it: the daemon and its containers are in one namespace of processes, and
its first process is killed at the end.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from drydock.bootstrap import cache, debian, local_images, modes, official_images, services
from drydock.bootstrap.cache import Cache
from drydock.bootstrap.modes import Mode
from drydock.bootstrap.processes import CommandRunner, program_environment, read_output
from drydock.errors import EngineError
from tests.integration.engine.project import REPOSITORY_ROOT

RUNTIME = Path(__file__).with_name("runtime.py")
PACKAGES = {"dockerd": "docker.io", "docker": "docker.io"}
START_SECONDS = 30
# Their values would lead a program to another engine than Docker's.
FOREIGN_VARIABLES = ("_EXPERIMENTAL_DAGGER_RUNNER_HOST", "DAGGER_SESSION_PORT", "DAGGER_SESSION_TOKEN")


@dataclass(frozen=True)
class Machine:
    """A machine with Docker: `prefix` and `environment` run a program on it."""

    directory: Path
    prefix: tuple[str, ...]
    daemon: psutil.Process
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program there; return its exit code and output."""
        return subprocess.run(
            [*self.prefix, *words],
            env=self.environment,
            cwd=REPOSITORY_ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def docker(self, *words: str) -> str:
        """What a Docker command prints. Raises AssertionError with its output if it fails."""
        done = self.run("docker", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def bootstrap(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `drydock bootstrap` there."""
        return self.run(sys.executable, "-m", "drydock", "bootstrap", *words)


@contextmanager
def with_docker() -> Iterator[Machine]:
    """Start the machine, with the engine's image under its official name; skip the test if this machine cannot."""
    root = cache.cache_root(os.environ)
    if modes.read_recorded_mode(root) is not Mode.LOCAL:
        pytest.skip("the tests run with Docker or Podman and the official images already")
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("only root on Debian can install and run a Docker daemon of its own")
    try:
        debian.install_packages(Cache(root, CommandRunner(Console(stderr=True))), PACKAGES)
    except EngineError as error:
        pytest.skip(f"Docker could not be installed: {error.message}")
    image = read_output(["podman", "inspect", "--format", "{{.ImageName}}", services.ENGINE])
    assert image, "no engine of ours runs here; make test starts one"
    # A socket's path has room for 107 characters.
    directory = Path(tempfile.mkdtemp(prefix="docker-"))
    try:
        with _network(image) as enter, _daemon(directory, enter) as daemon:
            machine = Machine(directory, enter, daemon, _environment(directory, root))
            with _registry(root, enter):
                _load(image, machine)
                yield machine
    finally:
        shutil.rmtree(directory)


@contextmanager
def _network(image: str) -> Iterator[tuple[str, ...]]:
    """A network with a way out, as Podman makes it for a container; the command that enters it."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    podman = ["podman", "--runtime", "runc", "run", "--detach", "--network", "podman", "--entrypoint", "sleep"]
    podman += ["--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={services.PROCESSES}:{services.PROCESSES}"]
    container = subprocess.run([*podman, image, "infinity"], capture_output=True, text=True, check=True).stdout.strip()
    try:
        process = read_output(["podman", "inspect", "--format", "{{.State.Pid}}", container])
        assert process
        yield ("nsenter", "--net", "--target", process)
    finally:
        subprocess.run(["podman", "rm", "--force", "--time", "0", container], capture_output=True, check=True)


@contextmanager
def _daemon(directory: Path, enter: tuple[str, ...]) -> Iterator[psutil.Process]:
    """Docker's daemon; it and all that it starts end with this program."""
    runtime = directory / "runtime"
    runtime.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {RUNTIME} "$@"\n')
    runtime.chmod(0o755)
    command = ["setpriv", "--pdeathsig", "KILL", *enter]
    command += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "dockerd"]
    command += ["--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", "--pidfile", f"{directory}/pid"]
    command += ["--host", f"unix://{directory}/docker.sock", "--add-runtime", f"drydock={runtime}"]
    # Its containers use the machine's own network, so it changes no firewall.
    command += ["--default-runtime", "drydock", "--bridge", "none", "--iptables=false", "--ip-forward=false"]
    with (
        (directory / "dockerd.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=program_environment()) as outer,
    ):
        try:
            asked = ["docker", "--host", f"unix://{directory}/docker.sock", "info"]
            deadline = time.monotonic() + START_SECONDS
            while read_output(asked) is None:
                if outer.poll() is not None or time.monotonic() > deadline:
                    words = (directory / "dockerd.log").read_text().splitlines()[-3:]
                    pytest.skip(f"a Docker daemon does not run here: {' / '.join(words)}")
                time.sleep(0.1)
            yield next(each for each in psutil.Process(outer.pid).children(recursive=True) if each.name() == "dockerd")
        finally:
            outer.kill()


@contextmanager
def _registry(root: Path, enter: tuple[str, ...]) -> Iterator[None]:
    """This machine's registry, with all that is in it, on the other one's 127.0.0.1."""
    command = [*enter, "docker-registry", "serve", str(root / "registry.yml")]
    null = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=null, stdout=null, stderr=null) as registry:
        try:
            yield
        finally:
            registry.terminate()


def _environment(directory: Path, root: Path) -> dict[str, str]:
    """The environment of a user there: Docker, and the local images instead of those that cannot be pulled here."""
    images = directory / "images.toml"
    pins = local_images.images_path(root).read_text()
    images.write_text(pins.replace('"docker.io/', f'"{services.REGISTRY}/'))
    return {
        **{name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES},
        "DOCKER_HOST": f"unix://{directory}/docker.sock",
        "DRYDOCK_CACHE": str(directory / "cache"),
        "DRYDOCK_IMAGES": str(images),
        "_EXPERIMENTAL_DAGGER_CLI_BIN": str(root / "bin" / "dagger"),
    }


def _load(image: str, machine: Machine) -> None:
    """Give Docker the engine's image by its official name, as if it had been pulled."""
    with subprocess.Popen(["podman", "save", image], stdout=subprocess.PIPE) as save:
        load = ["docker", "load", "--quiet"]
        subprocess.run(load, stdin=save.stdout, env=machine.environment, capture_output=True, check=True)
    machine.docker("tag", image, official_images.ENGINE_IMAGE)
