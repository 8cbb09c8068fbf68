"""The HTTP client of the smoke test: it sends requests to a running image and records the responses."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from contextlib import suppress

import anyio
import httpx

from drydock.policy import LimitsSection
from drydock.report import Answer, Contract, GoldenRow, Kind, Malformed

POLL_SECONDS = 0.25
DEFAULT_PORT = 8000
JSON = "application/json"

# Starts its arguments, and after five seconds, if they still run, prints SOCKETS and the kernel's table of them.
SOCKETS = "the sockets after five seconds:"
WATCHED_START = f"""
"$@" &
for second in 1 2 3 4 5; do sleep 1; kill -0 $! 2>/dev/null || {{ wait $!; exit $?; }}; done
echo '{SOCKETS}'
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null
kill -9 $!
exit 0
"""
# The last part of IPv4's loopback addresses and IPv6's own one, as the kernel writes them.
LOOPBACK = re.compile(r"[0-9A-F]{6}7F|0{24}01000000")
LISTENS = re.compile(r"(?m)^ *\d+: (?P<address>[0-9A-F]+):(?P<port>[0-9A-F]{4}) \S+ 0A ")


def choose_port(exposed: Sequence[int]) -> int | None:
    """The port for requests to an image that exposes these ports. None if it may be any of them."""
    if not exposed or DEFAULT_PORT in exposed:
        return DEFAULT_PORT
    return exposed[0] if len(exposed) == 1 else None


async def wait_until_ready(base_url: str, limits: LimitsSection) -> tuple[float | None, str]:
    """Ask /readyz until it says 200: seconds that took and "", or None and the last reason why not."""
    started = time.monotonic()
    reason = "no answer on the exposed port"
    async with _create_client(base_url, limits) as client:
        with anyio.move_on_after(limits.start_seconds):
            while True:
                try:
                    response = await client.get("/readyz")
                    if response.status_code == httpx.codes.OK:
                        return time.monotonic() - started, ""
                    reason = f"/readyz answered {response.status_code}: {response.text[:200]}"
                except httpx.HTTPError as error:
                    reason = f"no answer on the exposed port: {str(error).rstrip('.') or type(error).__name__}"
                await anyio.sleep(POLL_SECONDS)
    return None, reason


def describe_exit(exit_code: int, sockets: str, port: int) -> str:
    """How WATCHED_START ended, in words: the process's own exit code, or whom it let in while it ran.

    `sockets` is /proc/net/tcp and tcp6; there 0A is LISTEN, and the address is in the machine's byte order.
    https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html
    """
    if not sockets:
        return f"it ended with exit code {exit_code}"
    listening = [(found["address"], int(found["port"], 16)) for found in LISTENS.finditer(sockets)]
    addresses = [address for address, number in listening if number == port]
    if not addresses:
        # Those of the container alone may be the engine's.
        others = sorted({number for address, number in listening if not LOOPBACK.fullmatch(address)})
        elsewhere = f", but on {' and '.join(map(str, others))}: EXPOSE that port" if others else ""
        return f"it was running after 5 s, and did not listen on port {port}{elsewhere}"
    if all(LOOPBACK.fullmatch(address) for address in addresses):
        return f"it listens on port {port} for its own container only: let it listen on 0.0.0.0"
    return "it was running and listening after 5 s"


async def send_requests(
    base_url: str, contract: Contract, limits: LimitsSection
) -> tuple[tuple[Answer, ...], tuple[Malformed, ...]]:
    """Send every golden row through /predict, then every malformed request; a status is 0 without an answer.

    A server may close a connection after any answer, and sooner after a bad request: none of these shares one.
    """
    async with (
        _create_client(base_url, limits) as client,
        _create_client(base_url, limits, keep_connections=0) as fresh,
    ):
        answers = [await _predict(client, fresh, row, limits) for row in contract.golden]
        malformed = [
            Malformed(name=name, status=response.status_code if response else 0)
            for name, (method, content, content_type) in create_malformed_requests(contract).items()
            for response in [await _send(fresh, limits, method, content, content_type)]
        ]
    return tuple(answers), tuple(malformed)


def create_malformed_requests(contract: Contract) -> dict[str, tuple[str, bytes, str]]:
    """Requests to /predict that no client should send, each by its name: method, body and content type."""
    features = list(contract.golden[0].features)

    def instead(kind: Kind, name: str, value: float | str) -> dict[str, tuple[str, bytes, str]]:
        """The row with another value in its first feature of this kind. Empty if it has no such feature."""
        if kind not in contract.feature_kinds:
            return {}
        place = contract.feature_kinds.index(kind)
        return {name: ("POST", _encode_body([*features[:place], value, *features[place + 1 :]]), JSON)}

    return {
        "cut short": ("POST", _encode_body(features)[:-3], JSON),
        "nothing": ("POST", b"", JSON),
        "another key": ("POST", b'{"rows": []}', JSON),
        "a feature too few": ("POST", _encode_body(features[:-1]), JSON),
        "a feature too many": ("POST", _encode_body([*features, 1.0]), JSON),
        **instead("number", "a string for a number", "many"),
        **instead("string", "a number for a string", 1.0),
        **instead("number", "not a number", math.nan),
        "plain text": ("POST", _encode_body(features), "text/plain"),
        "GET": ("GET", b"", JSON),
    }


def _create_client(base_url: str, limits: LimitsSection, keep_connections: int | None = None) -> httpx.AsyncClient:
    """A client for the engine's tunnel, which no proxy of the environment leads to."""
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=limits.request_seconds,
        trust_env=False,
        limits=httpx.Limits(max_keepalive_connections=keep_connections),
    )


async def _send(
    client: httpx.AsyncClient, limits: LimitsSection, method: str, content: bytes, content_type: str = JSON
) -> httpx.Response | None:
    """The response of /predict, or None if it was not complete in time: httpx limits only each part of it."""
    with anyio.move_on_after(limits.request_seconds), suppress(httpx.HTTPError):
        return await client.request(method, "/predict", content=content, headers={"Content-Type": content_type})
    return None


async def _predict(
    client: httpx.AsyncClient, fresh: httpx.AsyncClient, row: GoldenRow, limits: LimitsSection
) -> Answer:
    started = time.monotonic()
    response = await _send(client, limits, "POST", _encode_body(row.features))
    if response is None and time.monotonic() - started < limits.request_seconds:
        # The connection of the row before may have been closed meanwhile.
        started = time.monotonic()
        response = await _send(fresh, limits, "POST", _encode_body(row.features))
    answer = Answer(
        expected=row,
        status=response.status_code if response else 0,
        duration_seconds=round(time.monotonic() - started, 4),
    )
    try:
        [prediction] = response.json()["predictions"] if response else []
        fields = {name: prediction[name] for name in _answer_fields(row)}
        return Answer.model_validate({**dict(answer), **fields})
    # What nests very deeply ends in RecursionError.
    except (ValueError, KeyError, TypeError, RecursionError):
        return answer


def _answer_fields(row: GoldenRow) -> tuple[str, ...]:
    if row.value is not None:
        return ("value",)
    return ("label", "probabilities") if row.probabilities else ("label",)


def _encode_body(features: object) -> bytes:
    return json.dumps({"features": features}).encode()
