"""Which package owns the bytes of an image, and which of them are stored for nothing. Pure: layers in, values out.

In a layer `.wh.name` removes `name` with all that is below it, and `.wh..wh..opq` all that its folder had so far.
Neither removes what its own layer adds.
https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md#whiteouts
"""

from __future__ import annotations

import bisect
import csv
import heapq
import io
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple

from drydock import report
from drydock.oci.media_types import OPAQUE_WHITEOUT, WHITEOUT_PREFIX

MAX_ITEMS = 20
MAX_CONTRIBUTORS = 4
FOLDER_LEVELS = 3
# Copies of smaller files cost more time to find than they are worth.
DUPLICATE_BYTES = 64 * 1024
# A package that was built again differs by a few bytes, which nobody needs to know.
MIN_DIFFERENCE_BYTES = 10_000

DPKG = "var/lib/dpkg/"
DIST_INFO = ".dist-info"
PACKAGE_RECORD = re.compile(
    rf"{DPKG}(status|status\.d/[^/]+|info/[^/]+\.list)|.*{re.escape(DIST_INFO)}/(RECORD|METADATA)"
)
FIELDS = frozenset(("Name", "Package", "Status", "Version"))
HEADER = re.compile(r"^([\w-]+): *(.*)$", re.MULTILINE)
COMPILED = re.compile(r"(?P<folder>.*/)__pycache__/(?P<module>[^/.]+)\.[^/]+\.pyc")


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of a layer; `path` has no slash at either end, and links and folders have no size.

    `sha256` is that of a file from DUPLICATE_BYTES on, `content` that of a package manager's record; else empty.
    """

    path: str
    size_bytes: int = 0
    is_folder: bool = False
    sha256: str = ""
    content: bytes = b""


class FileInLayer(NamedTuple):
    """A file and the number of the layer that added it; the base's first layer is 1."""

    entry: Entry
    layer: int


FileSystem = Mapping[str, FileInLayer]
Kind = Literal["python", "debian"]


@dataclass(frozen=True, slots=True)
class LayerDiff:
    """What a layer does to the file system below it: the files that it adds, and those that it hides."""

    files: Mapping[str, Entry]
    displaced: FileSystem

    def find_reason(self, path: str) -> Literal["replaced", "removed"]:
        """Why a displaced file is hidden."""
        return "replaced" if path in self.files else "removed"

    @property
    def size_bytes(self) -> int:
        """The sum of its files."""
        return sum(entry.size_bytes for entry in self.files.values())

    @property
    def added(self) -> int:
        """How many of its files are new."""
        return len(self.files) - self.replaced

    @property
    def replaced(self) -> int:
        """How many of its files were there before."""
        return sum(path in self.files for path in self.displaced)

    @property
    def removed(self) -> int:
        """How many files below it are removed."""
        return len(self.displaced) - self.replaced


class InstalledPackage(NamedTuple):
    """An installed package."""

    name: str
    version: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """The installed packages, and which path belongs to which."""

    installed: frozenset[InstalledPackage]
    claims: Mapping[str, InstalledPackage]

    def find_owner(self, path: str) -> InstalledPackage | None:
        """The package of a file; bytecode belongs to the package of its source."""
        return self.claims.get(path) or self.claims.get(_find_source(path))

    def name_contributor(self, path: str) -> str:
        """The name of a file's package, else of its folder, at most three levels deep."""
        owner = self.find_owner(path)
        return owner.name if owner else name_folder(path)


class FileChange(NamedTuple):
    """A file that a layer added (+), replaced (~) or removed (-), and its size."""

    mark: Literal["+", "~", "-"]
    path: str
    size_bytes: int


def apply_layers(layers: Iterable[Iterable[Entry]]) -> tuple[tuple[LayerDiff, ...], FileSystem]:
    """Apply the layers in their order: what each of them did, and the finished file system."""
    file_system: FileSystem = {}
    written: list[LayerDiff] = []
    for number, layer in enumerate(layers, start=1):
        written.append(_apply_layer(file_system, layer))
        kept = {path: placed for path, placed in file_system.items() if path not in written[-1].displaced}
        file_system = kept | {path: FileInLayer(entry, number) for path, entry in written[-1].files.items()}
    return tuple(written), file_system


