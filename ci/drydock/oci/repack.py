"""Rewrites an image so that the same content has the same digest, whenever and wherever it was built.

    python normalise.py IN.tar BASE.tar OUT.tar --created 2026-11-22T10:00:00Z

A script of the standard library alone: it runs in the builder's container, since only there Python and zlib, and so the
compressed bytes, are the same on every machine. All three are OCI archives: the image as it was built, the image that
it was built on, and what is judged and published in place of the first. The base's layers stay as they are to the byte,
so that a registry and a node that have them once need them once.
https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

# 1980-01-01T00:00:00Z, the first time that a ZIP file can say. Not the commit's: a layer that did not change is the
# same layer in the next commit's image, and neither a registry nor a node needs it twice.
FILE_TIME = 315_532_800
# Of 180 MB of Python packages 4, 5 and 6 make 57.5, 55.9 and 55.2 MB in 2.7, 3.9 and 6.4 s; the engine made 56.2 MB.
COMPRESSION_LEVEL = 5
GZIP_FORMAT = 31  # zlib's own word for it: a header without name and time, a window of 32 kB
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
BLOCK_BYTES = 1024 * 1024
XATTR = "SCHILY.xattr."
WHITEOUT = ".wh."
# What BuildKit writes into the history where it has no instruction of its own to name; its times are those of the run.
MADE_UP = "buildkit.exporter.image.v0"
UNUSED_SECONDS = 30 * 24 * 3600

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

BROKEN = (
    *(tarfile.TarError, OSError, EOFError, zlib.error),
    *(LookupError, ValueError, TypeError, AttributeError, RecursionError),
)


class Layout(NamedTuple):
    """An OCI archive that is open, and what it says of its one image."""

    tar: tarfile.TarFile
    platform: dict[str, Any] | None
    manifest: dict[str, Any]
    config: dict[str, Any]


class Packed(NamedTuple):
    """A normalised layer: the file that holds it, its digest, and that of its tar."""

    path: Path
    digest: str
    diff_id: str


class Blob(NamedTuple):
    """What a file of the archive holds, opened when it is written."""

    size_bytes: int
    opened: Callable[[], IO[bytes]]


def main() -> None:
    """Read the command line, and end with 1 and one sentence where an archive is not one."""
    parser = argparse.ArgumentParser(description="The same content, the same digest.")
    parser.add_argument("archive", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--created", required=True, metavar="TIME", help="ISO 8601: the commit's")
    parser.add_argument("--healthcheck", type=json.loads, metavar="JSON", help="as Docker has it in a configuration")
    parser.add_argument("--drop-label", action="append", default=[], metavar="KEY")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where normalised layers are kept")
    asked = parser.parse_args()
    try:
        normalise(
            asked.archive,
            asked.base,
            asked.out,
            created=asked.created,
            healthcheck=asked.healthcheck,
            drop_labels=asked.drop_label,
            cache=asked.cache,
        )
    except BROKEN as error:
        raise SystemExit(f"the image cannot be normalised: {error}") from None


def normalise(
    archive: Path,
    base: Path,
    out: Path,
    *,
    created: str,
    healthcheck: dict[str, Any] | None = None,
    drop_labels: Collection[str] = (),
    cache: Path | None = None,
) -> None:
    """Write the image in `archive`, which is built on the one in `base`, to `out` in its one normal form.

    Raises one of BROKEN where an archive is damaged or holds no image.
    """
    with (
        tempfile.TemporaryDirectory(dir=out.parent) as work,
        tarfile.open(archive, "r:") as tar,
        tarfile.open(base, "r:") as base_tar,
    ):
        image, below = _layout(tar, archive), _layout(base_tar, base)
        store = cache or Path(work)
        blobs: dict[str, Blob] = {}
        layers, diff_ids = _base_layers(image, below, blobs)
        described = list(zip(image.manifest["layers"], image.config["rootfs"]["diff_ids"], strict=True))
        for descriptor, diff_id in described[len(layers) :]:
            packed = _normalised(image.tar, descriptor["digest"], diff_id, store=store, work=Path(work))
            blob = blobs[_name(packed.digest)] = _file(packed.path)
            layers.append({"mediaType": LAYER, "digest": packed.digest, "size": blob.size_bytes})
            diff_ids.append(packed.diff_id)
        config = _config(image, below, diff_ids, created=created, healthcheck=healthcheck, drop_labels=drop_labels)
        config_descriptor = {"mediaType": CONFIG, **_add(blobs, config)}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config_descriptor, "layers": layers}
        descriptor = {"mediaType": MANIFEST, **_add(blobs, manifest)}
        if image.platform:
            descriptor["platform"] = image.platform
        blobs["index.json"] = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]})
        blobs["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
        blobs["manifest.json"] = _json([_for_docker(config_descriptor, layers)])
        _write(out, blobs)
        if cache:
            _prune(cache)


# --- the archive ----------------------------------------------------------------------------------------------------


def _layout(tar: tarfile.TarFile, path: Path) -> Layout:
    try:
        descriptor = json.loads(_read(tar, "index.json"))["manifests"][0]
        manifest = json.loads(_verified(tar, descriptor["digest"]))
        config = json.loads(_verified(tar, manifest["config"]["digest"]))
        return Layout(tar, descriptor.get("platform"), manifest, config)
    except BROKEN as error:
        raise ValueError(f"{path} is no whole OCI archive: {error}") from error


def _base_layers(image: Layout, below: Layout, blobs: dict[str, Blob]) -> tuple[list[dict[str, Any]], list[str]]:
    """The layers that the image begins with and the base has as well: their descriptors and their diff_ids."""
    layers: list[dict[str, Any]] = []
    diff_ids: list[str] = []
    of_base = zip(below.config["rootfs"]["diff_ids"], below.manifest["layers"], strict=True)
    for diff_id, (base_diff_id, descriptor) in zip(image.config["rootfs"]["diff_ids"], of_base, strict=False):
        if diff_id != base_diff_id:
            break
        name = _name(descriptor["digest"])
        _require(descriptor["digest"], _file_digest(_opened(below.tar, name)))
        with _opened(below.tar, name) as blob:
            _require_known_compression(descriptor["digest"], blob)
        blobs[name] = Blob(below.tar.getmember(name).size, partial(_opened, below.tar, name))
        layers.append({key: descriptor[key] for key in ("mediaType", "digest", "size")})
        diff_ids.append(diff_id)
    return layers, diff_ids


def _config(
    image: Layout,
    below: Layout,
    diff_ids: list[str],
    *,
    created: str,
    healthcheck: dict[str, Any] | None,
    drop_labels: Collection[str],
) -> dict[str, Any]:
    config = {**image.config, "created": created, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    settings = dict(config.get("config") or {})
    labels = settings.pop("Labels", None) or {}
    if kept := {key: value for key, value in labels.items() if key not in drop_labels}:
        settings["Labels"] = kept
    if healthcheck:
        settings["Healthcheck"] = healthcheck
    config["config"] = settings
    of_base = below.config.get("history") or []
    config["history"] = [
        entry
        if entry in of_base[number : number + 1] and entry.get("comment") != MADE_UP
        else {**entry, "created": created}
        for number, entry in enumerate(config.get("history") or [])
    ]
    return config


def _for_docker(config: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Any]:
    """What `docker load` before 25, and Trivy, read in place of index.json."""
    return {
        "Config": _name(config["digest"]),
        "RepoTags": None,
        "Layers": [_name(layer["digest"]) for layer in layers],
    }


def _add(blobs: dict[str, Blob], document: object) -> dict[str, Any]:
    """Add a document as a blob, and describe it."""
    blob = _json(document)
    digest = _file_digest(blob.opened())
    blobs[_name(digest)] = blob
    return {"digest": digest, "size": blob.size_bytes}


def _json(document: object) -> Blob:
    content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return Blob(len(content), partial(io.BytesIO, content))


def _file(path: Path) -> Blob:
    return Blob(path.stat().st_size, lambda: path.open("rb"))


def _write(out: Path, blobs: dict[str, Blob]) -> None:
    with tarfile.open(out, "w:", format=tarfile.PAX_FORMAT) as tar:
        for name, blob in sorted(blobs.items()):
            header = tarfile.TarInfo(name)
            header.size, header.mtime, header.mode = blob.size_bytes, FILE_TIME, 0o444
            with blob.opened() as file:
                tar.addfile(header, file)


def _verified(tar: tarfile.TarFile, digest: str) -> bytes:
    content = _read(tar, _name(digest))
    _require(digest, f"sha256:{hashlib.sha256(content).hexdigest()}")
    return content


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    with _opened(tar, name) as file:
        return file.read()


def _opened(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file


def _name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _file_digest(file: IO[bytes]) -> str:
    with file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"  # type: ignore[arg-type]


def _require(digest: str, found: str) -> None:
    if digest != found:
        raise ValueError(f"blob {digest} holds {found}")


# --- a layer --------------------------------------------------------------------------------------------------------


def _normalised(tar: tarfile.TarFile, digest: str, diff_id: str, *, store: Path, work: Path) -> Packed:
    """The layer in its normal form, from the store where it is there."""
    with tempfile.TemporaryFile(dir=work) as unpacked:
        _unpack(tar, digest, diff_id, unpacked)
        key = hashlib.sha256(diff_id.encode() + Path(__file__).read_bytes()).hexdigest()
        return _stored(store, key) or _store(store, key, unpacked)


def _unpack(tar: tarfile.TarFile, digest: str, diff_id: str, into: IO[bytes]) -> None:
    with _opened(tar, _name(digest)) as blob:
        _require_known_compression(digest, blob)
        is_packed = blob.read(len(GZIP)) == GZIP
        blob.seek(0)
        content = hashlib.sha256()
        with gzip.open(blob) if is_packed else blob as file:
            while block := file.read(BLOCK_BYTES):
                content.update(block)
                into.write(block)
    _require(diff_id, f"sha256:{content.hexdigest()}")
    into.seek(0)


def _require_known_compression(digest: str, blob: IO[bytes]) -> None:
    """Python 3.13 reads no zstd, and what judges the image has to read every layer of it."""
    if blob.read(len(ZSTD)) == ZSTD:
        raise ValueError(f"layer {digest} is compressed with zstd: build it with gzip, or on another base image")
    blob.seek(0)


def _stored(store: Path, key: str) -> Packed | None:
    """A layer that an earlier run left; None where it left none, or where what it left is damaged."""
    path, record = store / f"{key}.tar.gz", store / f"{key}.txt"
    with suppress(OSError, ValueError):
        digest, diff_id, seal = record.read_text(encoding="ascii").split()
        if seal == _seal(key, digest, diff_id) and digest == _file_digest(path.open("rb")):
            # The time of its last use is what it is kept by.
            os.utime(path)
            os.utime(record)
            return Packed(path, digest, diff_id)
    return None


def _store(store: Path, key: str, unpacked: IO[bytes]) -> Packed:
    path, record = store / f"{key}.tar.gz", store / f"{key}.txt"
    # Another run may write the same layer at the same time; each renames a whole file of its own.
    whole = Path(tempfile.mkdtemp(dir=store))
    digest, diff_id = _pack(_entries(unpacked), whole / path.name)
    (whole / record.name).write_text(f"{digest}\n{diff_id}\n{_seal(key, digest, diff_id)}\n", encoding="ascii")
    for file in (path, record):
        (whole / file.name).replace(file)
    whole.rmdir()
    return Packed(path, digest, diff_id)


def _seal(key: str, digest: str, diff_id: str) -> str:
    """What a damaged record does not match: the digest guards the compressed bytes, and nothing else the diff_id."""
    return hashlib.sha256(f"{key} {digest} {diff_id}".encode()).hexdigest()


def _prune(store: Path) -> None:
    """Remove what was not used for 30 days, a half-written layer of a run that was killed too."""
    for path in [*store.glob("*/*"), *store.glob("*")]:
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - UNUSED_SECONDS:
                path.rmdir() if path.is_dir() else path.unlink()


def _pack(tar: Iterator[bytes], path: Path) -> tuple[str, str]:
    """Compress a tar into the file at `path`; the digest of what is written, and that of the tar."""
    packed, unpacked = hashlib.sha256(), hashlib.sha256()
    packer = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, GZIP_FORMAT)
    with path.open("wb") as file:
        for block in tar:
            unpacked.update(block)
            compressed = packer.compress(block)
            packed.update(compressed)
            file.write(compressed)
        compressed = packer.flush()
        packed.update(compressed)
        file.write(compressed)
    return f"sha256:{packed.hexdigest()}", f"sha256:{unpacked.hexdigest()}"


# --- a layer's tar --------------------------------------------------------------------------------------------------


def _entries(layer: IO[bytes]) -> Iterator[bytes]:
    """The same files as a tar that has one form only: sorted, each path once, no times, no names of owners."""
    with tarfile.open(fileobj=layer, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        files = _files(tar)
        layer.seek(tar.offset)
        # tarfile takes a header that it cannot read for the end.
        if layer.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise ValueError("a layer's tar is damaged")
        first_paths: dict[tarfile.TarInfo, str] = {}
        for path in sorted(files, key=_place):
            file = files[path]
            header = _header(path, file, first_path=first_paths.setdefault(file, path))
            yield header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            if header.isreg():
                yield from _content(tar, file)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _files(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """Each path and the file that a run would find there; hard links to one file have it in common."""
    files: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        path = _path(member.name)
        if member.issparse():
            raise ValueError(f"{path!r} is a sparse file")
        # A link whose target is not in this layer stays a link.
        file = files.get(_path(member.linkname), member) if member.islnk() else member
        if path in files and files[path].isdir() and not file.isdir():
            for below in [other for other in files if other.startswith(f"{path}/")]:
                del files[below]
        files[path] = file
    return files


def _path(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", ".")) or "."


def _place(path: str) -> list[tuple[bool, bytes]]:
    """Where a path is sorted: a folder before what is in it, and, as the specification asks, whiteouts first."""
    parts = [] if path == "." else path.split("/")
    return [(not part.startswith(WHITEOUT), part.encode("utf-8", "surrogateescape")) for part in parts]


def _header(path: str, file: tarfile.TarInfo, *, first_path: str) -> tarfile.TarInfo:
    """All that is kept of a file, as the entry for `path`; it is a link where `first_path` is another."""
    header = tarfile.TarInfo(path)
    header.mode, header.uid, header.gid, header.mtime = file.mode, file.uid, file.gid, FILE_TIME
    # Links have them as well: a runtime that sets a link's owner takes the file's capabilities away.
    header.pax_headers = {key: file.pax_headers[key] for key in sorted(file.pax_headers) if key.startswith(XATTR)}
    if path != first_path:
        header.type, header.linkname = tarfile.LNKTYPE, first_path
    elif file.isreg():
        header.type, header.size = tarfile.REGTYPE, file.size
    elif file.islnk():
        header.type, header.linkname = tarfile.LNKTYPE, _path(file.linkname)
    elif file.issym():
        header.type, header.linkname = tarfile.SYMTYPE, file.linkname
    elif file.isdir() or file.isdev():
        header.type, header.devmajor, header.devminor = file.type, file.devmajor, file.devminor
    else:
        raise ValueError(f"{path!r} is of a kind that no layer has: {file.type!r}")
    return header


def _content(tar: tarfile.TarFile, file: tarfile.TarInfo) -> Iterator[bytes]:
    content = tar.extractfile(file)
    if content is None:
        raise ValueError(f"{file.name!r} is no file")
    with content:
        while block := content.read(BLOCK_BYTES):
            yield block
    yield bytes(-file.size % tarfile.BLOCKSIZE)


if __name__ == "__main__":
    main()
