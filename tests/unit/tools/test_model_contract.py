from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from drydock.errors import BuildError
from drydock.report import Contract, GoldenRow
from drydock.tools import model_contract
from tests.support import examples

MODEL = b"a model"


def put(
    directory: Path,
    model: bytes | None = MODEL,
    sha256: str = hashlib.sha256(MODEL).hexdigest(),
    contract: Contract = examples.CONTRACT,
) -> Path:
    artifact = contract.artifact.model_copy(update={"sha256": sha256, "size_bytes": len(MODEL)})
    contract = contract.model_copy(update={"artifact": artifact})
    (directory / "model.json").write_text(contract.model_dump_json())
    if model is not None:
        (directory / "model.pkl").write_bytes(model)
    return directory


def contract_with(part: str, other: str, contract: Contract = examples.CONTRACT) -> str:
    whole = contract.model_dump_json()
    assert part in whole
    return whole.replace(part, other)


@pytest.mark.parametrize(
    "contract",
    [
        *(examples.CONTRACT, examples.LEAN, examples.REGRESSION, examples.MIXED, examples.TYPED),
        *(examples.MULTILABEL, examples.SEVERAL_VALUES, examples.OUTLIERS, examples.CLUSTERING),
    ],
    ids=lambda contract: contract.name,
)
def test_a_model_that_is_what_its_contract_says_is_taken(contract: Contract, tmp_path: Path) -> None:
    (tmp_path / "model.forest").write_bytes(MODEL)
    read = model_contract.read_contract(put(tmp_path, contract=contract), contract.runtime)
    assert read.model_copy(update={"artifact": contract.artifact}) == contract


def test_a_value_is_what_json_says_that_it_is(tmp_path: Path) -> None:
    put(tmp_path, contract=examples.TYPED)
    path = tmp_path / "model.json"
    whole = path.read_text()
    assert '["Bern",0,false,1.0,"Ana"]' in whole
    # JSON has one kind of numbers: 5.0 is a whole one, and 9 is a number.
    path.write_text(whole.replace('["Bern",0,false,1.0,"Ana"]', '["Bern",5.0,false,9,"5"]'))
    first, second = model_contract.read_contract(tmp_path).golden
    assert [(type(value), value) for value in second.features] == [
        (str, "Bern"),
        (float, 5.0),
        (bool, False),
        (int, 9),
        (str, "5"),
    ]
    assert first.features[-1] is None


@pytest.mark.parametrize("row", ['["Chur",0,false,1.0,"Ana"]', f'["Bern",1{"0" * 400},false,1{"0" * 400},"Ana"]'])
def test_a_category_may_have_another_value_and_a_number_may_be_large(row: str, tmp_path: Path) -> None:
    put(tmp_path, contract=examples.TYPED)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace('["Bern",0,false,1.0,"Ana"]', row))
    assert len(model_contract.read_contract(tmp_path).golden) == 2


def test_the_form_that_is_written_by_the_service_is_taken(tmp_path: Path) -> None:
    put(tmp_path)
    sha256 = hashlib.sha256(MODEL).hexdigest()
    (tmp_path / "model.json").write_text(f"""{{
        "name": "diabetes", "task": "regression",
        "artifact": {{"file": "model.pkl", "sha256": "{sha256}", "size_bytes": 7}},
        "features": [{{"name": "age", "type": "number"}}], "labels": [],
        "python": "3.13", "libraries": {{"numpy": "2.4.0"}},
        "holdout": {{"rows": 111, "scores": {{"r2": 0.4511, "mean absolute error": 44.1}}}},
        "golden": [{{"features": [0.5], "value": 181.3}}],
        "tolerance": 0.0003, "schema_version": 1, "outputs": [], "input": "table", "golden_source": "holdout",
        "reference": {{"file": "reference.jsonl", "sha256": "{sha256}", "size_bytes": 7, "rows": 1}},
        "runtime": "sklearn", "equivalence": null
    }}""")
    assert model_contract.read_contract(tmp_path).golden == (GoldenRow(features=(0.5,), value=181.3),)


