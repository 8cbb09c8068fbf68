"""Rewrites an image so that the same content always has the same digest.

    python -ES -m drydock.oci.repack IN.tar BASE.tar OUT.tar --created 2026-11-22T10:00:00Z

It runs in the builder's container: only there Python and zlib, and so the compressed bytes, are the same on every
machine. So it needs the standard library and SHIPPED_FILES alone. All three are OCI archives: the image as it was
built, the image that it was built on, and what is judged and published in place of the first. The base's layers stay
as they are to the byte, so that a registry and a node that have them once need them once.
https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from drydock.oci.layout import (
    BLOCK_BYTES,
    DAGGERS_STEP,
    INDEX,
    MALFORMED_ERRORS,
    ImageDocuments,
    Layout,
    clean_path,
    hash_file,
    open_layout,
    require_digest,
    require_not_sparse,
)
from drydock.oci.media_types import (
    IMAGE_CONFIG,
    IMAGE_INDEX,
    IMAGE_LAYER,
    IMAGE_MANIFEST,
    WHITEOUT_PREFIX,
    XATTR_PREFIX,
    blob_name,
    compute_digest,
)

# All that this module needs to run elsewhere, below PACKAGE_PARENT.
PACKAGE_PARENT = Path(__file__).parents[2]
SHIPPED_FILES = (
    "drydock/__init__.py",
    "drydock/oci/__init__.py",
    "drydock/oci/layout.py",
    "drydock/oci/media_types.py",
    "drydock/oci/repack.py",
)
# 1980-01-01T00:00:00Z, the first time that a ZIP file can say. Not the commit's: a layer that did not change is the
# same layer in the next commit's image, and neither a registry nor a node needs it twice.
FILE_TIME = 315_532_800
# Of 180 MB of Python packages 4, 5 and 6 make 57.5, 55.9 and 55.2 MB in 2.7, 3.9 and 6.4 s; the engine made 56.2 MB.
COMPRESSION_LEVEL = 5
GZIP_FORMAT = 31  # zlib's own word for it: a header without name and time, a window of 32 kB
# BuildKit's comment on a history entry that no instruction made; the time of such an entry is that of the run.
BUILDKIT_COMMENT = "buildkit.exporter.image.v0"
UNUSED_SECONDS = 30 * 24 * 3600


class RepackedLayer(NamedTuple):
    """A repacked layer: the file that holds it, its digest, and that of its tar."""

    path: Path
    digest: str
    diff_id: str


class Blob(NamedTuple):
    """A file of the archive: its size, and how to open it when it is written."""

    size_bytes: int
    open: Callable[[], IO[bytes]]


def main() -> None:
    """Run the command line; exits with 1 and one sentence if an archive is damaged."""
    parser = argparse.ArgumentParser(description="The same content, the same digest.")
    parser.add_argument("archive", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--created", required=True, metavar="TIME", help="ISO 8601: the commit's")
    parser.add_argument("--healthcheck", type=json.loads, metavar="JSON", help="as Docker has it in a configuration")
    parser.add_argument("--drop-label", action="append", default=[], metavar="KEY")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where repacked layers are kept")
    args = parser.parse_args()
    try:
        repack_image(
            args.archive,
            args.base,
            args.out,
            created=args.created,
            healthcheck=args.healthcheck,
            drop_labels=args.drop_label,
            cache=args.cache,
        )
    except MALFORMED_ERRORS as error:
        raise SystemExit(f"the image cannot be repacked: {error}") from None


def repack_image(
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

    Raises one of MALFORMED_ERRORS if an archive is damaged or has no image.
    """
    with (
        tempfile.TemporaryDirectory(dir=out.parent) as work,
        _open_image(archive) as (layout, image),
        _open_image(base) as (base_layout, base_image),
    ):
        store = cache or Path(work)
        blobs: dict[str, Blob] = {}
        layers, diff_ids = _take_base_layers(image, base_layout, base_image, blobs)
        described = list(zip(image.manifest["layers"], image.config["rootfs"]["diff_ids"], strict=True))
        for descriptor, diff_id in described[len(layers) :]:
            repacked = _repack_layer(layout, descriptor["digest"], diff_id, store=store, work=Path(work))
            blob = blobs[blob_name(repacked.digest)] = _create_file_blob(repacked.path)
            layers.append({"mediaType": IMAGE_LAYER, "digest": repacked.digest, "size": blob.size_bytes})
            diff_ids.append(repacked.diff_id)
        config = _create_config(
            image.config, base_image.config, diff_ids, created=created, healthcheck=healthcheck, drop_labels=drop_labels
        )
        config_descriptor = {"mediaType": IMAGE_CONFIG, **_add_document(blobs, config)}
        manifest = {"schemaVersion": 2, "mediaType": IMAGE_MANIFEST, "config": config_descriptor, "layers": layers}
        descriptor = {"mediaType": IMAGE_MANIFEST, **_add_document(blobs, manifest)}
        if platform := image.descriptor.get("platform"):
            descriptor["platform"] = platform
        blobs[INDEX] = _create_json_blob({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": [descriptor]})
        blobs["oci-layout"] = _create_json_blob({"imageLayoutVersion": "1.0.0"})
        blobs["manifest.json"] = _create_json_blob([_create_docker_manifest(config_descriptor, layers)])
        _write_archive(out, blobs)
        if cache:
            _prune_store(cache)


# --- the archive ----------------------------------------------------------------------------------------------------


@contextmanager
def _open_image(path: Path) -> Iterator[tuple[Layout, ImageDocuments]]:
    with open_layout(path) as layout:
        try:
            image = layout.read_image()
        except MALFORMED_ERRORS as error:
            raise ValueError(f"{path} is not a whole OCI archive: {error}") from error
        yield layout, image


def _take_base_layers(
    image: ImageDocuments, base_layout: Layout, base_image: ImageDocuments, blobs: dict[str, Blob]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The layers that the image begins with and the base has as well: their descriptors and their diff_ids."""
    layers: list[dict[str, Any]] = []
    diff_ids: list[str] = []
    of_base = zip(base_image.config["rootfs"]["diff_ids"], base_image.manifest["layers"], strict=True)
    for diff_id, (base_diff_id, descriptor) in zip(image.config["rootfs"]["diff_ids"], of_base, strict=False):
        if diff_id != base_diff_id:
            break
        digest = descriptor["digest"]
        base_layout.verify_blob(digest)
        # Refuses a compression that what judges the image cannot read.
        with base_layout.open_layer(digest):
            pass
        blobs[blob_name(digest)] = Blob(base_layout.get_blob_size_bytes(digest), partial(base_layout.open_blob, digest))
        layers.append({key: descriptor[key] for key in ("mediaType", "digest", "size")})
        diff_ids.append(diff_id)
    return layers, diff_ids


def _create_config(
    built: dict[str, Any],
    base: dict[str, Any],
    diff_ids: list[str],
    *,
    created: str,
    healthcheck: dict[str, Any] | None,
    drop_labels: Collection[str],
) -> dict[str, Any]:
    config = {**built, "created": created, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    settings = dict(config.get("config") or {})
    labels = settings.pop("Labels", None) or {}
    if kept := {key: value for key, value in labels.items() if key not in drop_labels}:
        settings["Labels"] = kept
    if healthcheck:
        settings["Healthcheck"] = healthcheck
    config["config"] = settings
    of_base = base.get("history") or []
    config["history"] = [
        entry
        if entry in of_base[number : number + 1] and entry.get("comment") != BUILDKIT_COMMENT
        else _normalize_history(entry, created)
        for number, entry in enumerate(config.get("history") or [])
    ]
    return config


def _normalize_history(entry: dict[str, Any], created: str) -> dict[str, Any]:
    """An entry of ours, the same on every engine.

    If an engine has built the same instruction in another Dockerfile, it writes the position that it had there.
    """
    if "created_by" not in entry:
        return {**entry, "created": created}
    return {**entry, "created": created, "created_by": DAGGERS_STEP.sub("", str(entry["created_by"]))}


def _create_docker_manifest(config: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Any]:
    """What `docker load` before 25, and Trivy, read in place of index.json."""
    return {
        "Config": blob_name(config["digest"]),
        "RepoTags": None,
        "Layers": [blob_name(layer["digest"]) for layer in layers],
    }


def _add_document(blobs: dict[str, Blob], document: object) -> dict[str, Any]:
    """Add a document as a blob, and describe it."""
    content = _canonical_json(document)
    digest = compute_digest(content)
    blobs[blob_name(digest)] = _create_bytes_blob(content)
    return {"digest": digest, "size": len(content)}


def _canonical_json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _create_bytes_blob(content: bytes) -> Blob:
    return Blob(len(content), partial(io.BytesIO, content))


def _create_json_blob(document: object) -> Blob:
    return _create_bytes_blob(_canonical_json(document))


def _create_file_blob(path: Path) -> Blob:
    return Blob(path.stat().st_size, lambda: path.open("rb"))


def _write_archive(out: Path, blobs: dict[str, Blob]) -> None:
    with tarfile.open(out, "w:", format=tarfile.PAX_FORMAT) as tar:
        for name, blob in sorted(blobs.items()):
            header = tarfile.TarInfo(name)
            header.size, header.mtime, header.mode = blob.size_bytes, FILE_TIME, 0o444
            with blob.open() as file:
                tar.addfile(header, file)


# --- a layer --------------------------------------------------------------------------------------------------------


def _repack_layer(layout: Layout, digest: str, diff_id: str, *, store: Path, work: Path) -> RepackedLayer:
    """The layer in its normal form, from the store if it is there."""
    with tempfile.TemporaryFile(dir=work) as unpacked:
        _unpack_layer(layout, digest, diff_id, unpacked)
        shipped = b"".join((PACKAGE_PARENT / name).read_bytes() for name in SHIPPED_FILES)
        key = hashlib.sha256(diff_id.encode() + shipped).hexdigest()
        return _load_layer(store, key) or _store_layer(store, key, unpacked)


def _unpack_layer(layout: Layout, digest: str, diff_id: str, into: IO[bytes]) -> None:
    sha256 = hashlib.sha256()
    with layout.open_layer(digest) as tar:
        while block := tar.read(BLOCK_BYTES):
            sha256.update(block)
            into.write(block)
    require_digest(diff_id, sha256.hexdigest())
    into.seek(0)


def _load_layer(store: Path, key: str) -> RepackedLayer | None:
    """A layer that an earlier run stored; None if it stored none, or if what it stored is damaged."""
    path, record = store / f"{key}.tar.gz", store / f"{key}.txt"
    with suppress(OSError, ValueError):
        digest, diff_id, seal = record.read_text(encoding="ascii").split()
        with path.open("rb") as file:
            is_whole = digest == f"sha256:{hash_file(file)}"
        if is_whole and seal == _compute_checksum(key, digest, diff_id):
            # The time of its last use is what it is kept by.
            os.utime(path)
            os.utime(record)
            return RepackedLayer(path, digest, diff_id)
    return None


def _store_layer(store: Path, key: str, unpacked: IO[bytes]) -> RepackedLayer:
    path, record = store / f"{key}.tar.gz", store / f"{key}.txt"
    # Another run may write the same layer at the same time; each renames a whole file of its own.
    whole = Path(tempfile.mkdtemp(dir=store))
    digest, diff_id = _compress_tar(_normalize_tar(unpacked), whole / path.name)
    (whole / record.name).write_text(
        f"{digest}\n{diff_id}\n{_compute_checksum(key, digest, diff_id)}\n", encoding="ascii"
    )
    for file in (path, record):
        (whole / file.name).replace(file)
    whole.rmdir()
    return RepackedLayer(path, digest, diff_id)


def _compute_checksum(key: str, digest: str, diff_id: str) -> str:
    """The checksum of a record: the digest protects the compressed bytes, but not the diff_id."""
    return hashlib.sha256(f"{key} {digest} {diff_id}".encode()).hexdigest()


def _prune_store(store: Path) -> None:
    """Remove what was not used for 30 days, and half-written layers of killed runs."""
    for path in [*store.glob("*/*"), *store.glob("*")]:
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - UNUSED_SECONDS:
                path.rmdir() if path.is_dir() else path.unlink()


def _compress_tar(tar: Iterator[bytes], path: Path) -> tuple[str, str]:
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


def _normalize_tar(layer: IO[bytes]) -> Iterator[bytes]:
    """The same files as a tar in its only form: sorted, each path once, without times and names of owners."""
    with tarfile.open(fileobj=layer, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        files = _read_files(tar)
        layer.seek(tar.offset)
        # tarfile takes a header that it cannot read for the end.
        if layer.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise ValueError("a layer's tar is damaged")
        first_paths: dict[tarfile.TarInfo, str] = {}
        for path in sorted(files, key=_sort_key):
            file = files[path]
            header = _create_header(path, file, first_path=first_paths.setdefault(file, path))
            yield header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            if header.isreg():
                yield from _iter_content(tar, file)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _read_files(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """Each path and the file that a run would find there; hard links to one file have it in common."""
    files: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        path = _path(member.name)
        require_not_sparse(member)
        # A link whose target is not in this layer stays a link.
        file = files.get(_path(member.linkname), member) if member.islnk() else member
        if path in files and files[path].isdir() and not file.isdir():
            for below in [other for other in files if other.startswith(f"{path}/")]:
                del files[below]
        files[path] = file
    return files


def _path(name: str) -> str:
    return clean_path(name) or "."


def _sort_key(path: str) -> list[tuple[bool, bytes]]:
    """Sorts a folder before what is in it, and whiteouts first, as the specification says."""
    parts = [] if path == "." else path.split("/")
    return [(not part.startswith(WHITEOUT_PREFIX), part.encode("utf-8", "surrogateescape")) for part in parts]


def _create_header(path: str, file: tarfile.TarInfo, *, first_path: str) -> tarfile.TarInfo:
    """All that is kept of a file, as the entry for `path`; it is a link if `first_path` is another path."""
    header = tarfile.TarInfo(path)
    header.mode, header.uid, header.gid, header.mtime = file.mode, file.uid, file.gid, FILE_TIME
    # Links have them as well: a runtime that sets a link's owner takes the file's capabilities away.
    header.pax_headers = {
        key: file.pax_headers[key] for key in sorted(file.pax_headers) if key.startswith(XATTR_PREFIX)
    }
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


def _iter_content(tar: tarfile.TarFile, file: tarfile.TarInfo) -> Iterator[bytes]:
    content = tar.extractfile(file)
    if content is None:
        raise ValueError(f"{file.name!r} is no file")
    with content:
        while block := content.read(BLOCK_BYTES):
            yield block
    yield bytes(-file.size % tarfile.BLOCKSIZE)


if __name__ == "__main__":
    main()
