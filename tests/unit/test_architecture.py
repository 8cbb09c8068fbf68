"""The rules of the house, which no type checker knows."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
ROOMS = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in (ROOT / "ci").rglob("*.py")}


# As docs/design.md has it: a room imports only rooms to its right.
ORDER = "main > cli > stages > pipeline > checks > tools > policy > oci > report > errors"
ROOM_NAMES = ORDER.split(" > ")
MAY_IMPORT = {room: set(ROOM_NAMES[number:]) for number, room in enumerate(ROOM_NAMES)}
MAY_IMPORT["render"] = {"render", "oci", "report", "errors"}
MAY_IMPORT["bootstrap"] = {"bootstrap", "oci", "report", "errors"}
MAY_IMPORT["cli"] |= {"render", "bootstrap"}


def modules_imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported(tree: ast.AST) -> set[str]:
    return {name.partition(".")[0] for name in modules_imported(tree)}


def room_of(module: str) -> str:
    """The room of `drydock.oci.archive` is oci; that of the package itself is empty."""
    room = module.removeprefix("drydock").removeprefix(".").partition(".")[0]
    return "main" if room == "__main__" else room


def room_of_file(path: str) -> str:
    return room_of(path.removeprefix("ci/").removesuffix(".py").removesuffix("/__init__").replace("/", "."))


def forbidden_imports(files: Mapping[str, ast.AST]) -> list[str]:
    found = []
    for path, tree in sorted(files.items()):
        rooms = {room_of(name) for name in modules_imported(tree) if name.partition(".")[0] == "drydock"} - {""}
        found += [f"{path} imports {room}" for room in sorted(rooms - MAY_IMPORT.get(room_of_file(path), set()))]
    return found


def called(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_every_room_imports_only_rooms_to_its_right() -> None:
    assert ORDER in (ROOT / "docs/design.md").read_text()
    assert {room_of_file(path) for path in ROOMS} - {""} == MAY_IMPORT.keys()
    assert forbidden_imports(ROOMS) == []


@pytest.mark.parametrize(
    ("path", "line", "room"),
    [
        ("pipeline/verify.py", "from drydock.stages.engine import connect", "stages"),
        ("pipeline/verify.py", "from drydock import render", "render"),
        ("checks/table.py", "import drydock.pipeline.plan", "pipeline"),
        ("render/html.py", "from drydock.checks import judge", "checks"),
        ("bootstrap/modes.py", "from drydock import policy", "policy"),
        ("errors.py", "from drydock import report", "report"),
        ("__main__.py", "from drydock.render import text", "render"),
    ],
)
def test_an_import_against_the_arrows_is_found(path: str, line: str, room: str) -> None:
    assert forbidden_imports({f"ci/drydock/{path}": ast.parse(line)}) == [f"ci/drydock/{path} imports {room}"]


def test_only_stages_knows_dagger() -> None:
    knowing = [room for room, tree in ROOMS.items() if "dagger" in imported(tree)]
    assert knowing
    assert {Path(room).parent.as_posix() for room in knowing} == {"ci/drydock/stages"}


def test_only_main_prints_or_exits() -> None:
    speaking = {"print", "sys.exit", "exit", "sys.stdout.write", "sys.stderr.write", "os._exit"}
    assert [room for room, tree in ROOMS.items() if speaking & called(tree)] == ["ci/drydock/__main__.py"]


def test_only_checks_makes_an_approval() -> None:
    assert [room for room, tree in ROOMS.items() if {"Approval", "checks.Approval"} & called(tree)] == [
        "ci/drydock/checks/approval.py"
    ]


def test_the_pipeline_and_the_service_never_import_each_other() -> None:
    for tree in ROOMS.values():
        assert "service" not in imported(tree)
    for path in (ROOT / "service").rglob("*.py"):
        assert "drydock" not in imported(ast.parse(path.read_text()))


LOCKS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "requirements").glob("*.txt"))


def test_golden_answers_are_made_without_the_servers_code() -> None:
    """What the server makes of a model's answers would be recorded with its mistakes, and compared with itself."""
    for name in ("contract", "evaluation", "golden", "stability"):
        tree = ast.parse((ROOT / "export" / f"{name}.py").read_text())
        assert not {name for name in modules_imported(tree) if name.startswith("service.model")}, name


@pytest.mark.parametrize("lock", LOCKS)
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
