from __future__ import annotations

import pytest

from drydock.oci.analysis import FileChange
from drydock.render import layers
from drydock.report import MB, Change, Comparison, Contributor, File, Image, Layer, Package, Waste
from tests.support import examples

SITE = "opt/venv/lib/python3.13/site-packages"
LAYERS = (
    Layer(
        digest="sha256:b0",
        created_by="pulled from docker.io/library/python:3.13-slim-trixie@sha256:077c0404f2db95fa",
        compressed_bytes=42_400_000,
        size_bytes=115_000_000,
        files_added=4722,
    ),
    Layer(
        digest="sha256:b1",
        created_by="RUN rm -rf /usr/local/lib/python3.13/site-packages/pip",
        compressed_bytes=310,
        size_bytes=1200,
        files_added=1,
        files_replaced=12,
        files_removed=902,
    ),
    Layer(digest="sha256:b2", created_by="", compressed_bytes=57_000_000, size_bytes=175_000_000, files_added=2433),
)
PACKAGES = (
    Package(name="scipy", version="1.16.0", kind="python", size_bytes=97_000_000),
    Package(name="numpy", version="2.4.6", kind="python", size_bytes=49_000_000),
    Package(name="libc6", version="2.41-12", kind="debian", size_bytes=13_000_000),
    Package(name="libssl3t64", version="3.5.9", kind="debian", size_bytes=999_499),
    Package(name="starlette", version="1.10.0", kind="python", size_bytes=278_000),
    Package(name="joblib", version="1.6.0", kind="python", size_bytes=100_000),
    Package(name="h11", version="0.16.0", kind="python", size_bytes=99_999),
    Package(name="meta", version="1:2.0", kind="debian", size_bytes=0),
)
WASTE = (
    Waste(path="usr/lib/python3.13/pip/a.py", size_bytes=2_600_000, layer=1, why="removed"),
    Waste(path=f"{SITE}/numpy.libs/libgfortran.so", size_bytes=2_400_000, layer=3, why="duplicate"),
    Waste(path="etc/passwd", size_bytes=1_100, layer=1, why="replaced"),
    Waste(path="etc/group", size_bytes=400, layer=1, why="replaced"),
)
IMAGE = Image(
    manifest_digest=examples.MANIFEST_DIGEST,
    config_digest=examples.CONFIG_DIGEST,
    user="10001",
    labels={},
    layers=LAYERS,
    packages=PACKAGES,
    other_folders=(Contributor(name="/usr/local/lib", size_bytes=40 * MB), Contributor(name="/etc", size_bytes=9)),
    files=(
        File(path=f"{SITE}/scipy.libs/blas.so", size_bytes=25_000_000, layer=3),
        File(path="usr/lib/libc.so.6", size_bytes=850_000, layer=1),
    ),
    waste=WASTE,
    wasted_bytes=5_001_500,
)


def change(name: str, before: str, after: str, difference_bytes: int) -> Change:
    return Change(
        name=name, kind="python", version_before=before, version_after=after, difference_bytes=difference_bytes
    )


COMPARISON = Comparison(
    image=f"127.0.0.1:5000/iris-classifier:1.2.2@{examples.MANIFEST_DIGEST}",
    size_before_bytes=278_000_000,
    size_after_bytes=290_001_200,
    changes=(
        change("scipy", "1.15.0", "1.16.0", 11_000_000),
        change("sniffio", "1.3.1", "", -1_200_000),
        change("h11", "", "0.16.0", 99_999),
        change("numpy", "2.4.6", "2.4.6", -10_000),
        change("click", "8.5.0", "8.5.1", 0),
    ),
)


def test_the_section_of_a_runs_report() -> None:
    assert (
        "\n".join(layers.section(IMAGE, COMPARISON))
        == """\
size       290 MB
compressed 99 MB
efficiency 98.3 %, 5 MB stored for nothing

 layer      size  compressed   files                  instruction
     1    115 MB       42 MB   +4722 ~0 -0            pulled from docker.io/library/python:3.13-slim-trixie@sha256:077c…
     2      1 kB   310 bytes   +1 ~12 -902            RUN rm -rf /usr/local/lib/python3.13/site-packages/pip
     3    175 MB       57 MB   +2433 ~0 -0

packages   scipy 97 MB, numpy 49 MB, libc6 13 MB, libssl3t64 999 kB, starlette 278 kB, 3 more

waste
     3 MB   layer 1  removed later   /usr/lib/python3.13/pip/a.py
     2 MB   layer 3  a second copy   /opt/venv/lib/python3.13/site-packages/numpy.libs/libgfortran.so

+12 MB since 127.0.0.1:5000/iris-classifier:1.2.2@sha256:a1a1a1a1a1a1: \
scipy 1.15.0 → 1.16.0 +11 MB, sniffio 1.3.1 is gone -1 MB, h11 0.16.0 is new +100 kB, numpy 2.4.6 -10 kB, 1 more"""
    )


def test_the_section_of_an_image_of_which_nothing_more_is_known() -> None:
    assert (
        "\n".join(layers.section(examples.image(), None))
        == """\
size       270 MB
compressed 90 MB
efficiency 100.0 %

 layer      size  compressed   files                  instruction
     1    120 MB       40 MB   +0 ~0 -0
     2    150 MB       50 MB   +0 ~0 -0               COPY /layers/rest/ /"""
    )


