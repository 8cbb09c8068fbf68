"""An engine as on another machine: nothing is shared with it but the line, over TCP or through kubectl."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import cache, services
from bootstrap.tools import output
from tests.engine.project import REGISTRY, REPOSITORY_ROOT, Project

VARIABLE = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
PORT = 1234
# As kubectl does it: the line to the engine is the program's own input and output.
KUBECTL = """\
#!{python} -IS
import json, shutil, socket, sys, threading
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
engine = socket.create_connection(({host!r}, {port}))
def send():
    while read := sys.stdin.buffer.raw.read(65536):
        engine.sendall(read)
    engine.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while received := engine.recv(65536):
    sys.stdout.buffer.raw.write(received)
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an engine in a network of its own, with the registry's images beside it as its mirror."""
    root = cache.root(os.environ)
    if (root / "world").read_text() != "stand-in":
        pytest.skip("only of an engine of ours can there be a second one beside it")
    image = output(["podman", "inspect", "--format", "{{.ImageName}}", services.ENGINE])
    assert image
    config = tmp_path_factory.mktemp("engine") / "engine.json"
    config.write_text(json.dumps(services.engine_config()))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    podman = ["podman", "--runtime", "runc", "run", "--detach", "--network", "podman", "--privileged"]
    podman += ["--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={services.PROCESSES}:{services.PROCESSES}"]
    podman += ["--volume", f"{root / 'certificates'}:/usr/local/share/ca-certificates", "--volume", "/var/lib/dagger"]
    podman += ["--volume", f"{config}:/etc/dagger/engine.json", image, "--addr", f"tcp://0.0.0.0:{PORT}"]
    engine = subprocess.run(podman, capture_output=True, text=True, check=True).stdout.strip()
    try:
        process, address = asked(engine, "{{.State.Pid}}"), asked(engine, "{{.NetworkSettings.IPAddress}}")
        mirror = ["nsenter", "--net", "--target", process, "docker-registry", "serve", str(root / "registry.yml")]
        with subprocess.Popen(
            mirror, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as run:
            try:
                wait_for(address, engine)
                yield address
            finally:
                run.terminate()
    finally:
        subprocess.run(["podman", "rm", "--force", "--time", "0", "--volumes", engine], capture_output=True, check=True)


def asked(container: str, what: str) -> str:
    done = subprocess.run(
        ["podman", "inspect", "--format", what, container], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def wait_for(address: str, engine: str) -> None:
    deadline = time.monotonic() + services.START_SECONDS
    while True:
        try:
            return socket.create_connection((address, PORT), timeout=2).close()
        except OSError:
            assert asked(engine, "{{.State.Running}}") == "true"
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_make_run_on_an_engine_over_tcp_is_the_run_that_it_is_at_home(tiny: Project, host: str) -> None:
    home = tiny.run("--no-push")
    assert home.exit_code == 0, home.output
    words = f"--config {tiny.root}/pipeline.toml --report-dir {tiny.root}/away --tag test"
    away = subprocess.run(
        # The virtual environment is the one that this test runs in, and stays as it is.
        [
            "make",
            "--no-print-directory",
            "--old-file=.venv/run",
            f"BIN={Path(sys.executable).parent}",
            "run",
            f"ARGS={words}",
        ],
        cwd=REPOSITORY_ROOT,
        env={**os.environ, VARIABLE: f"tcp://{host}:{PORT}", "DRYDOCK_REPOSITORY": f"{REGISTRY}/{tiny.repository}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert away.returncode == 0, away.stderr
    assert "using the engine that the environment names; nothing was started\n" in away.stderr
    digest = home.report["image"]["manifest_digest"]
    assert away.stdout.splitlines()[-1] == f"published  {REGISTRY}/{tiny.repository}:test@{digest}"
    report = json.loads((tiny.root / "away" / "report.json").read_text())
    assert {row["name"]: row["verdict"] for row in home.report["rows"]}.items() <= {
        row["name"]: row["verdict"] for row in report["rows"]
    }.items()


def test_an_engine_in_a_pod_is_reached_through_kubectl(tiny: Project, host: str, tmp_path: Path) -> None:
    kubectl, calls = tmp_path / "bin" / "kubectl", tmp_path / "calls"
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL.format(python=sys.executable, calls=str(calls), host=host, port=PORT))
    kubectl.chmod(0o755)
    path = f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
    finished = tiny.run("--no-push", environment={VARIABLE: "kube-pod://engine-0?namespace=dagger", "PATH": path})
    assert finished.exit_code == 0, finished.output
    assert {tuple(json.loads(line)) for line in calls.read_text().splitlines()} == {
        ("--context=", "--namespace=dagger", "exec", "--container=", "-i", "engine-0", "--", "buildctl", "dial-stdio")
    }
