from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from drydock.errors import DrydockError
from drydock.pipeline import update_pins

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
LOCK = f"""\
# What a run builds on.
builder = "docker.io/library/python:3.13-trixie@{OLD}"
trivy = "127.0.0.1:5000/aquasec/trivy:0.74.0@{OLD}"
databases = ["mirror.gcr.io/aquasec/trivy-db:2"]
"""


def refresh(path: Path, digests: dict[str, str | None]) -> list[str]:
    async def ask(repository: str, tag: str) -> str | None:
        return digests[f"{repository}:{tag}"]

    return anyio.run(update_pins.update_pins, path, ask)


def test_each_tag_gets_the_digest_that_it_has_now_and_all_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "images.toml"
    path.write_text(LOCK)
    said = refresh(path, {"docker.io/library/python:3.13-trixie": NEW, "127.0.0.1:5000/aquasec/trivy:0.74.0": OLD})
    assert said == [
        "builder   docker.io/library/python:3.13-trixie sha256:bbbbbbbbbbbb…  was sha256:aaaaaaaaaaaa…",
        "trivy     127.0.0.1:5000/aquasec/trivy:0.74.0 sha256:aaaaaaaaaaaa…  as it was",
    ]
    assert path.read_text() == LOCK.replace(f"trixie@{OLD}", f"trixie@{NEW}")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "{} cannot be read: No such file or directory"),
        ("", "{} pins no image"),
        (LOCK, "127.0.0.1:5000/aquasec/trivy has no tag 0.74.0"),
    ],
)
def test_what_cannot_be_locked_leaves_the_file_as_it_is(tmp_path: Path, content: str | None, what: str) -> None:
    path = tmp_path / "images.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DrydockError) as refused:
        refresh(path, {"docker.io/library/python:3.13-trixie": NEW, "127.0.0.1:5000/aquasec/trivy:0.74.0": None})
    assert refused.value.message == what.format(path)
    assert (path.read_text() if path.exists() else None) == content


def test_every_shipped_pin_is_one_that_can_be_renewed() -> None:
    text = (Path(__file__).parents[3] / "images.toml").read_text()
    assert [pin["name"] for pin in update_pins.PIN.finditer(text)] == ["builder", "base", "trivy", "cosign"]
