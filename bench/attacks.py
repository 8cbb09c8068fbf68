"""What hostile connections cost the server: its memory, the kernel's, and whether honest requests are still answered.

`python -m bench.attacks` starts a server for each attack, on loopback, and prints a line of it. Each attack is bounded
in bytes, connections and time. `--service FOLDER` attacks another checkout's server, such as that of an older commit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from sklearn.linear_model import LogisticRegression

from export.contract import create_contract
from export.dataset import number_table

WIDE_FEATURES = 2_000
POST = b"POST /predict HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MB = 1_000_000
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Target:
    """A server that is attacked; `rows` has the form of its model's."""

    port: int
    features: int
    # What was seen besides, for people.
    notes: list[str] = field(default_factory=list)

    def request(self, rows: int = 1) -> bytes:
        """A right request of so many rows."""
        row = f"[{', '.join(['1'] * self.features)}]"
        body = f'{{"features": [{", ".join([row] * rows)}]}}'.encode()
        return POST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@dataclass
class Cost:
    """What an attack came to; memory is the most that was seen, in bytes."""

    before_bytes: int = 0
    most_bytes: int = 0
    after_bytes: int = 0
    kernel_bytes: int = 0
    honest: Counter[int] = field(default_factory=Counter)
    still_open: int = 0

    def line(self, name: str, notes: list[str]) -> str:
        """The attack as a line of the table."""
        grown = [(each - self.before_bytes) / MB for each in (self.most_bytes, self.after_bytes)]
        honest = ", ".join(f"{count} x {code or 'none'}" for code, count in sorted(self.honest.items())) or "-"
        return (
            f"{name:<46} {self.before_bytes / MB:>4.0f} {grown[0]:>+7.0f} {grown[1]:>+7.0f} "
            f"{self.kernel_bytes / MB:>7.1f}   {honest}{'; ' if notes else ''}{'; '.join(notes)}"
        )


HEADER = f"{'attack':<46} {'RSS':>4} {'most':>7} {'after':>7} {'kernel':>7}   honest requests, by code (memory in MB)"


@asynccontextmanager
async def connections(port: int, count: int, receive_bytes: int = 0) -> AsyncIterator[list[Connection]]:
    """So many connections; the kernel keeps at most `receive_bytes` of what comes back, if that is given."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            connected = socket.socket()
            connected.setblocking(False)
            if receive_bytes:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=connected)
            stack.callback(writer.transport.abort)
            opened.append((reader, writer))
        yield opened


async def send(connection: Connection, content: bytes) -> bool:
    """Send it; False if the server has closed the connection, or takes nothing more for a second."""
    with suppress(OSError, TimeoutError):
        connection[1].write(content)
        await asyncio.wait_for(connection[1].drain(), 1)
        return not connection[1].transport.is_closing()
    return False


async def read_statuses(connection: Connection, seconds: float = 2) -> list[int]:
    """The status of each answer that comes until the server closes the connection, or is silent for so long."""
    received = b""
    with suppress(OSError, TimeoutError):
        while part := await asyncio.wait_for(connection[0].read(65_536), seconds):
            received += part
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


async def trailers(target: Target, send_bytes: int = 300 * MB) -> None:
    """One connection whose chunked body ends, and whose trailer fields do not."""
    field = b"x: " + b"a" * 50_000 + b"\r\n"
    async with connections(target.port, 1) as (connection,):
        await send(connection, CHUNKED + b"2\r\n{}\r\n0\r\n")
        sent = 0
        while sent < send_bytes and await send(connection, field):
            sent += len(field)
        target.notes.append(f"{sent / MB:.1f} MB of trailers taken, then {await read_statuses(connection)}")


async def one_trailer(target: Target, send_bytes: int = 50 * MB) -> None:
    """The same, with a single field that does not end."""
    async with connections(target.port, 1) as (connection,):
        await send(connection, CHUNKED + b"2\r\n{}\r\n0\r\nx: ")
        sent = 0
        while sent < send_bytes and await send(connection, b"a" * 50_000):
            sent += 50_000
        target.notes.append(f"{sent / MB:.1f} MB of one trailer taken, then {await read_statuses(connection)}")


async def upgrade(target: Target) -> None:
    """An offer of another protocol on a POST, as `curl --http2` makes it; its body could be a request of its own."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    hidden = b"GET /model HTTP/1.1\r\nHost: model\r\n\r\n"
    carrier = b"POST /healthz HTTP/1.1\r\nHost: model\r\n" + offer + b"Content-Length: %d\r\n\r\n" % len(hidden)
    async with connections(target.port, 3) as (whole, apart, smuggled):
        head, _, body = target.request().partition(b"\r\n\r\n")
        await send(whole, head + b"\r\n" + offer + b"\r\n" + body)
        await send(apart, head + b"\r\n" + offer + b"\r\n")
        await send(smuggled, carrier)
        await asyncio.sleep(0.1)
        await send(apart, body)
        await send(smuggled, hidden)
        heard = [await read_statuses(each, 0.5) for each in (whole, apart, smuggled)]
    target.notes.append("in one segment {}, in two {}, a request as a body {}".format(*heard))


