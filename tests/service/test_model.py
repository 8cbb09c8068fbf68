from __future__ import annotations

import os
import pickle
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.contract import Contract
from service.model import Model, ModelRefused, Prediction, load
from tests.service.conftest import replace_model, rewrite, truncate_model

INSTALLED = metadata.version("scikit-learn")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Canary:
    """A pickle that creates a folder when it is unpickled: who finds the folder knows that code was run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def refusal(directory: Path) -> str:
    with pytest.raises(ModelRefused) as refused:
        load(directory)
    return str(refused.value)


def test_a_good_model_is_loaded_with_its_contract(artifacts: Path) -> None:
    model = load(artifacts)
    assert model.contract == msgspec.json.decode((artifacts / "model.json").read_bytes(), type=Contract)
    assert model.complaint() == ""


@pytest.mark.parametrize("name", ["model.json", "model.pkl"])
def test_a_missing_file_is_named(name: str, breakable: Path) -> None:
    (breakable / name).unlink()
    assert refusal(breakable) == (
        f"{breakable / name} cannot be read (No such file or directory); train the model first."
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "Input data was truncated"),
        (b"iris", "JSON is malformed: invalid character (byte 0)"),
        (b"[]", "Expected `object`, got `array`"),
        (b"\xff", "JSON is malformed: invalid character (byte 0)"),
    ],
)
def test_a_file_that_is_no_contract_is_refused(content: bytes, why: str, breakable: Path) -> None:
    (breakable / "model.json").write_bytes(content)
    assert refusal(breakable) == f"model.json is no contract: {why}; train the model again."


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schema": 2}, "Invalid enum value 2 - at `$.schema`"),
        ({"labels": None}, "Expected `array`, got `null` - at `$.labels`"),
        ({"golden": []}, "Expected `array` of length >= 1 - at `$.golden`"),
        (
            {"artefact": {"file": "model.pkl", "size_bytes": 1}},
            "Object missing required field `sha256` - at `$.artefact`",
        ),
        ({"note": "a field that no contract has"}, "Object contains unknown field `note`"),
        ({"runtime": "onnx"}, "Invalid enum value 'onnx' - at `$.runtime`"),
    ],
)
def test_a_contract_with_a_wrong_field_is_refused_by_its_name(
    changes: dict[str, Any], why: str, breakable: Path
) -> None:
    rewrite(breakable, **changes)
    assert refusal(breakable) == f"model.json is no contract: {why}; train the model again."


def test_a_truncated_model_is_refused_before_it_is_unpickled(breakable: Path) -> None:
    # Half a pickle cannot be unpickled: had that been tried first, the error would be another one.
    sentence = truncate_model(breakable)
    assert refusal(breakable) == sentence


def test_a_model_with_one_changed_byte_is_refused(breakable: Path) -> None:
    changed = bytearray((breakable / "model.pkl").read_bytes())
    changed[-1] ^= 1
    (breakable / "model.pkl").write_bytes(changed)
    assert refusal(breakable).startswith("model.pkl is not the recorded model: expected sha256 ")


def test_a_pickle_with_another_hash_never_runs_its_code(breakable: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    replace_model(breakable, pickle.dumps(Canary(canary)), sha256="0" * 64)
    assert refusal(breakable).startswith(f"model.pkl is not the recorded model: expected sha256 {'0' * 64} ")
    assert not canary.exists()


def test_a_pickle_of_other_versions_never_runs_its_code(breakable: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    replace_model(breakable, pickle.dumps(Canary(canary)))
    rewrite(breakable, libraries={"scikit-learn": "0.0.1"})
    assert refusal(breakable) == (
        f"the model was trained with scikit-learn 0.0.1 (here {INSTALLED}); train it again with these versions."
    )
    assert not canary.exists()


def test_the_canary_does_run_where_nothing_is_wrong(breakable: Path, tmp_path: Path) -> None:
    # The proof that the two tests above can fail.
    canary = tmp_path / "canary"
    replace_model(breakable, pickle.dumps(Canary(canary)))
    load(breakable)
    assert canary.is_dir()


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"python": "2.7"}, f"python 2.7 (here {PYTHON})"),
        ({"libraries": {"no-such-library": "1.0"}}, "no-such-library 1.0 (here not installed)"),
        (
            {"python": "2.7", "libraries": {"scikit-learn": "0.0.1"}},
            f"python 2.7 (here {PYTHON}), scikit-learn 0.0.1 (here {INSTALLED})",
        ),
    ],
)
def test_other_versions_are_refused_with_both_of_each(changes: dict[str, Any], differing: str, breakable: Path) -> None:
    rewrite(breakable, **changes)
    assert refusal(breakable) == (f"the model was trained with {differing}; train it again with these versions.")


def test_every_golden_row_is_answered_as_recorded(model: Model) -> None:
    golden = model.contract.golden
    # Exactly, without the tolerance: the same machine computes the same sums.
    assert model.predict([row.features for row in golden]) == [
        Prediction(row.label, row.probabilities) for row in golden
    ]


def test_swapped_labels_are_complained_about(swapped: Model) -> None:
    assert swapped.complaint() == "the first golden row is setosa, this model says versicolor"
