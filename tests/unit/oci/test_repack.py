from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from drydock.oci import archive as image
from drydock.oci import layout, repack
from tests.unit.oci.test_archive import header

COMMITTED = "2026-11-22T10:00:00Z"
BUILT = "2026-11-25T03:04:05.678901Z"
HEALTHCHECK = {"Test": ["CMD", "python", "/app/healthy.py"], "Interval": 10_000_000_000}
CAPABILITY = b"\x01\x00\x00\x02\x00\x04\xff\xfe".decode("utf-8", "surrogateescape")
# The digest that every registry knows as that of a layer without a file.
EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

Entry = tuple[tarfile.TarInfo, bytes]
Document = dict[str, Any]


def file(name: str, content: bytes = b"", /, **fields: object) -> Entry:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def folder(name: str, /, **fields: object) -> Entry:
    return file(name, **{"type": tarfile.DIRTYPE, "mode": 0o755, **fields})


def symlink(name: str, target: str) -> Entry:
    return file(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hard_link(name: str, target: str) -> Entry:
    return file(name, type=tarfile.LNKTYPE, linkname=target)


def packed(*entries: Entry, form: int = tarfile.PAX_FORMAT, everywhere: dict[str, str] | None = None) -> bytes:
    """A tar of these entries; `everywhere` is a header that holds for all of them."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=form, pax_headers=everywhere, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for member, content in entries:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def zipped(layer: bytes) -> bytes:
    return gzip.compress(layer, mtime=0)


def as_it_is(layer: bytes) -> bytes:
    return layer


# Neither its order nor its times are ours, nor is its compression.
BASE = packed(file("etc/passwd", b"daemon", mtime=9), folder("etc", mtime=8, uname="root"))
BASE_HISTORY = [{"created": "2025-01-01T00:00:00Z", "created_by": "debian.sh"}]


def archive(
    path: Path,
    *layers: bytes,
    zipping: Callable[[bytes], bytes] = zipped,
    zipping_base: Callable[[bytes], bytes] = zipped,
    history: Sequence[Document] | None = (),
    settings: Document | None = None,
    **config: object,
) -> Path:
    """An OCI archive of the base and these layers, made by the book and by nothing of ours."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes) -> Document:
        blobs[digest_of(content)] = content
        return {"mediaType": "of a test", "digest": digest_of(content), "size": len(content)}

    written = {
        "architecture": "amd64",
        "os": "linux",
        "created": BUILT,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in (BASE, *layers)]},
        "history": None if history is None else [*BASE_HISTORY, *history],
        "config": settings,
        **config,
    }
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(written).encode()),
        "layers": [blob(zipping_base(BASE)), *(blob(zipping(layer)) for layer in layers)],
    }
    described = {**blob(json.dumps(manifest).encode()), "platform": {"os": "linux", "architecture": "amd64"}}
    files = {f"blobs/{digest.replace(':', '/')}": content for digest, content in blobs.items()}
    files["index.json"] = json.dumps({"manifests": [described]}).encode()
    path.write_bytes(packed(*(file(name, content) for name, content in files.items())))
    return path


class Normal:
    """What was written, as whoever pulls the image sees it."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path) as tar:
            self.files = {member.name: self._content(tar, member) for member in tar}
        self.digest: str = json.loads(self.files["index.json"])["manifests"][0]["digest"]
        self.manifest: Document = json.loads(self.blob(self.digest))
        self.config: Document = json.loads(self.blob(self.manifest["config"]["digest"]))
        self.layers: list[str] = [layer["digest"] for layer in self.manifest["layers"]]

    def blob(self, digest: str) -> bytes:
        content = self.files[f"blobs/{digest.replace(':', '/')}"]
        assert digest_of(content) == digest
        return content

    def layer(self, number: int = -1) -> bytes:
        """A layer's tar; the last one's, where no other is asked for."""
        tar = gzip.decompress(self.blob(self.layers[number]))
        assert digest_of(tar) == self.config["rootfs"]["diff_ids"][number]
        return tar

    def listed(self, number: int = -1) -> list[str]:
        """A layer's entries, much as `tar --list --verbose` shows them."""
        with self.opened(number) as tar:
            return [self._line(member) for member in tar]

    def opened(self, number: int = -1) -> tarfile.TarFile:
        return tarfile.open(fileobj=io.BytesIO(self.layer(number)), encoding="utf-8", errors="surrogateescape")

    def content(self, name: str) -> bytes:
        with self.opened() as tar:
            return self._content(tar, tar.getmember(name))

    @staticmethod
    def _line(member: tarfile.TarInfo) -> str:
        kind = {
            tarfile.REGTYPE: "file",
            tarfile.DIRTYPE: "folder",
            tarfile.SYMTYPE: "symlink",
            tarfile.LNKTYPE: "link",
            tarfile.CHRTYPE: f"char {member.devmajor},{member.devminor}",
            tarfile.BLKTYPE: f"block {member.devmajor},{member.devminor}",
            tarfile.FIFOTYPE: "fifo",
        }[member.type]
        return f"{kind} {member.name}" + (f" -> {member.linkname}" if member.linkname else "")

    @staticmethod
    def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        opened = tar.extractfile(member)
        assert opened is not None
        return opened.read()


