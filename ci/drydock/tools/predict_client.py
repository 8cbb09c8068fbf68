"""The HTTP client of a running image: it sends requests and records the responses."""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from drydock.policy import LimitsSection
from drydock.report import Answer, Contract, Feature, GoldenRow, Malformed
from drydock.report.model import FeatureValue

POLL_SECONDS = 0.25
DEFAULT_PORT = 8000
MAX_LIST_ROWS = 100
# For all rows of one image.
MAX_PREDICT_SECONDS = 30
# How often each image answers one row for its median.
TIMED_ROWS = 20
JSON = "application/json"
NUMBERS = ("number", "integer")
# What nests very deeply ends in RecursionError.
MALFORMED_ANSWER_ERRORS = (ValueError, KeyError, TypeError, RecursionError)

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
    base_url: str, contract: Contract, limits: LimitsSection, *, rejects_unknown: bool = False
) -> tuple[tuple[Answer, ...], tuple[Malformed, ...]]:
    """Send every golden row through /predict, then every malformed request; a status is 0 without an answer.

    `rejects_unknown` says that the server must refuse a category's value that the model was not trained with.
    A server may close a connection after any answer, and sooner after a bad request: none of these shares one.
    """
    requests = create_malformed_requests(contract, rejects_unknown=rejects_unknown)
    async with (
        _create_client(base_url, limits) as client,
        _create_client(base_url, limits, keep_connections=0) as fresh,
    ):
        answers = [await _predict(client, fresh, contract, row, limits) for row in contract.golden]
        malformed = [
            Malformed(name=name, status=response.status_code if response else 0)
            for name, (method, content, content_type) in requests.items()
            for response in [await _send(fresh, limits, method, content, content_type)]
        ]
    return tuple(answers), tuple(malformed)


@dataclass(frozen=True)
class RowAnswer:
    """The answer to one row: the status of HTTP, 0 if none came in time, and the prediction as JSON."""

    status: int
    prediction: object = None


async def read_contract(base_url: str, limits: LimitsSection) -> object:
    """The contract in the answer of /model, as JSON; None if there is none."""
    async with _create_client(base_url, limits) as client:
        with anyio.move_on_after(limits.request_seconds), suppress(httpx.HTTPError, *MALFORMED_ANSWER_ERRORS):
            contract: object = (await client.get("/model")).json()["contract"]
            return contract
    return None


async def predict_rows(
    base_url: str, rows: Sequence[Sequence[object]], limits: LimitsSection, median_seconds: float
) -> tuple[RowAnswer | None, ...]:
    """Send the rows through /predict, in lists. A list that is refused is sent again in halves.

    `median_seconds` is what one row takes: a slow image gets shorter lists, so that each has its answer in time.
    A row has None if it was not sent: MAX_PREDICT_SECONDS were over, or no row of the list before was answered.
    """
    answers: list[RowAnswer | None] = []
    in_time = int(limits.request_seconds / 2 / max(median_seconds, 1e-9))
    length = max(1, min(MAX_LIST_ROWS, in_time))
    async with (
        _create_client(base_url, limits) as client,
        _create_client(base_url, limits, keep_connections=0) as fresh,
    ):

        async def predict(some: Sequence[Sequence[object]]) -> list[RowAnswer]:
            # Every server takes one row; some take no lists.
            response, _ = await _send_rows(client, fresh, some[0] if len(some) == 1 else some, limits)
            status = response.status_code if response else 0
            if (predictions := _parse_predictions(response, len(some))) is not None:
                return [RowAnswer(status, prediction) for prediction in predictions]
            # Without an answer in time, halves would take as long.
            if len(some) == 1 or not status:
                return [RowAnswer(status) for _ in some]
            half = len(some) // 2
            return [*await predict(some[:half]), *await predict(some[half:])]

        with anyio.move_on_after(MAX_PREDICT_SECONDS):
            for start in range(0, len(rows), length):
                part = await predict(rows[start : start + length])
                answers += part
                if all(answer.prediction is None for answer in part):
                    break
    return (*answers, *[None] * (len(rows) - len(answers)))


