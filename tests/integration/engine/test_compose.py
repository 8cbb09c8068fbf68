"""`docker compose up --wait` with the shipped file: by Docker, or by Podman where that has to answer in its place.

Podman leaves it to systemd to ask for an image's health. Where there is no systemd, that is done here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from drydock.bootstrap import binaries, cache, services
from drydock.bootstrap.binaries import Build
from drydock.bootstrap.cache import Cache
from drydock.bootstrap.processes import CommandRunner, read_output
from tests.integration.engine.project import REPOSITORY_ROOT, Finished
from tests.integration.engine.test_good_run import free_port

COMPOSE = Build(
    module="compose",
    packages=("github.com/docker/compose/v5/cmd",),
    ldflags="-s -w",
    modules=REPOSITORY_ROOT / "tests" / "support" / "go",
)
FILE = REPOSITORY_ROOT / "docker-compose.yml"
# A machine without CAP_SYS_RESOURCE has no other limits, and crun asks for them.
PODMAN = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
"""
# What process 1 of the container, and whoever came after it, may do.
LOOK = """
import json, pathlib
def writes(folder):
    try:
        pathlib.Path(folder, "written").touch()
    except OSError:
        return False
    return True
lines = [line.split() for line in pathlib.Path("/proc/1/status").read_text().splitlines()]
seen = {words[0][:-1]: words[1] for words in lines if words[0] in ("Uid:", "CapBnd:", "CapEff:", "NoNewPrivs:")}
print(json.dumps({**seen, "/app": writes("/app"), "/tmp": writes("/tmp")}))
"""
NOTHING_MORE = {
    "Uid": "10001",
    "CapBnd": "0000000000000000",
    "CapEff": "0000000000000000",
    "NoNewPrivs": "1",
    "/app": False,
    "/tmp": True,  # noqa: S108
}


@dataclass(frozen=True)
class World:
    """How Compose and the command for containers are called here, and what they are told by the environment."""

    compose: list[str]
    containers: list[str]
    image: str
    environment: dict[str, str] = field(default_factory=dict)

    def of(self, file: Path = FILE) -> Composed:
        return Composed(self, file, f"drydock-{uuid.uuid4().hex[:12]}", free_port())


