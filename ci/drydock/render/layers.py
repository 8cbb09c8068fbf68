"""The contents of an image as plain text: a summary, the full list, and the files of a layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drydock.oci.analysis import FileChange
from drydock.report import Change, Comparison, Image, Layer, Waste
from drydock.report.units import format_difference, format_size, sanitize

WIDTH = 120

PACKAGES_IN_SECTION = 5
WASTE_IN_SECTION = 3
CHANGES_IN_LINE = 4
# What is smaller is much in number and little in bytes.
TABLE_BYTES = 100_000

DIGEST_SHOWN = len("sha256:") + 12
WHY = {"removed": "removed later", "replaced": "replaced later", "duplicate": "a second copy"}


def section(image: Image, comparison: Comparison | None) -> list[str]:
    """The lines in a run's report: sizes, layers, the largest packages and waste, and what changed since the last."""
    lines = [*_sizes(image), "", *_layers(image)]
    if image.packages:
        largest = [f"{sanitize(package.name)} {format_size(package.size_bytes)}" for package in image.packages]
        lines += ["", f"packages   {_first(largest, PACKAGES_IN_SECTION)}"]
    if waste := [item for item in image.waste if item.size_bytes >= TABLE_BYTES]:
        lines += ["", "waste", *_waste(waste[:WASTE_IN_SECTION])]
    if comparison:
        lines += ["", f"{_since(comparison)}: {_first(_changes(comparison), CHANGES_IN_LINE)}"]
    return lines


def explain(image: Image, comparison: Comparison | None) -> str:
    """The layers, packages, files and waste of an image; each share is one of the image's size."""
    packages = [
        (package.size_bytes, f"{package.kind}  {sanitize(package.name)} {sanitize(package.version)}")
        for package in image.packages
    ]
    folders = [(folder.size_bytes, sanitize(folder.name)) for folder in image.other_folders]
    files = [f"{format_size(file.size_bytes):>9}   layer {file.layer}  /{sanitize(file.path)}" for file in image.files]
    lines = [f"image      {image.manifest_digest}", *_sizes(image), "", *_layers(image)]
    lines += ["", "packages", *_table(packages, image)] if packages else []
    lines += ["", "of no package", *_table(folders, image)] if folders else []
    lines += ["", "largest files", *files] if files else []
    lines += ["", "waste", *_waste(image.waste)] if image.waste else []
    lines += ["", _since(comparison), *(f"  {change}" for change in _changes(comparison))] if comparison else []
    return "\n".join([*lines, ""])


def layer(number: int, described: Layer, files: Iterable[FileChange]) -> str:
    """A layer with every file that it added (+), replaced (~) or removed (-)."""
    lines = [
        f"layer {number}    {format_size(described.size_bytes)}, {format_size(described.compressed_bytes)} compressed, "
        f"files {_files(described)}",
        *([f"           {sanitize(described.created_by)}"] if described.created_by else []),
        "",
        *(f"{format_size(file.size_bytes):>9}   {file.mark} /{sanitize(file.path)}" for file in files),
    ]
    return "\n".join([*lines, ""])


def _sizes(image: Image) -> list[str]:
    wasted = f", {format_size(image.wasted_bytes)} stored for nothing" if image.wasted_bytes else ""
    return [
        f"size       {format_size(image.size_bytes)}",
        f"compressed {format_size(image.compressed_bytes)}",
        f"efficiency {100 * image.efficiency:.1f} %{wasted}",
    ]


def _layers(image: Image) -> list[str]:
    row = " {number:>5} {size:>9} {compressed:>11}   {files:<22} {instruction}"
    head = {"number": "layer", "size": "size", "compressed": "compressed", "files": "files"}
    lines = [row.format(**head, instruction="instruction")]
    for number, described in enumerate(image.layers, start=1):
        line = row.format(
            number=number,
            size=format_size(described.size_bytes),
            compressed=format_size(described.compressed_bytes),
            files=_files(described),
            instruction=sanitize(described.created_by),
        ).rstrip()
        lines.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…")
    return lines


def _files(described: Layer) -> str:
    return f"+{described.files_added} ~{described.files_replaced} -{described.files_removed}"


def _table(rows: Sequence[tuple[int, str]], image: Image) -> list[str]:
    shown = [(size_bytes, what) for size_bytes, what in rows if size_bytes >= TABLE_BYTES]
    if others := len(rows) - len(shown):
        rest = sum(size_bytes for size_bytes, _ in rows) - sum(size_bytes for size_bytes, _ in shown)
        shown.append((rest, f"{others} under {format_size(TABLE_BYTES)}"))
    # Without an image there is no row.
    return [f"{format_size(size):>9} {100 * size / max(image.size_bytes, 1):>6.1f} %   {what}" for size, what in shown]


def _waste(waste: Iterable[Waste]) -> list[str]:
    return [
        f"{format_size(item.size_bytes):>9}   layer {item.layer}  {WHY[item.why]:<15} /{sanitize(item.path)}"
        for item in waste
    ]


def _since(comparison: Comparison) -> str:
    name, _, digest = comparison.image.partition("@")
    return f"{format_difference(comparison.difference_bytes)} since {name}@{digest[:DIGEST_SHOWN]}"


def _changes(comparison: Comparison) -> list[str]:
    return [_change(change) for change in comparison.changes] or ["no package changed"]


def _change(change: Change) -> str:
    if not change.version_before:
        what = f"{change.version_after} is new"
    elif not change.version_after:
        what = f"{change.version_before} is gone"
    elif change.version_before == change.version_after:
        what = change.version_after
    else:
        what = f"{change.version_before} → {change.version_after}"
    return f"{sanitize(f'{change.name} {what}')} {format_difference(change.difference_bytes)}"


def _first(items: Sequence[str], count: int) -> str:
    more = [f"{len(items) - count} more"] if len(items) > count else []
    return ", ".join([*items[:count], *more])
