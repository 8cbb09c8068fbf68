"""Who is measured by bench/serve.py: how each is installed, started and asked, in the form that suits it best."""

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
# A golden row that the trees do not agree on.
ROW = [6.0, 3.0, 4.8, 1.8]
MAPPED: Mapping[str, Any] = {"features": ROW}


class Unavailable(Exception):
    """A server that cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where a server runs: its interpreter, the trained models' folder, a folder of its own, and its port."""

    python: Path
    models: Path
    folder: Path
    port: int

    def tool(self, name: str) -> str:
        """A command that the environment has."""
        return str(self.python.with_name(name))


@dataclass(frozen=True)
class Contender:
    """A server; `probabilities` finds them in an answer, and is None where nothing is predicted."""

    name: str
    lock: Path
    command: Callable[[Place], list[str]]
    probabilities: Callable[[Any], list[float]] | None = lambda answer: list(answer["probabilities"][0])
    path: str = "/predict"
    body: Mapping[str, Any] = field(default_factory=lambda: MAPPED)
    python: str = "3.13"
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Place], None] = lambda _: None

    @property
    def is_peer(self) -> bool:
        """Whether it predicts, and is not ours."""
        return self.probabilities is not None and not self.name.startswith("Drydock")


def all_of_them() -> list[Contender]:
    """Drydock first, and the ceiling last."""
    return [
        _drydock("compiled"),
        _drydock("sklearn"),
        Contender("FastAPI + scikit-learn", PEERS / "fastapi.txt", _uvicorn("plain:app")),
        Contender(
            "BentoML",
            PEERS / "bentoml.txt",
            lambda place: [
                *(place.tool("bentoml"), "serve", "bento:Iris", "--working-dir", str(PEERS)),
                *("--host", "127.0.0.1", "--port", str(place.port)),
            ],
            environment={"BENTOML_DO_NOT_TRACK": "True"},
        ),
        Contender(
            "MLServer",
            PEERS / "mlserver.txt",
            lambda place: [place.tool("mlserver"), "start", "."],
            lambda answer: list(answer["outputs"][0]["data"]),
            path="/v2/models/iris/infer",
            body={
                "inputs": [{"name": "rows", "shape": [1, len(ROW)], "datatype": "FP64", "data": ROW}],
                "outputs": [{"name": "predict_proba"}],
            },
            python="3.12",  # MLServer 1.7 takes no newer one
            prepare=_for_mlserver,
        ),
        Contender(
            "MLflow",
            PEERS / "mlflow.txt",
            lambda place: [
                *(place.tool("mlflow"), "models", "serve", "--model-uri", "model", "--env-manager", "local"),
                *("--host", "127.0.0.1", "--port", str(place.port), "--workers", "1"),
            ],
            lambda answer: list(answer["predictions"][0]),
            path="/invocations",
            body={"inputs": [ROW]},
            prepare=lambda place: checked(
                [str(place.python), str(PEERS / "logged.py"), str(place.models / "trained" / "model.pkl"), "model"],
                place.folder,
            ),
        ),
        Contender(
            "LitServe",
            PEERS / "litserve.txt",
            lambda place: [str(place.python), str(PEERS / "lit.py"), str(place.port)],
        ),
        Contender("FastAPI that predicts nothing", PEERS / "fastapi.txt", _uvicorn("bare:app"), None),
    ]


def _drydock(runtime: str) -> Contender:
    models = {"compiled": "compiled", "sklearn": "trained"}
    return Contender(
        f"Drydock, {runtime}",
        ROOT / "requirements" / f"image-{runtime}.txt",
        lambda place: [str(place.python), "-m", "service"],
        lambda answer: list(answer["predictions"][0]["probabilities"].values()),
        environment={"PYTHONPATH": str(ROOT)},
        prepare=lambda place: (place.folder / "artifacts").symlink_to(place.models / models[runtime]),
    )


def _uvicorn(application: str) -> Callable[[Place], list[str]]:
    return lambda place: [
        *(str(place.python), "-m", "uvicorn", application, "--app-dir", str(PEERS)),
        *("--host", "127.0.0.1", "--port", str(place.port), "--no-access-log", "--log-level", "warning"),
    ]


def _for_mlserver(place: Place) -> None:
    # No pool of processes beside the server's own: there is one core, and handing rows over would cost more.
    ports = {"http_port": place.port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", **ports, "parallel_workers": 0, "debug": False}
    (place.folder / "settings.json").write_text(json.dumps(settings))
    uri = str(place.models / "trained" / "model.pkl")
    served = {"name": "iris", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": uri}}
    (place.folder / "model-settings.json").write_text(json.dumps(served))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def variables(contender: Contender, place: Place) -> dict[str, str]:
    """The environment of a server's process, which has nothing of ours but what is meant for it."""
    return {
        "PATH": os.pathsep.join([str(place.python.parent), os.environ["PATH"]]),
        "HOME": str(place.folder),
        "MODEL": str(place.models / "trained" / "model.pkl"),
        "DRYDOCK_LISTEN_PORT": str(place.port),
        # One core: more threads than that would only wait for each other.
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
        **contender.environment,
    }


def checked(command: list[str], folder: Path) -> None:
    """Run a command that has to succeed. Raises Unavailable with its last words."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        what = " ".join([Path(command[0]).name, *command[1:3]])
        raise Unavailable(f"`{what}` ended with exit code {done.returncode}: {' '.join(said[-3:])}")
