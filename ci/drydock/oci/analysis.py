"""Whose the bytes of an image are, and which of them are stored for nothing. Pure: the members of its layers in.

A layer lies over those below it: `.wh.name` takes away `name` with all that is below it, `.wh..wh..opq` all that its
folder had so far, and neither touches what its own layer brings.
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

SHOWN = 20
CONTRIBUTORS_SHOWN = 4
FOLDER_LEVELS = 3
# Copies of smaller files cost more time to find than they are worth.
DUPLICATE_BYTES = 64 * 1024
# A package that was built anew differs by a few bytes, which nobody has to know.
NOTICED_BYTES = 10_000

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


class Placed(NamedTuple):
    """A file and the number of the layer that brought it; the base's first layer is 1."""

    entry: Entry
    layer: int


FileSystem = Mapping[str, Placed]
Kind = Literal["python", "debian"]


@dataclass(frozen=True, slots=True)
class Written:
    """What a layer does to the file system below it: the files it brings, and those that are no longer seen."""

    files: Mapping[str, Entry]
    displaced: FileSystem

    def why(self, path: str) -> Literal["replaced", "removed"]:
        """What became of a displaced file."""
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
        """How many files below it are there no more."""
        return len(self.displaced) - self.replaced


class Owner(NamedTuple):
    """An installed package."""

    name: str
    version: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Owners:
    """The installed packages, and which path is whose."""

    installed: frozenset[Owner]
    claims: Mapping[str, Owner]

    def of(self, path: str) -> Owner | None:
        """The package that a file is part of; what Python compiled goes with its source."""
        return self.claims.get(path) or self.claims.get(_source(path))

    def contributor(self, path: str) -> str:
        """The name of a file's package, or else the folder it lies in, three levels deep at most."""
        owner = self.of(path)
        return owner.name if owner else folder(path)


class Touched(NamedTuple):
    """A file of a layer: brought (+), written anew (~), or taken away from those below (-), with its size there."""

    mark: Literal["+", "~", "-"]
    path: str
    size_bytes: int


def stack(layers: Iterable[Iterable[Entry]]) -> tuple[tuple[Written, ...], FileSystem]:
    """Lay the layers one over the other: what each of them did, and the finished file system."""
    file_system: FileSystem = {}
    written: list[Written] = []
    for number, layer in enumerate(layers, start=1):
        written.append(_over(file_system, layer))
        kept = {path: placed for path, placed in file_system.items() if path not in written[-1].displaced}
        file_system = kept | {path: Placed(entry, number) for path, entry in written[-1].files.items()}
    return tuple(written), file_system


def owners(entries: Sequence[Entry]) -> Owners:
    """Who owns which path, by the records of dpkg and of Python's installers among these files.

    dpkg comes first, and the outer package before one that is bundled in it: what another package installed is part of
    that one.
    """
    known = {entry.path: entry for entry in entries}
    # A record may list anything: only what is here is kept, and the sources of what was compiled.
    sources = {source for path in known if (source := _source(path))}
    claims: dict[str, Owner] = {}
    installed: set[Owner] = set()
    for owner, own, listed in chain(_debian(entries, known), _python(known)):
        if not any(path in claims for path in own):
            installed.add(owner)
            for path in chain(own, listed):
                if path in known or path in sources:
                    claims.setdefault(path, owner)
    return Owners(frozenset(installed), claims)


def packages(file_system: FileSystem, owned: Owners) -> tuple[report.Package, ...]:
    """The installed packages, the largest first."""
    sizes = Counter(dict.fromkeys(owned.installed, 0))
    for path, placed in file_system.items():
        if owner := owned.of(path):
            sizes[owner] += placed.entry.size_bytes
    return tuple(
        report.Package(name=owner.name, version=owner.version, kind=owner.kind, size_bytes=size_bytes)
        for owner, size_bytes in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    )


def other_folders(file_system: FileSystem, owned: Owners) -> tuple[report.Contributor, ...]:
    """What belongs to no package, by folder, the largest first; folders without a byte are left out."""
    sizes = Counter[str]()
    for path, placed in file_system.items():
        if not owned.of(path):
            sizes[folder(path)] += placed.entry.size_bytes
    return _largest(sizes)


