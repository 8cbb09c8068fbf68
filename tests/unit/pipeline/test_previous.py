from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import anyio
import pytest

from drydock.errors import RegistryError
from drydock.oci.reference import Reference
from drydock.oci.registry import Manifest, Repository
from drydock.oci.tags import ImageTags
from drydock.pipeline.previous import PreviousImage, find_platform_digest, find_previous
from tests.support import examples
from tests.support.published_images import LOGIN, Registries

pytestmark = pytest.mark.registry
LAPTOP = ImageTags("sha-1")


def find(
    registries: Registries,
    name: ImageTags = LAPTOP,
    previous: str = "",
    **changed: Any,  # noqa: ANN401 - fields of a plan
) -> PreviousImage:
    policy = registries.policy(drift={"previous": previous})
    plan = replace(registries.plan, policy=policy, name=name, **changed)
    return anyio.run(find_previous, plan, registries.listener.message)


def found(registries: Registries, tag: str, digest: str) -> PreviousImage:
    return PreviousImage(Reference(registries.here, tag, digest))


def publish(registries: Registries, **tags: str) -> dict[str, str]:
    """An image of its own for each name, under the tags in it."""
    return {name: registries.publish(*words.split(), files={"app": name.encode()}) for name, words in tags.items()}


def test_a_first_release_has_no_image_before_it(registries: Registries) -> None:
    assert find(registries) == PreviousImage(reason=f"{registries.here} has no image before this one")


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        # What this run moves: a branch's tag, or the narrowest tag of a version.
        (ImageTags("sha-1", branch="main"), "main"),
        (ImageTags("1.1.5", commit_tag="sha-1"), "1.1"),
        (ImageTags("1.3.0", commit_tag="sha-1"), "1"),
        # It moves none, or one that is not there yet: the newest version, which is no pre-release.
        (ImageTags("2.0.0", commit_tag="sha-1"), "1.10.0"),
        (ImageTags("2.0.0-rc.1"), "1.10.0"),
        (ImageTags("sha-1", branch="other"), "1.10.0"),
        (LAPTOP, "1.10.0"),
    ],
)
def test_it_is_the_one_under_the_tag_that_this_run_moves_else_the_newest_version(
    name: ImageTags, tag: str, registries: Registries
) -> None:
    digests = publish(registries, old="1.1.4 1.1", newer="1.9.0", newest="1.10.0 1", pre="2.0.0-rc.0", branch="main")
    tags = {"main": "branch", "1.1": "old", "1": "newest", "1.10.0": "newest"}
    assert find(registries, name) == found(registries, tag, digests[tags[tag]])


def test_tags_that_do_not_move_are_not_looked_at(registries: Registries) -> None:
    digests = publish(registries, old="1.1.4 1.1", newest="1.10.0")
    image = {"repository": registries.here, "moving_tags": False}
    plan = replace(registries.plan, policy=examples.policy(image=image), name=ImageTags("1.1.5"))
    assert anyio.run(find_previous, plan, print) == found(registries, "1.10.0", digests["newest"])


def test_without_a_version_it_is_the_one_of_the_last_record_that_is_still_there(registries: Registries) -> None:
    digest = registries.publish("sha-0")
    gone, here = registries.record(examples.MANIFEST_DIGEST), registries.record(digest)
    elsewhere = registries.record(digest, repository=registries.there)
    assert find(registries, published=(elsewhere, gone, here)) == found(registries, "1.2.2", digest)
    assert find(registries, published=(elsewhere, gone)).reference is None


def test_the_policy_names_it_by_its_tag_its_digest_or_in_full(registries: Registries) -> None:
    digest = registries.publish("stable")
    registries.publish("1.0.0", files={"app": b"newer"})
    there = registries.publish("prod", repository=registries.there)
    assert find(registries, previous="stable") == found(registries, "stable", digest)
    assert find(registries, previous=digest) == found(registries, "", digest)
    named = f"{registries.there}@{there}"
    assert find(registries, previous=named) == PreviousImage(Reference(registries.there, "", there))
    assert find(registries, previous=f"{registries.there}:prod").reference == Reference(registries.there, "prod", there)


