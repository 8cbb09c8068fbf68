"""Starts and stops the engine and the registry of the stand-in world, and asks each whether it really answers."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from drydock.bootstrap.cache import Cache, write_whole
from drydock.bootstrap.errors import BootstrapError
from drydock.bootstrap.processes import output, tail

REGISTRY = "127.0.0.1:5000"
ENGINE = "drydock-engine"
START_SECONDS = 60
CA_CERTIFICATES = Path("/usr/local/share/ca-certificates")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# Below what a login shell may have: a container cannot raise its own limit without CAP_SYS_RESOURCE.
PROCESSES = 20_000


def socket_path(root: Path) -> Path:
    """Where the engine of the stand-in world listens."""
    return root / "run" / "engine.sock"


def engine_answers(path: Path) -> bool:
    """Whether somebody listens at the socket: Podman says "Up" of an engine that was killed from outside, too."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            probe.connect(str(path))
    except OSError:
        return False
    return True


def registry_answers() -> bool:
    """Whether a registry answers at REGISTRY; no proxy is asked. Raises BootstrapError where something else does."""
    try:
        answer = str(httpx.get(f"http://{REGISTRY}/v2/", timeout=2, trust_env=False).status_code)
    except httpx.RemoteProtocolError:
        answer = "without HTTP"
    except httpx.TransportError:
        return False
    if answer != "200":
        raise BootstrapError(
            f"what listens on {REGISTRY} is no registry of ours: it answers {answer}",
            "stop it (ss -ltnp shows it), then run again",
        )
    return True


def start_registry(cache: Cache) -> None:
    """Start Debian's docker-registry on REGISTRY, unless a registry answers there."""
    if registry_answers():
        return
    directory = cache.root / "registry"
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(directory)}, "delete": {"enabled": True}},
        "http": {"addr": REGISTRY},
    }
    # JSON is YAML.
    write_whole(cache.root / "registry.yml", json.dumps(config))
    cache.log("registry").parent.mkdir(parents=True, exist_ok=True)
    with cache.watcher.step("registry"), cache.log("registry").open("w") as log:
        command = ["docker-registry", "serve", str(cache.root / "registry.yml")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        write_whole(cache.root / "registry.pid", str(process.pid))
        wait_for(registry_answers, "the registry", cache.log("registry"), alive=lambda: process.poll() is None)


def stop_registry(root: Path) -> None:
    """Stop the registry that `start_registry` started, and only that."""
    path = root / "registry.pid"
    if not path.exists():
        return
    pid = int(path.read_text())
    try:
        ours = b"docker-registry" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        ours = False
    if ours:
        os.kill(pid, signal.SIGTERM)
    path.unlink()


def start_engine(cache: Cache, image: str) -> None:
    """Run the engine, unless it answers and is of this image; another one, or a dead one, is replaced.

    Podman says "Up" of an engine that was killed from outside, too.
    """
    path = socket_path(cache.root)
    if engine_answers(path) and output(["podman", "inspect", "--format", "{{.ImageName}}", ENGINE]) == image:
        return
    for name in ("run", "state"):
        (cache.root / name).mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    copy_certificates(cache.root, os.environ)
    write_whole(cache.root / "engine.json", json.dumps(engine_config()))
    with cache.watcher.step("engine"):
        cache.watcher.run(["podman", "rm", "--force", "--time", "0", "--ignore", ENGINE], cache.log("engine-remove"))
        cache.watcher.run(engine_command(cache.root, image), cache.log("engine-run"))
        log = cache.log("engine")

        def alive() -> bool:
            words = subprocess.run(["podman", "logs", ENGINE], capture_output=True, text=True, check=False)
            log.write_text(words.stdout + words.stderr, encoding="utf-8")
            return output(["podman", "inspect", "--format", "{{.State.Running}}", ENGINE]) == "true"

        wait_for(lambda: engine_answers(path), "the engine", log, alive)


def engine_command(root: Path, image: str) -> list[str]:
    """How Podman runs the engine.

    runc, since crun sets limits that a machine without CAP_SYS_RESOURCE refuses; for that reason both limits are given.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    volumes = {
        "state": "/var/lib/dagger",
        "certificates": "/usr/local/share/ca-certificates",
        "engine.json": "/etc/dagger/engine.json",
        "run": "/run/dagger",
    }
    return [
        *("podman", "--runtime", "runc", "run", "--detach", "--name", ENGINE, "--network", "host", "--privileged"),
        *("--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={PROCESSES}:{PROCESSES}"),
        *(word for here, there in volumes.items() for word in ("--volume", f"{root / here}:{there}")),
        image,
    ]


def engine_config() -> dict[str, object]:
    """The local registry stands in for Docker Hub, and speaks plain HTTP."""
    return {"registries": {"docker.io": {"mirrors": [REGISTRY]}, REGISTRY: {"http": True}}}


def copy_certificates(root: Path, environment: Mapping[str, str]) -> Path:
    """Copy the authorities that this machine trusts besides the public ones; the folder with a file for each.

    The engine installs them into every container that it runs, so pip works behind a company's proxy. They are those of
    CA_CERTIFICATES, and those in the file that SSL_CERT_FILE names. Raises BootstrapError if that file has none.
    """
    wanted = {path.name: path.read_text(encoding="utf-8") for path in CA_CERTIFICATES.glob("*.crt")}
    named = environment.get("SSL_CERT_FILE")
    # The system's own bundle: the public authorities and those of CA_CERTIFICATES.
    if named and Path(named).resolve() != BUNDLE.resolve():
        wanted |= {f"ssl-cert-file-{number}.crt": text for number, text in enumerate(_certificates(Path(named)))}
    directory = root / "certificates"
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        write_whole(directory / name, text)
    return directory


def _certificates(path: Path) -> list[str]:
    try:
        found = re.findall(
            r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", path.read_text(encoding="utf-8"), re.DOTALL
        )
    except (OSError, ValueError):
        found = []
    if not found:
        raise BootstrapError(
            f"SSL_CERT_FILE names no certificates: {path}",
            "name a PEM file with the authority's certificate, or unset it; then run again",
        )
    return found


def stop_engine() -> None:
    """Stop the engine and remove its container; its state stays in the cache."""
    if shutil.which("podman"):
        subprocess.run(
            ["podman", "rm", "--force", "--time", "10", "--ignore", ENGINE], capture_output=True, check=False
        )


def wait_for(answers: Callable[[], bool], what: str, log: Path, alive: Callable[[], bool]) -> None:
    """Wait until something that was started answers. Raises BootstrapError if it ends, or takes START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if answers():
            return
        if not alive():
            break
        time.sleep(0.2)
    raise BootstrapError(f"{what} did not start", f"read {log}, then run again", tail(log))
