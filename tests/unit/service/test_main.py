from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.support.models import ENVIRONMENT, run, truncate_model

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def started(folder: Path, port: int, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """The server in a process of its own, on another port since 8000 may be taken; it never outlives the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service"],
        cwd=folder,
        env={**ENVIRONMENT, "DRYDOCK_LISTEN_PORT": str(port), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer_of(client: httpx.Client, path: str, process: subprocess.Popen[str]) -> httpx.Response:
    """What the server says at `path`, as soon as it listens."""
    while process.poll() is None:
        try:
            return client.get(path)
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError(f"the server ended with {process.returncode}: {process.communicate()}")


def test_it_listens_where_the_image_says() -> None:
    assert Settings().listen_port == 8000


def test_an_image_with_its_model_inside_loads_nothing_that_fetches_one(tmp_path: Path) -> None:
    done = run("-c", "import sys, service.__main__; print(*sys.modules, sep='\\n')", folder=tmp_path)
    loaded = set(done.stdout.split())
    assert "service.http.server" in loaded
    fetching = {
        "service.storage.remote_model",
        "service.http.startup",
        "service.storage.download",
        "service.storage.uri",
    }
    assert not loaded & {*fetching, "fsspec", "aiohttp", "s3fs", "tenacity"}


def test_it_stops_before_docker_would_kill_it() -> None:
    # `docker stop` sends SIGKILL after 10 s.
    assert Settings().shutdown_grace_seconds < 10


def test_it_serves_until_it_is_told_to_stop(breakable: Path) -> None:
    port = free_port()
    with (
        started(breakable.parent, port) as process,
        # One kept-alive connection, as a load balancer holds it: it must not keep the server from ending.
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        response = answer_of(client, "/readyz", process)
        assert (response.status_code, response.json()) == (200, {"status": "ready"})
        assert "server" not in response.headers
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=Settings().shutdown_grace_seconds)
    assert "Traceback" not in stdout + stderr
    assert process.returncode == 0


def test_a_refused_model_ends_it_in_one_sentence_before_it_listens(breakable: Path) -> None:
    sentence = truncate_model(breakable)
    port = free_port()
    with started(breakable.parent, port) as process:
        stdout, stderr = process.communicate()
    # Nothing but the sentence: a server that had begun to listen would have said so.
    assert (process.returncode, stdout, stderr) == (1, "", sentence + "\n")
