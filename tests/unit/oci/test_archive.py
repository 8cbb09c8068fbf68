from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import time
import tracemalloc
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from drydock.errors import BuildError, UsageError
from drydock.oci import archive, layers
from drydock.oci.analysis import DUPLICATE_BYTES, FileChange
from drydock.report import Contributor, Package, Waste

PACKAGES = "opt/venv/lib/python3.13/site-packages"


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def layout(
    path: Path,
    *layers: dict[str, bytes] | bytes,
    history: list[dict[str, object]] | None = None,
    user: str = "10001",
    compressed: bool = True,
    config: dict[str, object] | None = None,
) -> Path:
    """An OCI archive with these layers, made by the book and by nothing of ours."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    tars = [layer if isinstance(layer, bytes) else packed(layer) for layer in layers]
    described = [blob(gzip.compress(layer, mtime=0) if compressed else layer) for layer in tars]
    if history is None:
        history = [{"created_by": f"RUN step {number}"} for number in range(len(layers))]
    config = config or {"config": {"User": user, "Labels": {"a": "b"}}, "history": history}
    manifest = {"schemaVersion": 2, "config": blob(json.dumps(config).encode()), "layers": described}
    index = {"manifests": [blob(json.dumps(manifest).encode())]}
    path.write_bytes(packed({**blobs, "index.json": json.dumps(index).encode()}))
    return path


def test_an_archive_is_read_as_the_registry_and_docker_will_see_it(tmp_path: Path) -> None:
    history: list[dict[str, object]] = [
        {"created_by": "RUN  apt-get \t install x # buildkit"},
        {"created_by": "ENV A=b", "empty_layer": True},
        {"created_by": "COPY service/ /app # buildkit"},
    ]
    read = archive.read_image(
        layout(tmp_path / "image.tar", {"a": b"12345"}, {"app/b": b"123", "app/c": b"4"}, history=history)
    )
    assert (read.user, read.labels, read.size_bytes) == ("10001", {"a": "b"}, 9)
    assert [(layer.created_by, layer.size_bytes) for layer in read.layers] == [
        ("RUN apt-get install x", 5),
        ("COPY service/ /app", 4),
    ]
    assert read.layers[1].largest == (Contributor(name="/app", size_bytes=4),)


@pytest.mark.parametrize(
    ("created_by", "instruction"),
    [
        ("RUN /bin/sh -c make # buildkit", "RUN /bin/sh -c make"),
        ("[stage-1 3/4] COPY service/server.py /app/server.py", "COPY service/server.py /app/server.py"),
        ("[builder 2/3] RUN make [all]", "RUN make [all]"),
        ("mount / from exec /bin/sh -c truncate -s 9 /big", "RUN truncate -s 9 /big"),
        ("pulled from docker.io/library/python:3.13", "pulled from docker.io/library/python:3.13"),
    ],
)
def test_an_instruction_is_named_as_the_dockerfile_has_it(tmp_path: Path, created_by: str, instruction: str) -> None:
    read = archive.read_image(layout(tmp_path / "image.tar", {"a": b"1"}, history=[{"created_by": created_by}]))
    assert read.layers[0].created_by == instruction


def test_a_file_that_a_later_layer_removes_still_counts(tmp_path: Path) -> None:
    read = archive.read_image(layout(tmp_path / "image.tar", {"data/big": b"x" * 1000}, {"data/.wh.big": b""}))
    assert read.size_bytes == 1000


def test_links_and_folders_have_no_size(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind in (("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a"
            tar.addfile(member)
    read = archive.read_image(layout(tmp_path / "image.tar", {"a": b"123"}, buffer.getvalue()))
    assert (read.size_bytes, read.layers[1].files_added) == (3, 2)


def test_a_history_that_does_not_match_the_layers_names_no_instruction(tmp_path: Path) -> None:
    read = archive.read_image(
        layout(tmp_path / "image.tar", {"a": b"1"}, {"b": b"2"}, history=[{"created_by": "RUN one"}])
    )
    assert [layer.created_by for layer in read.layers] == ["", ""]


SCIPY = {
    f"{PACKAGES}/scipy/a.so": b"x" * 70,
    f"{PACKAGES}/scipy-1.15.0.dist-info/METADATA": b"Name: SciPy\nVersion: 1.15.0\n",
    f"{PACKAGES}/scipy-1.15.0.dist-info/RECORD": b"scipy/a.so,,\n",
}
DPKG = {
    "./var/lib/dpkg/status": b"Package: libc6\nStatus: install ok installed\nVersion: 2.41\n" + b"\n" * DUPLICATE_BYTES,
    "./var/lib/dpkg/info/libc6:amd64.list": b"/usr/lib/libc.so\n",
    "./var/lib/dpkg/info/meta.list": b"/none\n" * DUPLICATE_BYTES,
    "./usr/lib/libc.so": b"x" * 9,
}


def test_an_images_bytes_are_those_of_its_packages_and_of_other_folders(tmp_path: Path) -> None:
    read = archive.read_image(layout(tmp_path / "image.tar", DPKG, SCIPY, {"app/a": b"12", "/app/b": b"3"}))
    records = sum(len(content) for path, content in SCIPY.items() if "dist-info" in path)
    assert read.packages == (
        Package(name="SciPy", version="1.15.0", kind="python", size_bytes=70 + records),
        Package(name="libc6", version="2.41", kind="debian", size_bytes=9),
    )
    assert [folder.name for folder in read.other_folders] == ["/var/lib/dpkg", "/app"]
    of_packages = sum(package.size_bytes for package in read.packages)
    assert of_packages + sum(folder.size_bytes for folder in read.other_folders) == read.size_bytes
    assert [(file.path, file.layer) for file in read.files[1:3]] == [
        ("var/lib/dpkg/status", 1),
        (f"{PACKAGES}/scipy/a.so", 2),
    ]
    assert read.waste == ()


def test_a_package_that_a_later_layer_removes_still_fills_its_own(tmp_path: Path) -> None:
    gone = {f"{PACKAGES}/.wh.scipy": b"", f"{PACKAGES}/.wh.scipy-1.15.0.dist-info": b""}
    read = archive.read_image(layout(tmp_path / "image.tar", SCIPY, gone))
    assert [owner.name for owner in read.layers[0].largest] == ["SciPy"]
    assert (read.packages, read.other_folders) == ((), ())
    assert read.wasted_bytes == read.size_bytes
    assert (read.layers[1].files_added, read.layers[1].files_removed) == (0, 3)


def test_large_files_with_the_same_content_are_found(tmp_path: Path) -> None:
    large, small = bytes(range(256)) * (DUPLICATE_BYTES // 256), b"x" * (DUPLICATE_BYTES - 1)
    files = {"a": large, "b": large[::-1], "c": small, "d": small}
    read = archive.read_image(layout(tmp_path / "image.tar", files, {"copy": large}))
    assert read.waste == (Waste(path="copy", size_bytes=DUPLICATE_BYTES, layer=2, why="duplicate"),)


def test_waste_that_is_not_shown_counts(tmp_path: Path) -> None:
    many = {f"f{number}": b"123" for number in range(30)}
    read = archive.read_image(layout(tmp_path / "image.tar", many, {**many, "g": b"9"}))
    assert (len(read.waste), read.wasted_bytes) == (20, 90)
    assert (read.layers[1].files_added, read.layers[1].files_replaced) == (1, 30)


def test_layers_that_are_stored_as_they_are_can_be_read(tmp_path: Path) -> None:
    read = archive.read_image(layout(tmp_path / "image.tar", {"a": b"123"}, {"a": b"4"}, compressed=False))
    assert (read.size_bytes, read.wasted_bytes) == (4, 3)


def test_a_name_need_not_be_utf_8(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        member = tarfile.TarInfo("caf\xe9")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"1"))
    read = archive.read_image(layout(tmp_path / "image.tar", buffer.getvalue()))
    assert read.files[0].path == "caf\N{REPLACEMENT CHARACTER}"
    assert read.model_dump_json()


def test_every_file_of_a_layer_is_listed_with_what_became_of_it(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"1", "b": b"12"}, {"a": b"123", ".wh.b": b"", "c": b""}, {"a": b"1"})
    layer, files = archive.read_layer(path, 2)
    assert (layer.created_by, layer.size_bytes) == ("RUN step 1", 3)
    assert files == (FileChange("~", "a", 3), FileChange("-", "b", 2), FileChange("+", "c", 0))


@pytest.mark.parametrize("number", [-1, 0, 3])
def test_a_layer_that_is_not_there_is_wrong_usage(tmp_path: Path, number: int) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"1"}, {"b": b"12"})
    with pytest.raises(UsageError, match=f"has no layer {number}") as error:
        archive.read_layer(path, number)
    assert error.value.next_step == "name one from 1 to 2"


def test_an_archive_that_is_cut_short_is_no_image(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"12345"})
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(BuildError) as error:
        archive.read_image(path)
    assert error.value.message.startswith(f"{path} is not a whole OCI archive: ")


@pytest.mark.parametrize("damage", [slice(30, None), slice(10, 20)])
def test_a_layer_that_cannot_be_unpacked_is_no_image(tmp_path: Path, damage: slice) -> None:
    damaged = bytearray(gzip.compress(packed({"a": bytes(range(256)) * 50}), mtime=0))
    damaged[damage] = bytes(len(damaged[damage]))
    path = layout(tmp_path / "image.tar", bytes(damaged), compressed=False)
    with pytest.raises(BuildError, match="is not a whole OCI archive: "):
        archive.read_image(path)


def test_a_layer_that_is_not_its_digest_is_no_image(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"12345"}, compressed=False)
    path.write_bytes(path.read_bytes().replace(b"12345", b"54321"))
    with pytest.raises(BuildError, match=r"blob sha256:[0-9a-f]{64} holds sha256:[0-9a-f]{64}"):
        archive.read_image(path)


@pytest.mark.parametrize(
    "index", [b"", b"[]", b"{}", b"null", b'{"manifests": []}', b'{"manifests": 1}', b"[" * 100_000]
)
def test_an_archive_of_another_form_is_no_image(tmp_path: Path, index: bytes) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(packed({"index.json": index}))
    with pytest.raises(BuildError, match="is not a whole OCI archive: "):
        archive.read_image(path)


def test_an_image_may_say_nothing_of_how_it_is_run_and_made(tmp_path: Path) -> None:
    read = archive.read_image(layout(tmp_path / "image.tar", {"a": b"1"}, config={"config": None, "history": None}))
    assert (read.user, read.layers[0].created_by) == ("", "")


def test_a_blob_that_is_not_its_digest_is_no_image(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"12345"})
    path.write_bytes(path.read_bytes().replace(b'"User": "10001"', b'"User": "00000"'))
    with pytest.raises(BuildError, match=r"blob sha256:[0-9a-f]{64} holds sha256:[0-9a-f]{64}"):
        archive.read_image(path)


# --- archives that cost more than they weigh ------------------------------------------------------------------------


def header(
    name: str, size_bytes: int, kind: bytes = tarfile.REGTYPE, pax_headers: dict[str, str] | None = None
) -> bytes:
    """A member's header alone: what it says of itself need not be there."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.pax_headers = size_bytes, kind, pax_headers or {}
    return member.tobuf(tarfile.PAX_FORMAT)


