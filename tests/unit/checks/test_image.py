from __future__ import annotations

import pytest

from drydock.checks import Facts
from drydock.report import MB, Contributor, Layer, Verdict, Waste
from tests.support import examples


def create_layer(size_bytes: int) -> Layer:
    return Layer(
        digest="sha256:1",
        created_by="RUN make data",
        compressed_bytes=1,
        size_bytes=size_bytes,
        largest=(Contributor(name="/data", size_bytes=size_bytes),),
    )


@pytest.mark.parametrize(
    ("user", "uid", "verdict", "measured"),
    [
        ("10001", 10001, Verdict.PASS, "USER 10001, uid 10001"),
        ("10001:0", 10001, Verdict.PASS, "USER 10001:0, uid 10001"),
        ("", 0, Verdict.FAIL, "USER not set, uid 0"),
        ("root", 0, Verdict.FAIL, "USER root, uid 0"),
        ("0", 0, Verdict.FAIL, "USER 0, uid 0"),
        ("0:0", 0, Verdict.FAIL, "USER 0:0, uid 0"),
        ("00", 0, Verdict.FAIL, "USER 00, uid 0"),
        # A name that is uid 0 in the image's passwd, and one that is not: neither can be proved from outside.
        ("toor", 0, Verdict.FAIL, "USER toor, uid 0"),
        ("app", 10001, Verdict.FAIL, "USER app, uid 10001"),
        # The configuration says one thing, the process is another.
        ("10001", 0, Verdict.FAIL, "USER 10001, uid 0"),
        ("app", None, Verdict.FAIL, "USER app, uid unknown"),
        ("9" * 5_000, 10001, Verdict.PASS, f"USER {'9' * 5_000}, uid 10001"),
    ],
)
def test_only_a_number_other_than_0_is_not_root(user: str, uid: int | None, verdict: Verdict, measured: str) -> None:
    judged = examples.judge("runs as non-root", Facts(image=examples.image(user=user), smoke=examples.smoke(uid=uid)))
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "not 0")
    cure = ("end the Dockerfile with a numeric user other than 0, such as USER 10001:10001",)
    assert judged.details == (cure if verdict is Verdict.FAIL else ())


def test_a_uid_that_could_not_be_asked_is_not_the_users_number_to_mend() -> None:
    judged = examples.judge(
        "runs as non-root", Facts(image=examples.image(user="10001"), smoke=examples.smoke(uid=None))
    )
    assert (judged.verdict, judged.measured) == (Verdict.FAIL, "USER 10001, uid unknown")
    assert judged.details == (
        "its uid at run time is unknown: keep `id` in the image, and check that this user can start a process",
    )


@pytest.mark.parametrize(
    ("size_bytes", "verdict", "measured"),
    [
        (499_999_999, Verdict.PASS, "500 MB"),
        (500 * MB, Verdict.PASS, "500 MB"),
        (500 * MB + 1, Verdict.FAIL, "500,000,001 bytes"),
        (512 * MB, Verdict.FAIL, "512 MB"),
    ],
)
def test_the_image_may_have_500_mb_and_not_a_byte_more(size_bytes: int, verdict: Verdict, measured: str) -> None:
    judged = examples.judge(
        "image size", Facts(image=examples.image(create_layer(100 * MB), create_layer(size_bytes - 100 * MB)))
    )
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "500 MB")
    assert bool(judged.details) == (verdict is Verdict.FAIL)


@pytest.mark.parametrize(
    ("size_bytes", "verdict", "measured"),
    [
        (200 * MB, Verdict.PASS, "200 MB"),
        (200 * MB + 1, Verdict.FAIL, "200,000,001 bytes"),
        (231 * MB, Verdict.FAIL, "231 MB"),
    ],
)
def test_a_layer_may_have_200_mb_and_not_a_byte_more(size_bytes: int, verdict: Verdict, measured: str) -> None:
    judged = examples.judge(
        "largest layer", Facts(image=examples.image(create_layer(5), create_layer(size_bytes), create_layer(7)))
    )
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "200 MB")


