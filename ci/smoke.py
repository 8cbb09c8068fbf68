"""Talks to a running image over HTTP, as its users will, and notes what it answers. Judges nothing."""

from __future__ import annotations

import json
import math
import re
import time

import anyio
import httpx

from config import LimitsSection
from report import Answer, Contract, GoldenRow, Malformed

POLL_SECONDS = 0.25
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


async def wait_until_ready(base_url: str, limits: LimitsSection) -> tuple[float | None, str]:
    """Ask /readyz until it says 200: seconds that took and "", or None and the last reason why not."""
    started = time.monotonic()
    reason = "no answer on the exposed port"
    async with httpx.AsyncClient(base_url=base_url, timeout=limits.request_seconds) as client:
        with anyio.move_on_after(limits.start_seconds):
            while True:
                try:
                    response = await client.get("/readyz")
                    if response.status_code == httpx.codes.OK:
                        return time.monotonic() - started, ""
                    reason = f"/readyz answered {response.status_code}: {response.text[:200]}"
                except httpx.HTTPError as error:
                    reason = f"no answer on the exposed port: {error or type(error).__name__}"
                await anyio.sleep(POLL_SECONDS)
    return None, reason


def ending(exit_code: int, sockets: str, port: int) -> str:
    """How WATCHED_START ended, in words: the process's own exit code, or whom it let in while it ran.

    `sockets` is /proc/net/tcp and tcp6; there 0A is LISTEN, and the address is in the machine's byte order.
    https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html
    """
    if not sockets:
        return f"it ended with exit code {exit_code}"
    addresses = [found["address"] for found in LISTENS.finditer(sockets) if int(found["port"], 16) == port]
    if not addresses:
        return f"it was running after 5 s, and did not listen on port {port}"
    if all(LOOPBACK.fullmatch(address) for address in addresses):
        return f"it listens on port {port} for its own container only: let it listen on 0.0.0.0"
    return "it was running and listening after 5 s"


async def ask(
    base_url: str, contract: Contract, limits: LimitsSection
) -> tuple[tuple[Answer, ...], tuple[Malformed, ...]]:
    """Send every golden row through /predict, then every malformed request; a status is 0 without an answer."""
    async with httpx.AsyncClient(base_url=base_url, timeout=limits.request_seconds) as client:
        answers = [await _predict(client, row) for row in contract.golden]
        malformed = [
            Malformed(name=name, status=await _status(client, method, content, content_type))
            for name, (method, content, content_type) in malformed_requests(contract).items()
        ]
    return tuple(answers), tuple(malformed)


def malformed_requests(contract: Contract) -> dict[str, tuple[str, bytes, str]]:
    """Requests to /predict that no client should send, each by its name: method, body and content type."""
    features = list(contract.golden[0].features)

    def body(value: object) -> bytes:
        return json.dumps({"features": value}).encode()

    return {
        "cut short": ("POST", body(features)[:-3], JSON),
        "nothing": ("POST", b"", JSON),
        "another key": ("POST", b'{"rows": []}', JSON),
        "a feature too few": ("POST", body(features[:-1]), JSON),
        "a feature too many": ("POST", body([*features, 1.0]), JSON),
        "a word for a number": ("POST", body(["many", *features[1:]]), JSON),
        "not a number": ("POST", body([math.nan, *features[1:]]), JSON),
        "plain text": ("POST", body(features), "text/plain"),
        "GET": ("GET", b"", JSON),
    }


async def _status(client: httpx.AsyncClient, method: str, content: bytes, content_type: str) -> int:
    try:
        headers = {"Content-Type": content_type}
        return (await client.request(method, "/predict", content=content, headers=headers)).status_code
    except httpx.HTTPError:
        return 0


async def _predict(client: httpx.AsyncClient, row: GoldenRow) -> Answer:
    started = time.monotonic()
    try:
        response = await client.post("/predict", json={"features": list(row.features)})
    except httpx.HTTPError:
        return Answer(expected=row, status=0, duration_seconds=round(time.monotonic() - started, 4))
    duration_seconds = round(time.monotonic() - started, 4)
    try:
        prediction = response.json()["predictions"][0]
        return Answer(
            expected=row,
            status=response.status_code,
            label=prediction["label"],
            probabilities=prediction["probabilities"],
            duration_seconds=duration_seconds,
        )
    except (ValueError, KeyError, IndexError, TypeError):
        return Answer(expected=row, status=response.status_code, duration_seconds=duration_seconds)