async def never_read(target: Target, count: int = 200, requests: int = 80, rows: int = 1_000, wait: float = 12) -> None:
    """Connections that send requests one behind the other and read no answer."""
    request = target.request(rows)
    async with connections(target.port, count, receive_bytes=4_096) as opened:
        started = time.monotonic()

        async def pour(connection: Connection) -> None:
            for _ in range(requests):
                if not await send(connection, request):
                    return

        await asyncio.gather(*map(pour, opened))
        await asyncio.sleep(max(0.0, wait - (time.monotonic() - started)))


async def tiny_requests(target: Target, count: int = 50, send_bytes: int = MB) -> None:
    """The same with the shortest requests that there are: as many as fit into what is read at once."""
    request = b"GET /model HTTP/1.1\r\n\r\n"
    async with connections(target.port, count, receive_bytes=4_096) as opened:
        await asyncio.gather(*(send(each, request * (send_bytes // len(request))) for each in opened))
        await asyncio.sleep(2)


async def slow_senders(target: Target, count: int = 128, seconds: float = 8) -> None:
    """Connections that send a head and one byte of a body, and are opened again when they are cut."""
    started = time.monotonic()

    async def slow() -> None:
        while time.monotonic() - started < seconds:
            async with connections(target.port, 1) as (connection,):
                await send(connection, POST + b"Content-Length: 900000\r\n\r\n{")
                await read_statuses(connection, max(0.1, seconds - (time.monotonic() - started)))

    await asyncio.gather(*(slow() for _ in range(count)))


async def large_bodies(target: Target, count: int = 400, body_bytes: int = 900_000, seconds: float = 4) -> None:
    """Connections that send nearly all of a long body, and never its end."""
    async with connections(target.port, count) as opened:
        content = POST + b"Content-Length: 999999\r\n\r\n" + b" " * body_bytes
        await asyncio.gather(*(send(each, content) for each in opened))
        await asyncio.sleep(seconds)


async def wide_rows(target: Target, count: int = 128) -> None:
    """As many requests as may be under way, of as many numbers as a body can hold."""
    rows = 960_000 // (2 * target.features + 2)
    row = b"[" + b",".join([b"1"] * target.features) + b"]"
    body = b'{"features":[' + b",".join([row] * rows) + b"]}"
    async with connections(target.port, count) as opened:
        for each in opened:
            each[1].write(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        heard = Counter(
            status for each in await asyncio.gather(*(read_statuses(each, 30) for each in opened)) for status in each
        )
    target.notes.append(f"{count} of {len(body) / MB:.2f} MB: {dict(sorted(heard.items()))}")


async def blank_lines(target: Target, count: int = 50, wait: float = 12) -> None:
    """One whole request, then a blank line, then silence."""
    async with connections(target.port, count) as opened:
        for each in opened:
            await send(each, target.request())
            await each[0].readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.5)
        for each in opened:
            await send(each, b"\r\n")
        await asyncio.sleep(wait)
        closed = 0
        for reader, _ in opened:
            with suppress(TimeoutError, OSError):
                await asyncio.wait_for(reader.read(-1), 0.01)
                closed += 1
        target.notes.append(f"{count - closed} of {count} open after {wait:g} s")


async def idle(target: Target, count: int = 900, seconds: float = 3) -> None:
    """Connections on which nothing is sent, more than a server has room for."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            with suppress(OSError):
                await stack.enter_async_context(connections(target.port, 1))
        await asyncio.sleep(seconds)


Attack = Callable[[Target], Awaitable[None]]
# What it is called, what it does, and whether it wants a model of many features.
ATTACKS: list[tuple[str, Attack, bool]] = [
    ("trailers without an end, 1 connection", trailers, False),
    ("one trailer field without an end, 1 connection", one_trailer, False),
    ("Upgrade: h2c on a POST", upgrade, False),
    ("200 clients pipeline 80 requests and never read", never_read, False),
    ("50 clients send 1 MB of tiny requests, no reading", tiny_requests, False),
    ("128 slow senders", slow_senders, False),
    ("400 bodies of 900 kB that never end", large_bodies, False),
    ("900 idle connections", idle, False),
    ("a blank line after a request, 50 connections", blank_lines, False),
    (f"128 bodies of 1 MB to {WIDE_FEATURES:,} features", wide_rows, True),
]


async def honest(target: Target, codes: Counter[int], over: asyncio.Event, pause_seconds: float = 0.05) -> None:
    """Ask for one row again and again, each time on a new connection; 0 if no answer comes."""
    while not over.is_set():
        try:
            async with connections(target.port, 1) as (connection,):
                connection[1].write(
                    target.request().replace(b"Host: model\r\n", b"Host: model\r\nConnection: close\r\n")
                )
                codes.update(await read_statuses(connection, 10) or [0])
        except OSError:
            codes[0] += 1
        await asyncio.sleep(pause_seconds)


def kernel_bytes(port: int) -> int:
    """What the kernel keeps for the server's own connections, in both directions, as `ss` says; 0 without it."""
    try:
        listed = subprocess.run(
            ["ss", "--tcp", "--memory", "--numeric", "--no-header", "--all", f"sport = :{port}"],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
    except OSError:
        return 0
    found = re.finditer(r"skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f\d+,w(\d+)", listed)
    return sum(int(each[1]) + int(each[2]) for each in found)


async def measure(attack: Attack, target: Target, server: psutil.Process, settle_seconds: float = 2) -> Cost:
    """What an attack costs while it lasts, and some seconds after it."""
    cost, over = Cost(before_bytes=server.memory_info().rss), asyncio.Event()

    async def watch() -> None:
        while not over.is_set():
            cost.most_bytes = max(cost.most_bytes, server.memory_info().rss)
            cost.kernel_bytes = max(cost.kernel_bytes, await asyncio.to_thread(kernel_bytes, target.port))
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(watch()), asyncio.create_task(honest(target, cost.honest, over))]
    await asyncio.sleep(0.1)
    await attack(target)
    over.set()
    await asyncio.gather(*tasks)
    await asyncio.sleep(settle_seconds)
    cost.after_bytes = server.memory_info().rss
    return cost


@contextmanager
def run_server(code: Path, folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The server of `code` with the model in `folder`/artifacts, as soon as it is ready: its port and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = {
        **os.environ, "PYTHONPATH": str(code), "DRYDOCK_LISTEN_PORT": str(port), "DRYDOCK_LOG_REQUESTS": "none",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-B", "-m", "service"], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def make_model(directory: Path, features: int) -> None:
    """A model of so many numbers, which is asked in a thread as every pickle is."""
    generator = np.random.default_rng(7)
    rows = generator.normal(size=(60, features))
    labels = np.where(rows[:, 0] > 0, "high", "low")
    names = [f"f{number}" for number in range(features)]
    fitted = LogisticRegression().fit(rows[:40], labels[:40])
    create_contract(fitted, number_table(names, rows[40:].tolist()), labels[40:].tolist(), directory, name="wide")


def main() -> None:
    """Attack, and print what each attack came to."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description="What hostile connections cost.")
    parser.add_argument(
        "--service", type=Path, default=Path(), help="the checkout whose server is attacked; this one by default"
    )
    parser.add_argument("--only", default="", help="only the attacks whose name has this in it")
    given = parser.parse_args()
    print(HEADER)
    with tempfile.TemporaryDirectory() as made:
        for name, attack, wide in ATTACKS:
            if given.only not in name:
                continue
            features = WIDE_FEATURES if wide else 4
            folder = Path(made) / f"{features}"
            if not folder.exists():
                make_model(folder / "artifacts", features)
            with run_server(given.service.resolve(), folder) as (port, server):
                target = Target(port, features)
                cost = asyncio.run(measure(attack, target, server))
            print(cost.line(name, target.notes), flush=True)


if __name__ == "__main__":
    main()
