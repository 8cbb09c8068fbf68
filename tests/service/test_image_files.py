"""What the files around the image promise, read as text: the image itself is built and checked by the pipeline."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import NamedTuple

import pytest

from service.train import LIBRARIES
from tests.service.conftest import REPOSITORY_ROOT


class Instruction(NamedTuple):
    """One instruction of the Dockerfile, its continued lines joined."""

    name: str
    words: list[str]

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def sources(self) -> list[str]:
        """What a COPY takes from the build context."""
        if any(word.startswith("--from=") for word in self.words):
            return []
        return [word for word in self.words if not word.startswith("--")][:-1]


def instructions() -> list[Instruction]:
    lines = (REPOSITORY_ROOT / "Dockerfile").read_text().splitlines()
    # A comment may stand between continued lines, and is no part of them.
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    words = [line.split() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [Instruction(name.upper(), rest) for name, *rest in words]


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, its FROM first."""
    found: list[list[Instruction]] = []
    for instruction in instructions():
        if instruction.name == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def only(name: str, stage: list[Instruction]) -> Instruction:
    (found,) = [instruction for instruction in stage if instruction.name == name]
    return found


def rules() -> list[str]:
    lines = (line.strip() for line in (REPOSITORY_ROOT / ".dockerignore").read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def travels(path: str) -> bool:
    """Whether a file reaches the build context; a rule that names a folder lets in all that is below it."""
    parts = path.split("/")
    for rule in rules()[1:]:
        wanted = rule.removeprefix("!").rstrip("/").split("/")
        # Part by part: in a .dockerignore, * ends at a slash.
        if len(wanted) <= len(parts) and all(map(fnmatchcase, parts, wanted)):
            return True
    return False


def context_sources() -> list[str]:
    return [source for instruction in instructions() if instruction.name == "COPY" for source in instruction.sources()]


def test_both_base_images_are_arguments_with_a_default() -> None:
    before_the_first_stage = instructions()[: [each.name for each in instructions()].index("FROM")]
    assert [each.text for each in before_the_first_stage] == [
        "BUILDER=python:3.13-trixie",
        "RUNTIME=python:3.13-slim-trixie",
    ]
    assert [stage[0].text for stage in stages()] == [
        "${BUILDER} AS builder",
        "builder AS train",
        "builder AS pruned",
        "${RUNTIME}",
    ]


def test_the_image_runs_as_a_numeric_user_other_than_root() -> None:
    user = only("USER", stages()[-1])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user.text)


def test_nothing_changes_files_after_the_user_is_set() -> None:
    names = [instruction.name for instruction in stages()[-1]]
    assert not {"RUN", "COPY", "WORKDIR"} & set(names[names.index("USER") :])


def test_the_entry_point_and_the_command_need_no_shell() -> None:
    # A shell between would take the SIGTERM and not pass it on.
    assert json.loads(only("ENTRYPOINT", stages()[-1]).text) == ["python", "-m"]
    assert json.loads(only("CMD", stages()[-1]).text) == ["service"]


def test_the_image_is_watched_where_it_listens() -> None:
    assert only("EXPOSE", stages()[-1]).text == "8000"
    _, _, command = only("HEALTHCHECK", stages()[-1]).text.partition(" CMD ")
    program, _, code = json.loads(command)
    assert program == "python"
    assert "http://127.0.0.1:8000/readyz" in code


def test_nothing_is_added_from_an_archive_or_an_address() -> None:
    assert "ADD" not in {instruction.name for instruction in instructions()}


def test_no_variable_holds_a_secret() -> None:
    given = [word for each in instructions() if each.name in {"ENV", "ARG"} for word in each.words]
    names = {word.partition("=")[0] for word in given}
    assert "DRYDOCK_REVISION" in names
    secret = re.compile("secret|token|passw|credential|api_?key|private|auth", re.IGNORECASE)
    assert [name for name in names if secret.search(name)] == []


def test_the_dependencies_are_installed_from_the_lock_alone_before_any_code_is_copied() -> None:
    builder = stages()[0]
    copies = [instruction for instruction in builder if instruction.name == "COPY"]
    assert [copy.sources() for copy in copies] == [["service/requirements.txt"]]
    (install,) = [each for each in builder if each.name == "RUN" and "pip" in each.text and "install" in each.words]
    assert builder.index(copies[0]) < builder.index(install)
    assert {"--require-hashes", "--only-binary=:all:", "--no-compile"} <= set(install.words)
    # Installed nowhere else either.
    assert [each for each in instructions() if "install" in each.words] == [install]


def test_the_image_holds_the_model_and_every_module_but_the_training() -> None:
    copied = {source for instruction in stages()[-1] if instruction.name == "COPY" for source in instruction.sources()}
    modules = {f"service/{path.name}" for path in (REPOSITORY_ROOT / "service").glob("*.py")}
    assert copied == modules - {"service/train.py"} | {"artifacts/model.pkl", "artifacts/model.json"}


def test_everything_stays_out_of_the_build_except_what_is_named() -> None:
    first, *others = rules()
    assert first == "**"
    assert others
    assert [rule for rule in others if not rule.startswith("!") or "**" in rule] == []


def test_all_that_is_copied_reaches_the_build() -> None:
    sources = context_sources()
    assert "service/" in sources
    # A folder arrives with those of its files that are let in.
    files = [source + "app.py" if source.endswith("/") else source for source in sources]
    assert [file for file in files if not travels(file)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".git/HEAD",
        ".git/config",
        ".env",
        ".venv/bin/python",
        "service/__pycache__/app.cpython-313.pyc",
        "notebook.ipynb",
        "service/notebook.ipynb",
        "data/raw/iris.csv",
        "mlruns/0/meta.yaml",
        "artifacts/model.pkl.bak",
        "requirements-dev.txt",
    ],
)
def test_what_nobody_named_does_not_reach_the_build(path: str) -> None:
    assert not travels(path)


@pytest.mark.parametrize(
    "line",
    [
        "read_only: true",
        "cap_drop: [ALL]",
        'security_opt: ["no-new-privileges:true"]',
        'ports: ["${PORT:-8000}:8000"]',
        "healthcheck:",
    ],
)
def test_compose_runs_the_image_with_nothing_that_it_does_not_need(line: str) -> None:
    # As text: nothing that the lock file installs reads YAML.
    lines = [line.strip() for line in (REPOSITORY_ROOT / "docker-compose.yml").read_text().splitlines()]
    assert lines.count(line) == 1


def test_compose_asks_the_same_question_as_the_image() -> None:
    _, _, command = only("HEALTHCHECK", stages()[-1]).text.partition(" CMD ")
    _, _, code = json.loads(command)
    assert f'test: [CMD, python, -c, "{code}"]' in (REPOSITORY_ROOT / "docker-compose.yml").read_text()


def test_every_dependency_is_pinned_and_hashed() -> None:
    text = (REPOSITORY_ROOT / "service" / "requirements.txt").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    requirements = "\n".join(lines).replace("\\\n", " ").splitlines()
    pinned = re.compile(r"([a-z0-9-]+)==[^\s;*]+( ; [^-]+)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [line for line in requirements if not pinned.fullmatch(line)] == []
    assert {*LIBRARIES, "fastapi", "uvicorn"} <= {line.partition("==")[0] for line in requirements}
