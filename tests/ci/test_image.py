from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

import image
from errors import BuildError
from report import Contributor

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
    path: Path, *layers: dict[str, bytes] | bytes, history: list[dict[str, object]] | None = None, user: str = "10001"
) -> Path:
    """An OCI archive with these layers, made by the book and by nothing of ours."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    described = [blob(gzip.compress(layer if isinstance(layer, bytes) else packed(layer), mtime=0)) for layer in layers]
    if history is None:
        history = [{"created_by": f"RUN step {number}"} for number in range(len(layers))]
    config = blob(json.dumps({"config": {"User": user, "Labels": {"a": "b"}}, "history": history}).encode())
    manifest = blob(json.dumps({"schemaVersion": 2, "config": config, "layers": described}).encode())
    path.write_bytes(packed({**blobs, "index.json": json.dumps({"manifests": [manifest]}).encode()}))
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
    assert image.read(layout(tmp_path / "image.tar", {"a": b"123"}, buffer.getvalue())).size_bytes == 3


def test_a_history_that_does_not_match_the_layers_names_no_instruction(tmp_path: Path) -> None:
    read = image.read(layout(tmp_path / "image.tar", {"a": b"1"}, {"b": b"2"}, history=[{"created_by": "RUN one"}]))
    assert [layer.created_by for layer in read.layers] == ["", ""]


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        (f"{PACKAGES}/scipy/linalg/a.so", "scipy"),
        (f"{PACKAGES}/scipy.libs/b.so", "scipy"),
        (f"{PACKAGES}/scikit_learn-1.7.0.dist-info/METADATA", "scikit_learn"),
        ("usr/lib/python3/dist-packages/apt/a.py", "apt"),
        ("usr/lib/x86_64-linux-gnu/deep/libc.so", "/usr/lib/x86_64-linux-gnu"),
        ("./etc/passwd", "/etc"),
        ("file", "/"),
    ],
)
def test_bytes_belong_to_a_package_or_to_a_folder(path: str, owner: str) -> None:
    assert image.contributor(path) == owner


def test_only_the_largest_contributors_are_kept_in_their_order(tmp_path: Path) -> None:
    files = {f"{PACKAGES}/p{number}/a": b"x" * number for number in range(1, 7)}
    largest = image.read(layout(tmp_path / "image.tar", files)).layers[0].largest
    assert [(owner.name, owner.size_bytes) for owner in largest] == [("p6", 6), ("p5", 5), ("p4", 4), ("p3", 3)]


def test_an_archive_that_is_cut_short_is_no_image(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"12345"})
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(BuildError) as error:
        image.read(path)
    assert error.value.what.startswith(f"{path} is not a whole OCI archive: ")


@pytest.mark.parametrize("damage", [slice(30, None), slice(10, 20)])
def test_a_layer_that_cannot_be_unpacked_is_no_image(tmp_path: Path, damage: slice) -> None:
    path = layout(tmp_path / "image.tar", {"a": bytes(range(256)) * 50})
    packed_layer = gzip.compress(packed({"a": bytes(range(256)) * 50}), mtime=0)
    damaged = bytearray(packed_layer)
    damaged[damage] = bytes(len(damaged[damage]))
    whole = path.read_bytes()
    assert packed_layer in whole
    path.write_bytes(whole.replace(packed_layer, bytes(damaged)))
    with pytest.raises(BuildError, match="is not a whole OCI archive: "):
        image.read(path)


def test_a_blob_that_is_not_its_digest_is_no_image(tmp_path: Path) -> None:
    path = layout(tmp_path / "image.tar", {"a": b"12345"})
    path.write_bytes(path.read_bytes().replace(b'"User": "10001"', b'"User": "00000"'))
    with pytest.raises(BuildError, match=r"blob sha256:[0-9a-f]{64} holds sha256:[0-9a-f]{64}"):
        image.read(path)