@dataclass(frozen=True)
class Composed:
    """One run of a compose file, on a port of its own."""

    world: World
    file: Path
    name: str
    port: int

    def up(self) -> tuple[int, str]:
        """`up --wait`, until the image is healthy or known not to be: the exit code, and what was said."""
        # The judged image as it is; its Dockerfile is not asked again.
        words = ("up", "--wait", "--wait-timeout", "120", "--no-build")
        with subprocess.Popen(
            self._command(*words), env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            while True:
                try:
                    said, _ = process.communicate(timeout=1)
                except subprocess.TimeoutExpired:
                    self._ask_for_health()
                else:
                    return process.returncode, said

    def _ask_for_health(self) -> None:
        if self.world.containers[0] == "podman" and not Path("/run/systemd/system").exists():
            asked = [*self.world.containers, "healthcheck", "run", f"{self.name}-model-1"]
            subprocess.run(asked, capture_output=True, check=False)

    def seen(self) -> dict[str, str | bool]:
        """What the container may do, in its own words."""
        looked: dict[str, str | bool] = json.loads(self.said("exec", "-T", "model", "python", "-c", LOOK))
        return looked

    def limits(self) -> list[int]:
        """Its bytes of memory, and its processes."""
        asked = [*self.world.containers, "inspect", "--format", "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"]
        said = subprocess.run([*asked, f"{self.name}-model-1"], capture_output=True, text=True, check=True).stdout
        return [int(number) for number in said.split()]

    def said(self, *words: str) -> str:
        done = subprocess.run(self._command(*words), env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _command(self, *words: str) -> list[str]:
        return [*self.world.compose, "--project-name", self.name, "--file", str(self.file), *words]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.world.environment, "IMAGE": self.world.image, "PORT": str(self.port)}


@pytest.fixture(scope="module")
def world(good: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Docker or Podman, with the image that a run approved."""
    folder = tmp_path_factory.mktemp("compose")
    image = f"localhost/drydock-test:{uuid.uuid4().hex[:12]}"
    if read_output(["docker", "version"]) and read_output(["docker", "compose", "version"]):
        with loaded(["docker"], image, good):
            yield World(["docker", "compose"], ["docker"], image)
    elif shutil.which("podman") and os.geteuid() == 0:
        containers = ["podman", "--runtime", "runc"]
        kept = Cache(cache.cache_root(os.environ), CommandRunner(Console(stderr=True)))
        compose = binaries.build_binaries(kept, COMPOSE, binaries.find_go(kept)) / "cmd"
        (folder / "containers.conf").write_text(PODMAN)
        socket = f"unix://{folder}/podman.sock"
        environment = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
        service = [*containers, "system", "service", "--time", "0", socket]
        with (
            loaded(containers, image, good),
            subprocess.Popen(service, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as podman,
        ):
            try:
                while not services.is_engine_up(folder / "podman.sock"):
                    assert podman.poll() is None
                    time.sleep(0.1)
                yield World([str(compose)], containers, image, {"DOCKER_HOST": socket})
            finally:
                podman.terminate()
    else:
        pytest.skip("neither Docker with its compose answers here, nor is there Podman to answer in its place")


@contextmanager
def loaded(containers: list[str], image: str, finished: Finished) -> Iterator[None]:
    """What a run approved, loaded under this name as anybody would."""
    assert finished.exit_code == 0, finished.output
    load = [*containers, "load", "--quiet", "--input", str(finished.report_dir / "image.tar")]
    said = subprocess.run(load, capture_output=True, text=True, check=True).stdout
    subprocess.run([*containers, "tag", said.split()[-1], image], capture_output=True, check=True)
    try:
        yield
    finally:
        subprocess.run([*containers, "rmi", image], capture_output=True, check=True)


@contextmanager
def composed(project: Composed) -> Iterator[tuple[int, str]]:
    try:
        yield project.up()
    finally:
        project.said("down", "--timeout", "10")


def broken(folder: Path, *changes: tuple[str, str]) -> Path:
    """The shipped file with these lines changed."""
    text = FILE.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "docker-compose.yml"
    path.write_text(text)
    return path


def test_compose_waits_until_the_image_answers_and_gives_it_nothing_more(world: World) -> None:
    project = world.of()
    with composed(project) as (exit_code, said):
        assert exit_code == 0, said
        asked = httpx.post(f"http://127.0.0.1:{project.port}/predict", json={"features": [5.1, 3.5, 1.4, 0.2]})
        assert (asked.status_code, asked.json()["predictions"][0]["label"]) == (200, "setosa")
        assert project.seen() == NOTHING_MORE
        assert project.limits() == [512 * 1024**2, 64]


def test_a_file_that_gives_more_is_seen(world: World, tmp_path: Path) -> None:
    changes = (
        ("read_only: true", "read_only: false"),
        ("cap_drop: [ALL]", "user: root"),
        ("no-new-privileges:true", "label=disable"),
        ("mem_limit: 512m", "mem_limit: 1g"),
    )
    project = world.of(broken(tmp_path, *changes))
    with composed(project) as (exit_code, said):
        assert exit_code == 0, said
        seen = project.seen()
        assert {name for name, value in NOTHING_MORE.items() if seen[name] != value} == NOTHING_MORE.keys() - {"/tmp"}  # noqa: S108
        assert project.limits() == [1024**3, 64]


def test_an_image_that_does_not_get_healthy_is_no_success(world: World, tmp_path: Path) -> None:
    changes = (("/readyz", "/nowhere"), ("interval: 10s", "interval: 1s"), ("start_period: 20s", "start_period: 1s"))
    project = world.of(broken(tmp_path, *changes))
    with composed(project) as (exit_code, said):
        assert exit_code != 0
        assert f"{project.name}-model-1 is unhealthy" in said
