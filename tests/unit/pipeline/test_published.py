from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from drydock.errors import UsageError
from drydock.oci.reference import Reference
from drydock.oci.registry import Credentials
from drydock.pipeline.plan import Plan
from tests.support import examples
from tests.support.published_images import LOGIN, SOURCE_LOGIN, Registries

pytestmark = pytest.mark.registry


def open_with_credentials(
    registries: Registries, command: str, repository: str
) -> list[tuple[str, Credentials | None]]:
    """The credentials with which a command opens the repository that it reads; cosign gets the same ones."""
    digest = registries.publish("1.2.3", repository=repository)
    registries.write_image("again")
    registries.stages.built, registries.stages.scans = registries.path("again"), [examples.scan()]
    run = replace(registries.plan, login=registries.login(LOGIN))
    work: dict[str, Callable[[], object]] = {
        "verify": partial(registries.verify, Reference(repository, "1.2.3"), run),
        "rescan": partial(registries.rescan, registries.record(digest, repository=repository), plan=run),
        "reproduce": partial(registries.reproduce, digest, registries.record(digest, repository=repository), run),
    }
    work[command]()
    assert {plan.source_login for plan in registries.stages.plans} == {
        login for _, login in registries.opened_repositories
    }
    return registries.opened_repositories


@pytest.mark.parametrize("command", ["verify", "rescan", "reproduce"])
def test_the_registry_of_the_policy_gets_its_credentials_and_no_other_does(
    command: str, registries: Registries
) -> None:
    assert open_with_credentials(registries, command, registries.here) == [(registries.here, registries.login(LOGIN))]
    registries.opened_repositories.clear()
    registries.stages.plans.clear()
    assert open_with_credentials(registries, command, registries.there) == [(registries.there, None)]


def test_a_repository_beside_the_policys_has_the_same_credentials(registries: Registries) -> None:
    beside = f"{registries.here}-too"
    assert open_with_credentials(registries, "verify", beside) == [(beside, registries.login(LOGIN))]


def plan_with_source_login(registries: Registries, host: str) -> Plan:
    """A plan with credentials of the source's own, for this host."""
    return replace(registries.plan, login=registries.login(LOGIN), source_login=replace(SOURCE_LOGIN, host=host))


def test_a_source_with_credentials_of_its_own_gets_these(registries: Registries) -> None:
    registries.publish("1.2.3")
    registries.verify(
        Reference(registries.here, "1.2.3"), plan_with_source_login(registries, registries.here.partition("/")[0])
    )
    assert registries.opened_repositories == [(registries.here, registries.login(SOURCE_LOGIN))]


@pytest.mark.parametrize("command", ["verify", "promote", "rescan", "reproduce"])
def test_the_sources_credentials_go_to_no_other_host(command: str, registries: Registries) -> None:
    run, asked = plan_with_source_login(registries, "staging.example"), Reference(registries.there, "1.2.3")
    record = registries.record(examples.MANIFEST_DIGEST, repository=registries.there)
    if command == "rescan":
        [row] = registries.rescan(record, plan=run).checks
        said = row.details[0]
    else:
        work: dict[str, Callable[[], object]] = {
            "verify": partial(registries.verify, asked, run),
            "promote": partial(registries.promote, asked, Reference(f"{registries.here}-prod"), run),
            "reproduce": partial(registries.reproduce, record.digest, record, run),
        }
        with pytest.raises(UsageError) as refused:
            work[command]()
        said = refused.value.message
    assert said.startswith(
        "DRYDOCK_SOURCE_USER and DRYDOCK_SOURCE_PASSWORD are those of staging.example, and not of 127"
    )
    assert registries.opened_repositories == []
    assert registries.stages.called == []


def test_the_policys_registry_gets_its_own_credentials_beside_those_of_another(registries: Registries) -> None:
    registries.publish("1.2.3")
    registries.verify(Reference(registries.here, "1.2.3"), plan_with_source_login(registries, "staging.example"))
    assert registries.opened_repositories == [(registries.here, registries.login(LOGIN))]


@pytest.mark.parametrize(
    ("login_of", "source_login_of", "target"),
    [("here", "", "here"), ("there", "", "there"), ("there", "here", "there"), ("here", "there", "there")],
    ids=["one host", "the target's alone", "each its own", "the other way round"],
)
def test_each_of_two_registries_gets_its_own_credentials(
    login_of: str, source_login_of: str, target: str, registries: Registries
) -> None:
    registries.publish_signed("1.2.3")
    there = registries.there if target == "there" else f"{registries.here}-too"
    login = registries.login(LOGIN, login_of)
    source_login = registries.login(SOURCE_LOGIN, source_login_of) if source_login_of else None
    known = {each.host: each for each in (login, source_login) if each}
    run = replace(registries.plan, login=login, source_login=source_login)
    registries.promote(Reference(registries.here, "1.2.3"), Reference(there), run)
    here = known.get(registries.here.partition("/")[0])
    assert registries.opened_repositories == [
        (registries.here, here),
        (registries.here, here),
        (there, known.get(there.partition("/")[0])),
    ]
    assert [plan.source_login for plan in registries.stages.plans] == [here]
