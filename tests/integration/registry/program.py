"""The real registry program, Debian's docker-registry, on a free port with a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from drydock.bootstrap import cache, debian, processes

START_SECONDS = 60
USER, PASSWORD = "someone", "s3cret-of-a-test"
# bcrypt of PASSWORD, at the lowest cost that it has.
HTPASSWD = f"{USER}:$2b$04$C4lBTTgFvj6rypdZUM5C0OmjSEyRQH86H02buS0ivt4WCKu5VYn5e\n"


def install() -> None:
    """Install docker-registry by apt where it is missing, as bootstrap does."""
    with tempfile.TemporaryDirectory() as directory:
        kept = cache.Cache(Path(directory), processes.CommandRunner(Console(stderr=True)))
        debian.install_packages(kept, {"docker-registry": "docker-registry"})


def free_host() -> str:
    """host:port of this machine, where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def running(*, password: bool = False) -> Iterator[tuple[str, Path]]:
    """Run a registry and yield its host:port and where it keeps things; with `password` it lets only USER in."""
    install()
    directory = Path(tempfile.mkdtemp())
    host = free_host()
    (directory / "htpasswd").write_text(HTPASSWD)
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "kept")}},
        "http": {"addr": host},
    }
    if password:
        config["auth"] = {"htpasswd": {"realm": "here", "path": str(directory / "htpasswd")}}
    # JSON is YAML.
    (directory / "config.yml").write_text(json.dumps(config))
    with (directory / "log").open("w") as log:
        command = ["docker-registry", "serve", str(directory / "config.yml")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_for(host, process, directory / "log")
        yield host, directory / "kept"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def _wait_for(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"http://{host}/v2/", timeout=2, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"docker-registry did not start: {log.read_text()}")