def test_the_whole_explanation() -> None:
    assert (
        layers.explain(IMAGE, COMPARISON)
        == f"""\
image      {examples.MANIFEST_DIGEST}
size       290 MB
compressed 99 MB
efficiency 98.3 %, 5 MB stored for nothing

 layer      size  compressed   files                  instruction
     1    115 MB       42 MB   +4722 ~0 -0            pulled from docker.io/library/python:3.13-slim-trixie@sha256:077c…
     2      1 kB   310 bytes   +1 ~12 -902            RUN rm -rf /usr/local/lib/python3.13/site-packages/pip
     3    175 MB       57 MB   +2433 ~0 -0

packages
    97 MB   33.4 %   python  scipy 1.16.0
    49 MB   16.9 %   python  numpy 2.4.6
    13 MB    4.5 %   debian  libc6 2.41-12
   999 kB    0.3 %   debian  libssl3t64 3.5.9
   278 kB    0.1 %   python  starlette 1.10.0
   100 kB    0.0 %   python  joblib 1.6.0
   100 kB    0.0 %   2 under 100 kB

of no package
    40 MB   13.8 %   /usr/local/lib
  9 bytes    0.0 %   1 under 100 kB

largest files
    25 MB   layer 3  /opt/venv/lib/python3.13/site-packages/scipy.libs/blas.so
   850 kB   layer 1  /usr/lib/libc.so.6

waste
     3 MB   layer 1  removed later   /usr/lib/python3.13/pip/a.py
     2 MB   layer 3  a second copy   /opt/venv/lib/python3.13/site-packages/numpy.libs/libgfortran.so
     1 kB   layer 1  replaced later  /etc/passwd
400 bytes   layer 1  replaced later  /etc/group

+12 MB since 127.0.0.1:5000/iris-classifier:1.2.2@sha256:a1a1a1a1a1a1
  scipy 1.15.0 → 1.16.0 +11 MB
  sniffio 1.3.1 is gone -1 MB
  h11 0.16.0 is new +100 kB
  numpy 2.4.6 -10 kB
  click 8.5.0 → 8.5.1 0 bytes
"""
    )


def test_an_empty_image_can_be_explained() -> None:
    empty = IMAGE.model_copy(
        update={"layers": (), "waste": (), "wasted_bytes": 0, "files": (), "packages": PACKAGES[-1:]}
    ).model_copy(update={"other_folders": ()})
    assert (
        layers.explain(empty, None)
        == f"""\
image      {examples.MANIFEST_DIGEST}
size       0 bytes
compressed 0 bytes
efficiency 100.0 %

 layer      size  compressed   files                  instruction

packages
  0 bytes    0.0 %   1 under 100 kB
"""
    )


@pytest.mark.parametrize("words", [layers.section(IMAGE, None), layers.explain(IMAGE, None).splitlines()])
def test_nothing_is_said_of_a_record_that_is_not_there(words: list[str]) -> None:
    assert not [line for line in words if "since" in line]
    assert words[-1]


def test_an_image_in_which_no_package_changed() -> None:
    same = COMPARISON.model_copy(update={"changes": (), "size_after_bytes": 278_000_000})
    line = "0 bytes since 127.0.0.1:5000/iris-classifier:1.2.2@sha256:a1a1a1a1a1a1"
    assert layers.section(IMAGE, same)[-1] == f"{line}: no package changed"
    assert layers.explain(IMAGE, same).endswith(f"\n\n{line}\n  no package changed\n")


def test_a_layer_file_by_file() -> None:
    files = (
        FileChange("+", "app/model.pkl", 2_000_000),
        FileChange("-", "etc/passwd-", 900),
        FileChange("~", "etc/passwd", 0),
    )
    assert (
        layers.layer(2, LAYERS[1], files)
        == """\
layer 2    1 kB, 310 bytes compressed, files +1 ~12 -902
           RUN rm -rf /usr/local/lib/python3.13/site-packages/pip

     2 MB   + /app/model.pkl
900 bytes   - /etc/passwd-
  0 bytes   ~ /etc/passwd
"""
    )
    assert layers.layer(3, LAYERS[2], ()) == "layer 3    175 MB, 57 MB compressed, files +2433 ~0 -0\n\n"


def test_words_from_an_image_steer_no_terminal_and_begin_no_line() -> None:
    evil = "a\x1b[2J\nb"
    image = IMAGE.model_copy(
        update={
            "layers": (LAYERS[0].model_copy(update={"created_by": evil}),),
            "packages": (Package(name=evil, version=evil, kind="python", size_bytes=MB),),
            "other_folders": (Contributor(name=evil, size_bytes=MB),),
            "files": (File(path=evil, size_bytes=1, layer=1),),
            "waste": (Waste(path=evil, size_bytes=1, layer=1, why="removed"),),
        }
    )
    comparison = COMPARISON.model_copy(update={"changes": (change(evil, evil, evil, 1),)})
    words = [
        *layers.section(image, comparison),
        *layers.explain(image, comparison).split("\n"),
        *layers.layer(1, image.layers[0], [FileChange("+", evil, 1)]).split("\n"),
    ]
    assert [line for line in words if not line.isprintable()] == []
    assert not [line for line in words if line.startswith("b")]