@pytest.mark.parametrize(("given", "runtime"), [("pandas", "compiled"), ("pandas", "sklearn"), ("sklearn", "pandas")])
def test_a_model_for_another_runtime_is_refused_with_the_one_that_it_is_for(
    given: str, runtime: str, tmp_path: Path
) -> None:
    contract = examples.MIXED.model_copy(update={"runtime": given})
    with pytest.raises(BuildError) as refused:
        model_contract.read_contract(put(tmp_path, contract=contract), runtime)
    assert refused.value.message == (
        f"{tmp_path}/model.json is of a model for the runtime {given}, and build.runtime is {runtime}"
    )
    assert refused.value.next_step == f'say runtime = "{given}" under [build], or train the model again'


def test_a_model_that_is_missing_or_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"model\.pkl cannot be read: No such file or directory") as missing:
        model_contract.read_contract(put(tmp_path, model=None))
    assert missing.value.likely_cause == (
        f'the policy says model.train = "", and git brought no model into {tmp_path}/ with this clone'
    )
    assert missing.value.next_step == (
        f"copy model.json and the model that it names into {tmp_path}/ from where they were made; or make both:"
        " drydock contract MODEL DATA; or name a train command under [model]"
    )
    with pytest.raises(BuildError) as refused:
        model_contract.read_contract(put(tmp_path, model=MODEL[:-1]))
    assert refused.value.message == "model.pkl is not the recorded model: 6 bytes, expected 7"
    with pytest.raises(BuildError) as refused:
        model_contract.read_contract(put(tmp_path, model=b"another"))
    got, expected = hashlib.sha256(b"another").hexdigest(), hashlib.sha256(MODEL).hexdigest()
    assert refused.value.message == f"model.pkl is not the recorded model: sha256 {got}, expected {expected}"


