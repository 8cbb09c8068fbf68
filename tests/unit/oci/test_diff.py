from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from drydock.errors import BuildError
from drydock.oci import diff
from drydock.oci.diff import Differences, FileDifference, LayerDifference
from tests.unit.oci.test_archive import layout
from tests.unit.oci.test_repack import Entry, file, folder, hard_link, packed, symlink

RELEASED = {"User": "1", "Labels": {"a": "1", "b": "2"}, "Env": ["A=1"]}


def between(tmp_path: Path, released: bytes, built: bytes) -> Differences:
    """What differs between two images of one layer each."""
    return diff.compare_images(layout(tmp_path / "old.tar", released), layout(tmp_path / "new.tar", built))


def files(tmp_path: Path, released: list[Entry], built: list[Entry]) -> list[tuple[str, tuple[str, ...]]]:
    [layer] = between(tmp_path, packed(*released), packed(*built)).layers
    return [(each.path, each.what) for each in layer.files]


def settings(tmp_path: Path, released: dict[str, Any], built: dict[str, Any]) -> tuple[str, ...]:
    old = layout(tmp_path / "old.tar", {"a": b"1"}, config=released)
    new = layout(tmp_path / "new.tar", {"a": b"1"}, config=built)
    found = diff.compare_images(old, new)
    assert found.layers == ()
    return found.settings


def test_an_image_does_not_differ_from_itself(tmp_path: Path) -> None:
    archive = layout(tmp_path / "image.tar", {"a": b"1"}, {"b": b"2"})
    assert diff.compare_images(archive, archive) == Differences(settings=(), layers=())


def test_only_the_layers_that_differ_are_named_by_their_place_and_their_instruction(tmp_path: Path) -> None:
    old = layout(tmp_path / "old.tar", {"a": b"1"}, {"b": b"1"}, {"c": b"1"})
    new = layout(tmp_path / "new.tar", {"a": b"1"}, {"b": b"2"}, {"c": b"1"})
    changed = LayerDifference(2, "RUN step 1", (FileDifference("b", ("content",)),))
    assert diff.compare_images(old, new) == Differences(settings=(), layers=(changed,))


@pytest.mark.parametrize(
    ("released", "built", "what"),
    [
        (file("a", b"1"), file("a", b"2"), ("content",)),
        (file("a", b"1"), file("a", b"1\n"), ("content",)),
        (file("a", mode=0o644), file("a", mode=0o755), ("mode",)),
        (file("a", uid=0), file("a", uid=10_001), ("owner",)),
        (file("a", gid=0), file("a", gid=10_001), ("owner",)),
        (file("a", mtime=1), file("a", mtime=2), ("time",)),
        (file("a", mtime=1), file("a", mtime=1.5), ("time",)),
        (symlink("a", "b"), symlink("a", "c"), ("link",)),
        (hard_link("a", "b"), symlink("a", "b"), ("kind", "mode")),
        (folder("a"), file("a", mode=0o755), ("kind", "content")),
        (file("a", pax_headers={"SCHILY.xattr.b": "1"}), file("a"), ("attributes",)),
        (
            file("a", pax_headers={"SCHILY.xattr.b": "1"}),
            file("a", pax_headers={"SCHILY.xattr.b": "2"}),
            ("attributes",),
        ),
        (
            file("a", b"1", uid=1, mtime=1),
            file("a", b"2", mode=0o600, gid=1, mtime=2),
            ("content", "mode", "owner", "time"),
        ),
    ],
)
def test_a_file_differs_in_what_a_layer_keeps_of_it(
    released: Entry, built: Entry, what: tuple[str, ...], tmp_path: Path
) -> None:
    assert files(tmp_path, [released], [built]) == [("a", what)]


def test_a_file_may_be_in_one_of_both_only(tmp_path: Path) -> None:
    assert files(tmp_path, [file("z"), file("b/a")], [file("z"), file("b/.wh.a")]) == [
        ("b/.wh.a", ("only in this build",)),
        ("b/a", ("only in the release",)),
    ]


@pytest.mark.parametrize(
    "other",
    [
        [file("b", b"2"), file("a", b"1")],
        [file("./a", b"1"), file("/b", b"2")],
        [file("a", b"before"), file("a", b"1"), file("b", b"2")],
        [file("a", b"1", uname="ana", gname="users"), file("b", b"2", pax_headers={"comment": "by ana"})],
    ],
    ids=["order", "names", "written twice", "names of owners"],
)
def test_a_layer_may_be_another_with_the_same_files(other: list[Entry], tmp_path: Path) -> None:
    assert files(tmp_path, [file("a", b"1"), file("b", b"2")], other) == []


