"""The stages that publish, against a real registry; they need no engine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from drydock.checks import Approval
from drydock.policy import Policy
from drydock.report import Archive, Publication, Signing
from drydock.stages import EngineStages
from drydock.stages.session import Session
from tests.integration.registry import program, proxy
from tests.integration.registry.faults import ANY_TAG, STAYED
from tests.integration.registry.proxy import ALWAYS, Rule
from tests.integration.registry.world import World
from tests.support import examples


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with program.running() as (host, _):
        yield host


@pytest.fixture
def world(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A repository with the version before, at a registry that lets no tag move."""

    async def at_once(_: float) -> None: ...

    # Of two runs that push a version at the same moment each waits for the other; here is one.
    monkeypatch.setattr(anyio, "sleep", at_once)
    with proxy.before(host) as door:
        world = World(host, door, tmp_path, tmp_path, f"owner/{uuid.uuid4().hex[:12]}")
        anyio.run(lambda: world.publish("before", "1.2.2", directly=True))
        door.rules.append(Rule("PUT", ANY_TAG, proxy.keeps_tags(412, "PRECONDITION"), ALWAYS))
        yield world


def published(world: World, **image: object) -> tuple[Signing, Publication]:
    """What comes of all that publishes, in a run's order."""
    archive, digest = world.image()
    policy = Policy.model_validate({"image": {"repository": f"{world.door.host}/{world.name}", **image}})
    plan = examples.plan(world.folder / "dist", policy=policy)
    approval, stages = Approval(Archive(path=archive, handle=None), digest), EngineStages(Session(print), plan)

    async def publish() -> tuple[Signing, Publication]:
        await stages.push(approval)
        signing = await stages.attest(approval, examples.report(scan=examples.scan()))
        return signing, await stages.tag(approval)

    return anyio.run(publish)


def test_a_version_is_out_though_no_tag_moves(world: World) -> None:
    _, publication = published(world)
    assert publication.tags == ("1.2.3", f"sha-{examples.COMMIT}")
    assert list(publication.unmoved) == ["1.2", "1"]
    assert "answered 412 PRECONDITION to PUT manifest" in publication.unmoved["1"]


def test_a_policy_without_moving_tags_and_attachments_publishes_the_image_alone(world: World) -> None:
    _, publication = published(world, moving_tags=False, attachments=False)
    assert (publication.tags, publication.unmoved) == (("1.2.3", f"sha-{examples.COMMIT}"), {})
    tags, there = anyio.run(world.state)
    assert tags == {**STAYED, f"sha-{examples.COMMIT}": "ours"}
    assert there == ["before", "ours"]
    assert [each for each in world.door.seen if "referrers" in each or "sha256-" in each] == []
