from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

import image
from contents import DUPLICATE_BYTES, Touched
from errors import BuildError, UsageError
from report import Contributor, Package, Waste

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
    read = image.read(
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
    read = image.read(layout(tmp_path / "image.tar", {"a": b"1"}, history=[{"created_by": created_by}]))
    assert read.layers[0].created_by == instruction


def test_a_file_that_a_later_layer_removes_still_counts(tmp_path: Path) -> None:
    read = image.read(layout(tmp_path / "image.tar", {"data/big": b"x" * 1000}, {"data/.wh.big": b""}))
    assert read.size_bytes == 1000


def test_links_and_folders_have_no_size(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind in (("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a"
            tar.addfile(member)
    read = image.read(layout(tmp_path / "image.tar", {"a": b"123"}, buffer.getvalue()))
    assert (read.size_bytes, read.layers[1].files_added) == (3, 2)


def test_a_history_that_does_not_match_the_layers_names_no_instruction(tmp_path: Path) -> None:
    read = image.read(layout(tmp_path / "image.tar", {"a": b"1"}, {"b": b"2"}, history=[{"created_by": "RUN one"}]))
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
    read = image.read(layout(tmp_path / "image.tar", DPKG, SCIPY, {"app/a": b"12", "/app/b": b"3"}))
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
    read = image.read(layout(tmp_path / "image.tar", SCIPY, gone))
    assert [owner.name for owner in read.layers[0].largest] == ["SciPy"]
    assert (read.packages, read.other_folders) == ((), ())
    assert read.wasted_bytes == read.size_bytes
    assert (read.layers[1].files_added, read.layers[1].files_removed) == (0, 3)


def test_large_files_with_the_same_content_are_found(tmp_path: Path) -> None:
    large, small = bytes(range(256)) * (DUPLICATE_BYTES // 256), b"x" * (DUPLICATE_BYTES - 1)
    files = {"a": large, "b": large[::-1], "c": small, "d": small}
    read = image.read(layout(tmp_path / "image.tar", files, {"copy": large}))
    assert read.waste == (Waste(path="copy", size_bytes=DUPLICATE_BYTES, layer=2, why="duplicate"),)


def test_waste_that_is_not_shown_counts(tmp_path: Path) -> None:
    many = {f"f{number}": b"123" for number in range(30)}
    read = image.read(layout(tmp_path / "image.tar", many, {**many, "g": b"9"}))
    assert (len(read.waste), read.wasted_bytes) == (20, 90)
    assert (read.layers[1].files_added, read.layers[1].files_replaced) == (1, 30)


def test_layers_that_are_stored_as_they_are_can_be_read(tmp_path: Path) -> None:
    read = image.read(layout(tmp_path / "image.tar", {"a": b"123"}, {"a": b"4"}, compressed=False))
    assert (read.size_bytes, read.wasted_bytes) == (4, 3)


def test_a_name_need_not_be_utf_8(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        member = tarfile.TarInfo("caf\xe9")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"1"))
    read = image.read(layout(tmp_path / "image.tar", buffer.getvalue()))
    assert read.files[0].path == "caf\N{REPLACEMENT CHARACTER}"
    assert read.model_dump_json()


def test_every_file_of_a_layer_is_listed_with_what_became_of_it(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"1", "b": b"12"}, {"a": b"123", ".wh.b": b"", "c": b""}, {"a": b"1"})
    layer, files = image.layer_files(path, 2)
    assert (layer.created_by, layer.size_bytes) == ("RUN step 1", 3)
    assert files == (Touched("~", "a", 3), Touched("-", "b", 2), Touched("+", "c", 0))


@pytest.mark.parametrize("number", [-1, 0, 3])
def test_a_layer_that_is_not_there_is_wrong_usage(tmp_path: Path, number: int) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"1"}, {"b": b"12"})
    with pytest.raises(UsageError, match=f"has no layer {number}") as error:
        image.layer_files(path, number)
    assert error.value.next_step == "name one from 1 to 2"


def test_an_archive_that_is_cut_short_is_no_image(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"12345"})
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(BuildError) as error:
        image.read(path)
    assert error.value.what.startswith(f"{path} is not a whole OCI archive: ")


@pytest.mark.parametrize("damage", [slice(30, None), slice(10, 20)])
def test_a_layer_that_cannot_be_unpacked_is_no_image(tmp_path: Path, damage: slice) -> None:
    damaged = bytearray(gzip.compress(packed({"a": bytes(range(256)) * 50}), mtime=0))
    damaged[damage] = bytes(len(damaged[damage]))
    path = layout(tmp_path / "image.tar", bytes(damaged), compressed=False)
    with pytest.raises(BuildError, match="is not a whole OCI archive: "):
        image.read(path)


def test_a_layer_that_is_not_its_digest_is_no_image(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"12345"}, compressed=False)
    path.write_bytes(path.read_bytes().replace(b"12345", b"54321"))
    with pytest.raises(BuildError, match=r"blob sha256:[0-9a-f]{64} holds sha256:[0-9a-f]{64}"):
        image.read(path)


@pytest.mark.parametrize(
    "index", [b"", b"[]", b"{}", b"null", b'{"manifests": []}', b'{"manifests": 1}', b"[" * 100_000]
)
def test_an_archive_of_another_form_is_no_image(tmp_path: Path, index: bytes) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(packed({"index.json": index}))
    with pytest.raises(BuildError, match="is not a whole OCI archive: "):
        image.read(path)


def test_an_image_may_say_nothing_of_how_it_is_run_and_made(tmp_path: Path) -> None:
    read = image.read(layout(tmp_path / "image.tar", {"a": b"1"}, config={"config": None, "history": None}))
    assert (read.user, read.layers[0].created_by) == ("", "")


def test_a_blob_that_is_not_its_digest_is_no_image(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"12345"})
    path.write_bytes(path.read_bytes().replace(b'"User": "10001"', b'"User": "00000"'))
    with pytest.raises(BuildError, match=r"blob sha256:[0-9a-f]{64} holds sha256:[0-9a-f]{64}"):
        image.read(path)