def index_packages(entries: Sequence[Entry]) -> PackageIndex:
    """Find which package owns which path, by the records of dpkg and of Python's installers among these files.

    dpkg comes first, and the outer package before one that is bundled in it: what another package installed is part of
    that one.
    """
    known = {entry.path: entry for entry in entries}
    # A record may list anything: only what is here is kept, and the sources of what was compiled.
    sources = {source for path in known if (source := _find_source(path))}
    claims: dict[str, InstalledPackage] = {}
    installed: set[InstalledPackage] = set()
    for owner, own, listed in chain(_iter_debian(entries, known), _iter_python(known)):
        if not any(path in claims for path in own):
            installed.add(owner)
            for path in chain(own, listed):
                if path in known or path in sources:
                    claims.setdefault(path, owner)
    return PackageIndex(frozenset(installed), claims)


def list_packages(file_system: FileSystem, package_index: PackageIndex) -> tuple[report.Package, ...]:
    """The installed packages, the largest first."""
    sizes = Counter(dict.fromkeys(package_index.installed, 0))
    for path, placed in file_system.items():
        if owner := package_index.find_owner(path):
            sizes[owner] += placed.entry.size_bytes
    return tuple(
        report.Package(name=owner.name, version=owner.version, kind=owner.kind, size_bytes=size_bytes)
        for owner, size_bytes in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    )


def list_other_folders(file_system: FileSystem, package_index: PackageIndex) -> tuple[report.Contributor, ...]:
    """What belongs to no package, by folder, the largest first; empty folders are left out."""
    sizes = Counter[str]()
    for path, placed in file_system.items():
        if not package_index.find_owner(path):
            sizes[name_folder(path)] += placed.entry.size_bytes
    return _rank_contributors(sizes)


def list_largest_files(file_system: FileSystem) -> tuple[report.File, ...]:
    """The largest files of the finished file system."""
    found = heapq.nsmallest(
        MAX_ITEMS, file_system.values(), key=lambda placed: (-placed.entry.size_bytes, placed.entry.path)
    )
    return tuple(
        report.File(path=entry.path, size_bytes=entry.size_bytes, layer=layer)
        for entry, layer in found
        if entry.size_bytes
    )


def find_waste(written: Sequence[LayerDiff], file_system: FileSystem) -> tuple[report.Waste, ...]:
    """All that is stored and not needed, the largest first; of several copies the first one is needed."""
    found = [
        _create_waste(path, placed, layer.find_reason(path))
        for layer in written
        for path, placed in layer.displaced.items()
    ]
    copies: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for path, placed in file_system.items():
        if placed.entry.sha256:
            copies[placed.entry.sha256].append((placed.layer, path))
    for same in copies.values():
        found += [_create_waste(path, file_system[path], "duplicate") for _, path in sorted(same)[1:]]
    return tuple(
        sorted((item for item in found if item.size_bytes), key=lambda item: (-item.size_bytes, item.path, item.layer))
    )


def list_contributors(layer: LayerDiff, package_index: PackageIndex) -> tuple[report.Contributor, ...]:
    """What fills a layer most: packages by name, else folders."""
    sizes = Counter[str]()
    for path, entry in layer.files.items():
        sizes[package_index.name_contributor(path)] += entry.size_bytes
    return _rank_contributors(sizes)[:MAX_CONTRIBUTORS]


def list_changes(layer: LayerDiff) -> tuple[FileChange, ...]:
    """Every file that a layer added, replaced or removed, the largest first."""
    found = [
        FileChange("~" if path in layer.displaced else "+", path, entry.size_bytes)
        for path, entry in layer.files.items()
    ]
    found += [
        FileChange("-", path, placed.entry.size_bytes)
        for path, placed in layer.displaced.items()
        if layer.find_reason(path) == "removed"
    ]
    return tuple(sorted(found, key=lambda file: (-file.size_bytes, file.path)))


