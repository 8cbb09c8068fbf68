"""The server under a load that is bounded, on loopback: nobody gets a 500, and no request under way is lost.

What is counted decides, and never how long it took: on a slow machine all of this is only slower.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from service.contract import GoldenRow
from service.http.bodies import FREE_BODY_BYTES
from service.http.server import SOCKET_BUFFER_BYTES
from service.model import load_model
from service.settings import Settings
from tests.unit.service.http.test_server import serving

pytestmark = pytest.mark.slow

CLIENTS = 200
REQUESTS_EACH = 20
FLOODS, FLOOD_BYTES = 16, 20_000_000
SLOW, SLOW_BYTES = 100, 800_000
# Nobody reads the pipe that they would go to: the server would stop when it is full.
NO_LINES = {"DRYDOCK_LOG_REQUESTS": "none"}
# As README says: the bodies, the first bytes of each and what was just read, and the rows of one call.
CONNECTIONS = CLIENTS + FLOODS + SLOW + 20
MEMORY_BYTES = (
    Settings().max_buffer_bytes
    + CONNECTIONS * (FREE_BODY_BYTES + 2 * SOCKET_BUFFER_BYTES)
    + 80 * Settings().max_body_bytes
)
HEAD = b"POST /predict HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Load:
    """What one kind of client sent and heard; `wrong` are answers of 200 with another label than the row's."""

    name: str
    sent: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    wrong: int = 0

    @property
    def unanswered(self) -> int:
        return self.sent - self.codes.total()

    def row(self) -> str:
        by_code = ", ".join(f"{count} x {code}" for code, count in sorted(self.codes.items()))
        return f"{self.name:<34} {self.sent:>6} {self.codes.total():>9} {self.unanswered:>11}   {by_code}"


def show(runtime: str, loads: list[Load], last_line: str) -> None:
    title = f"load on {runtime}"
    print(f"\n{title:<34} {'sent':>6} {'answered':>9} {'unanswered':>11}   by code")
    print(*(load.row() for load in loads), last_line, sep="\n")


