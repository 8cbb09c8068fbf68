"""model.json has one definition, the server's. Its schema is published, and the pipeline reads the same fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from drydock.report import Contract
from export.schema import render
from tests.support.models import REPOSITORY_ROOT

SCHEMA = json.loads(render())


def test_the_file_is_what_the_server_reads() -> None:
    assert (REPOSITORY_ROOT / "export" / "model.schema.json").read_text(encoding="utf-8") == render()
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("folder", ["artifacts", "compiled_artifacts", "diabetes", "compiled_diabetes", "tickets"])
def test_every_contract_that_is_written_is_valid_and_read_by_the_pipeline(
    folder: str, request: pytest.FixtureRequest
) -> None:
    directory: Path = request.getfixturevalue(folder)
    content = (directory / "model.json").read_bytes()
    assert list(Draft202012Validator(SCHEMA).iter_errors(json.loads(content))) == []
    assert Contract.model_validate_json(content).artifact.file in {path.name for path in directory.iterdir()}


def fields(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, set[str]]:
    """The fields of each object, by the object's name."""
    objects = {"Contract": schema, **definitions}
    return {name: set(each["properties"]) for name, each in objects.items() if "properties" in each}


def test_the_pipeline_knows_the_same_fields() -> None:
    theirs = Contract.model_json_schema()
    assert fields(SCHEMA, SCHEMA["$defs"]) == fields(theirs, theirs["$defs"])