def files(file_system: FileSystem) -> tuple[report.File, ...]:
    """The largest files of the finished file system."""
    found = heapq.nsmallest(
        SHOWN, file_system.values(), key=lambda placed: (-placed.entry.size_bytes, placed.entry.path)
    )
    return tuple(
        report.File(path=entry.path, size_bytes=entry.size_bytes, layer=layer)
        for entry, layer in found
        if entry.size_bytes
    )


def waste(written: Sequence[Written], file_system: FileSystem) -> tuple[report.Waste, ...]:
    """All that is stored and not needed, the largest first; of several copies the first one is needed."""
    found = [_waste(path, placed, layer.why(path)) for layer in written for path, placed in layer.displaced.items()]
    copies: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for path, placed in file_system.items():
        if placed.entry.sha256:
            copies[placed.entry.sha256].append((placed.layer, path))
    for same in copies.values():
        found += [_waste(path, file_system[path], "duplicate") for _, path in sorted(same)[1:]]
    return tuple(
        sorted((item for item in found if item.size_bytes), key=lambda item: (-item.size_bytes, item.path, item.layer))
    )


def largest(layer: Written, everybody: Owners) -> tuple[report.Contributor, ...]:
    """Who fills a layer most: packages by name, or else folders."""
    sizes = Counter[str]()
    for path, entry in layer.files.items():
        sizes[everybody.contributor(path)] += entry.size_bytes
    return _largest(sizes)[:CONTRIBUTORS_SHOWN]


def touched(layer: Written) -> tuple[Touched, ...]:
    """Every file that a layer brought, wrote anew or took away, the largest first."""
    found = [
        Touched("~" if path in layer.displaced else "+", path, entry.size_bytes) for path, entry in layer.files.items()
    ]
    found += [
        Touched("-", path, placed.entry.size_bytes)
        for path, placed in layer.displaced.items()
        if layer.why(path) == "removed"
    ]
    return tuple(sorted(found, key=lambda file: (-file.size_bytes, file.path)))


def compare(image: report.Image, published: Sequence[report.Release], repository: str) -> report.Comparison | None:
    """What became of the packages since the latest record of another image of the same repository.

    The largest differences come first. None if `published` has no record of another image of that repository.
    """
    others = (record for record in published if record.repository == repository)
    previous = next((record for record in others if record.digest != image.manifest_digest), None)
    if previous is None:
        return None
    before, after = _by_name(previous.packages), _by_name(image.packages)
    changes = [
        report.Change(
            name=name,
            kind=kind,
            version_before=_versions(before[kind, name]),
            version_after=_versions(after[kind, name]),
            difference_bytes=_total(after[kind, name]) - _total(before[kind, name]),
        )
        for kind, name in before.keys() | after.keys()
    ]
    noticed = [
        change
        for change in changes
        if change.version_before != change.version_after or abs(change.difference_bytes) >= NOTICED_BYTES
    ]
    return report.Comparison(
        image=previous.image,
        size_before_bytes=previous.size_bytes,
        size_after_bytes=image.size_bytes,
        changes=tuple(sorted(noticed, key=lambda change: (-abs(change.difference_bytes), change.name, change.kind))),
    )


def folder(path: str) -> str:
    """The folder of a path, from the root, three levels deep at most."""
    return "/" + "/".join(path.split("/")[:-1][:FOLDER_LEVELS])


def _over(below: FileSystem, layer: Iterable[Entry]) -> Written:
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
    lost = {above for above in {_above(path) for path in below} if any(part in ends for part in _and_above(above))}
    return Written(
        files=brought,
        displaced={path: placed for path, placed in below.items() if path in ends or _above(path) in lost},
    )


def _source(path: str) -> str:
    """What a file was compiled from; empty for other files."""
    compiled = COMPILED.fullmatch(path)
    return f"{compiled['folder']}{compiled['module']}.py" if compiled else ""


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def _and_above(path: str) -> Iterator[str]:
    """A folder and all that it lies in, up to the root, which is empty."""
    while path:
        yield path
        path = _above(path)
    yield ""


