from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import contract as contract_of
from errors import BuildError
from tests.ci import examples

MODEL = b"a model"


def put(directory: Path, model: bytes | None = MODEL, sha256: str = hashlib.sha256(MODEL).hexdigest()) -> Path:
    artefact = examples.CONTRACT.artefact.model_copy(update={"sha256": sha256})
    contract = examples.CONTRACT.model_copy(update={"artefact": artefact})
    (directory / "model.json").write_text(contract.model_dump_json())
    if model is not None:
        (directory / "model.pkl").write_bytes(model)
    return directory


def contract_with(part: str, other: str) -> str:
    whole = examples.CONTRACT.model_dump_json()
    assert part in whole
    return whole.replace(part, other)


def test_a_model_that_is_what_its_contract_says_is_taken(tmp_path: Path) -> None:
    contract = contract_of.read(put(tmp_path))
    assert contract.golden == examples.CONTRACT.golden


def test_a_model_that_is_missing_or_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"model\.pkl cannot be read: No such file or directory"):
        contract_of.read(put(tmp_path, model=None))
    with pytest.raises(BuildError) as refused:
        contract_of.read(put(tmp_path, model=MODEL[:-1]))
    got, expected = hashlib.sha256(MODEL[:-1]).hexdigest(), hashlib.sha256(MODEL).hexdigest()
    assert refused.value.what == f"model.pkl is not the recorded model: sha256 {got}, expected {expected}"


@pytest.mark.parametrize(
    ("contract", "why"),
    [
        ("{", "invalid json"),
        ("{}", "schema: field required"),
        ('{"schema": 2}', "schema: input should be 1"),
        (contract_with('"golden":[', '"golden":[],"x":['), "golden: tuple should have at least 1 item"),
        (contract_with("[1.0,2.0]", "[NaN,2.0]"), "golden.0.features.0: input should be a finite number"),
        (contract_with('"small":0.75', '"small":1e999'), "golden.0.probabilities.small: input should be a finite"),
        (contract_with('"tolerance":1e-6', '"tolerance":1.0'), "tolerance: input should be less than 1"),
        (
            contract_with('"tolerance":1e-6', '"tolerance":-0.1'),
            "tolerance: input should be greater than or equal to 0",
        ),
    ],
)
def test_a_contract_of_another_form_is_refused(tmp_path: Path, contract: str, why: str) -> None:
    (put(tmp_path) / "model.json").write_text(contract)
    with pytest.raises(BuildError) as refused:
        contract_of.read(tmp_path)
    assert refused.value.what.startswith(f"{tmp_path}/model.json is not a model's contract: ")
    assert why in refused.value.what