def compare_packages(
    image: report.Image, published: Sequence[report.Release], repository: str
) -> report.Comparison | None:
    """How the packages differ from the latest record of another image of the same repository.

    The largest differences come first. None if `published` has no record of another image of that repository.
    """
    others = (record for record in published if record.repository == repository)
    previous = next((record for record in others if record.digest != image.manifest_digest), None)
    if previous is None:
        return None
    before, after = _group_by_name(previous.packages), _group_by_name(image.packages)
    changes = [
        report.Change(
            name=name,
            kind=kind,
            version_before=_join_versions(before[kind, name]),
            version_after=_join_versions(after[kind, name]),
            difference_bytes=_sum_sizes(after[kind, name]) - _sum_sizes(before[kind, name]),
        )
        for kind, name in before.keys() | after.keys()
    ]
    noticed = [
        change
        for change in changes
        if change.version_before != change.version_after or abs(change.difference_bytes) >= MIN_DIFFERENCE_BYTES
    ]
    return report.Comparison(
        image=previous.image,
        size_before_bytes=previous.size_bytes,
        size_after_bytes=image.size_bytes,
        changes=tuple(sorted(noticed, key=lambda change: (-abs(change.difference_bytes), change.name, change.kind))),
    )


def name_folder(path: str) -> str:
    """The folder of a path, from the root, three levels deep at most."""
    return "/" + "/".join(path.split("/")[:-1][:FOLDER_LEVELS])


def _apply_layer(below: FileSystem, layer: Iterable[Entry]) -> LayerDiff:
    brought: dict[str, Entry] = {}
    # Nothing is left at these paths or below them.
    gone = set[str]()
    for entry in layer:
        above, _, name = entry.path.rpartition("/")
        if name == OPAQUE_WHITEOUT:
            gone.add(above)
        elif name.startswith(WHITEOUT_PREFIX):
            gone.add(posixpath.join(above, name.removeprefix(WHITEOUT_PREFIX)))
        elif not entry.is_folder:
            brought[entry.path] = entry
        elif entry.path in below:
            gone.add(entry.path)
    ends = gone | brought.keys()
    lost = {above for above in {_parent(path) for path in below} if any(part in ends for part in _ancestors(above))}
    return LayerDiff(
        files=brought,
        displaced={path: placed for path, placed in below.items() if path in ends or _parent(path) in lost},
    )


def _find_source(path: str) -> str:
    """What a file was compiled from; empty for other files."""
    compiled = COMPILED.fullmatch(path)
    return f"{compiled['folder']}{compiled['module']}.py" if compiled else ""


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _ancestors(path: str) -> Iterator[str]:
    """A folder and all that it lies in, up to the root, which is empty."""
    while path:
        yield path
        path = _parent(path)
    yield ""


# A package, the paths that make it one of its own, and all others that it lists.
_Claim = tuple[InstalledPackage, Sequence[str], Iterable[str]]


def _iter_debian(entries: Iterable[Entry], known: Mapping[str, Entry]) -> Iterator[_Claim]:
    """The packages that dpkg has installed; a distroless image has a file for each of them in status.d."""
    lists = defaultdict[str, list[Entry]](list)
    versions: dict[str, str] = {}
    for entry in entries:
        if not entry.content or not entry.path.startswith(DPKG):
            continue
        name, ending = posixpath.splitext(posixpath.basename(entry.path))
        if ending in (".list", ".md5sums"):
            lists[name.partition(":")[0]].append(entry)
        else:
            for paragraph in _decode(entry).split("\n\n"):
                fields = _parse_fields(paragraph)
                if "Package" in fields and fields.get("Status", "install ok installed") == "install ok installed":
                    versions[fields["Package"]] = fields.get("Version", "")
    for name, version in sorted(versions.items()):
        listed = (path for entry in lists[name] for path in _parse_dpkg_list(entry))
        yield InstalledPackage(name, version, "debian"), (), (_resolve_merged_usr(path, known) for path in listed)


