"""The servers of bench/serve.py: how each is installed, started and called, in the form that suits it best."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "bench" / "peers"
# A golden row for which the trees do not agree.
ROW = [6.0, 3.0, 4.8, 1.8]
MAPPED: Mapping[str, Any] = {"features": ROW}


class Unavailable(Exception):
    """A server that cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Workspace:
    """What a server runs with: its interpreter, the folder of the trained models, its own folder, and its port."""

    python: Path
    models: Path
    folder: Path
    port: int

    def tool(self, name: str) -> str:
        """The path of a command in the environment."""
        return str(self.python.with_name(name))


@dataclass(frozen=True)
class Server:
    """A server; `probabilities` reads them from an answer, and is None if the server predicts nothing."""

    name: str
    lock: Path
    command: Callable[[Workspace], list[str]]
    probabilities: Callable[[Any], list[float]] | None = lambda answer: list(answer["probabilities"][0])
    path: str = "/predict"
    body: Mapping[str, Any] = field(default_factory=lambda: MAPPED)
    python: str = "3.13"
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Workspace], None] = lambda _: None

    @property
    def is_peer(self) -> bool:
        """Whether it predicts and is not Drydock."""
        return self.probabilities is not None and not self.name.startswith("Drydock")


def list_servers() -> list[Server]:
    """All servers: Drydock first, and the ceiling last."""
    return [
        _drydock("compiled"),
        _drydock("sklearn"),
        Server("FastAPI + scikit-learn", PEERS / "fastapi.txt", _uvicorn("plain:app")),
        Server(
            "BentoML",
            PEERS / "bentoml.txt",
            lambda workspace: [
                *(workspace.tool("bentoml"), "serve", "bento:Iris", "--working-dir", str(PEERS)),
                *("--host", "127.0.0.1", "--port", str(workspace.port)),
            ],
            environment={"BENTOML_DO_NOT_TRACK": "True"},
        ),
        Server(
            "MLServer",
            PEERS / "mlserver.txt",
            lambda workspace: [workspace.tool("mlserver"), "start", "."],
            lambda answer: list(answer["outputs"][0]["data"]),
            path="/v2/models/iris/infer",
            body={
                "inputs": [{"name": "rows", "shape": [1, len(ROW)], "datatype": "FP64", "data": ROW}],
                "outputs": [{"name": "predict_proba"}],
            },
            python="3.12",  # MLServer 1.7 takes no newer one
            prepare=_write_mlserver_settings,
        ),
        Server(
            "MLflow",
            PEERS / "mlflow.txt",
            lambda workspace: [
                *(workspace.tool("mlflow"), "models", "serve", "--model-uri", "model", "--env-manager", "local"),
                *("--host", "127.0.0.1", "--port", str(workspace.port), "--workers", "1"),
            ],
            lambda answer: list(answer["predictions"][0]),
            path="/invocations",
            body={"inputs": [ROW]},
            prepare=lambda workspace: run_checked(
                [
                    str(workspace.python),
                    str(PEERS / "logged.py"),
                    str(workspace.models / "trained" / "model.pkl"),
                    "model",
                ],
                workspace.folder,
            ),
        ),
        Server(
            "LitServe",
            PEERS / "litserve.txt",
            lambda workspace: [str(workspace.python), str(PEERS / "lit.py"), str(workspace.port)],
        ),
        Server("FastAPI that predicts nothing", PEERS / "fastapi.txt", _uvicorn("bare:app"), None),
    ]


def _drydock(runtime: str) -> Server:
    models = {"compiled": "compiled", "sklearn": "trained"}
    return Server(
        f"Drydock, {runtime}",
        ROOT / "requirements" / f"image-{runtime}.txt",
        lambda workspace: [str(workspace.python), "-m", "service"],
        lambda answer: list(answer["predictions"][0]["probabilities"].values()),
        environment={"PYTHONPATH": str(ROOT)},
        prepare=lambda workspace: (workspace.folder / "artifacts").symlink_to(workspace.models / models[runtime]),
    )


def _uvicorn(application: str) -> Callable[[Workspace], list[str]]:
    return lambda workspace: [
        *(str(workspace.python), "-m", "uvicorn", application, "--app-dir", str(PEERS)),
        *("--host", "127.0.0.1", "--port", str(workspace.port), "--no-access-log", "--log-level", "warning"),
    ]


def _write_mlserver_settings(workspace: Workspace) -> None:
    # No pool of processes: there is one core, and passing rows between processes would cost more.
    ports = {"http_port": workspace.port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", **ports, "parallel_workers": 0, "debug": False}
    (workspace.folder / "settings.json").write_text(json.dumps(settings))
    uri = str(workspace.models / "trained" / "model.pkl")
    served = {"name": "iris", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": uri}}
    (workspace.folder / "model-settings.json").write_text(json.dumps(served))


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def server_environment(server: Server, workspace: Workspace) -> dict[str, str]:
    """The environment of a server's process, without that of this one."""
    return {
        "PATH": os.pathsep.join([str(workspace.python.parent), os.environ["PATH"]]),
        "HOME": str(workspace.folder),
        "MODEL": str(workspace.models / "trained" / "model.pkl"),
        "DRYDOCK_LISTEN_PORT": str(workspace.port),
        # One core: more threads than that would only wait for each other.
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
        **server.environment,
    }


def run_checked(command: list[str], folder: Path) -> None:
    """Run a command. Raises Unavailable with its last lines if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        name = " ".join([Path(command[0]).name, *command[1:3]])
        raise Unavailable(f"`{name}` ended with exit code {done.returncode}: {' '.join(lines[-3:])}")
