"""The JSON Schemas of report.json and release.json, made from the values themselves. `make schema` renews the files."""

from __future__ import annotations

import json
from pathlib import Path

from drydock.report import Release, Report, Value

FOLDER = Path(__file__).parent / "schema"
MODELS: dict[str, type[Value]] = {"report": Report, "release": Release}


def render_schema(name: str) -> str:
    """The schema of `report` or `release`, as its file holds it: JSON Schema 2020-12, named by its version."""
    model = MODELS[name]
    described = model.model_json_schema(mode="serialization", by_alias=True)
    version = model.model_fields["schema_version"].default
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:drydock:{name}:{version}",
        "title": f"Drydock's {name}.json, version {version}",
    }
    return json.dumps({**head, **{key: value for key, value in described.items() if key not in head}}, indent=2) + "\n"


def write_schemas(folder: Path) -> None:
    """Write the schemas as <name>.schema.json."""
    for name in MODELS:
        (folder / f"{name}.schema.json").write_text(render_schema(name), encoding="utf-8")


if __name__ == "__main__":
    write_schemas(FOLDER)
