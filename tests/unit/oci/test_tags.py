from __future__ import annotations

import itertools
import random

import pytest

from drydock.oci import tags
from drydock.oci.tags import ImageTags
from tests.support.examples import COMMIT

# In the order that Semantic Versioning 2.0.0 gives as its own example, and the ends of each rule.
VERSIONS = [
    *("0.0.0", "1.2.3", "10.20.30", "999999999999999999999.0.0"),
    *("1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.11", "1.0.0-rc.1"),
    *("1.0.0-0", "1.0.0-0a", "1.0.0-a.0.b", "1.0.0--", "1.0.0---.-", "1.0.0-x-y-z.--"),
    "1.0.0-" + "a" * 122,
]
NO_VERSIONS = [
    *("", "1", "1.2", "1.2.3.4", "v1.2.3", "V1.2.3", "01.2.3", "1.02.3", "1.2.03", "-1.2.3", "1..3", ".1.2.3"),
    *("1.2.3-", "1.2.3-01", "1.2.3-a..b", "1.2.3-.a", "1.2.3-a.", "1.2.3-a.00", "1.2.3-a_b", "1.2.3+build", "1.2.3_a"),
    *("latest", "a.b.c", " 1.2.3", "1.2.3 ", "1.2.3\n", "1.2.3-a\n", "1.2.3-\xe4", "\u0661.2.3", "1.0.0-\u0661"),
    "1.0.0-" + "a" * 123,
]


@pytest.mark.parametrize("tag", VERSIONS)
def test_what_semantic_versioning_calls_a_version_is_one(tag: str) -> None:
    assert tags.is_version(tag)
    assert ImageTags(tag=tag).is_version


@pytest.mark.parametrize("tag", NO_VERSIONS)
def test_nothing_else_is_a_version(tag: str) -> None:
    assert not tags.is_version(tag)
    assert not ImageTags(tag=tag, commit_tag="1.2.3", branch="1.2.3").is_version


@pytest.mark.parametrize(
    ("version", "moving"),
    [
        ("1.2.3", ("1.2", "1")),
        # Before 1.0.0 every minor may break what the one before had.
        ("0.0.0", ("0.0",)),
        ("0.9.1", ("0.9",)),
        ("10.20.30", ("10.20", "10")),
        ("1.2.3-rc.1", ()),
        ("1.2.3-0", ()),
        ("1.2", ()),
        ("v1.2.3", ()),
        (f"sha-{COMMIT}", ()),
        ("1.2.3\n", ()),
        ("", ()),
    ],
)
def test_a_version_moves_its_minor_and_its_major_and_no_pre_release_does(version: str, moving: tuple[str, ...]) -> None:
    assert tags.list_moving_tags(version) == moving


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2.3", "1.2", "v1.2", "1", "v1"])
def test_a_version_may_be_served_under_its_own_tag_and_those_that_move(tag: str) -> None:
    assert tags.looks_like_version(tag)
    assert tags.is_tag_of_version(tag, "1.2.3")
    assert not any(
        tags.is_tag_of_version(tag, other) for other in ("2.2.3", "1.20.3-rc.1", "1.2.3-rc.1", "1.2", "main", "")
    )


@pytest.mark.parametrize("tag", ["main", "1.2.x", "1.2.3.4", "01", "vv1", "V1", "1.", ".1", "1.2.3+a", "", "\u0661"])
def test_no_other_tag_promises_a_version(tag: str) -> None:
    assert not tags.looks_like_version(tag)


def test_each_moving_tag_points_to_its_highest_version_by_number() -> None:
    existing = ["1.9.0", "1.10.0", "1.10.1", "1.9.9", "2.0.0", "10.0.0", "9.0.0", "0.0.1"]
    assert tags.find_highest_versions(existing) == {
        "0.0": "0.0.1",
        "1": "1.10.1",
        "1.9": "1.9.9",
        "1.10": "1.10.1",
        "2": "2.0.0",
        "2.0": "2.0.0",
        "9": "9.0.0",
        "9.0": "9.0.0",
        "10": "10.0.0",
        "10.0": "10.0.0",
    }


def test_nothing_but_a_whole_version_is_pointed_to() -> None:
    others = ["1.2.4-rc.1", "1.3.0-0", "2.0.0-alpha", "1", "1.2", "2", "latest", "main", "v9.9.9", f"sha-{COMMIT}"]
    assert tags.find_highest_versions([*others, "1.2.3", "sha256-" + "a1" * 32]) == {"1": "1.2.3", "1.2": "1.2.3"}
    assert tags.find_highest_versions(others) == {}
    assert tags.find_highest_versions([]) == {}