# A package, the paths that make it one of its own, and all others that it lists.
_Claim = tuple[Owner, Sequence[str], Iterable[str]]


def _debian(entries: Iterable[Entry], known: Mapping[str, Entry]) -> Iterator[_Claim]:
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
            for paragraph in _text(entry).split("\n\n"):
                fields = _fields(paragraph)
                if "Package" in fields and fields.get("Status", "install ok installed") == "install ok installed":
                    versions[fields["Package"]] = fields.get("Version", "")
    for name, version in sorted(versions.items()):
        listed = (path for entry in lists[name] for path in _listed_by_dpkg(entry))
        yield Owner(name, version, "debian"), (), (_as_stored(path, known) for path in listed)


def _listed_by_dpkg(entry: Entry) -> Iterator[str]:
    has_sums = entry.path.endswith(".md5sums")
    for line in _lines(entry):
        yield (line.partition("  ")[2] if has_sums else line).strip("/\n")


def _as_stored(path: str, known: Mapping[str, Entry]) -> str:
    """Where /bin and /lib are links into /usr, dpkg's lists may still say /lib/x; the layer has usr/lib/x."""
    return path if path in known else f"usr/{path}" if f"usr/{path}" in known else path


def _python(known: Mapping[str, Entry]) -> Iterator[_Claim]:
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
            fields = _fields(_text(metadata).partition("\n\n")[0])
            name, version = fields.get("Name", name), fields.get("Version", version)
        if record := known.get(f"{info}/RECORD"):
            listed = _listed(site, record)
        else:
            module = posixpath.join(site, re.sub(r"[-.]", "_", name), "").lower()
            listed = _beginning_with(module, by_name)
        yield Owner(name, version, "python"), paths, listed


def _beginning_with(prefix: str, by_name: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The paths whose names, which are sorted, begin so."""
    for number in range(bisect.bisect_left(by_name, (prefix, "")), len(by_name)):
        name, path = by_name[number]
        if not name.startswith(prefix):
            return
        yield path


def _listed(site: str, record: Entry) -> Iterator[str]:
    """The paths of a RECORD, from the root.

    https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-record-file
    """
    try:
        for row in csv.reader(_lines(record)):
            if row:
                yield posixpath.normpath(posixpath.join(site, row[0])).lstrip("/")
    except csv.Error:
        return  # An image may hold anything; what a broken record still lists is a folder's.


def _fields(paragraph: str) -> dict[str, str]:
    """Those of the fields of a package's description that say what it is."""
    return {field[1]: field[2] for field in HEADER.finditer(paragraph) if field[1] in FIELDS}


def _lines(entry: Entry) -> Iterator[str]:
    """A record line by line, since a list of all of them would cost many times its size."""
    return io.TextIOWrapper(io.BytesIO(entry.content), encoding="utf-8", errors="replace")


def _text(entry: Entry) -> str:
    return entry.content.decode(errors="replace").replace("\r\n", "\n")


def _largest(sizes: Mapping[str, int]) -> tuple[report.Contributor, ...]:
    return tuple(
        report.Contributor(name=name, size_bytes=size_bytes)
        for name, size_bytes in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
        if size_bytes
    )


def _waste(path: str, placed: Placed, why: Literal["removed", "replaced", "duplicate"]) -> report.Waste:
    return report.Waste(path=path, size_bytes=placed.entry.size_bytes, layer=placed.layer, why=why)


def _by_name(found: Iterable[report.Package]) -> defaultdict[tuple[Kind, str], list[report.Package]]:
    grouped = defaultdict[tuple[Kind, str], list[report.Package]](list)
    for package in found:
        grouped[package.kind, package.name].append(package)
    return grouped


def _versions(same: Iterable[report.Package]) -> str:
    return ", ".join(sorted(package.version for package in same))


def _total(same: Iterable[report.Package]) -> int:
    return sum(package.size_bytes for package in same)
