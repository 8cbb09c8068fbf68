"""Prints the JSON Schema of model.json: `python -m export.schema >export/model.schema.json`; `make schema` does so."""

from __future__ import annotations

import json

import msgspec

from service.contract import Contract


def render() -> str:
    """The schema as its file holds it: JSON Schema 2020-12, named by its version."""
    (root,), definitions = msgspec.json.schema_components((Contract,), ref_template="#/$defs/{name}")
    contract = definitions.pop("Contract")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:drydock:model:1",
        "title": "Drydock's model.json, version 1",
    }
    assert root == {"$ref": "#/$defs/Contract"}  # noqa: S101 - a reference to what is written here
    return json.dumps({**contract, **head, "$defs": definitions}, indent=2) + "\n"


if __name__ == "__main__":
    print(render(), end="")