def test_a_layer_may_be_compressed_otherwise(tmp_path: Path) -> None:
    layer = packed(file("a", b"1" * 10_000))
    old = layout(tmp_path / "old.tar", layer)
    new = layout(tmp_path / "new.tar", gzip.compress(layer, compresslevel=1, mtime=7), compressed=False)
    assert diff.compare_images(old, new).layers == (LayerDifference(1, "RUN step 0", ()),)


def test_a_layer_that_only_one_image_has_differs_in_all_its_files(tmp_path: Path) -> None:
    one = layout(tmp_path / "one.tar", {"a": b"1"})
    two = layout(tmp_path / "two.tar", {"a": b"1"}, {"b": b"1", "c": b"1"})

    def second(what: str) -> tuple[LayerDifference, ...]:
        return (LayerDifference(2, "RUN step 1", (FileDifference("b", (what,)), FileDifference("c", (what,)))),)

    added, gone = diff.compare_images(one, two), diff.compare_images(two, one)
    assert (added.settings, added.layers) == (("history",), second("only in this build"))
    assert (gone.settings, gone.layers) == (("history",), second("only in the release"))


def test_a_layer_is_named_by_the_build_and_where_that_does_not_say_it_by_the_release(tmp_path: Path) -> None:
    def named(released: str, built: str) -> str:
        old = layout(tmp_path / "old.tar", {"a": b"1"}, history=[{"created_by": released}])
        new = layout(tmp_path / "new.tar", {"a": b"2"}, history=[{"created_by": built}])
        [layer] = diff.compare_images(old, new).layers
        return layer.created_by

    assert named("RUN one # buildkit", "RUN two # buildkit") == "RUN two"
    assert named("RUN one # buildkit", "") == "RUN one"
    assert named("", "") == ""


def test_a_name_that_is_not_utf_8_can_be_said(tmp_path: Path) -> None:
    latin = b"caf\xe9".decode("utf-8", "surrogateescape")
    [(path, what)] = files(tmp_path, [file("a")], [file("a"), file(latin)])
    assert (path.encode(), what) == ("caf\N{REPLACEMENT CHARACTER}".encode(), ("only in this build",))


@pytest.mark.parametrize(
    ("built", "differing"),
    [
        (RELEASED, ()),
        ({**RELEASED, "User": "2"}, ("config.User",)),
        ({**RELEASED, "Env": ["A=2"]}, ("config.Env",)),
        ({**RELEASED, "Labels": {"a": "1", "b": "3"}}, ("config.Labels.b",)),
        ({**RELEASED, "Labels": {"b": "2", "c": "3"}}, ("config.Labels.a", "config.Labels.c")),
        ({**RELEASED, "Labels": None}, ("config.Labels",)),
        ({"Labels": {"b": "2", "a": "1"}, "Env": ["A=1"], "User": "1"}, ()),
        ({**RELEASED, "rootfs": "/"}, ("config.rootfs",)),
        (None, ("config",)),
    ],
)
def test_a_setting_is_named_down_to_the_key_that_differs(
    built: object, differing: tuple[str, ...], tmp_path: Path
) -> None:
    assert settings(tmp_path, {"config": RELEASED}, {"config": built}) == differing


def test_settings_stand_in_the_order_of_their_names(tmp_path: Path) -> None:
    old: dict[str, Any] = {"created": "1", "history": [{"created": "1"}], "os": "linux", "config": {"User": "1"}}
    new: dict[str, Any] = {
        "created": "2",
        "history": [{"created": "2"}],
        "os": "linux",
        "config": {"User": "2"},
        "author": "ana",
    }
    assert settings(tmp_path, old, new) == ("author", "config.User", "created", "history")


def test_what_the_layers_say_is_not_said_again(tmp_path: Path) -> None:
    assert settings(tmp_path, {"rootfs": {"diff_ids": ["1"]}}, {"rootfs": {"diff_ids": ["2"]}}) == ()


@pytest.mark.parametrize("damaged", ["old.tar", "new.tar"])
@pytest.mark.parametrize("damage", ["no archive", "another layer"])
def test_an_archive_that_is_damaged_is_named(damaged: str, damage: str, tmp_path: Path) -> None:
    old = layout(tmp_path / "old.tar", {"a": b"12345"}, compressed=False)
    new = layout(tmp_path / "new.tar", {"a": b"67890"}, compressed=False)
    path = tmp_path / damaged
    path.write_bytes(
        b"" if damage == "no archive" else path.read_bytes().replace(b"12345", b"x").replace(b"67890", b"x")
    )
    with pytest.raises(BuildError) as error:
        diff.compare_images(old, new)
    assert error.value.message.startswith(f"{path} is not a whole OCI archive: ")