async def measure_medians(
    base_urls: Sequence[str], rows: Sequence[Sequence[Sequence[object]]], limits: LimitsSection
) -> list[float]:
    """The median seconds of an answer to one row, for several images in turn; each gets its own form of the rows."""
    clients = [(_create_client(url, limits), _create_client(url, limits, keep_connections=0)) for url in base_urls]
    durations: list[list[float]] = [[] for _ in clients]
    async with AsyncExitStack() as stack:
        for each in itertools.chain(*clients):
            await stack.enter_async_context(each)
        # The first answer of each opens its connection.
        for number in range(-1, TIMED_ROWS):
            for (client, fresh), own_rows, taken in zip(clients, rows, durations, strict=True):
                _, seconds = await _send_rows(client, fresh, own_rows[number % len(own_rows)], limits)
                if number >= 0:
                    taken.append(seconds)
    return [statistics.median(taken) for taken in durations]


def _parse_predictions(response: httpx.Response | None, count: int) -> list[Any] | None:
    """The predictions of a response; None if it has not one for each of `count` rows."""
    if response is None or not response.is_success:
        return None
    with suppress(*MALFORMED_ANSWER_ERRORS):
        predictions = response.json()["predictions"]
        if isinstance(predictions, list) and len(predictions) == count:
            return list(predictions)
    return None


def create_malformed_requests(
    contract: Contract, *, rejects_unknown: bool = False
) -> dict[str, tuple[str, bytes, str]]:
    """Requests to /predict that no client should send, each by its name: method, body and content type."""
    features = list(contract.golden[0].features)

    def instead(
        name: str, value: FeatureValue, is_wrong: Callable[[Feature], bool]
    ) -> dict[str, tuple[str, bytes, str]]:
        """The row with this value in the first feature for which it is wrong. Empty if it is right for all."""
        for place, feature in enumerate(contract.features):
            if is_wrong(feature):
                return {name: ("POST", _encode_body([*features[:place], value, *features[place + 1 :]]), JSON)}
        return {}

    category = next((feature for feature in contract.features if rejects_unknown and feature.values), None)
    unknown = {} if category is None else instead("an unknown category", _find_unknown(category), category.__eq__)
    return {
        "cut short": ("POST", _encode_body(features)[:-3], JSON),
        "nothing": ("POST", b"", JSON),
        "another key": ("POST", b'{"rows": []}', JSON),
        "a feature too few": ("POST", _encode_body(features[:-1]), JSON),
        "a feature too many": ("POST", _encode_body([*features, 1.0]), JSON),
        **instead("a string for a number", "many", lambda feature: feature.base_type in NUMBERS),
        **instead("a number for a boolean", 1, lambda feature: feature.base_type == "boolean"),
        **instead("a number for a string", 1.0, lambda feature: feature.base_type == "string"),
        **instead("not a number", math.nan, lambda feature: feature.base_type in NUMBERS),
        **instead("a missing value", None, lambda feature: not feature.missing),
        **unknown,
        "plain text": ("POST", _encode_body(features), "text/plain"),
        "GET": ("GET", b"", JSON),
    }


def _find_unknown(feature: Feature) -> FeatureValue:
    """A value of a category's type that the model was not trained with."""
    values = feature.values
    if feature.base_type == "string":
        return next(word for number in range(len(values) + 1) if (word := f"unknown {number}") not in values)
    return next(number for number in range(len(values) + 1) if number not in values)


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


async def _send_rows(
    client: httpx.AsyncClient, fresh: httpx.AsyncClient, features: object, limits: LimitsSection
) -> tuple[httpx.Response | None, float]:
    """The response to one row or a list of rows, or None if there was none, and the seconds that it took."""
    started = time.monotonic()
    response = await _send(client, limits, "POST", _encode_body(features))
    if response is None and time.monotonic() - started < limits.request_seconds:
        # The connection of the row before may have been closed meanwhile.
        started = time.monotonic()
        response = await _send(fresh, limits, "POST", _encode_body(features))
    return response, time.monotonic() - started


async def _predict(
    client: httpx.AsyncClient,
    fresh: httpx.AsyncClient,
    contract: Contract,
    row: GoldenRow,
    limits: LimitsSection,
) -> Answer:
    response, duration_seconds = await _send_rows(client, fresh, row.features, limits)
    answer = Answer(
        expected=contract.hide_private(row),
        status=response.status_code if response else 0,
        duration_seconds=round(duration_seconds, 4),
    )
    try:
        [prediction] = _parse_predictions(response, 1) or [{}]
        fields = {name: prediction[name] for name in contract.answer_fields}
        return Answer.model_validate({**dict(answer), **fields})
    except MALFORMED_ANSWER_ERRORS:
        return answer


def _encode_body(features: object) -> bytes:
    return json.dumps({"features": features}).encode()
