"""Summarizes in plain lines how a build differs from what was released."""

from __future__ import annotations

from drydock.oci.diff import Differences, LayerDifference
from drydock.report import units

# One layer with a new time in every file would hide all others.
MAX_FILES = 8


def summarize(differences: Differences) -> list[str]:
    """Return the settings that differ, then each layer with its files, one line each."""
    lines = [f"configuration: {', '.join(differences.settings)}"] if differences.settings else []
    for layer in differences.layers:
        lines += _describe_layer(layer)
    return [units.sanitize(line) for line in lines]


def _describe_layer(layer: LayerDifference) -> list[str]:
    count = len(layer.files)
    summary = f"{count} file{'' if count == 1 else 's'}" if count else "the same files in other bytes"
    more = count - MAX_FILES
    return [
        f"layer {layer.number}: {summary}{f', from {layer.created_by}' if layer.created_by else ''}",
        *(f"  /{file.path}: {', '.join(file.what)}" for file in layer.files[:MAX_FILES]),
        *([f"  {more} more"] if more > 0 else []),
    ]