def test_each_registry_gets_its_own_credentials(registries: Registries) -> None:
    logins = {of: registries.login(LOGIN, of) for of in ("here", "there")}
    find(registries, login=logins["here"], source_login=logins["there"])
    find(registries, previous=f"{registries.there}:prod", login=logins["here"], source_login=logins["there"])
    find(registries, previous=f"{registries.there}:prod", login=logins["here"])
    assert registries.opened_repositories == [
        (registries.here, logins["here"]),
        (registries.there, logins["there"]),
        (registries.there, None),
    ]


def test_one_that_is_not_there_and_a_registry_that_does_not_answer_are_reasons(registries: Registries) -> None:
    assert find(registries, previous="stable") == PreviousImage(
        reason=f"the image before was not found: there is no {registries.here}:stable"
    )
    silent = find(registries, previous="127.0.0.1:9/owner/name:stable")
    assert silent.reason.startswith("the image before was not found: ")


def test_without_a_push_a_registry_that_does_not_answer_is_asked_once(registries: Registries) -> None:
    digest = registries.publish("1.0.0")
    assert find(registries, push=False) == found(registries, "1.0.0", digest)
    assert find(registries, previous="127.0.0.1:9/owner/name:stable", push=False).reason == (
        "the image before was not found: no registry answers at 127.0.0.1:9: All connection attempts failed"
    )
    assert registries.listener.events == []


def test_nothing_is_asked_if_the_policy_says_so(registries: Registries) -> None:
    policy = examples.policy(drift={"enabled": False})
    assert anyio.run(find_previous, replace(registries.plan, policy=policy), print) == PreviousImage(
        reason="the policy: enabled = false"
    )
    policy = policy.model_copy(update={"origins": {"drift.enabled": "pipeline.toml:7"}})
    assert anyio.run(find_previous, replace(registries.plan, policy=policy), print).reason == (
        "pipeline.toml:7: enabled = false"
    )
    assert registries.opened_repositories == []


def index(registries: Registries, *platforms: dict[str, str]) -> str:
    """An index that names one image for each of these platforms."""
    digests = [registries.publish(files={"app": json.dumps(each).encode()}) for each in platforms]

    async def put(there: Repository) -> str:
        children = []
        for digest, platform in zip(digests, platforms, strict=True):
            manifest = await there.get_manifest(digest)
            assert manifest
            children.append({**manifest.descriptor.to_json(), "platform": platform})
        media_type = "application/vnd.oci.image.index.v1+json"
        content = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": children}).encode()
        made = Manifest("", media_type, content)
        await there.put_manifest(made, "many")
        return await there.get_digest("many") or ""

    return registries.run_at(registries.here, put)


def test_of_an_index_the_image_of_the_policys_platform_is_taken(registries: Registries) -> None:
    platforms = [
        {"os": "linux", "architecture": "arm64", "variant": "v8"},
        {"os": "linux", "architecture": "amd64"},
        {"os": "unknown", "architecture": "unknown"},
    ]
    many = index(registries, *platforms)

    def find_digest(digest: str, platform: str) -> str:
        return registries.run_at(registries.here, lambda there: find_platform_digest(there, digest, platform))

    children = registries.run_at(registries.here, lambda there: there.get_manifest(many)).children  # type: ignore[union-attr]
    arm, amd, _ = (child.digest for child in children)
    assert find_digest(many, "linux/amd64") == amd
    assert find_digest(many, "linux/arm64") == find_digest(many, "linux/arm64/v8") == arm
    assert find_digest(amd, "linux/arm64") == amd
    with pytest.raises(RegistryError, match="has no image for linux/s390x"):
        find_digest(many, "linux/s390x")
