"""The server itself, over real sockets: what no application can bound, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.unit.service.test_main import answer_of, free_port, started

pytestmark = pytest.mark.slow

BODY = b'{"features": [5.1, 3.5, 1.4, 0.2]}'
HEAD = b"POST /predict HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
REQUEST = HEAD % len(BODY) + BODY
TIMEOUT_SECONDS = 20


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server that is ready: its port, and its process."""
    port = free_port()
    with started(folder, port, **settings) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert answer_of(client, "/readyz", process).status_code == 200
        yield port, process


@pytest.fixture(scope="module")
def hasty(compiled_artifacts: Path) -> Iterator[int]:
    """The port of a server that waits half a second for a request."""
    with serving(compiled_artifacts.parent, DRYDOCK_REQUEST_TIMEOUT_SECONDS="0.5") as (port, _):
        yield port


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)


def answers(connection: socket.socket) -> list[tuple[int, object]]:
    """Status and JSON of every answer until the server closes the connection."""
    received = b""
    while part := connection.recv(65_536):
        received += part
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        (length,) = (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        found.append((int(head.split()[1]), json.loads(rest[:length])))
        received = rest[length:]
    return found


NOT_IN_TIME = [(408, {"error": "The request did not arrive in time."})]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(b"", [], id="a connection on which nothing is sent"),
        pytest.param(b"POST /predict HTTP/1.1\r\nHost: mo", NOT_IN_TIME, id="half a head"),
        pytest.param(REQUEST[:-5], NOT_IN_TIME, id="half a body"),
        pytest.param(HEAD.replace(b"%d", b"1000000") + b" ", NOT_IN_TIME, id="one byte of a megabyte"),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
            NOT_IN_TIME,
            id="a chunk of many",
        ),
        pytest.param(
            REQUEST.replace(b"application/json", b"text/plain")[:-5],
            [(415, {"error": "Send the features as JSON, with Content-Type: application/json."})],
            id="half a body that was refused already",
        ),
    ],
)
def test_a_request_that_does_not_arrive_in_time_is_ended(
    sent: bytes, expected: list[tuple[int, object]], hasty: int
) -> None:
    with closing(connected(hasty)) as connection:
        connection.sendall(sent)
        assert answers(connection) == expected


def test_a_sender_of_one_byte_now_and_then_is_ended_too(hasty: int) -> None:
    # Whoever only looks for silence waits for this one for ever.
    with closing(connected(hasty)) as connection:
        connection.sendall(HEAD.replace(b"%d", b"1000000"))
        try:
            for _ in range(100):
                connection.sendall(b" ")
                time.sleep(0.1)
        except OSError:
            return
    raise AssertionError("the server took a byte now and then for ten seconds")


def test_a_head_over_the_limit_is_refused(hasty: int) -> None:
    # A byte too many, and no more: what is still unread when the server closes would take its answer with it.
    line = b"GET /healthz HTTP/1.1\r\nX-Long: "
    with closing(connected(hasty)) as connection:
        connection.sendall(line + b"a" * (64_001 - len(line)))
        assert answers(connection) == [(431, {"error": "The head of a request has at most 64000 bytes."})]


def test_an_endless_head_is_cut_off(hasty: int) -> None:
    with closing(connected(hasty)) as connection, pytest.raises(OSError, match=r"reset|Broken pipe"):
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        while True:
            connection.sendall(b"X-Long: %s\r\n" % (b"a" * 1_000))


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET nowhere\r\n\r\n"]
)
def test_what_is_no_http_is_refused_in_json(sent: bytes, hasty: int) -> None:
    with closing(connected(hasty)) as connection:
        connection.sendall(sent)
        assert answers(connection) == [(400, {"error": "This is not an HTTP request."})]


def test_an_answer_arrives_in_one_piece(hasty: int) -> None:
    with closing(connected(hasty)) as connection:
        for _ in range(20):
            connection.sendall(REQUEST)
            assert connection.recv(65_536).endswith(b"}]}")


def test_a_head_without_a_body_is_sent(hasty: int) -> None:
    with closing(connected(hasty)) as connection:
        connection.sendall(b"HEAD /docs HTTP/1.1\r\nHost: model\r\n\r\n")
        assert connection.recv(65_536).endswith(b"\r\n\r\n")
        connection.sendall((HEAD % len(BODY)).replace(b"Host:", b"Expect: 100-continue\r\nHost:"))
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(65_536).endswith(b"}]}")


def test_a_body_over_the_limit_is_thrown_away_and_its_sender_hears_why(hasty: int) -> None:
    """Neither is the connection cut before the answer is read, nor is what comes after the body lost."""
    long = HEAD % 6_000_000 + b" " * 6_000_000
    last = REQUEST.replace(b"Host: model\r\n", b"Host: model\r\nConnection: close\r\n")
    with closing(connected(hasty)) as connection:
        connection.sendall(long + last)
        (first, second) = answers(connection)
    assert first == (413, {"error": "A request has at most 1000000 bytes; send the rows in several requests."})
    assert second[0] == 200


@pytest.mark.parametrize("runtime", ["sklearn", "compiled"])
def test_a_request_in_flight_is_answered_after_sigterm_and_new_ones_are_refused(
    runtime: str, artifacts: Path, compiled_artifacts: Path
) -> None:
    folder = (artifacts if runtime == "sklearn" else compiled_artifacts).parent
    with serving(folder) as (port, process), closing(connected(port)) as in_flight:
        in_flight.sendall(REQUEST[:-5])
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            assert time.monotonic() < deadline, "new connections are still taken"
            try:
                connected(port).close()
            except (ConnectionRefusedError, ConnectionResetError):
                break
        assert process.poll() is None
        in_flight.sendall(REQUEST[-5:])
        assert [status for status, _ in answers(in_flight)] == [200]
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, stderr) == (0, "")
    assert all(json.loads(line)["level"] == "info" for line in stdout.splitlines())


def test_who_never_sends_the_rest_does_not_keep_the_server_from_ending(compiled_artifacts: Path) -> None:
    with (
        serving(compiled_artifacts.parent, DRYDOCK_SHUTDOWN_GRACE_SECONDS="2") as (port, process),
        closing(connected(port)) as half,
    ):
        half.sendall(REQUEST[:-5])
        process.send_signal(signal.SIGTERM)
        assert answers(half) == NOT_IN_TIME
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, stderr) == (0, "")
    assert "error" not in [json.loads(line)["level"] for line in stdout.splitlines()]


def test_a_setting_that_cannot_be_ends_it_in_one_sentence(compiled_artifacts: Path) -> None:
    with started(compiled_artifacts.parent, free_port(), DRYDOCK_MAX_ROWS="many") as process:
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    sentence = "DRYDOCK_MAX_ROWS cannot be 'many': expected `int`, got `str`.\n"
    assert (process.returncode, stdout, stderr) == (1, "", sentence)
