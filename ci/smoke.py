"""Talks to a running image over HTTP, as its users will, and notes what it answers. Judges nothing."""

from __future__ import annotations

import time

import anyio
import httpx

from config import LimitsSection
from report import Answer, Contract, GoldenRow

POLL_SECONDS = 0.25
MALFORMED = b'{"features": [5.1, 3.5,'


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


async def ask(base_url: str, contract: Contract, limits: LimitsSection) -> tuple[tuple[Answer, ...], int]:
    """Send every golden row through /predict, then one request that is not JSON; its status is 0 without an answer."""
    async with httpx.AsyncClient(base_url=base_url, timeout=limits.request_seconds) as client:
        answers = [await _predict(client, row) for row in contract.golden]
        try:
            malformed = await client.post("/predict", content=MALFORMED, headers={"Content-Type": "application/json"})
        except httpx.HTTPError:
            return tuple(answers), 0
    return tuple(answers), malformed.status_code


async def _predict(client: httpx.AsyncClient, row: GoldenRow) -> Answer:
    try:
        response = await client.post("/predict", json={"features": list(row.features)})
    except httpx.HTTPError:
        return Answer(expected=row, status=0)
    try:
        prediction = response.json()["predictions"][0]
        return Answer(
            expected=row,
            status=response.status_code,
            label=prediction["label"],
            probabilities=prediction["probabilities"],
        )
    except (ValueError, KeyError, IndexError, TypeError):
        return Answer(expected=row, status=response.status_code)
