"""What `stages` does without an engine; tests/engine has the rest."""

from __future__ import annotations

import socket
from pathlib import Path

import anyio
import pytest

import stages
from errors import EngineError
from tests.ci import examples


@pytest.mark.parametrize("address", ["unix://{}/none.sock", "tcp://127.0.0.1:{}", "tcp://127.0.0.1:none"])
def test_an_engine_that_does_not_answer_is_said_at_once(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = address.format(tmp_path if address.startswith("unix") else port)
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST", named)

    async def connected() -> None:
        async with stages.connect(examples.plan(tmp_path)):
            raise AssertionError("somebody answered")

    with pytest.raises(EngineError) as silent:
        anyio.run(connected)
    assert silent.value.what.startswith(f"no engine answers at {named}: ")
    assert silent.value.next_step.startswith("make run starts one")
