"""The server against its own OpenAPI document: whatever that allows is answered, and whatever it forbids is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from service.app import App
from service.model import load
from service.settings import Settings


@pytest.fixture(scope="module")
def api(served: Path) -> Any:  # noqa: ANN401 - as schemathesis types it
    return schemathesis.openapi.from_asgi("/openapi.json", App(load(served), Settings(), "1f3c9e2"))


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_is_documented(case: Any) -> None:  # noqa: ANN401
    case.call_and_validate()