def _parse_dpkg_list(entry: Entry) -> Iterator[str]:
    has_sums = entry.path.endswith(".md5sums")
    for line in _iter_lines(entry):
        yield (line.partition("  ")[2] if has_sums else line).strip("/\n")


def _resolve_merged_usr(path: str, known: Mapping[str, Entry]) -> str:
    """If /bin and /lib are links into /usr, dpkg's lists may still say /lib/x; the layer has usr/lib/x."""
    return path if path in known else f"usr/{path}" if f"usr/{path}" in known else path


def _iter_python(known: Mapping[str, Entry]) -> Iterator[_Claim]:
    """The distributions whose .dist-info folders are there, outer ones first."""
    own = defaultdict[str, list[str]](list)
    by_name = sorted((path.lower(), path) for path in known)
    for path in known:
        if f"{DIST_INFO}/" in path:
            own[path[: path.index(f"{DIST_INFO}/")] + DIST_INFO].append(path)
    for info, paths in sorted(own.items(), key=lambda item: (item[0].count("/"), item[0])):
        site, _, title = info.removesuffix(DIST_INFO).rpartition("/")
        name, _, version = title.rpartition("-")
        if metadata := known.get(f"{info}/METADATA"):
            fields = _parse_fields(_decode(metadata).partition("\n\n")[0])
            name, version = fields.get("Name", name), fields.get("Version", version)
        if record := known.get(f"{info}/RECORD"):
            listed = _parse_record(site, record)
        else:
            module = posixpath.join(site, re.sub(r"[-.]", "_", name), "").lower()
            listed = _find_by_prefix(module, by_name)
        yield InstalledPackage(name, version, "python"), paths, listed


def _find_by_prefix(prefix: str, by_name: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The paths that begin with `prefix`; `by_name` is sorted by names in lower case."""
    for number in range(bisect.bisect_left(by_name, (prefix, "")), len(by_name)):
        name, path = by_name[number]
        if not name.startswith(prefix):
            return
        yield path


def _parse_record(site: str, record: Entry) -> Iterator[str]:
    """The paths of a RECORD, from the root.

    https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-record-file
    """
    try:
        for row in csv.reader(_iter_lines(record)):
            if row:
                yield posixpath.normpath(posixpath.join(site, row[0])).lstrip("/")
    except csv.Error:
        return  # An image may hold anything; what a broken record still lists is a folder's.


def _parse_fields(paragraph: str) -> dict[str, str]:
    """Those of the fields of a package's description that say what it is."""
    return {field[1]: field[2] for field in HEADER.finditer(paragraph) if field[1] in FIELDS}


def _iter_lines(entry: Entry) -> Iterator[str]:
    """A record line by line, since a list of all of them would cost many times its size."""
    return io.TextIOWrapper(io.BytesIO(entry.content), encoding="utf-8", errors="replace")


def _decode(entry: Entry) -> str:
    return entry.content.decode(errors="replace").replace("\r\n", "\n")


def _rank_contributors(sizes: Mapping[str, int]) -> tuple[report.Contributor, ...]:
    return tuple(
        report.Contributor(name=name, size_bytes=size_bytes)
        for name, size_bytes in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
        if size_bytes
    )


def _create_waste(path: str, placed: FileInLayer, why: Literal["removed", "replaced", "duplicate"]) -> report.Waste:
    return report.Waste(path=path, size_bytes=placed.entry.size_bytes, layer=placed.layer, why=why)


def _group_by_name(found: Iterable[report.Package]) -> defaultdict[tuple[Kind, str], list[report.Package]]:
    grouped = defaultdict[tuple[Kind, str], list[report.Package]](list)
    for package in found:
        grouped[package.kind, package.name].append(package)
    return grouped


def _join_versions(same: Iterable[report.Package]) -> str:
    return ", ".join(sorted(package.version for package in same))


def _sum_sizes(same: Iterable[report.Package]) -> int:
    return sum(package.size_bytes for package in same)
