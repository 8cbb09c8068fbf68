"""Starts and stops the local engine and registry, and checks that each of them answers."""

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

from drydock.bootstrap.cache import Cache
from drydock.bootstrap.processes import program_environment, read_output, read_tail
from drydock.errors import EngineError
from drydock.report.files import write_atomic

REGISTRY = "127.0.0.1:5000"
ENGINE = "drydock-engine"
START_SECONDS = 60
CA_CERTIFICATES = Path("/usr/local/share/ca-certificates")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# Below what a login shell may have: a container cannot raise its own limit without CAP_SYS_RESOURCE.
PROCESSES = 20_000
# The tests fill about 30 GB in a day. By default the engine keeps up to three quarters of the disk.
ENGINE_CACHE = {"maxUsedSpace": "40GB", "reservedSpace": "10GB", "minFreeSpace": "10GB"}


def socket_path(root: Path) -> Path:
    """The socket of the local engine."""
    return root / "run" / "engine.sock"


def is_engine_up(path: Path) -> bool:
    """Whether something listens at the socket. Podman reports even an engine that was killed as "Up"."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            probe.connect(str(path))
    except OSError:
        return False
    return True


def is_registry_up() -> bool:
    """Whether a registry answers at REGISTRY, without a proxy. Raises EngineError if another server answers there."""
    try:
        status = str(httpx.get(f"http://{REGISTRY}/v2/", timeout=2, trust_env=False).status_code)
    except httpx.RemoteProtocolError:
        status = "without HTTP"
    except httpx.TransportError:
        return False
    if status != "200":
        raise EngineError(
            f"the server on {REGISTRY} is not a registry of Drydock: it answers {status}",
            next_step="ss -ltnp shows which program it is: stop it, then run again",
        )
    return True


def start_registry(cache: Cache) -> None:
    """Start Debian's docker-registry on REGISTRY, if no registry answers there."""
    if is_registry_up():
        return
    directory = cache.root / "registry"
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(directory)}, "delete": {"enabled": True}},
        "http": {"addr": REGISTRY},
    }
    cache.log_path("registry").parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    write_atomic(cache.root / "registry.yml", json.dumps(config))
    with cache.runner.step("registry"), cache.log_path("registry").open("w") as log:
        command = ["docker-registry", "serve", str(cache.root / "registry.yml")]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=program_environment(),
        )
        write_atomic(cache.root / "registry.pid", str(process.pid))
        wait_for(is_registry_up, "the registry", cache.log_path("registry"), alive=lambda: process.poll() is None)


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
    """Run the engine from this image; replace one that does not answer, or that runs from another image."""
    path = socket_path(cache.root)
    if is_engine_up(path) and read_output(["podman", "inspect", "--format", "{{.ImageName}}", ENGINE]) == image:
        return
    for name in ("run", "state"):
        (cache.root / name).mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    copy_certificates(cache.root, os.environ)
    write_atomic(cache.root / "engine.json", json.dumps(engine_config()))
    with cache.runner.step("engine"):
        cache.runner.run(
            ["podman", "rm", "--force", "--time", "0", "--ignore", ENGINE], cache.log_path("engine-remove")
        )
        cache.runner.run(engine_command(cache.root, image), cache.log_path("engine-run"))
        log = cache.log_path("engine")

        def alive() -> bool:
            logs = subprocess.run(["podman", "logs", ENGINE], capture_output=True, text=True, check=False)
            log.write_text(logs.stdout + logs.stderr, encoding="utf-8")
            return read_output(["podman", "inspect", "--format", "{{.State.Running}}", ENGINE]) == "true"

        wait_for(lambda: is_engine_up(path), "the engine", log, alive)


def engine_command(root: Path, image: str) -> list[str]:
    """The command by which Podman runs the engine.

    It uses runc and sets both limits: crun sets limits that a machine without CAP_SYS_RESOURCE refuses.
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
    """The engine's settings: a bound on its cache; the local registry, over plain HTTP, is the mirror of Docker Hub."""
    return {"gc": ENGINE_CACHE, "registries": {"docker.io": {"mirrors": [REGISTRY]}, REGISTRY: {"http": True}}}


def copy_certificates(root: Path, environment: Mapping[str, str]) -> Path:
    """Copy the certificates that this machine trusts beside the public ones; return their folder.

    The engine installs them in every container, so pip works behind a company's proxy. They come from
    CA_CERTIFICATES and from the file that SSL_CERT_FILE names. Raises EngineError if that file has none.
    """
    wanted = {path.name: path.read_text(encoding="utf-8") for path in CA_CERTIFICATES.glob("*.crt")}
    named = environment.get("SSL_CERT_FILE")
    # The system's bundle has the public authorities and those of CA_CERTIFICATES.
    if named and Path(named).resolve() != BUNDLE.resolve():
        wanted |= {f"ssl-cert-file-{number}.crt": text for number, text in enumerate(_read_certificates(Path(named)))}
    directory = root / "certificates"
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        write_atomic(directory / name, text)
    return directory


def _read_certificates(path: Path) -> list[str]:
    try:
        found = re.findall(
            r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", path.read_text(encoding="utf-8"), re.DOTALL
        )
    except (OSError, ValueError):
        found = []
    if not found:
        raise EngineError(
            f"SSL_CERT_FILE has no certificates: {path}",
            next_step="set SSL_CERT_FILE to a PEM file with the authority's certificate, or unset it; then run again",
        )
    return found


def stop_engine() -> None:
    """Stop the engine and remove its container; its state stays in the cache."""
    if shutil.which("podman"):
        subprocess.run(
            ["podman", "rm", "--force", "--time", "10", "--ignore", ENGINE], capture_output=True, check=False
        )


def wait_for(answers: Callable[[], bool], name: str, log: Path, alive: Callable[[], bool]) -> None:
    """Wait until a service answers. Raises EngineError if it ends, or takes longer than START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if answers():
            return
        if not alive():
            break
        time.sleep(0.2)
    raise EngineError(f"{name} did not start", next_step=f"read {log}, then run again", log=read_tail(log))
