from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from drydock.pipeline.record import create_record
from drydock.report import CheckResult, Failure, Ignore, IgnoreState, Report, Verdict, schemas
from tests.support import examples

FORMATS = FormatChecker(["date"])


@FORMATS.checks("date-time", ValueError)
def has_a_time_zone(words: object) -> bool:
    return isinstance(words, str) and datetime.fromisoformat(words).tzinfo is not None


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(
        json.loads((schemas.FOLDER / f"{name}.schema.json").read_text()), format_checker=FORMATS
    )


def written(report: Report) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(report.model_dump_json())
    return document


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in schemas.MODELS:
        schema = json.loads(schemas.render_schema(name))
        for model in (schema, *schema["$defs"].values()):
            for field, described in model.get("properties", {}).items():
                yield f"{model['title']}: {field}", described


FAILURE = Failure(
    stage="scan", exit_code=5, message="no database", likely_cause="", next_step="fetch it", log="FATAL\nlog"
)
REJECTED = examples.report(
    checks=(CheckResult(name="HIGH or CRITICAL", measured="1", limit="0", verdict=Verdict.FAIL, details=("CVE-1",)),),
    scan=examples.scan([examples.HIGH, examples.UNFIXED]),
    findings=(examples.IGNORED, examples.NO_FIX),
    ignores=(Ignore(id="CVE-1", reason="r", owner="o", expires="2026-12-31", state=IgnoreState.EXPIRED),),
    failures=(FAILURE,),
    publication=None,
)
INTERRUPTED = examples.report(
    contract=None,
    image=None,
    smoke=None,
    scan=None,
    checks=(CheckResult(name="image size", measured="", limit="", verdict=Verdict.NOT_RUN, details=("stopped",)),),
    stages=(),
    failures=(FAILURE,),
    publication=None,
)


@pytest.mark.parametrize("name", schemas.MODELS)
def test_a_schema_is_what_the_values_are(name: str) -> None:
    held = (schemas.FOLDER / f"{name}.schema.json").read_text()
    assert held == schemas.render_schema(name), "run make schema, and read what it changed"


@pytest.mark.parametrize("name", schemas.MODELS)
def test_a_schema_says_which_one_it_is(name: str) -> None:
    schema = json.loads(schemas.render_schema(name))
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["$id"], schema["title"]) == (f"urn:drydock:{name}:1", f"Drydock's {name}.json, version 1")
    assert schema["description"]


def test_the_schemas_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    schemas.write_schemas(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "report.schema.json": schemas.render_schema("report"),
        "release.schema.json": schemas.render_schema("release"),
    }


def test_every_number_has_its_unit_and_every_time_its_form() -> None:
    units = ("_bytes", "_seconds", "_days", "_version", "schema")
    for name, described in fields():
        kinds = {described.get("type"), *(each.get("type") for each in described.get("anyOf", []))}
        if kinds & {"integer", "number"}:
            assert name.endswith(units) or "description" in described, name
        if name.endswith(("_at", ": expires")):
            assert "format" in described or "description" in described, name


VALUES = examples.smoke(examples.value_answer(examples.CHEAP, 181.3), examples.value_answer(examples.DEAR, None))
REGRESSION = examples.report(contract=examples.REGRESSION, smoke=VALUES)
MIXED = examples.report(contract=examples.MIXED, smoke=examples.smoke(examples.answer(examples.OPEN)))
OF_EACH_TASK = [
    examples.report(contract=each, smoke=examples.smoke(*map(examples.right_answer, each.golden)))
    for each in (
        examples.TYPED,
        examples.MULTILABEL,
        examples.SEVERAL_VALUES,
        examples.OUTLIERS,
        examples.CLUSTERING,
    )
]


@pytest.mark.parametrize(
    "report",
    [examples.report(), REJECTED, INTERRUPTED, REGRESSION, MIXED, *OF_EACH_TASK],
    ids=[
        *("good", "rejected", "interrupted", "regression", "mixed"),
        *("typed", "multilabel", "several values", "outliers", "clustering"),
    ],
)
def test_every_report_keeps_to_the_schema(report: Report) -> None:
    validator("report").validate(written(report))


def test_a_release_keeps_to_the_schema() -> None:
    validator("release").validate(json.loads(create_record(examples.report()).model_dump_json()))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["surprise"], 1, "Additional properties are not allowed ('surprise' was unexpected)"),
        (["image", "surprise"], 1, "Additional properties are not allowed ('surprise' was unexpected)"),
        (["checks", 0, "verdict"], "PASSED", "'PASSED' is not one of ['PASS', 'WARN', 'FAIL', 'SKIP', 'NOT RUN']"),
        (["findings", 0, "disposition"], "hidden", "'hidden' is not one of"),
        (["ignores", 0, "expires"], "31.12.2026", "'31.12.2026' is not a 'date'"),
        (["scan", "scanned_at"], "2026-11-22T12:00:00", "'2026-11-22T12:00:00' is not a 'date-time'"),
        (["schema_version"], 2, "1 was expected"),
        (["exit_code"], None, "None is not of type 'integer'"),
    ],
)
def test_what_is_no_report_is_refused(path: list[str | int], value: object, said: str) -> None:
    document = written(REJECTED)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert said in refusal(document)


@pytest.mark.parametrize("name", ["exit_code", "comparison", "checks"])
def test_a_report_that_leaves_a_field_out_is_refused(name: str) -> None:
    document = written(INTERRUPTED)
    del document[name]
    assert f"'{name}' is a required property" in refusal(document)


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        validator("report").validate(document)
    # What may be null as well is refused twice, each time for its own reason.
    return "\n".join([caught.value.message, *(each.message for each in caught.value.context or [])])
