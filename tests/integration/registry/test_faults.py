from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import pytest

from tests.integration.registry.faults import FAULTS, Fault, secrets
from tests.integration.registry.world import World, worlds

Make = Callable[[str, bool], World]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    with worlds(tmp_path_factory.mktemp("worlds")) as made:
        yield made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_ends_as_it_should(fault: Fault, make: Make) -> None:
    world = make(f"fault-{FAULTS.index(fault)}", fault.locked)
    outcomes = anyio.run(fault.outcomes, world)
    assert tuple(outcome.exit_code for outcome in outcomes) == fault.exit_codes
    assert fault.says in outcomes[-1].what
    assert bool(fault.says) == bool(outcomes[-1].what)
    assert len(world.told) == fault.retries, world.told
    assert anyio.run(world.state) == (fault.tags, list(fault.there))
    said = "".join([*(outcome.said for outcome in outcomes), *world.told])
    assert [secret for secret in secrets() if secret in said] == []
