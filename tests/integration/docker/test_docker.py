"""A machine with Docker: from `drydock bootstrap` to a digest, and each way in which its engine can break."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from drydock.bootstrap import services
from drydock.bootstrap.official_images import ENGINE_IMAGE
from tests.integration.docker.machine import Machine
from tests.integration.engine.conftest import in_miniature
from tests.integration.engine.project import Finished, Project
from tests.integration.engine.test_outages import started_and_building

ENGINE = "docker-container://drydock-engine"
VARIABLE = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
# A run alone names a broken engine in under 30 s; here the tests of two other workers use the machine as well.
LIMIT_SECONDS = 60
SIGNAL_SECONDS = 30
AT_ONCE = 3


@pytest.fixture(scope="module", autouse=True)
def _engine(machine: Machine) -> None:
    """The engine that bootstrap starts with Docker."""
    started = time.monotonic()
    up = machine.bootstrap()
    assert up.returncode == 0, up.stderr
    assert up.stderr.endswith("bootstrap  Using Docker with the official images. Nothing was built.\n")
    assert f"export {VARIABLE}={ENGINE}\n" in machine.bootstrap("env").stdout
    print(f"bootstrap: {time.monotonic() - started:.1f} s")


def there(machine: Machine, project: Project) -> Project:
    """The same project, of which each run is on that machine."""
    return replace(project, prefix=machine.prefix)


def using(machine: Machine, address: str = ENGINE) -> dict[str, str]:
    """The variables of a run on that machine with the engine at this address."""
    return {**machine.environment, VARIABLE: address}


def test_docker_leads_to_a_digest_with_the_layers_of_every_other_engine(machine: Machine, shipped: Project) -> None:
    """Two engines that share nothing; pip downloads in this one as well, behind whatever this machine is behind.

    The digests differ by one line of history: the base image's address, which is docker.io's in one alone.
    """
    home = shipped.run("--no-push")
    assert home.exit_code == 0, home.output
    with tarfile.open(home.report_dir / "image.tar") as tar:
        digest = home.report["image"]["manifest_digest"].partition(":")[2]
        layers = json.load(tar.extractfile(f"blobs/sha256/{digest}") or io.BytesIO())["layers"]
    published = set()
    for name in ("first", "second"):
        started = time.monotonic()
        finished = there(machine, shipped).run(environment=using(machine))
        print(f"{name} run: {time.monotonic() - started:.1f} s")
        assert finished.exit_code == 0, finished.output
        published.add(finished.report["publication"]["digest"])
    assert len(published) == 1
    assert shipped.manifest("test").json()["layers"] == layers


def test_an_engine_that_is_stopped_in_mid_build_is_named_and_bootstrap_starts_it_again(
    machine: Machine, tiny: Project
) -> None:
    project = there(machine, tiny)
    process = started_and_building(project, using(machine))
    machine.docker("kill", services.ENGINE)
    finished = end(project, process, "stopped in mid-build")
    project.assert_broken(finished, "build", 3)
    up = machine.bootstrap()
    assert up.returncode == 0, up.stderr
    assert machine.docker("inspect", "--format", "{{.State.Running}}", services.ENGINE) == "true"


def test_a_signal_ends_a_build_at_once(machine: Machine, tiny: Project) -> None:
    project = there(machine, tiny)
    process = started_and_building(project, using(machine))
    process.send_signal(signal.SIGINT)
    finished = end(project, process, "SIGINT in mid-build", SIGNAL_SECONDS)
    project.assert_broken(finished, "build", 130)


def test_each_broken_engine_is_named_in_time(machine: Machine, tmp_path: Path) -> None:
    """Several at once, since a run without an engine only waits."""
    run = ("run", "--detach", "--network", "host", "--entrypoint", "sh")
    machine.docker(*run, "--name", "exited", ENGINE_IMAGE, "-c", "exit")
    machine.docker(*run, "--name", "paused", ENGINE_IMAGE, "-c", "sleep 600")
    machine.docker("pause", "paused")
    machine.docker(*run, "--name", "other", ENGINE_IMAGE, "-c", "rm /usr/local/bin/buildctl; sleep 600")
    machine.docker(*run, "--name", "idle", ENGINE_IMAGE, "-c", "sleep 600")
    broken = {
        "docker-container://exited": "the engine's container exited is not running: it is exited",
        "container+docker://paused": "the engine's container paused is paused",
        "docker-container://other": "the container other is no engine: it has no buildctl",
        "docker-container://idle": "the engine at docker-container://idle does not answer: Error: dial unix ",
        "docker-container://nobody": "Docker has no container nobody",
        ENGINE: f"the engine at {ENGINE} does not answer: it was silent for ",
    }
    engine = next(each for each in machine.daemon.children(recursive=True) if each.name() == "dagger-engine")
    try:
        with suspended(engine), ThreadPoolExecutor(AT_ONCE) as threads:
            runs = [
                threads.submit(assert_named, machine, tmp_path / str(number), address, what)
                for number, (address, what) in enumerate(broken.items())
            ]
            for each in runs:
                each.result()
    finally:
        machine.docker("rm", "--force", "exited", "paused", "other", "idle")


def test_a_daemon_that_hangs_is_named_in_time_and_a_signal_ends_the_wait(machine: Machine, tmp_path: Path) -> None:
    with suspended(machine.daemon), ThreadPoolExecutor() as threads:
        runs = [
            threads.submit(assert_named, machine, tmp_path / str(number), address, "Docker does not answer: `docker ")
            for number, address in enumerate((ENGINE, ""))
        ]
        project = there(machine, in_miniature(tmp_path / "waiting"))
        process = project.start(environment=using(machine))
        wait_for_child(process)
        process.send_signal(signal.SIGTERM)
        assert end(project, process, "SIGTERM while the daemon hangs", SIGNAL_SECONDS).exit_code == 130
        for each in runs:
            each.result()


def assert_named(machine: Machine, folder: Path, address: str, what: str) -> None:
    """A run with the engine at this address ends in time, with exit code 3 and this sentence."""
    project = there(machine, in_miniature(folder))
    finished = end(project, project.start(environment=using(machine, address)), address or "no address")
    project.assert_broken(finished, "engine", 3)
    assert finished.report["failures"][0]["message"].startswith(what)


def end(project: Project, process: subprocess.Popen[str], name: str, limit_seconds: float = LIMIT_SECONDS) -> Finished:
    """A run that has ended of itself within the limit; prints how long that took, and its exit code.

    The clock starts with what the run says first: how long Python takes to begin is the machine's business.
    """
    assert process.stdout
    process.stdout.readline()
    started = time.monotonic()
    try:
        # Raises TimeoutExpired.
        process.wait(timeout=limit_seconds)
    finally:
        process.kill()
    print(f"{name}: {time.monotonic() - started:.1f} s, exit code {process.returncode}")
    return project.finish(process)


def wait_for_child(process: subprocess.Popen[str]) -> None:
    """Wait until a run asks Docker."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not any(each.name() == "docker" for each in psutil.Process(process.pid).children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """A program that hangs."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()
