"""Every fault that a run survives is in faults.toml, and every test that is named there is a test."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FAULTS = tomllib.loads((ROOT / "tests" / "faults.toml").read_text(encoding="utf-8"))["fault"]


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The id of every test of the files that are named, with its parameters and without."""
    files = sorted({name.partition("::")[0] for fault in FAULTS for name in fault["tests"]})
    collect = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", *files]
    listed = subprocess.run(collect, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    ids = {line for line in listed if "::" in line}
    return ids | {name.partition("[")[0] for name in ids}


def test_no_fault_is_there_twice() -> None:
    assert len({fault["name"] for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault["name"])
def test_a_fault_has_its_outcome_and_tests_that_exist(fault: dict[str, str | list[str]], known: set[str]) -> None:
    assert set(fault) == {"name", "outcome", "tests"}
    assert fault["outcome"]
    assert fault["tests"]
    assert [name for name in fault["tests"] if name not in known] == []
