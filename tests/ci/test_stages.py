"""What `stages` does without an engine; tests/engine has the rest."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import anyio
import pytest

import stages
from errors import BuildError, EngineError
from tests.ci import examples

MODEL = b"a model"


def put(directory: Path, model: bytes | None = MODEL, sha256: str = hashlib.sha256(MODEL).hexdigest()) -> Path:
    artefact = examples.CONTRACT.artefact.model_copy(update={"sha256": sha256})
    contract = examples.CONTRACT.model_copy(update={"artefact": artefact})
    (directory / "model.json").write_text(contract.model_dump_json())
    if model is not None:
        (directory / "model.pkl").write_bytes(model)
    return directory


def test_a_model_that_is_what_its_contract_says_is_taken(tmp_path: Path) -> None:
    contract = stages.read_contract(put(tmp_path))
    assert contract.golden == examples.CONTRACT.golden


def test_a_model_that_is_missing_or_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"model\.pkl cannot be read: No such file or directory"):
        stages.read_contract(put(tmp_path, model=None))
    with pytest.raises(BuildError) as refused:
        stages.read_contract(put(tmp_path, model=MODEL[:-1]))
    got, expected = hashlib.sha256(MODEL[:-1]).hexdigest(), hashlib.sha256(MODEL).hexdigest()
    assert refused.value.what == f"model.pkl is not the recorded model: sha256 {got}, expected {expected}"


@pytest.mark.parametrize(
    ("contract", "why"),
    [("{", "invalid json"), ("{}", "schema: field required"), ('{"schema": 2}', "schema: input should be 1")],
)
def test_a_contract_of_another_form_is_refused(tmp_path: Path, contract: str, why: str) -> None:
    (put(tmp_path) / "model.json").write_text(contract)
    with pytest.raises(BuildError) as refused:
        stages.read_contract(tmp_path)
    assert refused.value.what.startswith(f"{tmp_path}/model.json is not a model's contract: ")
    assert why in refused.value.what


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


def test_a_failed_instruction_shows_what_it_printed_and_not_what_others_did() -> None:
    log = """\
11  : [0.1s] | Collecting numpy
12  : \x1b[1mRUN pip install\x1b[0m
12  : [0.3s] | ERROR: No matching distribution found for nonesuch
11  : [0.4s] | Installing numpy
12  : [1m2.5s] | exit status 1
12  : RUN pip install ERROR [0.5s]
12  : ! process "/bin/sh -c pip install nonesuch" did not complete successfully: exit code: 1
9   : Container.export ERROR [0.6s]
9   : ! process "/bin/sh -c pip install nonesuch" did not complete successfully: exit code: 1
"""
    assert stages.failed_instruction(log) == "ERROR: No matching distribution found for nonesuch\nexit status 1"
    assert stages.failed_instruction("") == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("failed: x [traceparent:00-11]", "failed: x"),
        ("\n  a\t b\nc", " a b"),
        ("", "no message"),
        ("a" * 400, "a" * 300),
    ],
)
def test_the_engines_words_are_cut_to_one_line(words: str, said: str) -> None:
    assert stages.first_line(words) == said


def test_what_was_said_is_not_said_again() -> None:
    assert stages.rest("the one line") == ""
    assert stages.rest("the first\nthe second\nthe third\n") == "the second\nthe third"


def test_a_tail_has_no_tracing_numbers() -> None:
    assert stages.tail("a [traceparent:00-11]\nb") == "a\nb"
    assert stages.tail("\n".join(map(str, range(100)))).splitlines() == list(map(str, range(80, 100)))
