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

from service.contract import Contract, Feature, FeatureType, ModelLoadError, Value, parse_contract
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


CLASSIFICATION: dict[str, Any] = {
    "name": "doors",
    "task": "classification",
    "artifact": {"file": "model.pkl", "sha256": "0" * 64, "size_bytes": 7},
    "features": [{"name": "width", "type": "number"}, {"name": "sign", "type": "string"}],
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
REGRESSION: dict[str, Any] = {
    **CLASSIFICATION,
    "task": "regression",
    "labels": [],
    "golden": [{"features": [1, "exit"], "value": 0}, {"features": [2.5, "7"], "value": -181.3}],
    "tolerance": 40.0,
}
OPEN = {"label": "open", "probabilities": {"open": 1.0}}
WIDTH, SIGN = CLASSIFICATION["features"]
MULTILABEL = {
    **CLASSIFICATION,
    "task": "multilabel",
    "golden": [
        {"features": [1, "exit"], "labels": ["open", "shut"], "probabilities": {"open": 0.75, "shut": 0.75}},
        {"features": [2.5, "7"], "labels": [], "probabilities": {"open": 0.25, "shut": 0.0}},
    ],
}
VALUES = {
    **REGRESSION,
    "outputs": [{"name": "price", "tolerance": 2.0}, {"name": "days", "tolerance": 0.25}],
    "golden": [{"features": [1, "exit"], "values": {"price": 100, "days": 0}}],
}
OUTLIERS = {
    **CLASSIFICATION,
    "task": "outliers",
    "labels": [-1, 1],
    "golden": [{"features": [1, "exit"], "label": -1, "score": -0.5}],
}
CLUSTERING = {
    **CLASSIFICATION,
    "task": "clustering",
    "labels": [0, 1],
    "golden": [{"features": [1, "exit"], "label": 1}],
}


def test_a_contract_of_each_form_is_taken() -> None:
    # The proof that each of the refusals below is one of what was changed.
    classification, regression = (parse_contract(json.dumps(form).encode()) for form in (CLASSIFICATION, REGRESSION))
    assert classification.features == [Feature("width", "number"), Feature("sign", "string")]
    assert [row.value for row in classification.golden] == [None, None]
    assert [(row.features, row.value) for row in regression.golden] == [([1.0, "exit"], 0.0), ([2.5, "7"], -181.3)]


@pytest.mark.parametrize(
    ("form", "changes", "why"),
    [
        (CLASSIFICATION, {"features": [WIDTH]}, "golden.0 has other features than the model"),
        (CLASSIFICATION, {"features": [WIDTH, WIDTH]}, "golden.0 has other features than the model"),
        (CLASSIFICATION, {"features": [SIGN, WIDTH]}, "golden.0 has other features than the model"),
        (
            CLASSIFICATION,
            {"features": [WIDTH, {"name": "sign", "type": "text"}]},
            "Invalid enum value 'text' - at `$.features[1].type`",
        ),
        (CLASSIFICATION, {"features": ["width", "sign"]}, "Expected `object`, got `str` - at `$.features[0]`"),
        (CLASSIFICATION, {"kinds": ["number", "string"]}, "Object contains unknown field `kinds`"),
        (
            CLASSIFICATION,
            {"features": [WIDTH, {"name": "sign", "type": "category"}]},
            "the category sign has no values",
        ),
        (
            CLASSIFICATION,
            {"features": [WIDTH, {**SIGN, "values": ["exit"]}]},
            "the string sign has values",
        ),
        (CLASSIFICATION, {"labels": []}, "the task classification has labels"),
        (REGRESSION, {"labels": ["open"]}, "the task regression has no labels"),
        (OUTLIERS, {"labels": []}, "the task outliers has labels"),
        (CLUSTERING, {"labels": []}, "the task clustering has labels"),
        (CLASSIFICATION, {"task": "clusters"}, "Invalid enum value 'clusters' - at `$.task`"),
        (CLASSIFICATION, {"outputs": [{"name": "x", "tolerance": 1}]}, "the task classification has no outputs"),
        (VALUES, {"outputs": []}, "golden.0 is not the answer of this model"),
        (VALUES, {"outputs": VALUES["outputs"][::-1]}, "golden.0 has other values than the model's outputs"),
        (VALUES, {"outputs": VALUES["outputs"][:1]}, "golden.0 has other values than the model's outputs"),
        (CLASSIFICATION, {"tolerance": 1}, "the task classification cannot have a tolerance of 1;"),
        (MULTILABEL, {"tolerance": 1}, "the task multilabel cannot have a tolerance of 1;"),
        (CLASSIFICATION, {"tolerance": -1e-6}, "the task classification cannot have a tolerance of -1e-06;"),
        (REGRESSION, {"tolerance": -1}, "the task regression cannot have a tolerance of -1;"),
        (CLASSIFICATION, {"input": "texts"}, "a model of texts has one feature, a string"),
        (CLASSIFICATION, {"input": "texts", "features": [WIDTH]}, "a model of texts has one feature, a string"),
        (CLASSIFICATION, {"input": "images"}, "Invalid enum value 'images' - at `$.input`"),
        (CLASSIFICATION, {"golden_source": "made up"}, "Invalid enum value 'made up' - at `$.golden_source`"),
        (
            CLASSIFICATION,
            {"reference": {"file": "../rows", "sha256": "0" * 64, "size_bytes": 1, "rows": 1}},
            r"Expected `str` matching regex '^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$(?!\\n)' - at `$.reference.file`",
        ),
        (CLASSIFICATION, {"golden": REGRESSION["golden"]}, "golden.0 is not the answer of this model"),
        (REGRESSION, {"golden": CLASSIFICATION["golden"]}, "golden.0 is not the answer of this model"),
        (CLASSIFICATION, {"golden": MULTILABEL["golden"]}, "golden.0 is not the answer of this model"),
        (MULTILABEL, {"golden": CLASSIFICATION["golden"]}, "golden.0 is not the answer of this model"),
        (OUTLIERS, {"golden": [{"features": [1, "exit"], "label": 1}]}, "golden.0 is not the answer of this model"),
        (
            CLUSTERING,
            {"golden": [{"features": [1, "exit"], "label": 1, "score": 0.5}]},
            "golden.0 is not the answer of this model",
        ),
        (
            OUTLIERS,
            {"golden": [{"features": [1, "exit"], "label": 0, "score": 0.5}]},
            "golden.0 has a label that the model does not have",
        ),
        (
            MULTILABEL,
            {"golden": [{**MULTILABEL["golden"][0], "labels": ["open", "ajar"]}]},
            "golden.0 has a label that the model does not have",
        ),
        (
            CLASSIFICATION,
            {"golden": [{"features": [1, "exit"], "label": "open", "probabilities": {"open": 1.0}}]},
            "golden.0 has other probabilities than the model's labels",
        ),
        # One of the rows has none: then no row may have any, or each.
        (
            CLASSIFICATION,
            {"golden": [CLASSIFICATION["golden"][0], {"features": [1, "exit"], "label": "open"}]},
            "golden.1 is not the answer of this model",
        ),
        (
            CLASSIFICATION,
            {"golden": [{**CLASSIFICATION["golden"][0], "label": "ajar"}]},
            "golden.0 has a label that the model does not have",
        ),
        (
            CLASSIFICATION,
            {"golden": [{"features": [1, "exit"], "probabilities": {"open": 1.0}}]},
            "golden.0 is not the answer of this model",
        ),
        (
            CLASSIFICATION,
            {"golden": [{"features": [1, "exit"], "value": 1.0, **OPEN}]},
            "golden.0 is not the answer of this model",
        ),
        (REGRESSION, {"golden": [{"features": [1, "exit"]}]}, "golden.0 is not the answer of this model"),
        (
            REGRESSION,
            {"golden": [{"features": [1, "exit"], "value": 1, "label": "open"}]},
            "golden.0 is not the answer of this model",
        ),
        (
            REGRESSION,
            {"golden": [{"features": [1, "exit"], "value": 1.0, "probabilities": {"open": 1.0}}]},
            "golden.0 is not the answer of this model",
        ),
        (
            REGRESSION,
            {"golden": [*REGRESSION["golden"], {"features": [1], "value": 1}]},
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
            "golden.0 has other features than the model",
        ),
    ],
)
def test_a_contract_whose_parts_do_not_fit_together_is_refused(
    form: dict[str, Any], changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ModelLoadError) as refused:
        parse_contract(json.dumps({**form, **changes}).encode())
    assert str(refused.value).startswith(f"model.json is not a contract: {why}")


@pytest.mark.parametrize("form", [MULTILABEL, VALUES, OUTLIERS, CLUSTERING], ids=lambda form: form["task"])
def test_a_contract_of_each_other_task_is_taken_and_written_as_it_was(form: dict[str, Any]) -> None:
    contract = parse_contract(json.dumps(form).encode())
    assert contract.interface.task == form["task"]
    written = msgspec.to_builtins(contract)
    assert {name: written[name] for name in ("labels", "golden")} == {name: form[name] for name in ("labels", "golden")}
    assert [output.name for output in contract.outputs] == contract.output_names == list(contract.golden[0].values)


@pytest.mark.parametrize(
    ("kind", "values", "accepted", "refused"),
    [
        ("number", [], [1, 2.5, 0], [True, "1", None]),
        ("integer", [], [1, 5.0, -0.0], [5.5, True, "1", None]),
        ("boolean", [], [True, False], [0, 1.0, "true", None]),
        ("string", [], ["", "1"], [1, True, None]),
        # A category may have a value that the model was not trained with, of the same type.
        ("category", ["Basel", "Bern"], ["Bern", "Chur"], [1, True, None]),
        ("category", [1, 2], [1, 7, 2.0], [1.5, "1", True, None]),
        ("category", [1, 2.5], [1, 7.25], ["1", True, None]),
    ],
)
def test_each_type_takes_its_values(
    kind: FeatureType, values: list[str | float], accepted: list[Value], refused: list[Value]
) -> None:
    feature = Feature("a", kind, [*values])
    assert [feature.accepts(value) for value in accepted] == [True] * len(accepted)
    assert [feature.accepts(value) for value in refused] == [False] * len(refused)
    # A gap is taken besides.
    gappy = msgspec.structs.replace(feature, missing=True)
    assert [gappy.accepts(value) for value in refused] == [value is None for value in refused]


class Answering:
    """A model that gives the same answer to each of its rows."""

    inline = True

    def __init__(self, answer: Answers) -> None:
        self._answer = answer

    def predict(self, rows: object) -> Answers:
        return self._answer


@pytest.mark.parametrize(
    ("form", "answer", "wrong"),
    [
        (MULTILABEL, Answers([[0.5, 0.5]], label_sets=[[0, 1]]), ""),
        (
            MULTILABEL,
            Answers([[0.75, 0.75]], label_sets=[[0]]),
            "the first golden row is ['open', 'shut'], this model says ['open']",
        ),
        (VALUES, Answers([[98.5, 0.25]]), ""),
        # Each value has a tolerance of its own.
        (
            VALUES,
            Answers([[100.0, 0.5]]),
            ("the first golden row is {'price': 100.0, 'days': 0.0}, this model says {'price': 100.0, 'days': 0.5}"),
        ),
        (
            VALUES,
            Answers([[103.0, 0.0]]),
            ("the first golden row is {'price': 100.0, 'days': 0.0}, this model says {'price': 103.0, 'days': 0.0}"),
        ),
        (OUTLIERS, Answers([[-0.4]], [0]), ""),
        (OUTLIERS, Answers([[0.5]], [1]), "the first golden row is -1, this model says 1"),
        (CLUSTERING, Answers([], [1]), ""),
        (CLUSTERING, Answers([], [0]), "the first golden row is 1, this model says 0"),
        # Labels that are numbers are never near to each other.
        (
            {
                **CLASSIFICATION,
                "labels": [0.25, 0.5],
                "golden": [{"features": [1, "exit"], "label": 0.25, "probabilities": {"0.25": 1.0, "0.5": 0.0}}],
            },
            Answers([[0.0, 1.0]]),
            "the first golden row is 0.25, this model says 0.5",
        ),
    ],
)
def test_the_first_golden_row_of_each_task_is_compared(form: dict[str, Any], answer: Answers, wrong: str) -> None:
    contract = parse_contract(json.dumps(form).encode())
    assert Model(contract, Answering(answer)).self_test() == wrong


@pytest.mark.parametrize("tolerance", [float("inf"), float("nan")])
def test_a_limit_that_everything_is_within_is_none(tolerance: float) -> None:
    contract = parse_contract(json.dumps(REGRESSION).encode())
    with pytest.raises(ValueError, match=f"^the task regression cannot have a tolerance of {tolerance}$"):
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