def test_where_a_moving_tag_points_is_no_matter_of_the_lists_order() -> None:
    existing = ["1.2.3", "1.2.10", "1.3.0", "1.2.10-rc.1", "main"]
    for order in itertools.permutations(existing):
        assert tags.find_highest_versions(order) == {"1": "1.3.0", "1.2": "1.2.10", "1.3": "1.3.0"}


def test_a_moving_tag_never_goes_back_when_a_version_comes_late() -> None:
    existing = {"1.2.3", "1.3.0", "2.0.0"}
    for late in ("1.2.2", "0.9.0", "1.3.0-rc.9", "2.0.0-1"):
        assert tags.find_highest_versions(existing | {late}).items() >= tags.find_highest_versions(existing).items()


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("main", "main"),
        ("feature/login", "feature-login"),
        ("_a.b-c", "_a.b-c"),
        ("fix#7", "fix-7"),
        ("dependabot/pip/numpy-2.1.0", "dependabot-pip-numpy-2.1.0"),
        ("gr\xfcn", "gr-n"),
        ('"; curl x', "branch----curl-x"),
        ("-a", "branch--a"),
        (".a", "branch-.a"),
        ("", "branch-"),
        ("a\n", "a-"),
        ("latest", "branch-latest"),
        ("LATEST", "branch-LATEST"),
        ("latest-fix", "latest-fix"),
        ("1", "branch-1"),
        ("1.2", "branch-1.2"),
        ("v1", "branch-v1"),
        ("V1.2", "branch-V1.2"),
        ("1.2.3", "branch-1.2.3"),
        ("1.2.x", "branch-1.2.x"),
        ("v1.2.3-rc.1", "branch-v1.2.3-rc.1"),
        ("1/2", "branch-1-2"),
        ("7-login", "branch-7-login"),
        ("7up", "7up"),
        ("version1", "version1"),
        (f"sha-{COMMIT}", f"branch-sha-{COMMIT}"),
        ("SHA-1", "branch-SHA-1"),
        ("sha/1", "branch-sha-1"),
        ("sha256-" + "a1" * 32, "branch-sha256-" + "a1" * 32),
        ("sha512-a", "branch-sha512-a"),
        ("sha", "sha"),
        ("shallow", "shallow"),
        ("a" * 128, "a" * 128),
        ("a" * 129, "a" * 128),
        ("1." + "a" * 200, "branch-1." + "a" * 119),
    ],
)
def test_a_branch_is_a_tag_that_reads_as_nothing_else(name: str, tag: str) -> None:
    assert tags.create_branch_tag(name) == tag


def reads_as_something_else(tag: str) -> bool:
    """Whether people, or a registry, would take it for another tag than a branch's; said in other words than ours."""
    lower = tag.lower()
    numbers = lower.removeprefix("v").replace("-", ".").replace("_", ".").split(".")
    as_number = numbers[0].isascii() and numbers[0].isdigit()
    return lower == "latest" or as_number or (lower.partition("-")[0] in ("sha", "sha256", "sha512") and "-" in lower)


def all_names(longest: int) -> list[str]:
    """Every word of the letters that matter, up to a length."""
    letters = ("v", "1", "0", ".", "-", "/", "+", "_", "a", "\n")
    return ["".join(word) for length in range(longest + 1) for word in itertools.product(letters, repeat=length)]


def long_names(count: int) -> list[str]:
    """Words of what tags are made of, long ones too; the same ones each time."""
    parts = (
        "v",
        "V",
        "1",
        "02",
        ".",
        "-",
        "_",
        "/",
        "+",
        "sha",
        "sha256",
        "latest",
        "Latest",
        "rc",
        "\xe9",
        "\u0663",
        "a" * 60,
    )
    chance = random.Random(7)  # noqa: S311 - no secret
    return ["".join(chance.choices(parts, k=chance.randint(1, 9))) for _ in range(count)]


def test_no_branch_is_called_like_a_version_a_moving_tag_a_commit_or_latest() -> None:
    named = {name: tags.create_branch_tag(name) for name in [*all_names(4), *long_names(20_000)]}
    assert [name for name, tag in named.items() if not tags.TAG.fullmatch(tag)] == []
    assert [name for name, tag in named.items() if reads_as_something_else(tag)] == []
    assert [name for name, tag in named.items() if tags.is_version(tag)] == []


def test_a_branchs_tag_is_its_own_tag() -> None:
    assert [
        tag
        for tag in map(tags.create_branch_tag, [*all_names(3), *long_names(2_000)])
        if tags.create_branch_tag(tag) != tag
    ] == []


def test_a_tag_of_thousands_of_digits_is_no_version() -> None:
    # No registry has such a tag, but a broken one may list it, and Python converts at most 4300 digits.
    assert tags.find_highest_versions(["1.2." + "9" * 5000, "1.2.3"]) == {"1": "1.2.3", "1.2": "1.2.3"}
