"""Says in plain lines where a build differs from what was released."""

from __future__ import annotations

from collections.abc import Sequence

from drydock.oci.diff import Differences, LayerDifference
from drydock.report import units

# One layer with a new time in every file would hide all others.
FILES_SHOWN = 8


def lines(found: Differences) -> list[str]:
    """The settings that differ, then each layer with its files."""
    said = [f"configuration: {', '.join(found.settings)}"] if found.settings else []
    for layer in found.layers:
        said += _layer(layer)
    return [units.printable(line) for line in said]


def _layer(layer: LayerDifference) -> Sequence[str]:
    count = len(layer.files)
    what = f"{count} file{'' if count == 1 else 's'}" if count else "the same files in other bytes"
    more = count - FILES_SHOWN
    return [
        f"layer {layer.number}: {what}{f', from {layer.created_by}' if layer.created_by else ''}",
        *(f"  /{file.path}: {', '.join(file.what)}" for file in layer.files[:FILES_SHOWN]),
        *([f"  {more} more"] if more > 0 else []),
    ]