NAMES = [
    "/etc/hostname",
    "../model.pkl",
    "..",
    ".",
    "",
    ".hidden",
    "a/b",
    "a b",
    "-o",
    "m[o]del.pkl",
    "*",
    "a\n",
    "m" * 256,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_file_is_one_plain_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(MODEL)
    directory = tmp_path / "models"
    directory.mkdir()
    artifact = examples.CONTRACT.artifact.model_copy(update={"file": name})
    put(directory, contract=examples.CONTRACT.model_copy(update={"artifact": artifact}))
    with pytest.raises(BuildError) as refused:
        model_contract.read_contract(directory)
    assert refused.value.message == (
        f"{directory}/model.json is not a model's contract: artifact.file: it is no plain file name, such as model.pkl"
    )


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", ["model.json", "model.pkl"])
@pytest.mark.parametrize(
    ("replace", "what"),
    [(link, "a link"), (pipe, "no plain file"), (folder, "no plain file")],
    ids=["link", "pipe", "folder"],
)
def test_only_a_plain_file_is_read(name: str, replace: Callable[[Path], None], what: str, tmp_path: Path) -> None:
    replace(put(tmp_path) / name)
    with pytest.raises(BuildError) as refused:
        model_contract.read_contract(tmp_path)
    assert refused.value.message == f"{tmp_path}/{name} is {what}"
    assert refused.value.next_step == "put a copy of the file itself there"


def test_a_file_without_an_end_is_read_no_further_than_it_should_be(tmp_path: Path) -> None:
    put(tmp_path)
    os.truncate(tmp_path / "model.pkl", 1 << 40)
    with pytest.raises(BuildError, match=f"is not the recorded model: {1 << 40} bytes, expected 7"):
        model_contract.read_contract(tmp_path)
    os.truncate(tmp_path / "model.json", 1 << 40)
    with pytest.raises(BuildError, match="is not a model's contract: invalid json"):
        model_contract.read_contract(tmp_path)


@pytest.mark.parametrize(
    ("contract", "why"),
    [
        ("{", "invalid json"),
        ("{}", "schema_version: field required"),
        ('{"schema_version": 2}', "schema_version: input should be 1"),
        (contract_with('"golden":[', '"golden":[],"x":['), "golden: tuple should have at least 1 item"),
        (contract_with("[1.0,2.0]", "[NaN,2.0]"), "golden.0.features.0.float: input should be a finite number"),
        (contract_with("[1.0,2.0]", "[[1.0],2.0]"), "golden.0.features.0.float: input should be a valid number"),
        (contract_with('"small":0.75', '"small":1e999'), "golden.0.probabilities.small: input should be a finite"),
        (contract_with('"tolerance":1e-6', '"tolerance":1e999'), "tolerance: input should be a finite number"),
        (
            contract_with('"task":"classification"', '"task":"ranking"'),
            "task: input should be 'classification', 'multilabel', 'regression',",
        ),
        (contract_with('"runtime":"sklearn"', '"runtime":"../onnx"'), "runtime: string should match pattern '^[a-z]"),
        (contract_with('"scores":{"accuracy":0.95}', '"accuracy":0.95'), "holdout.scores: field required"),
        (contract_with('"type":"number"', '"type":"text"'), "features.0.type: input should be 'number', 'integer',"),
        (contract_with('"name":"width",', ""), "features.0.name: field required"),
        (
            contract_with('"name":"width",', '"name":"width","kind":"x",'),
            "features.0.kind: extra inputs are not permit",
        ),
        (contract_with('"outputs":[]', '"outputs":[{"name":"a","tolerance":-1}]'), "outputs.0.tolerance: input should"),
        (contract_with('"input":"table"', '"input":"images"'), "input: input should be 'table' or 'texts'"),
        (contract_with('"golden_source":"holdout"', '"golden_source":"x"'), "golden_source: input should be 'holdout'"),
        (
            contract_with('"reference":null', '"reference":{"file":"../a","sha256":"b","size_bytes":1,"rows":1}'),
            "reference.file: it is no plain file name, such as model.pkl",
        ),
        (contract_with('"score":0.125', '"score":true', examples.OUTLIERS), "golden.0.score: input should be a valid"),
        (
            contract_with('"labels":["red","round"],"prob', '"labels":[null],"prob', examples.MULTILABEL),
            "golden.0.labels.0.",
        ),
        (
            contract_with('"tolerance":1e-6', '"tolerance":-0.1'),
            "tolerance: input should be greater than or equal to 0",
        ),
    ],
)
def test_a_contract_of_another_form_is_refused(tmp_path: Path, contract: str, why: str) -> None:
    (put(tmp_path) / "model.json").write_text(contract)
    with pytest.raises(BuildError) as refused:
        model_contract.read_contract(tmp_path)
    assert refused.value.message.startswith(f"{tmp_path}/model.json is not a model's contract: ")
    assert why in refused.value.message


VALUE = '"label":null,"labels":null,"probabilities":{},"value":181.3'
LABELLED = '"label":"small","labels":null,"probabilities":{"small":0.75,"large":0.25},"value":null'
NO_ANSWER = "golden.0 is no answer of this model"
OTHER_FEATURES = "golden.0 has other features than the model"


@pytest.mark.parametrize(
    ("contract", "why"),
    [
        (contract_with('"tolerance":1e-6', '"tolerance":1.0'), "with a tolerance of 1 any probability would do"),
        (contract_with('"labels":["small","large"]', '"labels":[]'), "the task classification has labels"),
        (contract_with('"labels":[]', '"labels":["small"]', examples.REGRESSION), "the task regression has no labels"),
        (contract_with('"labels":[-1,1]', '"labels":[]', examples.OUTLIERS), "the task outliers has labels"),
        (contract_with('"labels":[0,1]', '"labels":[]', examples.CLUSTERING), "the task clustering has labels"),
        (
            contract_with('"labels":["red","round"],"python"', '"labels":[],"python"', examples.MULTILABEL),
            "the task multilabel has labels",
        ),
        (
            contract_with('"outputs":[]', '"outputs":[{"name":"a","tolerance":1.0}]'),
            "the task classification has no outputs",
        ),
        (
            contract_with('"tolerance":1e-6', '"tolerance":1.0', examples.MULTILABEL),
            "with a tolerance of 1 any probability would do",
        ),
        (contract_with('"input":"table"', '"input":"texts"'), "a model of texts has one feature, a string"),
        (
            contract_with(
                '"type":"category","values":["Basel","Bern"]', '"type":"category","values":[]', examples.TYPED
            ),
            "the category town has no values",
        ),
        (
            contract_with(
                '"type":"category","values":["open","shut"]', '"type":"string","values":["a"]', examples.MIXED
            ),
            "the string state has values",
        ),
        (contract_with(LABELLED, VALUE), NO_ANSWER),
        (contract_with(LABELLED, LABELLED.replace('"value":null', '"value":1.0')), NO_ANSWER),
        (contract_with(LABELLED, LABELLED.replace('"small",', "null,")), NO_ANSWER),
        (
            contract_with(LABELLED, LABELLED.replace('"small",', '"tiny",')),
            "golden.0 has a label that the model does not have",
        ),
        (
            contract_with(LABELLED, LABELLED.replace(',"large":0.25', "")),
            "golden.0 has other probabilities than the model's labels",
        ),
        # The first golden row says whether the model has probabilities.
        (
            contract_with(LABELLED, LABELLED.replace('"small":0.75,"large":0.25', "")),
            "golden.1 is no answer of this model",
        ),
        (contract_with(VALUE, LABELLED, examples.REGRESSION), NO_ANSWER),
        (
            contract_with(VALUE, VALUE.replace('"label":null', '"label":"small"'), examples.REGRESSION),
            NO_ANSWER,
        ),
        (
            contract_with(VALUE, VALUE.replace("{}", '{"small":1.0}'), examples.REGRESSION),
            NO_ANSWER,
        ),
        (
            contract_with(VALUE, VALUE.replace("181.3", "null"), examples.REGRESSION),
            NO_ANSWER,
        ),
        (contract_with("[8.0,9.0]", "[8.0,9.0,1.0]"), "golden.1 has other features than the model"),
        (contract_with("[8.0,9.0]", '[8.0,"9.0"]'), "golden.1 has other features than the model"),
        (contract_with("[1.0,2.0]", "[true,2.0]"), OTHER_FEATURES),
        (contract_with("[1.0,2.0]", "[null,2.0]"), OTHER_FEATURES),
        (contract_with('["open",', "[1.0,", examples.MIXED), OTHER_FEATURES),
        (contract_with('["Basel",3,', '["Basel",3.5,', examples.TYPED), OTHER_FEATURES),
        (contract_with('["Basel",3,', '["Basel",true,', examples.TYPED), OTHER_FEATURES),
        (contract_with('["Basel",3,', '["Basel",null,', examples.TYPED), OTHER_FEATURES),
        (contract_with('["Basel",3,', "[null,3,", examples.TYPED), OTHER_FEATURES),
        (contract_with("3,true,", "3,1,", examples.TYPED), OTHER_FEATURES),
        (contract_with("3,true,", '3,"true",', examples.TYPED), OTHER_FEATURES),
        (contract_with("12.5,null]", "12.5,1]", examples.TYPED), OTHER_FEATURES),
        (
            contract_with('"label":1,', '"label":3,', examples.TYPED),
            "golden.0 has a label that the model does not have",
        ),
        (
            contract_with('"label":1,', '"label":"1",', examples.TYPED),
            "golden.0 has a label that the model does not have",
        ),
        (
            contract_with('"labels":["red","round"],"prob', '"labels":["red","blue"],"prob', examples.MULTILABEL),
            "golden.0 has a label that the model does not have",
        ),
        (
            contract_with(
                '"label":null,"labels":["red","round"],"prob', '"label":"red","labels":null,"prob', examples.MULTILABEL
            ),
            NO_ANSWER,
        ),
        (contract_with('"values":{"north":47.5,"height":400.0}', '"values":{}', examples.SEVERAL_VALUES), NO_ANSWER),
        (
            contract_with('{"north":47.5,"height":400.0}', '{"north":47.5}', examples.SEVERAL_VALUES),
            "golden.0 has other values than the model's outputs",
        ),
        (contract_with('"score":0.125', '"score":null', examples.OUTLIERS), NO_ANSWER),
        (contract_with('"label":0,', '"label":null,', examples.CLUSTERING), NO_ANSWER),
    ],
)
def test_a_contract_whose_parts_do_not_fit_together_is_refused(tmp_path: Path, contract: str, why: str) -> None:
    (put(tmp_path) / "model.json").write_text(contract)
    with pytest.raises(BuildError) as refused:
        model_contract.read_contract(tmp_path)
    assert refused.value.message == f"{tmp_path}/model.json is not a model's contract: {why}"


def test_how_far_a_value_may_be_off_is_in_its_unit(tmp_path: Path) -> None:
    wide = examples.REGRESSION.model_copy(update={"tolerance": 1000.0})
    assert model_contract.read_contract(put(tmp_path, contract=wide)).tolerance == 1000.0


ROWS = b"[1.0, 2.0]\n[null, 4.5]\n"


def read_rows(tmp_path: Path, content: bytes | None = ROWS, recorded: bytes = ROWS) -> tuple[list[list[object]], str]:
    if content is not None:
        (tmp_path / "reference.jsonl").write_bytes(content)
    reference = {"file": "reference.jsonl", "sha256": hashlib.sha256(recorded).hexdigest(), "size_bytes": 1, "rows": 2}
    contract = examples.CONTRACT.model_dump() | {"reference": reference}
    return model_contract.read_reference_rows(tmp_path, Contract.model_validate(contract))


def test_the_reference_rows_are_those_that_the_contract_has_recorded(tmp_path: Path) -> None:
    assert read_rows(tmp_path) == ([[1.0, 2.0], [None, 4.5]], "")


def test_without_a_reference_the_contract_says_so(tmp_path: Path) -> None:
    assert model_contract.read_reference_rows(tmp_path, examples.CONTRACT) == ([], "the contract has no reference rows")


@pytest.mark.parametrize(
    ("content", "recorded", "said"),
    [
        (None, ROWS, "the reference rows cannot be read: {path}: No such file or directory"),
        (ROWS[1:], ROWS, "{path} is not the recorded file: it has another sha256 than the contract says"),
        (b"[1.0, 2.0]\n[1.0", b"[1.0, 2.0]\n[1.0", "{path} does not have one JSON list a line"),
        (b"\xff", b"\xff", "{path} does not have one JSON list a line"),
        (b"[1.0]", b"[1.0]", "{path} has rows that are not those of the model: it has 2 features"),
        (b"5", b"5", "{path} has rows that are not those of the model: it has 2 features"),
    ],
)
def test_other_reference_rows_are_a_sentence_without_a_value_of_theirs(
    content: bytes | None, recorded: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "reference.jsonl"
    assert read_rows(tmp_path, content, recorded) == ([], said.format(path=path))


def test_a_link_is_not_followed_to_other_rows(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(ROWS)
    (tmp_path / "reference.jsonl").symlink_to(tmp_path / "rows")
    assert read_rows(tmp_path, None) == (
        [],
        f"the reference rows cannot be read: {tmp_path}/reference.jsonl is a link",
    )
