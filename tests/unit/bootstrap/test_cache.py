from __future__ import annotations

import io
from pathlib import Path

import pytest

from drydock.bootstrap import cache as caches
from drydock.bootstrap.cache import Cache


def test_a_step_is_made_once_for_the_same_inputs(cache: Cache, said: io.StringIO) -> None:
    made: list[Path] = []

    def make(directory: Path) -> None:
        made.append(directory)
        (directory / "file").write_text("whole")

    first = cache.get_or_build("step", {"a": 1, "b": 2}, make)
    # The order in which inputs are named is no input.
    again = cache.get_or_build("step", {"b": 2, "a": 1}, make)
    assert again == first
    assert first.parent == cache.root / "step"
    assert (first / "file").read_text() == "whole"
    assert len(made) == 1
    assert [line.split()[0] for line in said.getvalue().splitlines()] == ["step", "step:"]


def test_new_inputs_make_it_anew_and_the_old_one_goes(cache: Cache) -> None:
    neighbour = cache.get_or_build("other", {"version": 1}, lambda directory: None)
    old = cache.get_or_build("step", {"version": 1}, lambda directory: None)
    new = cache.get_or_build("step", {"version": 2}, lambda directory: None)
    assert new != old
    assert list((cache.root / "step").iterdir()) == [new]
    assert neighbour.is_dir()


def test_a_half_made_step_never_counts(cache: Cache) -> None:
    def half(directory: Path) -> None:
        (directory / "half").write_text("")
        raise RuntimeError("the power went")

    def whole(directory: Path) -> None:
        assert list(directory.iterdir()) == []
        (directory / "whole").write_text("")

    with pytest.raises(RuntimeError, match="the power went"):
        cache.get_or_build("step", {}, half)
    made = cache.get_or_build("step", {}, whole)
    assert [path.name for path in made.iterdir()] == ["whole"]
    assert list((cache.root / "step").iterdir()) == [made]


@pytest.mark.parametrize("environment", [{}, {"DRYDOCK_CACHE": ""}])
def test_the_cache_is_in_the_home_folder(environment: dict[str, str]) -> None:
    assert caches.cache_root(environment) == Path.home() / ".cache" / "drydock"


def test_or_where_a_variable_says() -> None:
    assert caches.cache_root({"DRYDOCK_CACHE": "/var/drydock"}) == Path("/var/drydock")


def test_a_relative_cache_is_meant_from_here() -> None:
    assert caches.cache_root({"DRYDOCK_CACHE": "kept"}) == Path.cwd() / "kept"


def test_a_folder_is_its_files_names_and_words(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "file").write_text("words")
    words = "dba36bffa5cab0f922d087a3aeb179f9d4e745df40b323e1b1471402848c8a3e"
    assert caches.hash_tree(folder) == {"below/file": words}

    (folder / "below" / "file").write_text("other words")
    assert caches.hash_tree(folder).keys() == {"below/file"}
    assert caches.hash_tree(folder) != {"below/file": words}

    (folder / "below" / "file").write_text("words")
    (folder / "below" / "file").rename(folder / "renamed")
    assert caches.hash_tree(folder) == {"renamed": words}
