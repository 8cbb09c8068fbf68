"""The rooms of service/ and export/: no module imports in a circle, and the server never imports what makes it."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter

from tests.support.models import REPOSITORY_ROOT

FILES = [path for folder in ("service", "export", "training") for path in (REPOSITORY_ROOT / folder).rglob("*.py")]
MODULES = {".".join(path.relative_to(REPOSITORY_ROOT).with_suffix("").parts): path for path in FILES}


def imported(name: str) -> set[str]:
    """The modules of ours that a module imports, also those that it imports later, in a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & MODULES.keys()


def test_no_module_imports_in_a_circle() -> None:
    graph = {name: imported(name) for name in MODULES}
    assert any(graph.values())
    # Raises CycleError, with the circle.
    TopologicalSorter(graph).prepare()


def test_the_server_never_imports_what_makes_it() -> None:
    rooms = {name: {other.partition(".")[0] for other in imported(name)} for name in MODULES}
    assert {room for name, of in rooms.items() if name.startswith("service.") for room in of} == {"service"}
    assert {room for name, of in rooms.items() if name.startswith("export.") for room in of} == {"export", "service"}
