"""A second engine beside the usual one, for tests that begin from nothing, kill an engine or empty its caches.

It has a network of its own, since two engines cannot share the host's; the registry's images are beside it, under the
address that its mirror has there.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drydock.bootstrap import cache, modes, services
from drydock.bootstrap.modes import Mode
from drydock.bootstrap.processes import read_output
from tests.integration.engine.project import REGISTRY

VARIABLE = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
TCP_PORT = 1234


@dataclass
class SecondEngine:
    """An engine that listens on a socket in `folder`, and on TCP_PORT of an address of its own."""

    folder: Path
    image: str
    name: str = field(default_factory=lambda: f"drydock-test-engine-{uuid.uuid4().hex[:8]}")
    mirror: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "engine.sock"

    @property
    def environment(self) -> dict[str, str]:
        """What a run needs to use this engine."""
        return {VARIABLE: f"unix://{self.socket}"}

    @property
    def address(self) -> str:
        """host:port of the same engine over TCP."""
        return f"{inspected(self.name, '{{.NetworkSettings.IPAddress}}')}:{TCP_PORT}"

    def start(self, *, empty: bool = False) -> None:
        """Start it, or start it again; `empty` forgets all that it knew."""
        self.stop()
        if empty:
            shutil.rmtree(self.folder / "state", ignore_errors=True)
        root = cache.cache_root(os.environ)
        for name in ("state", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "engine.json").write_text(json.dumps(services.engine_config()))
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        volumes = {
            self.folder / "state": "/var/lib/dagger",
            self.folder / "run": "/run/dagger",
            self.folder / "engine.json": "/etc/dagger/engine.json",
            root / "certificates": "/usr/local/share/ca-certificates",
        }
        command = [
            *("podman", "--runtime", "runc", "run", "--detach", "--name", self.name),
            *("--network", "podman", "--privileged", "--ulimit", f"nofile={files}:{files}"),
            *("--ulimit", f"nproc={services.PROCESSES}:{services.PROCESSES}"),
            *(word for here, there in volumes.items() for word in ("--volume", f"{here}:{there}")),
            *(self.image, "--addr", f"tcp://0.0.0.0:{TCP_PORT}", "--addr", "unix:///run/dagger/engine.sock"),
        ]
        subprocess.run(command, capture_output=True, text=True, check=True)
        process = inspected(self.name, "{{.State.Pid}}")
        serve = ["nsenter", "--net", "--target", process, "docker-registry", "serve", str(root / "registry.yml")]
        self.mirror = subprocess.Popen(
            serve, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + services.START_SECONDS
        while not (services.is_engine_up(self.socket) and self._mirror_answers(process)):
            assert inspected(self.name, "{{.State.Running}}") == "true"
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def kill(self) -> None:
        """As a machine that goes away: nothing is said, nothing is ended in good order."""
        subprocess.run(["podman", "kill", self.name], check=True, capture_output=True)

    def stop(self) -> None:
        if self.mirror:
            self.mirror.kill()
            self.mirror.wait()
        subprocess.run(
            ["podman", "rm", "--force", "--ignore", "--time", "0", self.name], check=True, capture_output=True
        )
        self.socket.unlink(missing_ok=True)

    @staticmethod
    def _mirror_answers(process: str) -> bool:
        look = ["nsenter", "--net", "--target", process, "bash", "-c", f"exec 3<>/dev/tcp/{REGISTRY.replace(':', '/')}"]
        return subprocess.run(look, capture_output=True, check=False).returncode == 0


@contextmanager
def second_engine(folder: Path) -> Iterator[SecondEngine]:
    """An engine with an empty state directory; what it keeps is gone afterwards."""
    if modes.read_recorded_mode(cache.cache_root(os.environ)) is not Mode.LOCAL:
        pytest.skip("only beside an engine of ours can there be a second one")
    image = read_output(["podman", "inspect", "--format", "{{.ImageName}}", services.ENGINE])
    assert image
    engine = SecondEngine(folder, image)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        shutil.rmtree(folder)


def inspected(container: str, what: str) -> str:
    found = read_output(["podman", "inspect", "--format", what, container])
    assert found is not None
    return found
