"""Hostile connections, each bounded in bytes and time: what they cost the server, and that honest requests are served.

`python -m bench.attacks` has the same attacks at full size, and prints what each came to.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from bench import attacks
from bench.attacks import CHUNKED, POST, Attack, Cost, Target, connections, measure, read_statuses, send
from service.http.bodies import FREE_BODY_BYTES
from service.http.server import SOCKET_BUFFER_BYTES
from service.settings import Settings
from tests.unit.service.http.test_load import NO_LINES
from tests.unit.service.http.test_server import BODY, HEAD, REQUEST, answers, connected, serving

pytestmark = pytest.mark.slow

MB = 1_000_000
SECONDS = 0.5
# The server looks at its connections once a second; the rest is for a busy machine.
CUT_WITHIN_SECONDS = SECONDS + 1 + 5
LIMITS = {"DRYDOCK_REQUEST_TIMEOUT_SECONDS": f"{SECONDS}", **NO_LINES}
TOO_LONG = (431, {"error": "The trailers of a request have at most 8000 bytes."})


@pytest.fixture(scope="module")
def attacked(compiled_artifacts: Path) -> Iterator[tuple[Target, psutil.Process]]:
    """A server that waits half a second for whatever it waits for."""
    with serving(compiled_artifacts.parent, **LIMITS) as (port, process):
        yield Target(port, 4), psutil.Process(process.pid)


@pytest.fixture
def target(attacked: tuple[Target, psutil.Process]) -> Target:
    return attacked[0]


def cost_of(attack: Attack, target: Target, server: psutil.Process, name: str = "") -> Cost:
    """What an attack comes to; its line is printed, as `pytest -s` shows."""
    cost = asyncio.run(measure(attack, target, server, settle_seconds=0.2))
    print("", attacks.HEADER, cost.line(name or attack.__name__, target.notes), sep="\n")
    target.notes.clear()
    return cost


# --- trailers -------------------------------------------------------------------------------------------------------


def exchanged(port: int, *segments: bytes) -> list[tuple[int, object]]:
    """What is answered to these bytes, sent a tenth of a second apart."""
    with closing(connected(port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, segment in enumerate(segments):
            time.sleep(0.1 if number else 0)
            connection.sendall(segment)
        return answers(connection)


CLOSING = CHUNKED.replace(b"Host:", b"Connection: close\r\nHost:")
ONE_CHUNK = b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize("apart", [False, True])
def test_trailers_are_dropped_and_over_the_limit_refused(apart: bool, target: Target) -> None:
    def answered(trailers: bytes) -> list[tuple[int, object]]:
        before = CLOSING + ONE_CHUNK
        return exchanged(target.port, before, trailers) if apart else exchanged(target.port, before + trailers)

    assert [status for status, _ in answered(b"x: " + b"a" * 7_900 + b"\r\n\r\n")] == [200]
    assert [status for status, _ in answered(b"x: a\r\n" * 1_000 + b"\r\n")] == [200]
    # The predictions may be made by then; nothing is answered after them.
    refused = answered(b"x: a\r\n" * 1_400 + b"\r\n")
    assert refused == [TOO_LONG]


@pytest.mark.parametrize("field", [b"Content-Type: application/json\r\n", b"Expect: 100-continue\r\n"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_trailer_is_no_header(apart: bool, field: bytes, target: Target) -> None:
    typeless = CLOSING.replace(b"Content-Type: application/json\r\n", b"") + ONE_CHUNK
    segments = [typeless, field + b"\r\n"] if apart else [typeless + field + b"\r\n"]
    assert [status for status, _ in exchanged(target.port, *segments)] == [415]


def test_what_a_chunk_says_beside_its_length_is_bounded_too(target: Target) -> None:
    assert exchanged(target.port, CHUNKED + b"2;x=" + b"a" * 8_100) == [TOO_LONG]


def test_a_body_of_many_small_chunks_is_right(target: Target) -> None:
    # More bytes around the body than the limit, and never many of them without one of the body.
    body = BODY + b" " * 9_000
    chunks = b"".join(b"1\r\n%c\r\n" % each for each in body)
    assert [status for status, _ in exchanged(target.port, CLOSING + chunks + b"0\r\n\r\n")] == [200]


@pytest.mark.parametrize("attack", [attacks.trailers, attacks.one_trailer])
def test_trailers_without_an_end_cost_nothing(attack: Attack, attacked: tuple[Target, psutil.Process]) -> None:
    cost = cost_of(lambda target: attack(target, 60 * MB), *attacked, name=attack.__name__)  # type: ignore[call-arg]
    assert cost.most_bytes - cost.before_bytes < 10 * MB
    assert set(cost.honest) == {200}


# --- Upgrade --------------------------------------------------------------------------------------------------------

OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"Upgrade: websocket\r\nconnection: keep-alive, upgrade\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c, TLS/1.0\r\nUpgrade: h2c\r\n",
]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("cuts", ["none", "body apart", "everywhere"])
def test_an_offer_of_another_protocol_is_ignored(cuts: str, chunked: bool, offer: bytes, target: Target) -> None:
    if chunked:
        head, body = CHUNKED.replace(b"Host:", offer + b"Host:"), ONE_CHUNK + b"\r\n"
    else:
        head, body = (HEAD % len(BODY)).replace(b"Host:", offer + b"Host:"), BODY
    # Behind it is another request, which is answered as well.
    last = REQUEST.replace(b"Host:", b"Connection: close\r\nHost:")
    whole = head + body + last
    segments = {
        "none": [whole],
        "body apart": [head, body + last],
        "everywhere": [
            whole[:9],
            whole[9 : len(head) - 2],
            whole[len(head) - 2 : len(head) + 3],
            whole[len(head) + 3 :],
        ],
    }[cuts]
    assert [status for status, _ in exchanged(target.port, *segments)] == [200, 200]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("apart", [False, True])
def test_the_body_of_such_an_offer_is_never_a_request(apart: bool, offer: bytes, target: Target) -> None:
    hidden = b"GET /model HTTP/1.1\r\nHost: model\r\n\r\n"
    head = b"POST /nowhere HTTP/1.1\r\nHost: model\r\n" + offer + b"Content-Length: %d\r\n\r\n" % len(hidden)
    segments = [head, hidden] if apart else [head + hidden]
    assert [status for status, _ in exchanged(target.port, *segments)] == [404]


@pytest.mark.parametrize(
    "sent", [b"CONNECT model:80 HTTP/1.1\r\nHost: model:80\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_what_asks_for_nothing_but_another_protocol_is_refused(sent: bytes, target: Target) -> None:
    assert exchanged(target.port, sent) == [(400, {"error": "This is not an HTTP request."})]


# --- who does not read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "limit_bytes"),
    [
        # An answer of 1,000 rows has 80 kB, and the kernel takes the first ones.
        (lambda target: attacks.never_read(target, count=60, requests=40, wait=0), 25 * MB),
        (lambda target: attacks.tiny_requests(target, count=40, send_bytes=300_000), 25 * MB),
    ],
    ids=["pipelines and never reads", "tiny requests"],
)
def test_who_does_not_read_is_bounded_and_cut(
    attack: Attack, limit_bytes: int, attacked: tuple[Target, psutil.Process], request: pytest.FixtureRequest
) -> None:
    target, server = attacked
    cost = cost_of(attack, target, server, name=request.node.callspec.id)
    assert cost.most_bytes - cost.before_bytes < limit_bytes
    # The kernel doubles what it is told, for its own records.
    assert cost.kernel_bytes < 60 * 2 * 2 * SOCKET_BUFFER_BYTES
    assert cost.honest[200] > 0
    assert set(cost.honest) == {200}


def client_ports(port: int) -> set[int]:
    """The ports of the clients whose connections the server still has, or the kernel for it."""
    listed = psutil.net_connections("tcp4")
    return {each.raddr[1] for each in listed if each.raddr and each.laddr and each.laddr[1] == port}


def test_who_does_not_take_an_answer_in_time_is_cut(target: Target) -> None:
    """The server ends it by itself: the client reads nothing, closes nothing, and does not even hear of the end."""
    # Both have more answers than the kernel takes. After the last of the second one the server closes, too.
    request = target.request(1_000)
    with ExitStack() as stack:
        ports = set()
        for content in (request * 4, request + request.replace(b"Host:", b"Connection: close\r\nHost:")):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.connect(("127.0.0.1", target.port))
            ports.add(port := client.getsockname()[1])
            assert port in client_ports(target.port)
            client.sendall(content)
        deadline = time.monotonic() + CUT_WITHIN_SECONDS
        while left := ports & client_ports(target.port):
            assert time.monotonic() < deadline, f"{len(left)} of {len(ports)} are still open"
            time.sleep(0.1)


def test_an_answer_that_is_read_slowly_arrives_whole(target: Target) -> None:
    async def read() -> bytes:
        async with connections(target.port, 1, receive_bytes=4_096) as ((reader, writer),):
            writer.write(target.request(1_000).replace(b"Host:", b"Connection: close\r\nHost:"))
            await asyncio.sleep(SECONDS / 2)
            return await reader.read(-1)

    head, _, body = asyncio.run(read()).partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % len(body) in head


def test_pipelined_requests_are_all_answered_in_their_order(target: Target) -> None:
    asked = [REQUEST, b"GET /healthz HTTP/1.1\r\nHost: model\r\n\r\n", CHUNKED + ONE_CHUNK + b"x: y\r\n\r\n"] * 30
    last = b"GET /nowhere HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n"
    bodies = [body for _, body in exchanged(target.port, b"".join([*asked, last]))]
    assert [sorted(body) for body in bodies if isinstance(body, dict)] == [
        *([["predictions"], ["status"], ["predictions"]] * 30),
        ["error"],
    ]


# --- who sends slowly, or nothing -----------------------------------------------------------------------------------


def test_a_blank_line_keeps_no_connection_open(target: Target) -> None:
    async def closed() -> None:
        async with connections(target.port, 1) as ((reader, writer),):
            writer.write(REQUEST)
            await reader.readuntil(b"}]}")
            for _ in range(3):
                writer.write(b"\r\n")
                await asyncio.sleep(0.1)
            assert await asyncio.wait_for(reader.read(-1), SECONDS + 2) == b""

    asyncio.run(closed())


def test_slow_senders_take_no_place_from_others(compiled_artifacts: Path) -> None:
    with serving(compiled_artifacts.parent, DRYDOCK_MAX_CONCURRENCY="2", **LIMITS) as (port, process):
        slow = lambda target: attacks.slow_senders(target, count=40, seconds=1)  # noqa: E731
        cost = cost_of(slow, Target(port, 4), psutil.Process(process.pid), name="40 slow senders, 2 places")
    assert set(cost.honest) == {200}


def test_bodies_that_arrive_are_bounded_and_small_requests_served(compiled_artifacts: Path) -> None:
    heard: list[int] = []

    async def large(target: Target) -> None:
        async with connections(target.port, 60) as opened:
            content = POST + b"Content-Length: 999999\r\n\r\n" + b" " * 900_000
            await asyncio.gather(*(send(each, content) for each in opened))
            for each in await asyncio.gather(*(read_statuses(each, 3) for each in opened)):
                heard.extend(each)

    settings = {**LIMITS, "DRYDOCK_MAX_BUFFER_BYTES": "8000000", "DRYDOCK_REQUEST_TIMEOUT_SECONDS": "1.5"}
    with serving(compiled_artifacts.parent, **settings) as (port, process):
        cost = cost_of(large, Target(port, 4), psutil.Process(process.pid), name="60 bodies of 900 kB, 8 MB for all")
    assert {503, 408} == set(heard)
    # 64 kB of each are free; and what the allocator and the connections take.
    assert cost.most_bytes - cost.before_bytes < 8 * MB + 60 * FREE_BODY_BYTES + 20 * MB
    assert set(cost.honest) == {200}


def test_more_connections_than_the_limit_close_the_idle_ones(compiled_artifacts: Path) -> None:
    settings = {"DRYDOCK_MAX_CONNECTIONS": "20", **NO_LINES}

    async def story(port: int) -> list[bool]:
        async with connections(port, 20) as first, connections(port, 15):
            (answer,) = [await statuses_of_one(port)]
            assert answer == [200]
            await asyncio.sleep(0.2)
            return [each[0].at_eof() or each[0].exception() is not None for each in first]

    async def statuses_of_one(port: int) -> list[int]:
        async with connections(port, 1) as (connection,):
            await send(connection, REQUEST)
            return await read_statuses(connection, 0.5)

    with serving(compiled_artifacts.parent, **settings) as (port, _):
        closed = asyncio.run(story(port))
    # The longest idle first; the client's own request for /readyz held one place.
    assert closed[:15] == [True] * 15
    assert not all(closed)


# --- rows that are larger than their body ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    attacks.make_model(folder / "artifacts", attacks.WIDE_FEATURES)
    return folder


def test_wide_rows_under_way_are_bounded_as_readme_says(wide: Path) -> None:
    buffer_bytes, count = 16 * MB, 32
    settings = {**NO_LINES, "DRYDOCK_MAX_BUFFER_BYTES": f"{buffer_bytes}"}
    with serving(wide, **settings) as (port, process):
        target = Target(port, attacks.WIDE_FEATURES)
        cost = cost_of(
            lambda target: attacks.wide_rows(target, count), target, psutil.Process(process.pid), name="wide rows"
        )
    # The bodies that wait, the first bytes of each, and what is made of one body after the other.
    bound = buffer_bytes + count * (FREE_BODY_BYTES + 2 * SOCKET_BUFFER_BYTES) + 80 * Settings().max_body_bytes
    assert cost.most_bytes - cost.before_bytes < bound
    assert cost.honest[200] > 0
    assert set(cost.honest) <= {200, 503}
