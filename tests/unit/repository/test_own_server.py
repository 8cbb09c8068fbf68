"""The server that the docs show answers as the pipeline asks, the malformed requests too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from drydock.report import Contract
from drydock.tools import predict_client

Ask = Callable[..., httpx.Response]
PAGE = Path(__file__).parents[3] / "docs" / "your-model.md"


@pytest.fixture(scope="module")
def ask(artifacts: Path) -> Ask:
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"))
    [source] = [block for block in blocks if '"/app/artifacts"' in block]
    module: dict[str, Any] = {"__name__": "own_server"}
    # The annotations of its functions are looked up in the module.
    code = compile(source.replace('"/app/artifacts"', repr(str(artifacts))), str(PAGE), "exec", dont_inherit=True)
    exec(code, module)  # noqa: S102 - it is the docs' own example

    def ask(method: str, path: str, **request: Any) -> httpx.Response:  # noqa: ANN401
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(module["app"], raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.request(method, path, **request)

        return anyio.run(send)

    return ask


@pytest.fixture(scope="module")
def contract(artifacts: Path) -> Contract:
    return Contract.model_validate_json((artifacts / "model.json").read_bytes())


def test_it_is_ready(ask: Ask) -> None:
    assert ask("GET", "/readyz").status_code == 200


def test_it_answers_every_golden_row(ask: Ask, contract: Contract) -> None:
    for row in contract.golden:
        answer = ask("POST", "/predict", json={"features": row.features})
        [prediction] = answer.json()["predictions"]
        # The classes of the shipped model are numbers; its labels are names.
        assert sorted(prediction["probabilities"].values()) == pytest.approx(sorted(row.probabilities.values()))


def test_it_answers_every_malformed_request_with_a_4xx(ask: Ask, contract: Contract) -> None:
    for name, (method, content, content_type) in predict_client.create_malformed_requests(contract).items():
        answer = ask(method, "/predict", content=content, headers={"Content-Type": content_type})
        assert 400 <= answer.status_code < 500, name
