"""Writes a model that is a table, and its contract."""

import hashlib
import json
import pathlib
import sys

directory = pathlib.Path(sys.argv[1])
directory.mkdir()
model = b"a table of two rows"
(directory / "model.pkl").write_bytes(model)
golden = [
    {"features": [1.0], "label": "small", "probabilities": {"small": 0.75, "large": 0.25}},
    {"features": [9.0], "label": "large", "probabilities": {"small": 0.125, "large": 0.875}},
]
contract = {
    "schema_version": 1,
    "name": "tiny",
    "task": "classification",
    "artifact": {"file": "model.pkl", "sha256": hashlib.sha256(model).hexdigest(), "size_bytes": len(model)},
    "features": [{"name": "size", "type": "number"}],
    "labels": ["small", "large"],
    "python": "3.13",
    "libraries": {},
    "holdout": {"rows": 2, "scores": {"accuracy": 1.0}},
    "golden": golden,
    "tolerance": 1e-6,
}
(directory / "model.json").write_text(json.dumps(contract))
