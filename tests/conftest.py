"""Which tests run one after the other on one worker, and in which order the workers take them.

By default the tests of a file share a worker, since they share what its fixtures make. The table is a scheduler's and
not a mark's, since pytest-xdist 3.8 does not see its own mark `xdist_group` under pytest 9.2.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

# As in the image, and before anything loads scikit-learn: on a busy machine, threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.support.models", "tests.support.tasks"]

# Files, or tests, that share what is dear: a run of the shipped image, or an engine that may be emptied and killed.
SHARED = {
    "tests/integration/engine/test_cold.py": "second engine",
    "tests/integration/engine/test_outages.py::test_an_engine_that_dies": "second engine",
    "tests/integration/engine/test_outages.py::test_a_run_from_empty_caches": "second engine",
    "tests/integration/engine/test_release.py": "second engine",
    "tests/integration/engine/test_remote.py": "second engine",
    "tests/integration/engine/test_compose.py": "shipped image",
    "tests/integration/engine/test_drift.py": "shipped image",
    "tests/integration/engine/test_good_run.py": "shipped image",
    "tests/integration/engine/test_outside.py": "shipped image",
    "tests/integration/engine/test_runtimes.py": "shipped image",
}
# Files whose tests share nothing: each goes to whichever worker is free.
SPREAD = (
    "tests/integration/engine/test_breakages.py",
    "tests/integration/engine/test_databases.py",
    "tests/integration/engine/test_outages.py",
    "tests/integration/engine/test_policy.py",
    "tests/mutation/",
)
SLOW = ("tests/integration/", "tests/unit/cli/test_commands.py")


def group(nodeid: str) -> str:
    """The name that the tests of one worker share."""
    for prefix, name in SHARED.items():
        if nodeid.startswith(prefix):
            return name
    return nodeid if nodeid.startswith(SPREAD) else nodeid.partition("::")[0]


def rank(nodeid: str) -> int:
    """The long ones first, so that no worker is left alone with one at the end."""
    if nodeid.startswith(tuple(SHARED)):
        return 0
    if nodeid.startswith(SPREAD):
        return 2
    return 1 if nodeid.startswith(SLOW) else 3


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each group to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByGroup:
    # In the order of `rank`, and not by how many tests a group has.
    config.option.loadscopereorder = False
    return ByGroup(config, log)


@pytest.fixture(autouse=True)
def _no_nohup() -> Iterator[None]:
    """A program that is started under nohup ignores SIGHUP, and so would the programs that tests start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
