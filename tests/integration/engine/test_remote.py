"""An engine as on another machine: nothing is shared with it but the line, over TCP or through kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.engine.project import REGISTRY, REPOSITORY_ROOT, Project
from tests.integration.engine.second_engine import VARIABLE, SecondEngine

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


def test_make_run_on_an_engine_over_tcp_is_the_run_that_it_is_at_home(tiny: Project, engine: SecondEngine) -> None:
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
        env={**os.environ, VARIABLE: f"tcp://{engine.address}", "DRYDOCK_REPOSITORY": f"{REGISTRY}/{tiny.repository}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert away.returncode == 0, away.stderr
    assert "Using the engine that the environment names. Nothing was started.\n" in away.stderr
    digest = home.report["image"]["manifest_digest"]
    assert away.stdout.splitlines()[-1] == f"published  {REGISTRY}/{tiny.repository}:test@{digest}"
    report = json.loads((tiny.root / "away" / "report.json").read_text())
    # How long an answer took is the machine's time too.
    verdicts = {row["name"]: row["verdict"] for row in home.report["checks"] if row["name"] != "answers in time"}
    assert verdicts.items() <= {row["name"]: row["verdict"] for row in report["checks"]}.items()


def test_an_engine_in_a_pod_is_reached_through_kubectl(tiny: Project, engine: SecondEngine, tmp_path: Path) -> None:
    host, _, port = engine.address.partition(":")
    kubectl, calls = tmp_path / "bin" / "kubectl", tmp_path / "calls"
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL.format(python=sys.executable, calls=str(calls), host=host, port=port))
    kubectl.chmod(0o755)
    path = f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
    finished = tiny.run("--no-push", environment={VARIABLE: "kube-pod://engine-0?namespace=dagger", "PATH": path})
    assert finished.exit_code == 0, finished.output
    assert {tuple(json.loads(line)) for line in calls.read_text().splitlines()} == {
        ("--context=", "--namespace=dagger", "exec", "--container=", "-i", "engine-0", "--", "buildctl", "dial-stdio")
    }
