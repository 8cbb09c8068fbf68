from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.contract import Contract, ModelLoadError, parse_contract
from service.model import ClassPrediction, Model, RegressionPrediction, load_model
from service.runtimes import Answers, PredictionError
from tests.support.models import replace_model, rewrite, truncate_model

INSTALLED = metadata.version("scikit-learn")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Canary:
    """A pickle that creates a folder when it is unpickled: who finds the folder knows that code was run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def refusal(directory: Path) -> str:
    with pytest.raises(ModelLoadError) as refused:
        load_model(directory)
    return str(refused.value)


def test_a_good_model_is_loaded_with_its_contract(artifacts: Path) -> None:
    model = load_model(artifacts)
    assert model.contract == msgspec.json.decode((artifacts / "model.json").read_bytes(), type=Contract)
    assert model.self_test() == ""


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
    assert refusal(breakable) == f"model.json is not a contract: {why}; train the model again."


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schema_version": 2}, "Invalid enum value 2 - at `$.schema_version`"),
        ({"labels": None}, "Expected `array`, got `null` - at `$.labels`"),
        ({"golden": []}, "Expected `array` of length >= 1 - at `$.golden`"),
        (
            {"artifact": {"file": "model.pkl", "size_bytes": 1}},
            "Object missing required field `sha256` - at `$.artifact`",
        ),
        ({"note": "a field that no contract has"}, "Object contains unknown field `note`"),
        (
            {"runtime": "../onnx"},
            r"Expected `str` matching regex '^[a-z][a-z0-9_]*$(?!\\n)' - at `$.runtime`",
        ),
    ],
)
def test_a_contract_with_a_wrong_field_is_refused_by_its_name(
    changes: dict[str, Any], why: str, breakable: Path
) -> None:
    rewrite(breakable, **changes)
    assert refusal(breakable) == f"model.json is not a contract: {why}; train the model again."


@pytest.mark.parametrize(
    "name",
    ["/etc/hostname", "../model.pkl", "..", ".", "", "a/b", "a\\b", "model.pkl\n", "a" * 256, ".hidden", "modèl"],
)
def test_a_models_file_is_one_plain_name(name: str, breakable: Path) -> None:
    rewrite(breakable, artifact={"file": name, "sha256": "0" * 64, "size_bytes": 1})
    assert refusal(breakable) == (
        r"model.json is not a contract: Expected `str` matching regex '^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$(?!\\n)' - "
        "at `$.artifact.file`; train the model again."
    )


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
    load_model(breakable)
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
        ClassPrediction(row.label or "", row.probabilities) for row in golden
    ]


def test_swapped_labels_are_complained_about(swapped: Model) -> None:
    assert swapped.self_test() == "the first golden row is setosa, this model says versicolor"


CLASSIFICATION = {
    "name": "doors",
    "task": "classification",
    "artifact": {"file": "model.pkl", "sha256": "0" * 64, "size_bytes": 7},
    "features": ["width", "sign"],
    "kinds": ["number", "string"],
    "labels": ["open", "shut"],
    "python": PYTHON,
    "libraries": {},
    "holdout": {"rows": 2, "scores": {"accuracy": 0.5}},
    "golden": [
        {"features": [1, "exit"], "label": "open", "probabilities": {"open": 0.75, "shut": 0.25}},
        {"features": [2.5, "7"], "label": "shut", "probabilities": {"open": 0.0, "shut": 1.0}},
    ],
    "tolerance": 0.999,
    "schema_version": 1,
}
REGRESSION = {
    **CLASSIFICATION,
    "task": "regression",
    "labels": [],
    "golden": [{"features": [1, "exit"], "value": 0}, {"features": [2.5, "7"], "value": -181.3}],
    "tolerance": 40.0,
}
OPEN = {"label": "open", "probabilities": {"open": 1.0}}


def test_a_contract_of_each_form_is_taken() -> None:
    # The proof that each of the refusals below is one of what was changed.
    classification, regression = (parse_contract(json.dumps(form).encode()) for form in (CLASSIFICATION, REGRESSION))
    assert classification.feature_kinds == ["number", "string"]
    assert [row.value for row in classification.golden] == [None, None]
    assert [(row.features, row.value) for row in regression.golden] == [([1.0, "exit"], 0.0), ([2.5, "7"], -181.3)]


@pytest.mark.parametrize(
    ("form", "changes", "why"),
    [
        (CLASSIFICATION, {"kinds": ["number"]}, "it has 2 features, and kinds of 1"),
        (CLASSIFICATION, {"kinds": []}, "golden.0 has other features than the model"),
        (CLASSIFICATION, {"kinds": ["number", "text"]}, "Invalid enum value 'text' - at `$.kinds[1]`"),
        (CLASSIFICATION, {"kinds": ["string", "number"]}, "golden.0 has other features than the model"),
        (CLASSIFICATION, {"labels": []}, "a classification has labels"),
        (REGRESSION, {"labels": ["open"]}, "a regression has no labels"),
        (CLASSIFICATION, {"task": "clustering"}, "Invalid enum value 'clustering' - at `$.task`"),
        (CLASSIFICATION, {"tolerance": 1}, "a classification cannot have a tolerance of 1;"),
        (CLASSIFICATION, {"tolerance": -1e-6}, "a classification cannot have a tolerance of -1e-06;"),
        (REGRESSION, {"tolerance": -1}, "a regression cannot have a tolerance of -1;"),
        (CLASSIFICATION, {"golden": REGRESSION["golden"]}, "golden.0 is not the answer of a classification"),
        (REGRESSION, {"golden": CLASSIFICATION["golden"]}, "golden.0 is not the answer of a regression"),
        (
            CLASSIFICATION,
            {"golden": [{"features": [1, "exit"], "label": "ajar"}]},
            "golden.0 has a label that the model does not have",
        ),
        (
            CLASSIFICATION,
            {"golden": [{"features": [1, "exit"], "probabilities": {"open": 1.0}}]},
            "golden.0 is not the answer of a classification",
        ),
        (
            CLASSIFICATION,
            {"golden": [{"features": [1, "exit"], "value": 1.0, **OPEN}]},
            "golden.0 is not the answer of a classification",
        ),
        (REGRESSION, {"golden": [{"features": [1, "exit"]}]}, "golden.0 is not the answer of a regression"),
        (
            REGRESSION,
            {"golden": [{"features": [1, "exit"], "value": 1, "label": "open"}]},
            "golden.0 is not the answer of a reg",
        ),
        (
            REGRESSION,
            {"golden": [{"features": [1, "exit"], "value": 1.0, "probabilities": {"open": 1.0}}]},
            "golden.0 is not the answer of a regression",
        ),
        (
            REGRESSION,
            {"golden": [*REGRESSION["golden"], {"features": [1], "value": 1}]},  # type: ignore[misc]
            "golden.2 has other features than the model",
        ),
        (
            REGRESSION,
            {"golden": [{"features": [1, "exit", 2], "value": 1}]},
            "golden.0 has other features than the model",
        ),
        (CLASSIFICATION, {"golden": [{"features": [1, 2], **OPEN}]}, "golden.0 has other features than the model"),
        (CLASSIFICATION, {"golden": [{"features": ["1", "2"], **OPEN}]}, "golden.0 has other features than the model"),
        (
            CLASSIFICATION,
            {"golden": [{"features": [True, "exit"], **OPEN}]},
            "Expected `float | str`, got `bool` - at `$.golden[0].features[0]`",
        ),
    ],
)
def test_a_contract_whose_parts_do_not_fit_together_is_refused(
    form: dict[str, Any], changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ModelLoadError) as refused:
        parse_contract(json.dumps({**form, **changes}).encode())
    assert str(refused.value).startswith(f"model.json is not a contract: {why}")


@pytest.mark.parametrize("tolerance", [float("inf"), float("nan")])
def test_a_limit_that_everything_is_within_is_none(tolerance: float) -> None:
    contract = parse_contract(json.dumps(REGRESSION).encode())
    with pytest.raises(ValueError, match=f"^a regression cannot have a tolerance of {tolerance}$"):
        msgspec.structs.replace(contract, tolerance=tolerance)


def test_every_golden_row_of_a_regression_is_answered_as_recorded(regression: Model) -> None:
    golden = regression.contract.golden
    assert regression.predict([row.features for row in golden]) == [
        RegressionPrediction(row.value or 0.0) for row in golden
    ]
    assert regression.self_test() == ""


@pytest.mark.parametrize(
    ("off", "self_test"),
    [
        (0.0002, ""),
        (-0.0002, ""),
        (0.0004, "the first golden row is 70.82339802974802, this model says 70.82299802974802"),
        (-0.0004, "the first golden row is 70.82259802974802, this model says 70.82299802974802"),
    ],
)
def test_a_value_may_be_off_by_as_much_as_its_contract_says(off: float, self_test: str, regression: Model) -> None:
    contract = regression.contract
    assert contract.tolerance == 0.0003
    first = msgspec.structs.replace(contract.golden[0], value=70.82299802974802 + off)
    other = msgspec.structs.replace(contract, golden=[first, *contract.golden[1:]])
    assert Model(other, regression.predictor).self_test() == self_test


class Refusing:
    """A model that has no answer to anything."""

    inline = True

    def predict(self, rows: object) -> Answers:
        raise PredictionError("The model does not take one of these rows.")


def test_a_model_that_refuses_its_golden_row_is_not_ready(regression: Model) -> None:
    refusing = Model(regression.contract, Refusing())
    assert refusing.self_test() == "the first golden row is refused: The model does not take one of these rows."


def test_a_model_with_words_answers_its_golden_rows_one_by_one_and_together(mixed: Model) -> None:
    golden = mixed.contract.golden
    assert mixed.contract.runtime == "pandas"
    assert mixed.self_test() == ""
    rows = [row.features for row in golden]
    for told in (mixed.predict(rows), [mixed.predict([row])[0] for row in rows]):
        for prediction, row in zip(told, golden, strict=True):
            assert isinstance(prediction, ClassPrediction)
            assert prediction.label == row.label
            assert prediction.probabilities == pytest.approx(row.probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (b"cnobodys_code\nScaler\n.", "No module named 'nobodys_code'"),
        (b"csklearn.no_such_part\nScaler\n.", "No module named 'sklearn.no_such_part'"),
        # What a notebook defines is called __main__, and is not in this one.
        (b"c__main__\nScaler\n.", "module '__main__' has no attribute 'Scaler'"),
    ],
)
def test_a_pickle_that_needs_code_that_is_not_here_is_refused(content: bytes, missing: str, breakable: Path) -> None:
    replace_model(breakable, content)
    sentence = refusal(breakable)
    assert sentence.startswith(f"the model needs a module that is not in this image ({missing}")
    assert sentence.endswith("); train it with the packages of requirements/image-sklearn.txt only.")


@pytest.mark.parametrize("runtime", ["base", "onnx", "runtimes"])
def test_an_unknown_runtime_is_refused_by_its_name(breakable: Path, runtime: str) -> None:
    rewrite(breakable, runtime=runtime)
    assert refusal(breakable) == (
        f"the model is for the {runtime} runtime, which this image does not have (service.runtimes.{runtime} is "
        "missing); build the image with that runtime, or convert the model."
    )


def test_a_frame_is_refused_where_pandas_is_not_installed(
    tickets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tickets, tmp_path / "artifacts")
    rewrite(tmp_path / "artifacts", libraries={"no-such-pandas": "3.1.1"})
    assert refusal(tmp_path / "artifacts") == (
        "the model was trained with no-such-pandas 3.1.1 (here not installed); train it again with these versions."
    )
    rewrite(tmp_path / "artifacts", libraries={})
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.delitem(sys.modules, "service.runtimes.pandas", raising=False)
    sentence = refusal(tmp_path / "artifacts")
    assert sentence.startswith(
        "the model is for the pandas runtime, which this image does not have (pandas is missing)"
    )
