from __future__ import annotations

from drydock.oci.diff import Differences, FileDifference, LayerDifference
from drydock.oci.diff_summary import summarize

COMPILED = FileDifference("app/__pycache__/server.pyc", ("content",))


def layer(*files: FileDifference, number: int = 3, created_by: str = "COPY service/ /app") -> LayerDifference:
    return LayerDifference(number, created_by, files)


def numbered(count: int) -> tuple[FileDifference, ...]:
    return tuple(FileDifference(f"a/{number}", ("time",)) for number in range(1, count + 1))


def test_what_differs_is_said_by_settings_then_layer_by_layer() -> None:
    found = Differences(
        settings=("config.Labels.org.opencontainers.image.created", "history"),
        layers=(
            layer(COMPILED, FileDifference("etc/passwd", ("content", "mode", "owner", "time"))),
            layer(FileDifference("opt/a", ("only in the release",)), number=5, created_by="RUN make"),
            layer(number=6, created_by="RUN strip"),
            layer(FileDifference("b", ("only in this build",)), number=7, created_by=""),
            layer(number=8, created_by=""),
        ),
    )
    assert (
        "\n".join(summarize(found))
        == """\
configuration: config.Labels.org.opencontainers.image.created, history
layer 3: 2 files, from COPY service/ /app
  /app/__pycache__/server.pyc: content
  /etc/passwd: content, mode, owner, time
layer 5: 1 file, from RUN make
  /opt/a: only in the release
layer 6: the same files in other bytes, from RUN strip
layer 7: 1 file
  /b: only in this build
layer 8: the same files in other bytes"""
    )


def test_where_nothing_differs_nothing_is_said() -> None:
    assert summarize(Differences(settings=(), layers=())) == []


def test_where_only_files_differ_nothing_is_said_of_the_configuration() -> None:
    assert summarize(Differences(settings=(), layers=(layer(COMPILED),))) == [
        "layer 3: 1 file, from COPY service/ /app",
        "  /app/__pycache__/server.pyc: content",
    ]


def test_eight_files_of_a_layer_are_named_and_the_others_counted() -> None:
    found = Differences(settings=(), layers=(layer(*numbered(10)), layer(COMPILED, number=4)))
    assert summarize(found) == [
        "layer 3: 10 files, from COPY service/ /app",
        "  /a/1: time",
        "  /a/2: time",
        "  /a/3: time",
        "  /a/4: time",
        "  /a/5: time",
        "  /a/6: time",
        "  /a/7: time",
        "  /a/8: time",
        "  2 more",
        "layer 4: 1 file, from COPY service/ /app",
        "  /app/__pycache__/server.pyc: content",
    ]


def test_eight_files_need_no_count_of_others() -> None:
    assert summarize(Differences(settings=(), layers=(layer(*numbered(8)),)))[-1] == "  /a/8: time"


def test_what_an_image_says_begins_no_line_and_steers_no_terminal() -> None:
    hostile = "a\n::error::b\x1b[2J"
    harmless = "a ::error::b\N{REPLACEMENT CHARACTER}[2J"
    found = Differences(
        settings=(f"config.Labels.{hostile}",),
        layers=(layer(FileDifference(hostile, ("content",)), created_by=f"RUN {hostile}"),),
    )
    assert summarize(found) == [
        f"configuration: config.Labels.{harmless}",
        f"layer 3: 1 file, from RUN {harmless}",
        f"  /{harmless}: content",
    ]