def old_sparse(size_bytes: int) -> bytes:
    """GNU's own form: the size that the file has once its holes are there stands at the header's byte 483."""
    block = bytearray(header("hole", 0, tarfile.GNUTYPE_SPARSE))
    block[257:265] = b"ustar  \0"
    block[483:495] = f"{size_bytes:011o}\0".encode()
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


ZEROS = bytes(32 * 1024 * 1024)
INFO = f"{PACKAGES}/a-1.dist-info"
COSTLY = {
    "a sparse file of GNU's own form": (old_sparse(4_000_000_000), "'hole' is a sparse file"),
    "a sparse file of 1.0": (
        header(
            "a",
            512,
            pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "4000000000"},
        )
        + b"0\n".ljust(512, b"\0"),
        "'a' is a sparse file",
    ),
    "a sparse file of 0.1": (
        header("a", 0, pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": "8000000000000"}),
        "'a' is a sparse file",
    ),
    "a file that says 8 TB": (header("a", 8_000_000_000_000), "unpacks to more than 100 MB"),
    "a file that is not there": (header("a", 90_000_000), "unexpected end of data"),
    "a header of 32 MB": (header("x", len(ZEROS), tarfile.XHDTYPE) + ZEROS, "has a header of more than 1 MB"),
    "a name of 32 MB": (header("x", len(ZEROS), tarfile.GNUTYPE_LONGNAME) + ZEROS, "has a header of more than 1 MB"),
    "a name that no file can have": (header("a/" * 3000, 0), "has a name of 5,999 characters"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_layer_that_says_more_than_it_has_is_refused_at_once(tmp_path: Path, name: str) -> None:
    layer, why = COSTLY[name]
    path = layout(tmp_path / "image.tar", layer)
    started = time.monotonic()
    with pytest.raises(BuildError) as refused:
        archive.read_image(path, max_bytes=100_000_000)
    assert why in refused.value.message
    assert time.monotonic() - started < 2


def test_reading_stops_where_all_layers_unpack_to_more_than_is_allowed(tmp_path: Path) -> None:
    # Of 32 MB each, and 33 kB in the archive.
    path = layout(tmp_path / "image.tar", {"a": ZEROS}, {"b": ZEROS}, {"c": ZEROS})
    assert archive.read_image(path, max_bytes=110_000_000).size_bytes == 3 * len(ZEROS)
    with pytest.raises(BuildError, match=r"it unpacks to more than 90 MB"):
        archive.read_image(path, max_bytes=90_000_000)


def test_more_members_than_an_image_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_MEMBERS", 3)
    assert archive.read_image(layout(tmp_path / "a.tar", {"a": b"", "b": b""}, {"c": b""})).layers[1].files_added == 1
    with pytest.raises(BuildError, match="it has more than 3 files"):
        archive.read_image(layout(tmp_path / "b.tar", {"a": b"", "b": b""}, {"c": b"", "d": b""}))


RECORDS = {
    "a RECORD of 32 MB": {f"{INFO}/RECORD": b"\n" * len(ZEROS)},
    "a RECORD of line ends": {f"{INFO}/RECORD": b"\n" * 1_000_000},
    "a RECORD of many files": {f"{INFO}/RECORD": b"".join(b"%x\n" % number for number in range(150_000))},
    "a METADATA of many fields": {f"{INFO}/METADATA": b"".join(b"%x:\n" % number for number in range(150_000))},
    "a list of dpkg's": {
        "var/lib/dpkg/status": b"Package: a\nVersion: 1\n",
        "var/lib/dpkg/info/a.list": b"/a\n" * 300_000,
    },
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_package_record_costs_about_what_it_weighs(tmp_path: Path, name: str) -> None:
    path = layout(tmp_path / "image.tar", RECORDS[name])
    tracemalloc.start()
    try:
        read = archive.read_image(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(read.packages) == 1
    assert peak_bytes < 6_000_000


def test_records_beyond_what_all_packages_may_have_are_files_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = SCIPY[f"{PACKAGES}/scipy-1.15.0.dist-info/RECORD"]
    for limit in ("MAX_RECORD_BYTES", "MAX_RECORDS_BYTES"):
        with monkeypatch.context() as lower:
            lower.setattr(layers, limit, len(record) - 1)
            read = archive.read_image(layout(tmp_path / "image.tar", SCIPY))
        # Without its METADATA the folder's own name says which package it is.
        assert [package.name for package in read.packages] == ["scipy"]


def test_many_packages_without_a_record_take_no_longer_than_with_one(tmp_path: Path) -> None:
    many = {f"{PACKAGES}/p{number}-1.dist-info/INSTALLER": b"" for number in range(20_000)}
    path = layout(tmp_path / "image.tar", many)
    started = time.monotonic()
    assert len(archive.read_image(path).packages) == len(many)
    assert time.monotonic() - started < 20


def test_a_document_of_the_archive_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(packed({"index.json": b" " * 17_000_000}))
    with pytest.raises(BuildError, match=r"index.json has more than 16 MB"):
        archive.read_image(path)


def test_a_sparse_document_is_refused(tmp_path: Path) -> None:
    sparse = header("index.json", 0, pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": "8000000000000"})
    path = tmp_path / "image.tar"
    path.write_bytes(sparse + bytes(1024))
    with pytest.raises(BuildError, match=r"'index.json' is a sparse file"):
        archive.read_image(path)


def test_a_layer_in_zstd_is_refused_by_its_name(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", b"\x28\xb5\x2f\xfd" + bytes(100), compressed=False)
    with pytest.raises(BuildError, match=r"layer sha256:[0-9a-f]{64} is compressed with zstd"):
        archive.read_image(path)


def test_reading_ends_when_nobody_waits_for_it(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": ZEROS})
    asked = iter((False, False, True))
    with pytest.raises(CancelledError):
        archive.read_image(path, is_cancelled=lambda: next(asked))
