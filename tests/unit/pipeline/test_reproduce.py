from __future__ import annotations

from dataclasses import replace

import pytest

from drydock.errors import RegistryError, UsageError
from drydock.report import CheckResult, Revision, Verdict
from tests.support import examples
from tests.support.published_images import FILES, REVISION, Registries
from tests.unit.checks.test_verification import LABELS

pytestmark = pytest.mark.registry


def test_the_same_commit_gives_the_same_digest(registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    registries.write_image("again")
    registries.stages.built = registries.path("again")
    assessment = registries.reproduce(digest, registries.record(digest))
    assert assessment.checks == (CheckResult(name="digest", measured=digest, limit="", verdict=Verdict.PASS),)
    assert (assessment.conclusion, assessment.exit_code) == (f"reproduced {registries.here}@{digest}", 0)
    assert registries.stages.called == ["connect", "train", "build", "disconnect"]
    assert registries.listener.events == [
        (event, stage) for stage in ("train", "build") for event in ("started", "finished")
    ]


def test_what_is_built_again_has_the_names_that_no_commit_knows(registries: Registries) -> None:
    names = {
        "org.opencontainers.image.version": "1.2.3",
        "org.opencontainers.image.source": "https://mirror.example/owner/name",
    }
    digest = registries.publish("1.2.3", labels={**LABELS, **names})
    registries.write_image("again")
    registries.stages.built = registries.path("again")
    registries.reproduce(digest, registries.record(digest))
    labels = registries.stages.plans[-1].create_labels(examples.MODEL_SHA256)
    assert {key: labels[key] for key in names} == names


def test_nothing_is_reproduced_from_a_work_tree_that_changed(registries: Registries) -> None:
    registries.stages.breaks = {"commit": UsageError("the work tree changed", next_step="run again")}
    digest = registries.publish("1.2.3")
    with pytest.raises(UsageError, match="the work tree changed"):
        registries.reproduce(digest, registries.record(digest))


def test_where_the_digest_is_another_the_files_that_differ_are_named(registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    built = registries.write_image("again", {**FILES, "app/model.pkl": b"3", "app/new": b""}, {**LABELS, "a": "b"})
    registries.stages.built = registries.path("again")
    assessment = registries.reproduce(digest, registries.record(digest))
    assert assessment.checks == (
        CheckResult(
            name="digest",
            measured=built,
            limit=digest,
            verdict=Verdict.FAIL,
            details=(
                "configuration: config.Labels.a",
                "layer 1: 2 files, from COPY app/ /app",
                "  /app/model.pkl: content",
                "  /app/new: only in this build",
            ),
        ),
    )
    assert assessment.conclusion == f"differs    {registries.here}@{digest} cannot be had from this commit here"
    assert assessment.exit_code == 1
    assert registries.listener.events[-2:] == [("started", "pull"), ("finished", "pull")]
    assert sorted(path.name for path in registries.folder.iterdir()) == ["again.tar"]


@pytest.mark.parametrize("base", ["builder", "base"])
def test_other_base_images_are_told_of_first(base: str, registries: Registries) -> None:
    digest = registries.publish("1.2.3")
    registries.write_image("again", {})
    registries.stages.built = registries.path("again")
    record = registries.record(digest)
    others = {**record.pinned_images, base: "docker.io/library/python:3.13@sha256:00"}
    [row] = registries.reproduce(digest, record.model_copy(update={"pinned_images": others})).checks
    assert row.details[:2] == (
        "the base images are not those of the release",
        "layer 1: 2 files, from COPY app/ /app",
    )


def test_a_digest_alone_is_one_of_the_policys_repository(registries: Registries) -> None:
    digest = registries.publish()
    registries.write_image("again")
    registries.stages.built = registries.path("again")
    assert registries.reproduce(digest).conclusion == f"reproduced {registries.here}@{digest}"


def test_a_record_says_itself_where_its_image_is(registries: Registries) -> None:
    digest = registries.publish(repository=registries.there)
    registries.write_image("again")
    registries.stages.built = registries.path("again")
    record = registries.record(digest, repository=registries.there)
    assert registries.reproduce(digest, record).conclusion == f"reproduced {registries.there}@{digest}"


@pytest.mark.parametrize(
    ("labels", "revision", "what", "next_step"),
    [
        (
            LABELS,
            Revision(commit="2" * 40, dirty=False),
            f"was built from {examples.COMMIT}, and this checkout is {'2' * 40}",
            f"git checkout {examples.COMMIT}, then run again",
        ),
        (
            LABELS,
            Revision(commit=examples.COMMIT, dirty=True),
            f"was built from {examples.COMMIT}, and this checkout is {examples.COMMIT}-dirty",
            f"git checkout {examples.COMMIT}, then run again",
        ),
        (
            {},
            examples.REVISION,
            f"was built from no commit, and this checkout is {examples.COMMIT}",
            "name another image",
        ),
    ],
    ids=["another commit", "more than the commit", "no commit"],
)
def test_what_another_checkout_built_is_not_built_here(
    labels: dict[str, str], revision: Revision, what: str, next_step: str, registries: Registries
) -> None:
    digest = registries.publish("1.2.3", labels=labels)
    with pytest.raises(UsageError) as refused:
        registries.reproduce(digest, plan=replace(registries.plan, revision=revision))
    assert (refused.value.message, refused.value.next_step) == (f"{digest} {what}", next_step)
    assert registries.stages.called == []


@pytest.mark.parametrize("said", [f"{examples.COMMIT}-dirty", "main; curl x", "\x1b[2J", "--help"])
def test_what_no_checkout_can_be_had_from_is_not_to_be_checked_out(said: str, registries: Registries) -> None:
    digest = registries.publish(labels={REVISION: said})
    with pytest.raises(UsageError) as refused:
        registries.reproduce(digest)
    assert refused.value.next_step == "name another image"
    assert "\x1b" not in refused.value.message


def test_what_is_not_there_is_not_built_again(registries: Registries) -> None:
    with pytest.raises(RegistryError) as missing:
        registries.reproduce(examples.MANIFEST_DIGEST)
    assert missing.value.message == f"there is no {registries.here}@{examples.MANIFEST_DIGEST}"
    assert registries.stages.called == []