def request(row: GoldenRow) -> bytes:
    body = json.dumps({"features": row.features}).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """Status, head and body of the next answer; IncompleteReadError or ConnectionError where there is none."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    return int(head[9:12]), head, await reader.readexactly(length)


async def ask(connection: Connection, row: GoldenRow, load: Load) -> bytes:
    """One row on a connection that is kept; the head of its answer, empty where there was none."""
    reader, writer = connection
    load.sent += 1
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        writer.write(request(row))
        status, head, body = await answer(reader)
        load.codes[status] += 1
        if status == 200:
            (prediction,) = json.loads(body)["predictions"]
            load.wrong += prediction["label"] != row.label
        if status == 503:
            assert b"retry-after: 1\r\n" in head
        return head
    return b""


@asynccontextmanager
async def opened(port: int) -> AsyncIterator[Connection]:
    """A connection; ConnectionError where nobody listens any more."""
    connection = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield connection
    finally:
        connection[1].close()
        with suppress(ConnectionError):
            await connection[1].wait_closed()


async def well_behaved(port: int, row: GoldenRow, load: Load) -> None:
    async with opened(port) as connection:
        for _ in range(REQUESTS_EACH):
            await ask(connection, row, load)


async def flood(port: int, load: Load) -> None:
    """A body that says of no length, and is twenty times as long as one may be."""
    async with opened(port) as (reader, writer):
        load.sent += 1
        heard = asyncio.create_task(answer(reader))
        with suppress(ConnectionError):
            writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(FLOOD_BYTES // 50_000):
                writer.write(b"c350\r\n" + b" " * 50_000 + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            load.codes[(await heard)[0]] += 1


async def slow(port: int, load: Load) -> None:
    """Most of a body at once, which the server has to keep, and then a byte ten times a second."""
    async with opened(port) as (reader, writer):
        load.sent += 1
        heard = asyncio.create_task(answer(reader))
        writer.write(HEAD + b"Content-Length: 900000\r\n\r\n" + b" " * SLOW_BYTES)
        while not heard.done():
            writer.write(b" ")
            await asyncio.sleep(0.1)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            load.codes[(await heard)[0]] += 1


async def malformed(port: int, load: Load) -> None:
    bodies = (b"", b"{", b"[]", b'{"features": [NaN, 1, 2, 3]}', b'{"features": [1, 2, 3]}', b"[" * 10_000)
    async with opened(port) as (reader, writer):
        for body in bodies:
            load.sent += 1
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            load.codes[(await answer(reader))[0]] += 1


async def watch(port: int, server: psutil.Process, health: Load, memory_bytes: list[int], over: asyncio.Event) -> None:
    """Ask whether it is ready, each time on a new connection, and how large it is, until it is over."""
    while not over.is_set():
        async with opened(port) as (reader, writer):
            health.sent += 1
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: model\r\n\r\n")
            health.codes[(await answer(reader))[0]] += 1
        memory_bytes.append(server.memory_info().rss)
        await asyncio.sleep(0.02)


@pytest.fixture(params=["compiled", "sklearn"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(runtime: str, artifacts: Path, compiled_artifacts: Path) -> Path:
    return compiled_artifacts if runtime == "compiled" else artifacts


@contextmanager
def seen(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """The table is there to be read, whether the test passes or not."""
    with capsys.disabled():
        yield


def test_two_hundred_clients_floods_and_slow_senders_at_once(
    runtime: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = load_model(folder).contract.golden
    good, flooding, slowly, broken = (
        Load(f"{CLIENTS} clients, a row each time"),
        Load(f"{FLOODS} bodies of {FLOOD_BYTES // 1_000_000} MB"),
        Load(f"{SLOW} slow senders of {SLOW_BYTES // 1000} kB"),
        Load("malformed requests"),
    )
    health = Load("is it ready?")
    memory_bytes: list[int] = []

    async def all_at_once(port: int, server: psutil.Process) -> None:
        over = asyncio.Event()
        watching = asyncio.create_task(watch(port, server, health, memory_bytes, over))
        await asyncio.gather(
            *(well_behaved(port, golden[number % len(golden)], good) for number in range(CLIENTS)),
            *(flood(port, flooding) for _ in range(FLOODS)),
            *(slow(port, slowly) for _ in range(SLOW)),
            *(malformed(port, broken) for _ in range(10)),
        )
        over.set()
        await watching

    with serving(folder.parent, DRYDOCK_REQUEST_TIMEOUT_SECONDS="8", **NO_LINES) as (port, process):
        server = psutil.Process(process.pid)
        before_bytes = server.memory_info().rss
        asyncio.run(all_at_once(port, server))
    grown_bytes = max(memory_bytes) - before_bytes
    grown = f"memory     {before_bytes / 1e6:.0f} MB before, {grown_bytes / 1e6:.0f} MB more at the most"
    with seen(capsys):
        show(
            runtime,
            [good, flooding, slowly, broken, health],
            f"{grown}, limit {MEMORY_BYTES / 1e6:.0f} MB more",
        )
    assert set(good.codes) <= {200, 503}
    assert good.codes[200] > 0
    assert (good.sent, good.unanswered, good.wrong) == (CLIENTS * REQUESTS_EACH, 0, 0)
    # One that is cut off while it writes may not come to read why.
    assert set(flooding.codes) <= {413, 408, 503}
    assert set(slowly.codes) <= {408, 503}
    assert set(broken.codes) <= {400, 422, 503}
    assert broken.unanswered == 0
    assert (set(health.codes), health.unanswered) == ({200}, 0)
    assert 0 <= grown_bytes < MEMORY_BYTES


def test_nothing_that_was_sent_before_sigterm_is_lost(
    runtime: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = load_model(folder).contract.golden
    before, after = Load("sent before SIGTERM"), Load("sent after it, on old connections")
    told = asyncio.Event()
    refused = 0

    async def client(port: int, row: GoldenRow, ready: asyncio.Semaphore) -> None:
        nonlocal refused
        async with opened(port) as connection:
            await ask(connection, row, before)
            ready.release()
            while head := await ask(connection, row, after if told.is_set() else before):
                if b"connection: close\r\n" in head:
                    break
        # Whoever comes new is refused, but for a moment in which the listening socket is not closed yet.
        try:
            async with opened(port):
                pass
        except ConnectionError:
            refused += 1

    async def all_at_once(port: int, process: subprocess.Popen[str]) -> None:
        ready = asyncio.Semaphore(0)
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(client(port, golden[number % len(golden)], ready))
            # Nobody is told to go before all have been answered.
            for _ in range(CLIENTS):
                await ready.acquire()
            told.set()
            process.send_signal(signal.SIGTERM)

    with serving(folder.parent, **NO_LINES) as (port, process):
        asyncio.run(all_at_once(port, process))
        stdout, stderr = process.communicate(timeout=60)
    with seen(capsys):
        show(runtime, [before, after], f"new connections refused: {refused} of {CLIENTS}")
    assert set(before.codes) | set(after.codes) <= {200, 503}
    assert before.sent >= 2 * CLIENTS
    assert (before.unanswered, before.wrong, after.wrong) == (0, 0, 0)
    assert refused > 0
    assert (process.returncode, stderr) == (0, "")
    assert "error" not in [json.loads(line)["level"] for line in stdout.splitlines()]