def test_what_is_too_large_names_its_biggest_contributors() -> None:
    facts = Facts(image=examples.image(examples.BASE, examples.DEPENDENCIES))
    policy = examples.policy(limits={"layer_size_mb": 100, "image_size_mb": 200})
    assert examples.judge("largest layer", facts, policy).details == (
        "COPY /layers/rest/ /: scipy 93 MB, sklearn 52 MB. Split the layer, or drop some of it.",
    )
    assert examples.judge("image size", facts, policy).details == ("largest: scipy 93 MB, sklearn 52 MB",)


def test_a_layer_that_is_too_large_names_the_line_that_made_it() -> None:
    large = create_layer(201 * MB).model_copy(update={"dockerfile_line": 14})
    judged = examples.judge("largest layer", Facts(image=examples.image(large)))
    assert judged.details[0].startswith("RUN make data (Dockerfile:14): ")
    assert judged.location == "Dockerfile:14"
    assert examples.judge("largest layer", Facts(image=examples.image(create_layer(5)))).location == ""


def test_what_is_too_large_in_small_pieces_names_none_of_them() -> None:
    crumbs = create_layer(201 * MB).model_copy(update={"largest": (Contributor(name="/a", size_bytes=499_999),)})
    judged = examples.judge("largest layer", Facts(image=examples.image(crumbs)))
    assert judged.details == ("RUN make data: many small files. Split the layer, or drop some of it.",)


def test_an_image_without_a_layer_is_no_small_one() -> None:
    judged = examples.judge("largest layer", Facts(image=examples.image().model_copy(update={"layers": ()})))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "no layers", "200 MB")
    assert judged.details == ("there is nothing in the image",)


def test_a_layer_that_no_instruction_is_known_of_is_said_so() -> None:
    judged = examples.judge(
        "largest layer", Facts(image=examples.image(create_layer(201 * MB).model_copy(update={"created_by": ""})))
    )
    assert judged.details == (
        "an instruction that the image does not name: /data 201 MB. Split the layer, or drop some of it.",
    )


def test_an_image_that_is_too_large_names_its_waste_and_one_that_is_not_does_not() -> None:
    waste = (
        Waste(path="srv/train.csv", size_bytes=40 * MB, layer=2, why="removed"),
        Waste(path="app/model.pkl", size_bytes=9 * MB, layer=2, why="duplicate"),
        Waste(path="etc/passwd", size_bytes=1_000, layer=1, why="replaced"),
    )
    image = examples.image().model_copy(update={"waste": waste, "wasted_bytes": 49 * MB})
    small = examples.policy(limits={"image_size_mb": 200})
    assert examples.judge("image size", Facts(image=image), small).details == (
        "largest: scipy 93 MB, sklearn 52 MB",
        "waste: /srv/train.csv removed 40 MB, /app/model.pkl duplicate 9 MB",
    )
    nothing = image.model_copy(update={"waste": waste[2:], "wasted_bytes": 1_000})
    assert examples.judge("image size", Facts(image=nothing), small).details == ("largest: scipy 93 MB, sklearn 52 MB",)
    crumbs = image.model_copy(update={"waste": waste[2:]})
    assert examples.judge("image size", Facts(image=crumbs), small).details[1] == "waste: many small files"
    assert examples.judge("image size", Facts(image=image)).details == ()


@pytest.mark.parametrize(
    ("wasted_bytes", "verdict", "measured"),
    [
        (0, Verdict.PASS, "0 MB"),
        (20 * MB, Verdict.PASS, "20 MB"),
        (20 * MB + 1, Verdict.FAIL, "20,000,001 bytes"),
        (135 * MB, Verdict.FAIL, "135 MB"),
    ],
)
def test_what_is_stored_for_nothing_has_a_limit(wasted_bytes: int, verdict: Verdict, measured: str) -> None:
    waste = (Waste(path="srv/train.csv", size_bytes=wasted_bytes, layer=2, why="removed"),)
    image = examples.image().model_copy(update={"waste": waste, "wasted_bytes": wasted_bytes})
    judged = examples.judge("wasted space", Facts(image=image))
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "20 MB")
    mb = round(wasted_bytes / MB)
    cure = "Remove a file in the instruction that writes it, and copy it once."
    assert judged.details == ((f"/srv/train.csv removed {mb} MB. {cure}",) if verdict is Verdict.FAIL else ())
    assert (
        examples.judge("wasted space", Facts(image=image), examples.policy(limits={"waste_mb": 135})).verdict
        is Verdict.PASS
    )
