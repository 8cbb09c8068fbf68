"""The rules of the house, which no type checker knows."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
ROOMS = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in (ROOT / "ci").rglob("*.py")}


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def called(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_only_stages_knows_dagger() -> None:
    knowing = [room for room, tree in ROOMS.items() if "dagger" in imported(tree)]
    assert knowing
    assert {Path(room).parent.as_posix() for room in knowing} == {"ci/drydock/stages"}


def test_only_main_prints_or_exits() -> None:
    speaking = {"print", "sys.exit", "exit", "sys.stdout.write", "sys.stderr.write", "os._exit"}
    assert [room for room, tree in ROOMS.items() if speaking & called(tree)] == ["ci/drydock/__main__.py"]


def test_only_checks_makes_an_approval() -> None:
    assert [room for room, tree in ROOMS.items() if {"Approval", "checks.Approval"} & called(tree)] == [
        "ci/drydock/checks/table.py"
    ]


def test_the_pipeline_and_the_service_never_import_each_other() -> None:
    for tree in ROOMS.values():
        assert "service" not in imported(tree)
    for path in (ROOT / "service").rglob("*.py"):
        assert "drydock" not in imported(ast.parse(path.read_text()))


IMAGE_LOCKS = [path.relative_to(ROOT).as_posix() for path in (ROOT / "requirements").glob("image-*.txt")]


@pytest.mark.parametrize("lock", ["requirements/ci.txt", "requirements/dev.txt", *IMAGE_LOCKS])
def test_every_locked_package_has_its_version_and_its_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text()
    requirements = re.split(r"(?m)^(?=[a-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text))[1:]
    assert requirements
    for requirement in requirements:
        assert re.match(r"[\w.\-]+(\[[\w,]+\])?==[\w.]+", requirement), requirement
        assert "--hash=sha256:" in requirement
    assert "://" not in re.sub(r"#.*", "", text)


def test_every_dependency_that_is_chosen_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run, dev = project["dependencies"], project["optional-dependencies"]["dev"]
    for lock, chosen in (("requirements/ci.txt", run), ("requirements/dev.txt", [*run, *dev])):
        locked = re.findall(r"(?m)^([\w.\-]+)(?:\[[\w,]+\])?==", (ROOT / lock).read_text())
        assert {Requirement(each).name for each in chosen} <= set(locked)


def test_no_tracked_file_names_the_host_of_a_package_registry() -> None:
    hosts = ["pypi org", "files pythonhosted org", "deb debian org", "proxy golang org", "registry npmjs org"]
    pattern = "|".join(host.replace(" ", r"\.") for host in hosts)
    found = subprocess.run(["git", "-C", ROOT, "grep", "-nIE", pattern], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")
