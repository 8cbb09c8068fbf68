from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drydock.tools import text_extraction
from tests.unit.oci.test_archive import layout

TOKEN = b"GITHUB_TOKEN=ghp_" + b"A1b2C3d4E5f6" * 3
PICKLE = b"\x80\x04\x95\x10\x00" + TOKEN + b"\x94."


def found(tmp_path: Path, *layers: dict[str, bytes], history: list[dict[str, object]] | None = None) -> dict[str, str]:
    """The text that is written of each path."""
    folder = tmp_path / "texts"
    folder.mkdir()
    paths = text_extraction.extract_texts(layout(tmp_path / "image.tar", *layers, history=history), folder)
    assert sorted(paths) == sorted(path.name for path in folder.iterdir())
    return {path: (folder / name).read_text() for name, path in paths.items()}


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("app/model.pkl", PICKLE),
        ("app/settings.txt", TOKEN.decode().encode("utf-16")),
        ("app/settings.txt", TOKEN.decode().encode("utf-16-be") + b"\0\n"),
        ("app/a.pyc.bak", PICKLE),
        # Across the end of a block, and far behind the head.
        ("app/large.bin", b"\0" * (text_extraction.BLOCK_BYTES - 20) + TOKEN + b"\0" * text_extraction.BLOCK_BYTES),
        ("app/large.bin", b"\0" * (3 * text_extraction.BLOCK_BYTES) + TOKEN),
    ],
)
def test_the_text_in_a_binary_file_is_written(tmp_path: Path, path: str, content: bytes) -> None:
    texts = found(tmp_path, {path: content})
    assert list(texts) == [path]
    assert "ghp_" + "A1b2C3d4E5f6" * 3 in texts[path]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        # Trivy reads these by itself.
        ("app/config.env", TOKEN),
        ("app/late.txt", b"x" * 300 + b"\0" + TOKEN),
        ("app/a.pyc", PICKLE),
        # Machine code, and what has no text.
        ("usr/lib/a.so", text_extraction.ELF + PICKLE),
        ("app/numbers.npy", bytes(range(32)) * 100),
        ("app/empty", b""),
    ],
)
def test_what_trivy_reads_and_what_has_no_text_is_not_written(tmp_path: Path, path: str, content: bytes) -> None:
    assert found(tmp_path, {path: content}) == {}


def test_a_file_that_a_later_layer_removes_is_looked_into(tmp_path: Path) -> None:
    assert list(found(tmp_path, {"app/a.pkl": PICKLE}, {"app/.wh.a.pkl": b""})) == ["app/a.pkl"]


BASE: list[dict[str, Any]] = [
    {"created_by": "ADD rootfs.tar /"},
    {"created_by": 'CMD ["python3"]', "empty_layer": True},
    {"created_by": "COPY app /app"},
]


def test_the_layers_of_a_base_image_are_written_whole(tmp_path: Path) -> None:
    texts = found(tmp_path, {"etc/a.conf": TOKEN, "b.pyc": PICKLE}, {"app/b.conf": TOKEN}, history=BASE)
    assert sorted(texts) == ["b.pyc", "etc/a.conf"]
    assert texts["etc/a.conf"] == TOKEN.decode()


@pytest.mark.parametrize(
    ("history", "layers"),
    [
        (None, 0),
        (BASE, 1),
        ([*BASE, {"created_by": "RUN true"}], 1),
        # The image's own CMD is after all of its layers.
        ([*BASE[:1], *BASE[2:], BASE[1]], 0),
        ([*BASE, {"created_by": 'CMD ["x"]', "empty_layer": True}, {"created_by": "RUN true"}], 2),
        ([BASE[0], {"created_by": '/bin/sh -c #(nop)  CMD ["bash"]', "empty_layer": True}, BASE[2]], 1),
        ([BASE[0], {"created_by": "ENV A=CMD", "empty_layer": True}, BASE[2]], 0),
        ([BASE[0], {"created_by": "CMD.sh"}, BASE[2]], 0),
    ],
)
def test_a_base_is_what_comes_before_a_cmd(history: list[dict[str, Any]] | None, layers: int) -> None:
    assert text_extraction.count_base_layers({"history": history}) == layers
