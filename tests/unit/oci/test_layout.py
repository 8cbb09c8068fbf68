from __future__ import annotations

import tarfile
from pathlib import Path

import anyio
import pytest

from drydock.errors import BuildError, RegistryError
from drydock.oci import archive, layout
from drydock.oci.registry import archive_io
from tests.unit.oci.test_archive import layout as write_layout
from tests.unit.oci.test_repack import Entry, file, hard_link, packed, symlink

INDEX = b'{"manifests": []}'


@pytest.mark.parametrize(
    "link", [symlink("index.json", "other.json"), hard_link("index.json", "other.json")], ids=["symlink", "hard link"]
)
def test_a_document_is_never_read_through_a_link(tmp_path: Path, link: Entry) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(packed(file("other.json", INDEX), link))
    with pytest.raises(BuildError, match=r"index\.json is not a regular file"):
        archive.read_image(path)


def test_an_archive_of_more_files_than_any_image_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_layout(tmp_path / "image.tar", {"a": b"1"})
    with tarfile.open(path) as tar:
        count = len(tar.getmembers())
    monkeypatch.setattr(layout, "MAX_ARCHIVE_MEMBERS", count)
    assert archive.read_image(path).size_bytes == 1
    monkeypatch.setattr(layout, "MAX_ARCHIVE_MEMBERS", count - 1)
    with pytest.raises(BuildError, match=f"it has more than {count - 1} files"):
        archive.read_image(path)


def test_of_two_files_with_one_name_the_last_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(packed(file("index.json", b"not JSON"), file("index.json", INDEX)))
    with layout.open_layout(path) as opened:
        assert opened.read_index() == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a tar file", "it is not a whole OCI archive: "),
        (packed(file("a")), "it is not a whole OCI archive: \"filename 'index.json' not found\""),
        (packed(symlink("index.json", "a")), "it is not a whole OCI archive: index.json is not a regular file"),
        (
            packed(file("index.json", b" " * 17_000_000)),
            "it is not a whole OCI archive: index.json has more than 16 MB",
        ),
        (packed(file("index.json", b'{"manifests": [{}]}')), "it is not a whole OCI archive: 'digest'"),
    ],
)
def test_a_push_refuses_what_is_not_an_archive(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(content)
    with pytest.raises(RegistryError) as refused, archive_io.open_archive(path):
        pass
    assert refused.value.message.startswith(f"the archive is not what was approved: {path}: {reason}")


def test_a_blob_that_is_missing_is_not_what_was_approved(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(packed(file("index.json", INDEX)))
    digest = f"sha256:{'a1' * 32}"
    with (
        archive_io.open_archive(path) as opened,
        pytest.raises(RegistryError, match=r"the archive is not what was approved: .* not found"),
    ):
        anyio.run(opened.get_blob, digest)