def write(path: Path, archive: Path, base: Path, **options: Any) -> Normal:  # noqa: ANN401 - as repack_image takes them
    repack.repack_image(archive, base, path, **{"created": COMMITTED, **options})
    return Normal(path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return archive(tmp_path / "base.tar")


@pytest.fixture
def normal(tmp_path: Path, base: Path) -> Callable[..., Normal]:
    """Repack an image of the base and these layers."""

    def normal(*layers: bytes, options: Document | None = None, **built: Any) -> Normal:  # noqa: ANN401 - as above
        return write(tmp_path / "image.tar", archive(tmp_path / "built.tar", *layers, **built), base, **(options or {}))

    return normal


Make = Callable[..., Normal]

# --- the same content -----------------------------------------------------------------------------------------------


def an_app(**fields: object) -> list[Entry]:
    return [
        folder("app", **fields),
        file("app/a", b"1", **fields),
        file("app/b", b"22", mode=0o755, **fields),
        symlink("app/c", "a"),
        hard_link("app/d", "app/b"),
        folder("run"),
    ]


def named_otherwise(prefix: str) -> list[Entry]:
    entries = an_app()
    for member, _ in entries:
        member.name = prefix + member.name
        if member.islnk():
            member.linkname = prefix + member.linkname
    return entries


def linked_from_the_other_side() -> list[Entry]:
    entries = an_app()
    entries[2] = file("app/d", b"22", mode=0o755)
    entries[4] = hard_link("app/b", "app/d")
    return entries


APP = packed(*an_app())
SAME = {
    "other times": packed(*an_app(mtime=1_234_567_890)),
    "times with a fraction": packed(*an_app(mtime=1_234_567_890.5)),
    "another order": packed(*an_app()[:3], *an_app()[:2:-1]),
    "children before their folder": packed(*an_app()[1:], an_app()[0]),
    "names of owners": packed(*an_app(uname="ana", gname="users")),
    "written twice": packed(file("app/a", b"before", mode=0o600), *an_app(), folder("app")),
    "headers of other tools": packed(*an_app(pax_headers={"comment": "made by ana", "LIBARCHIVE.creationtime": "7"})),
    "a header for all": packed(*an_app(), everywhere={"comment": "of git archive"}),
    "another format": packed(*an_app(), form=tarfile.GNU_FORMAT),
    "names from the folder": packed(*named_otherwise("./")),
    "names from the root": packed(*named_otherwise("/")),
    "the other name of a file first": packed(*linked_from_the_other_side()),
    "a longer end": packed(*an_app()) + bytes(10_240),
}


@pytest.mark.parametrize("layer", SAME.values(), ids=SAME)
def test_the_same_content_is_the_same_image(layer: bytes, normal: Make, tmp_path: Path) -> None:
    assert layer != APP
    normal(APP)
    before = (tmp_path / "image.tar").read_bytes()
    normal(layer)
    assert (tmp_path / "image.tar").read_bytes() == before


def twice_zipped(layer: bytes) -> bytes:
    return gzip.compress(layer[:1024], mtime=1) + gzip.compress(layer[1024:], mtime=2)


@pytest.mark.parametrize(
    "zipping", [as_it_is, twice_zipped, lambda layer: gzip.compress(layer, compresslevel=9, mtime=1_234_567_890)]
)
def test_other_compression_of_the_same_content_is_the_same_image(
    zipping: Callable[[bytes], bytes], normal: Make, tmp_path: Path
) -> None:
    normal(APP)
    before = (tmp_path / "image.tar").read_bytes()
    normal(APP, zipping=zipping)
    assert (tmp_path / "image.tar").read_bytes() == before


def test_a_layer_has_the_same_tar_with_every_python(normal: Make) -> None:
    names = [
        file("a" * 120),
        file("caf\xe9"),
        file("bin/ping", b"ping", pax_headers={"SCHILY.xattr.a": "b"}, uid=2**24),
    ]
    layer = packed(*an_app(), *names)
    # Compressed it depends on zlib, which is the builder's; a new value here is a new digest for every image.
    assert (
        normal(layer).config["rootfs"]["diff_ids"][-1]
        == "sha256:8f0e5b451aa61934d99845130e1706d07c3934172895a7a7dc52593cbd3d87e4"
    )


def changed(path: str, **fields: object) -> bytes:
    entries = an_app()
    for member, _ in entries:
        if member.name == path:
            for field, value in fields.items():
                setattr(member, field, value)
    return packed(*entries)


def with_attribute(name: str, value: str) -> bytes:
    return changed("app/a", pax_headers={f"SCHILY.xattr.{name}": value})


OTHER = {
    "as it was": APP,
    "content": packed(*an_app()[:1], file("app/a", b"2"), *an_app()[2:]),
    "length": packed(*an_app()[:1], file("app/a", b"1\n"), *an_app()[2:]),
    "name": changed("app/a", name="app/A"),
    "mode": changed("app/a", mode=0o600),
    "set-user-ID": changed("app/b", mode=0o4755),
    "sticky folder": changed("run", mode=0o1777),
    "uid": changed("app/a", uid=10_001),
    "gid": changed("app/a", gid=10_001),
    "a folder's uid": changed("app", uid=10_001),
    "target": changed("app/c", linkname="b"),
    "target of the same file": changed("app/c", linkname="./a"),
    "other file": changed("app/d", linkname="app/a"),
    "copy": packed(*an_app()[:4], file("app/d", b"22", mode=0o755), *an_app()[5:]),
    "symlink": packed(*an_app()[:4], symlink("app/d", "app/b"), *an_app()[5:]),
    "no folder": packed(*an_app()[:-1]),
    "fifo": packed(*an_app()[:-1], file("run", type=tarfile.FIFOTYPE)),
    "device": packed(*an_app()[:-1], file("run", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "number of the device": packed(*an_app()[:-1], file("run", type=tarfile.CHRTYPE, devmajor=1, devminor=5)),
    "attribute": with_attribute("user.a", "1"),
    "attribute's value": with_attribute("user.a", "2"),
    "attribute's name": with_attribute("user.b", "1"),
    "capability": with_attribute("security.capability", CAPABILITY),
}


def test_other_content_is_another_image(normal: Make) -> None:
    digests = {name: normal(layer).digest for name, layer in OTHER.items()}
    by_digest = {digest: [name for name in digests if digests[name] == digest] for digest in digests.values()}
    assert [names for names in by_digest.values() if len(names) > 1] == []


def test_other_layers_of_the_same_files_are_another_image(normal: Make) -> None:
    one, other = packed(file("a")), packed(file("b"))
    digests = {normal(*layers).digest for layers in ([one, other], [other, one], [packed(file("a"), file("b"))])}
    assert len(digests) == 3


# --- a layer --------------------------------------------------------------------------------------------------------


def test_a_layer_is_sorted_with_each_folder_before_what_is_in_it(normal: Make) -> None:
    layer = packed(file("b/z"), file("b-a"), file("a"), folder("b"), file("b/a/c"), folder("."), folder("b/a"))
    assert normal(layer).listed() == [
        "folder .",
        "file a",
        "folder b",
        "folder b/a",
        "file b/a/c",
        "file b/z",
        "file b-a",
    ]


def test_a_file_keeps_who_owns_it_and_nothing_of_when_and_by_which_name(normal: Make) -> None:
    layer = packed(file("a", b"1", mode=0o4751, uid=1, gid=2, mtime=9.5, uname="ana", gname="users"))
    with normal(layer).opened() as tar:
        [member] = tar
    kept = (member.mode, member.uid, member.gid, member.mtime, member.uname, member.gname, member.pax_headers)
    assert kept == (0o4751, 1, 2, 315_532_800, "", "", {})


def test_the_last_file_of_a_name_is_the_one_that_counts(normal: Make) -> None:
    written = normal(packed(file("a", b"1"), file("b"), file("./a", b"22", mode=0o600)))
    assert written.listed() == ["file a", "file b"]
    assert written.content("a") == b"22"


def test_names_of_one_file_stay_names_of_one_file(normal: Make) -> None:
    layer = packed(file("z", b"1"), hard_link("b", "z"), hard_link("a", "./z"), hard_link("c", "/b"), file("d", b"1"))
    written = normal(layer)
    assert written.listed() == ["file a", "link b -> a", "link c -> a", "file d", "link z -> a"]
    assert written.content("a") == b"1"


def test_a_name_keeps_the_file_that_it_had_when_the_others_got_another(normal: Make) -> None:
    written = normal(packed(file("a", b"old"), hard_link("b", "a"), hard_link("c", "a"), file("a", b"new")))
    assert written.listed() == ["file a", "file b", "link c -> b"]
    assert (written.content("a"), written.content("b")) == (b"new", b"old")


def test_a_link_to_a_file_of_another_layer_stays_a_link(normal: Make) -> None:
    assert normal(packed(hard_link("a", "./etc//passwd"))).listed() == ["link a -> etc/passwd"]


def test_a_symlink_may_have_two_names(normal: Make) -> None:
    layer = packed(symlink("b", "../x/./y/"), hard_link("a", "b"))
    assert normal(layer).listed() == ["symlink a -> ../x/./y/", "link b -> a"]


def test_a_link_has_the_attributes_of_its_file(normal: Make) -> None:
    attribute = {"SCHILY.xattr.security.capability": CAPABILITY}
    with normal(packed(file("b", b"1", pax_headers=attribute), hard_link("a", "b"))).opened() as tar:
        assert {member.name: member.pax_headers["SCHILY.xattr.security.capability"] for member in tar} == {
            "a": CAPABILITY,
            "b": CAPABILITY,
        }


def test_attributes_stand_in_their_order(normal: Make) -> None:
    names = [f"SCHILY.xattr.user.{name}" for name in "abc"]
    first = normal(packed(file("f", pax_headers=dict.fromkeys(names, "1"))))
    with first.opened() as tar:
        assert list(tar.getmember("f").pax_headers) == names
    assert normal(packed(file("f", pax_headers=dict.fromkeys(reversed(names), "1")))).digest == first.digest


def test_whiteouts_stand_first_in_their_folder(normal: Make) -> None:
    layer = packed(
        *(file("+before"), folder("a"), file("a/+before"), file("a/-b"), file("a/.wh..wh..opq"), file("a/.wh.b")),
        *(folder("a/b"), file("a/b/c"), file("a/b/.wh.d"), file(".wh.z")),
    )
    assert normal(layer).listed() == [
        "file .wh.z",
        "file +before",
        "folder a",
        "file a/.wh..wh..opq",
        "file a/.wh.b",
        "file a/+before",
        "file a/-b",
        "folder a/b",
        "file a/b/.wh.d",
        "file a/b/c",
    ]


def test_a_file_where_a_folder_was_has_nothing_in_it(normal: Make) -> None:
    layer = packed(folder("a"), folder("a/b"), file("a/b/c"), file("a-c"), file("ab"), file("a", b"1"))
    assert normal(layer).listed() == ["file a", "file a-c", "file ab"]


def test_a_link_where_a_folder_was_has_nothing_in_it(normal: Make) -> None:
    assert normal(packed(folder("a"), file("a/b"), file("c"), hard_link("a", "c"))).listed() == [
        "file a",
        "link c -> a",
    ]
    assert normal(packed(folder("a"), file("a/b"), symlink("a", "c"))).listed() == ["symlink a -> c"]


def test_a_folder_where_a_file_was_has_what_is_in_it(normal: Make) -> None:
    assert normal(packed(file("a", b"1"), folder("a"), file("a/b"))).listed() == ["folder a", "file a/b"]


def test_a_folder_that_is_written_again_keeps_what_is_in_it(normal: Make) -> None:
    assert normal(packed(folder("a"), file("a/b"), folder("a", mode=0o700))).listed() == ["folder a", "file a/b"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_need_not_be_utf_8(form: int, normal: Make) -> None:
    latin = b"caf\xe9".decode("utf-8", "surrogateescape")
    layer = packed(file(latin, b"1"), file("caf\xe9"), symlink("link", latin), hard_link("z", latin), form=form)
    written = normal(layer)
    assert written.listed() == [
        "file caf\xe9",
        f"file {latin}",
        f"symlink link -> {latin}",
        f"link z -> {latin}",
    ]
    assert b"caf\xe9\n" in written.layer()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_may_be_long(form: int, normal: Make) -> None:
    name, target = "/".join(["n" * 200] * 4), "../" * 100 + "t"
    written = normal(packed(file(name, b"1"), symlink("s", target), hard_link("z", name), form=form))
    assert written.listed() == [f"file {name}", f"symlink s -> {target}", f"link z -> {name}"]
    assert written.content(name) == b"1"


def test_devices_and_pipes_keep_what_they_are(normal: Make) -> None:
    layer = packed(
        file("sda", type=tarfile.BLKTYPE, devmajor=8, devminor=1),
        file("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        file("pipe", type=tarfile.FIFOTYPE),
    )
    assert normal(layer).listed() == ["char 1,3 null", "fifo pipe", "block 8,1 sda"]


def test_a_layer_without_a_file_is_the_one_that_all_registries_know(normal: Make) -> None:
    written = normal(bytes(10_240), APP, packed())
    assert [written.config["rootfs"]["diff_ids"][number] for number in (1, 3)] == [EMPTY, EMPTY]
    assert written.layers[1] == written.layers[3] != written.layers[2]


def test_a_large_file_is_whole(normal: Make) -> None:
    content = os.urandom(2 * layout.BLOCK_BYTES + 7)
    assert normal(packed(file("a", content), file("b", b"1"))).content("a") == content


# --- the base -------------------------------------------------------------------------------------------------------


def test_the_layers_of_the_base_stay_to_the_byte(tmp_path: Path) -> None:
    def theirs(layer: bytes) -> bytes:
        return gzip.compress(layer, compresslevel=1, mtime=7)

    base = archive(tmp_path / "base.tar", packed(file("b"), file("a")), zipping=theirs, zipping_base=theirs)
    # An engine may have compressed them anew: what a registry has already is what the base was pulled as.
    built = archive(tmp_path / "built.tar", packed(file("b"), file("a")), APP)
    written = write(tmp_path / "image.tar", built, base)
    below = json.loads(Normal(base).blob(Normal(base).digest))["layers"]
    assert written.manifest["layers"][:2] == below
    assert [written.blob(layer["digest"]) for layer in below] == [theirs(BASE), theirs(packed(file("b"), file("a")))]
    assert written.manifest["layers"][2]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert written.listed() == [
        "folder app",
        "file app/a",
        "file app/b",
        "symlink app/c -> a",
        "link app/d -> app/b",
        "folder run",
    ]


def test_a_layer_that_the_base_has_not_in_this_place_is_none_of_its(tmp_path: Path) -> None:
    first, second, third = (packed(file("b" * number), file("a")) for number in (1, 2, 3))
    base = archive(tmp_path / "base.tar", first, second, third)
    written = write(tmp_path / "image.tar", archive(tmp_path / "built.tar", first, third), base)
    assert written.layers[:2] == Normal(base).layers[:2]
    assert written.listed(2) == ["file a", "file bbb"]
    assert written.layers[2] not in Normal(base).layers


def test_nothing_is_the_bases_above_a_layer_that_is_not(tmp_path: Path) -> None:
    first, second, other = packed(file("a")), packed(file("c"), file("b")), packed(file("z"), file("y"))
    base = archive(tmp_path / "base.tar", first, second)
    written = write(tmp_path / "image.tar", archive(tmp_path / "built.tar", other, second), base)
    assert [written.listed(1), written.listed(2)] == [["file y", "file z"], ["file b", "file c"]]


# --- the configuration ----------------------------------------------------------------------------------------------


def test_the_image_says_the_commits_time_wherever_it_said_the_runs(tmp_path: Path) -> None:
    made_up = {"created": BUILT, "created_by": "pulled", "comment": "buildkit.exporter.image.v0"}
    theirs = {"created": "2025-02-02T00:00:00Z", "created_by": "RUN one", "comment": "buildkit.dockerfile.v0"}
    ours = {"created": BUILT, "created_by": "RUN two"}
    no_layer = {"created": BUILT, "created_by": "ENV A=b", "empty_layer": True}
    no_time = {"created_by": "RUN three"}
    base = archive(tmp_path / "base.tar", history=[theirs, made_up])
    built = archive(tmp_path / "built.tar", APP, history=[theirs, made_up, ours, no_layer, no_time, theirs])
    config = write(tmp_path / "image.tar", built, base).config
    assert config["created"] == COMMITTED
    assert config["history"] == [
        *BASE_HISTORY,
        theirs,
        {**made_up, "created": COMMITTED},
        {**ours, "created": COMMITTED},
        {**no_layer, "created": COMMITTED},
        {**no_time, "created": COMMITTED},
        {**theirs, "created": COMMITTED},
    ]


def test_the_history_does_not_say_where_the_engine_built_an_instruction_first(tmp_path: Path) -> None:
    # An engine that has built the same instruction in another Dockerfile writes its position there.
    here, elsewhere = (
        archive(
            tmp_path / f"{step[1:8]}.tar", APP, history=[{"created": BUILT, "created_by": f"{step} COPY app/ /app"}]
        )
        for step in ("[stage-1 2/4]", "[stage-3 4/5]")
    )
    base = archive(tmp_path / "base.tar")
    written = [write(tmp_path / f"{path.stem}-image.tar", path, base) for path in (here, elsewhere)]
    assert written[0].config["history"][-1]["created_by"] == "COPY app/ /app"
    assert written[0].config == written[1].config


def test_an_image_may_say_nothing_of_how_it_was_made(tmp_path: Path) -> None:
    base = archive(tmp_path / "base.tar", history=None)
    written = write(tmp_path / "image.tar", archive(tmp_path / "built.tar", APP, history=None), base)
    assert (written.config["config"], written.config["history"]) == ({}, [])


def test_a_healthcheck_is_put_in_and_a_label_dropped_and_all_else_stays(normal: Make) -> None:
    labels = {"org.opencontainers.image.revision": "1f3c9e2", "of.the.engine": "sha256:1"}
    settings = {"User": "10001:10001", "Env": ["B=1", "A=2"], "Cmd": ["serve"], "Labels": labels}
    options = {"healthcheck": HEALTHCHECK, "drop_labels": ["of.the.engine", "that.nobody.has"]}
    written = normal(APP, settings=settings, variant="v3", options=options)
    assert written.config == {
        "architecture": "amd64",
        "os": "linux",
        "variant": "v3",
        "created": COMMITTED,
        "config": {
            "User": "10001:10001",
            "Env": ["B=1", "A=2"],
            "Cmd": ["serve"],
            "Labels": {"org.opencontainers.image.revision": "1f3c9e2"},
            "Healthcheck": HEALTHCHECK,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest_of(BASE), digest_of(written.layer())]},
        "history": BASE_HISTORY,
    }


def test_without_a_healthcheck_to_put_in_the_images_own_stays(normal: Make) -> None:
    assert normal(APP, settings={"Healthcheck": HEALTHCHECK}).config["config"] == {"Healthcheck": HEALTHCHECK}


def test_the_order_of_a_configurations_keys_is_none_of_its_content(normal: Make) -> None:
    one = normal(APP, settings={"User": "1", "Labels": {"a": "1", "b": "2"}})
    assert normal(APP, settings={"Labels": {"b": "2", "a": "1"}, "User": "1"}).digest == one.digest
    # The order of variables and arguments is.
    assert normal(APP, settings={"Env": ["A=1", "B=2"]}).digest != normal(APP, settings={"Env": ["B=2", "A=1"]}).digest


# --- the archive ----------------------------------------------------------------------------------------------------


def test_what_is_written_is_an_oci_archive_and_one_for_docker_load(normal: Make) -> None:
    written = normal(APP)
    config = written.manifest["config"]["digest"]
    assert sorted(written.files) == sorted(
        [
            *(f"blobs/{digest.replace(':', '/')}" for digest in (written.digest, config, *written.layers)),
            *("index.json", "manifest.json", "oci-layout"),
        ]
    )
    assert json.loads(written.files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads(written.files["index.json"]) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": written.digest,
                "size": len(written.blob(written.digest)),
                "platform": {"os": "linux", "architecture": "amd64"},
            }
        ],
    }
    assert json.loads(written.files["manifest.json"]) == [
        {
            "Config": f"blobs/{config.replace(':', '/')}",
            "RepoTags": None,
            "Layers": [f"blobs/{digest.replace(':', '/')}" for digest in written.layers],
        }
    ]
    assert written.manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert written.manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert [layer["size"] for layer in written.manifest["layers"]] == [
        len(written.blob(each)) for each in written.layers
    ]


def test_the_pipeline_reads_what_is_written(normal: Make, tmp_path: Path) -> None:
    history = [{"created": BUILT, "created_by": "COPY app/ /app # buildkit"}]
    written = normal(APP, history=history, settings={"User": "10001", "Labels": {"a": "b"}})
    read = image.read_image(tmp_path / "image.tar")
    assert (read.manifest_digest, read.user, read.labels) == (written.digest, "10001", {"a": "b"})
    assert [(layer.created_by, layer.size_bytes) for layer in read.layers] == [("debian.sh", 6), ("COPY app/ /app", 3)]


@pytest.mark.parametrize("labels", [None, {}, {"a": "b"}, {"a": "b", "dropped": "1"}, {"dropped": "1"}])
def test_what_is_normal_stays_as_it_is(labels: dict[str, str] | None, tmp_path: Path, base: Path) -> None:
    layers = [layer for name, layer in OTHER.items() if name != "no folder"]
    settings = {"User": "1", **({} if labels is None else {"Labels": labels})}
    history = [{"created": BUILT, "created_by": f"RUN step {number}"} for number in range(len(layers))]
    built = archive(tmp_path / "built.tar", *layers, settings=settings, history=history)
    options = {"healthcheck": HEALTHCHECK, "drop_labels": ["dropped"]}
    write(tmp_path / "once.tar", built, base, **options)
    write(tmp_path / "twice.tar", tmp_path / "once.tar", base, **options)
    assert (tmp_path / "twice.tar").read_bytes() == (tmp_path / "once.tar").read_bytes()


def test_nothing_is_left_beside_the_image(tmp_path: Path, base: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out" / "image.tar", archive(tmp_path / "built.tar", APP, APP), base)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["image.tar"]


# --- what is no image -----------------------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A folder with the files that the builder's container gets, and nothing else."""
    for name in repack.SHIPPED_FILES:
        (tmp_path / "shipped" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repack.PACKAGE_PARENT / name, tmp_path / "shipped" / name)
    return tmp_path / "shipped"


def typed(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the shipped files as the builder's container does: with no package but those of the standard library."""
    command = [sys.executable, "-ES", "-m", "drydock.oci.repack", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_command_line_takes_all_that_the_function_does(tmp_path: Path, base: Path, shipped: Path) -> None:
    (tmp_path / "cache").mkdir()
    built = archive(tmp_path / "built.tar", APP, settings={"Labels": {"a": "1", "b": "2", "c": "3"}})
    write(tmp_path / "here.tar", built, base, healthcheck=HEALTHCHECK, drop_labels=["a", "c"])
    options = ["--created", COMMITTED, "--healthcheck", json.dumps(HEALTHCHECK), "--drop-label", "a"]
    done = typed(
        shipped, built, base, tmp_path / "there.tar", *options, "--drop-label", "c", "--cache", tmp_path / "cache"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "there.tar").read_bytes() == (tmp_path / "here.tar").read_bytes()
    assert len(list((tmp_path / "cache").iterdir())) == 2


Damage = Callable[[Path], None]
# What is no header stands where one has to be, after a whole entry.
DAMAGED_TAR = packed(file("a"))[:512] + b"no header".ljust(512, b" ") + bytes(1024)


def built_otherwise(*layers: bytes, **built: Any) -> Damage:  # noqa: ANN401 - as archive takes them
    def damage(path: Path) -> None:
        archive(path, *layers, **built)

    return damage


def with_index(index: bytes) -> Damage:
    def damage(path: Path) -> None:
        with tarfile.open(path) as tar:
            kept = [(member, opened.read()) for member in tar if (opened := tar.extractfile(member))]
        path.write_bytes(packed(*kept[:-1], file("index.json", index)))

    return damage


def replaced(before: bytes, after: bytes) -> Damage:
    def damage(path: Path) -> None:
        content = path.read_bytes()
        assert before in content
        path.write_bytes(content.replace(before, after))

    return damage


def without_index(path: Path) -> None:
    with tarfile.open(path) as tar:
        kept = [(member, opened.read()) for member in tar if (opened := tar.extractfile(member))]
    path.write_bytes(packed(*kept[:-1]))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1500])


OTHER_BLOB = "blob sha256:[0-9a-f]{64} holds sha256:[0-9a-f]{64}"
NO_ARCHIVE = r"/.*/damaged\.tar is not a whole OCI archive: "
ZSTD = b"\x28\xb5\x2f\xfd"
OTHER_COMPRESSION = "build it with gzip, or on another base image"
# By its header alone it has 8 TB.
SPARSE = header("hole", 0, pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": "8000000000000"}) + bytes(1024)
DAMAGES: dict[str, tuple[Damage, str]] = {
    "not there": (Path.unlink, r"\[Errno 2\] No such file or directory: '/.*/damaged\.tar'"),
    "empty": (emptied, "empty file"),
    "cut short": (shortened, NO_ARCHIVE + ".*"),
    "no index": (without_index, NO_ARCHIVE + "\"filename 'index.json' not found\""),
    "an index that is no JSON": (with_index(b"{"), NO_ARCHIVE + "Expecting .*"),
    "an index of nothing": (with_index(b'{"manifests": []}'), NO_ARCHIVE + "list index out of range"),
    "an index of another form": (with_index(b"[]"), NO_ARCHIVE + "list indices must be .*"),
    "an endless index": (with_index(b"[" * 100_000), NO_ARCHIVE + "maximum recursion depth .*"),
    "other bytes as configuration": (replaced(b'"linux"', b'"minix"'), NO_ARCHIVE + OTHER_BLOB),
    "no layers in the configuration": (built_otherwise(APP, rootfs=None), ".*not subscriptable"),
    "too few layers in the configuration": (
        built_otherwise(APP, rootfs={"diff_ids": [digest_of(BASE)]}),
        r"zip\(\) argument 2 is shorter than argument 1",
    ),
    "a layer that is not its digest": (built_otherwise(APP, zipping=lambda layer: zipped(layer + b"1")), OTHER_BLOB),
    "a layer that is compressed with zstd": (
        built_otherwise(APP, zipping=lambda layer: ZSTD + layer),
        f"layer sha256:[0-9a-f]{{64}} is compressed with zstd: {OTHER_COMPRESSION}",
    ),
    "a sparse file": (built_otherwise(SPARSE), "'hole' is a sparse file"),
    "a layer that is cut short": (
        built_otherwise(APP, zipping=lambda layer: zipped(layer)[:-20]),
        "Compressed file ended before the end-of-stream marker was reached",
    ),
    "a layer that cannot be unpacked": (
        built_otherwise(APP, zipping=lambda layer: zipped(layer)[:10] + b"\xff" * 99),
        "Error -3 while decompressing data: .*",
    ),
    "a layer that is no tar": (built_otherwise(b"no tar"), "truncated header"),
    "a layer with a damaged header": (built_otherwise(DAMAGED_TAR), "a layer's tar is damaged"),
    "a layer whose last file is cut short": (
        built_otherwise(APP[:-10_240] + packed(file("z", b"1"))[:512]),
        "unexpected end of data",
    ),
    "a file of an unknown kind": (
        built_otherwise(packed(file("a", type=b"V"))),
        "'a' is of a kind that no layer has: b'V'",
    ),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_no_whole_image_is_said_in_one_sentence(
    damage: Damage, says: str, tmp_path: Path, base: Path, shipped: Path
) -> None:
    damaged = archive(tmp_path / "damaged.tar", APP, zipping=as_it_is)
    damage(damaged)
    (tmp_path / "out").mkdir()
    done = typed(shipped, damaged, base, tmp_path / "out" / "image.tar", "--created", COMMITTED)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(f"the image cannot be repacked: {says}\n", done.stderr)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [(without_index, NO_ARCHIVE + ".*"), (replaced(b"daemon", b"demons"), OTHER_BLOB)],
    ids=["no index", "a layer that is not its digest"],
)
def test_nor_is_anything_built_on_a_base_that_is_none(damage: Damage, says: str, tmp_path: Path, shipped: Path) -> None:
    damaged = archive(tmp_path / "damaged.tar", zipping_base=as_it_is)
    damage(damaged)
    built = archive(tmp_path / "built.tar", APP)
    done = typed(shipped, built, damaged, tmp_path / "image.tar", "--created", COMMITTED)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(f"the image cannot be repacked: {says}\n", done.stderr)
    assert not (tmp_path / "image.tar").exists()


def test_a_base_with_a_layer_in_zstd_is_refused_by_that_layers_name(tmp_path: Path, shipped: Path) -> None:
    base = archive(tmp_path / "base.tar", zipping_base=lambda layer: ZSTD + layer)
    built = archive(tmp_path / "built.tar", APP, zipping_base=lambda layer: ZSTD + layer)
    done = typed(shipped, built, base, tmp_path / "image.tar", "--created", COMMITTED)
    layer = digest_of(ZSTD + BASE)
    assert (done.returncode, done.stderr) == (
        1,
        f"the image cannot be repacked: layer {layer} is compressed with zstd: {OTHER_COMPRESSION}\n",
    )
    assert not (tmp_path / "image.tar").exists()


# --- the layers of earlier runs -------------------------------------------------------------------------------------

DAY_SECONDS = 24 * 3600


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which layers were compressed, not taken from the cache."""
    packed: list[Path] = []
    compress = repack._compress_tar

    def noted(tar: Iterator[bytes], path: Path) -> tuple[str, str]:
        packed.append(path)
        return compress(tar, path)

    monkeypatch.setattr(repack, "_compress_tar", noted)
    return packed


def kept(cache: Path) -> tuple[Path, Path]:
    """The one layer that is kept, and what is noted of it."""
    [layer] = cache.glob("*.tar.gz")
    [record] = cache.glob("*.txt")
    return layer, record


def used_days_ago(days: float, *paths: Path) -> None:
    for path in paths:
        then = time.time() - days * DAY_SECONDS
        os.utime(path, (then, then))


def test_a_layer_is_compressed_once_and_is_the_same_from_the_cache(
    normal: Make, cache: Path, packs: list[Path], tmp_path: Path
) -> None:
    normal(APP)
    without_a_cache = (tmp_path / "image.tar").read_bytes()
    for _ in range(2):
        normal(APP, options={"cache": cache})
        assert (tmp_path / "image.tar").read_bytes() == without_a_cache
    # The first one needed no cache.
    assert len(packs) == 2
    normal(packed(*an_app(mtime=1)), options={"cache": cache})
    assert len(packs) == 3
    assert (tmp_path / "image.tar").read_bytes() == without_a_cache


def test_every_layer_has_its_own_place_in_the_cache(normal: Make, cache: Path, packs: list[Path]) -> None:
    one, other = packed(file("a")), packed(file("b"))
    normal(one, other, one, options={"cache": cache})
    written = normal(other, one, options={"cache": cache})
    assert (written.listed(1), written.listed(2)) == (["file b"], ["file a"])
    assert len(packs) == 2


def no_file(content: bytes) -> bytes:
    return b""


def one_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def shorter(content: bytes) -> bytes:
    return content[: len(content) // 2]


def another_diff_id(record: bytes) -> bytes:
    digest, diff_id, seal = record.split()
    return b"\n".join([digest, diff_id[:-1] + (b"0" if diff_id[-1:] != b"0" else b"1"), seal])


def no_ascii(record: bytes) -> bytes:
    return record + b"\xff"


def more_words(record: bytes) -> bytes:
    return record + b"more"


@pytest.mark.parametrize(
    ("which", "damage"),
    [
        *((0, damage) for damage in (no_file, one_bit, shorter)),
        *((1, damage) for damage in (no_file, shorter, another_diff_id, no_ascii, more_words)),
    ],
)
def test_what_is_damaged_in_the_cache_is_made_anew(
    which: int, damage: Callable[[bytes], bytes], normal: Make, cache: Path, packs: list[Path], tmp_path: Path
) -> None:
    normal(APP, options={"cache": cache})
    before = (tmp_path / "image.tar").read_bytes()
    damaged = kept(cache)[which]
    whole = damaged.read_bytes()
    damaged.write_bytes(damage(whole))
    normal(APP, options={"cache": cache})
    assert (tmp_path / "image.tar").read_bytes() == before
    assert damaged.read_bytes() == whole
    assert len(packs) == 2


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_gone_from_the_cache_is_made_anew(which: int, normal: Make, cache: Path, packs: list[Path]) -> None:
    digest = normal(APP, options={"cache": cache}).digest
    kept(cache)[which].unlink()
    assert normal(APP, options={"cache": cache}).digest == digest
    assert len(packs) == 2
    assert len(kept(cache)) == 2


def test_the_record_of_one_layer_is_none_of_another(normal: Make, cache: Path, packs: list[Path]) -> None:
    normal(packed(file("a")), options={"cache": cache})
    theirs = {path.suffix: path.read_bytes() for path in kept(cache)}
    normal(packed(file("b")), options={"cache": cache})
    for path in cache.iterdir():
        path.write_bytes(theirs[path.suffix])
    assert normal(packed(file("b")), options={"cache": cache}).listed() == ["file b"]
    assert len(packs) == 3


def test_another_version_of_the_code_uses_no_layer_of_this_one(
    tmp_path: Path, base: Path, cache: Path, shipped: Path
) -> None:
    built = archive(tmp_path / "built.tar", APP)
    write(tmp_path / "image.tar", built, base, cache=cache)
    code = shipped / "drydock" / "oci" / "repack.py"
    code.write_text(code.read_text().replace("COMPRESSION_LEVEL = 5", "COMPRESSION_LEVEL = 1"))
    typed(shipped, built, base, tmp_path / "later.tar", "--created", COMMITTED, "--cache", cache)
    assert len(list(cache.glob("*.tar.gz"))) == 2
    assert Normal(tmp_path / "later.tar").layers[1] != Normal(tmp_path / "image.tar").layers[1]


@pytest.mark.parametrize("changed", [None, *repack.SHIPPED_FILES])
def test_a_change_of_any_shipped_file_is_another_version(
    changed: str | None, tmp_path: Path, base: Path, cache: Path, shipped: Path
) -> None:
    built = archive(tmp_path / "built.tar", APP)
    write(tmp_path / "image.tar", built, base, cache=cache)
    if changed:
        with (shipped / changed).open("a") as file:
            file.write("# changed\n")
    done = typed(shipped, built, base, tmp_path / "later.tar", "--created", COMMITTED, "--cache", cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(cache.glob("*.tar.gz"))) == (2 if changed else 1)


def test_what_nobody_used_for_30_days_is_removed(normal: Make, cache: Path) -> None:
    normal(packed(file("old")), options={"cache": cache})
    old = kept(cache)
    normal(packed(file("young")), options={"cache": cache})
    young = set(cache.iterdir()) - set(old)
    used_days_ago(30.1, *old)
    used_days_ago(29.9, *young)
    normal(options={"cache": cache})
    assert set(cache.iterdir()) == young


def test_what_is_used_is_kept_for_30_days_more(normal: Make, cache: Path, packs: list[Path]) -> None:
    normal(APP, options={"cache": cache})
    used_days_ago(31, *kept(cache))
    normal(APP, options={"cache": cache})
    normal(options={"cache": cache})
    assert len(kept(cache)) == 2
    assert len(packs) == 1


def test_what_a_killed_run_left_half_written_is_removed(normal: Make, cache: Path) -> None:
    for name, days in (("killed", 31), ("running", 1)):
        (cache / name).mkdir()
        (cache / name / "half.tar.gz").write_bytes(b"half")
        used_days_ago(days, cache / name / "half.tar.gz", cache / name)
    (cache / "empty").mkdir()
    used_days_ago(31, cache / "empty")
    normal(options={"cache": cache})
    assert {path.name for path in cache.glob("**/*.gz")} == {"half.tar.gz"}
    assert sorted(path.parent.name for path in cache.glob("*/*")) == ["running"]
    assert not (cache / "empty").exists()


def test_without_a_cache_nothing_is_removed_from_the_folder_of_the_image(tmp_path: Path, base: Path) -> None:
    used_days_ago(31, base)
    write(tmp_path / "image.tar", archive(tmp_path / "built.tar", APP), base)
    assert base.exists()
