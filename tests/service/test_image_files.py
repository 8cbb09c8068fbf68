"""What the files around the image promise, read as text: the image itself is built and checked by the pipeline."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import NamedTuple

import pytest

from service.describe import LIBRARIES
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


def stage(name: str) -> list[Instruction]:
    (found,) = [each for each in stages() if each[0].words[1:] == ["AS", name]]
    return found


def test_both_base_images_and_the_runtime_are_arguments_with_a_default() -> None:
    before_the_first_stage = instructions()[: [each.name for each in instructions()].index("FROM")]
    assert [each.text for each in before_the_first_stage] == [
        "BUILDER=python:3.13-trixie",
        "RUNTIME=python:3.13-slim-trixie",
        "MODEL_RUNTIME=lean",
        "MODEL=inside",
    ]
    names = {each[0].words[2] for each in stages() if len(each[0].words) == 3}
    outside = {each[0].words[0] for each in stages()} - names
    assert outside == {
        "${BUILDER}",
        "${RUNTIME}",
        "${MODEL_RUNTIME}-trainer",
        "train-${MODEL_RUNTIME}",
        "code-${MODEL_RUNTIME}",
        "with-${MODEL_RUNTIME}",
        "${MODEL}-${MODEL_RUNTIME}",
    }
    # Every runtime has each of the stages that are chosen by name.
    kinds = ("train-{}", "code-{}", "with-{}", "inside-{}", "outside-{}", "{}-trainer")
    assert {kind.format(runtime) for kind in kinds for runtime in ("lean", "sklearn", "frame")} <= names


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


@pytest.mark.parametrize("runtime", ["lean", "sklearn", "frame", "outside"])
def test_the_dependencies_are_installed_from_the_lock_alone_before_any_code_is_copied(runtime: str) -> None:
    packages = stage(f"{runtime}-packages")
    copies = [instruction for instruction in packages if instruction.name == "COPY"]
    assert [copy.sources() for copy in copies] == [[f"service/requirements-{runtime}.txt"]]
    (install,) = [each for each in packages if each.name == "RUN" and "pip" in each.text and "install" in each.words]
    assert packages.index(copies[0]) < packages.index(install)
    assert {"--require-hashes", "--only-binary=:all:", "--no-compile"} <= set(install.words)


def test_nothing_is_installed_but_the_locks() -> None:
    assert sum("install" in each.words for each in instructions()) == 4


def test_each_install_takes_another_index_and_more_certificates_if_they_are_given() -> None:
    installs = [each.text for each in instructions() if "install" in each.words]
    assert installs
    for install in installs:
        assert " --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca if test " in install


@pytest.mark.parametrize(
    ("runtime", "model", "only_here"),
    [("lean", "model.forest", {"service/forest.py"}), ("sklearn", "model.pkl", {"service/pickled.py"})],
)
def test_the_image_holds_the_model_and_every_module_that_serves_it(
    runtime: str, model: str, only_here: set[str]
) -> None:
    copied = {
        source
        for name in (f"inside-{runtime}", f"code-{runtime}", "bytecode")
        for instruction in stage(name)
        if instruction.name == "COPY"
        for source in instruction.sources()
    }
    modules = {f"service/{path.name}" for path in (REPOSITORY_ROOT / "service").glob("*.py")}
    building = {f"service/{name}.py" for name in ("convert", "data", "describe", "evaluator")}
    runtimes = {"service/forest.py", "service/pickled.py"}
    assert copied == modules - building - runtimes | only_here | {f"artifacts/{model}", "artifacts/model.json"}
    # Needed to make bytecode, and gone by the time that the code is taken from there.
    (made,) = [each.text for each in stage("bytecode") if each.name == "RUN"]
    assert "rm service/bytecode.py" in made


def test_where_the_model_is_outside_the_image_has_its_contract_and_what_fetches_it() -> None:
    copies = [each for each in stage("outside") if each.name == "COPY"]
    assert [each.sources() for each in copies] == [[], ["artifacts/model.json"]]
    assert "--from=outside-pruned" in copies[0].words
    for runtime in ("lean", "sklearn", "frame"):
        assert [each.text for each in stage(f"outside-{runtime}")] == [f"outside AS outside-{runtime}"]
    # The last stage takes from `bytecode`, which has the model, only these two trees.
    assert [each.text for each in stages()[-1] if each.name == "COPY"] == [
        "--from=bytecode /bytecode/ /",
        "--from=bytecode /app/service/ /app/service/",
    ]


def test_no_pickle_and_no_scikit_learn_come_near_the_lean_image() -> None:
    lean = (REPOSITORY_ROOT / "service" / "requirements-lean.txt").read_text()
    assert not re.search("(?m)^(numpy|scipy|scikit-learn|joblib|cloudpickle)==", lean)
    named = [each.text for name in ("with-lean", "inside-lean", "code-lean") for each in stage(name)]
    assert [text for text in named if "pkl" in text or "pickled" in text or "sklearn" in text] == []


def test_everything_stays_out_of_the_build_except_what_is_named() -> None:
    first, *others = rules()
    assert first == "**"
    assert others
    assert [rule for rule in others if not rule.startswith("!") or "**" in rule] == []


def test_all_that_is_copied_reaches_the_build() -> None:
    sources = context_sources()
    assert "service/" in sources
    # A folder arrives with those of its files that are let in.
    within = {"service/": "app.py", "training/": "iris.py", "given/": "model.pkl", "artifacts/": "model.pkl"}
    files = [source + within.get(source, "") for source in sources]
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


@pytest.mark.parametrize(
    ("runtime", "needed"),
    [
        ("lean", {"fastapi", "uvicorn", "msgspec"}),
        ("sklearn", {*LIBRARIES, "fastapi", "uvicorn"}),
        ("frame", {*LIBRARIES, "pandas", "fastapi", "uvicorn"}),
        ("outside", {"fsspec", "aiohttp", "s3fs", "tenacity"}),
    ],
)
def test_every_dependency_is_pinned_and_hashed(runtime: str, needed: set[str]) -> None:
    text = (REPOSITORY_ROOT / "service" / f"requirements-{runtime}.txt").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    requirements = "\n".join(lines).replace("\\\n", " ").splitlines()
    pinned = re.compile(r"([a-z0-9-]+)==[^\s;*]+( ; [^-]+)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [line for line in requirements if not pinned.fullmatch(line)] == []
    assert needed <= {line.partition("==")[0] for line in requirements}


def locked(name: str) -> set[str]:
    text = (REPOSITORY_ROOT / "service" / f"requirements-{name}.txt").read_text()
    return set(re.findall(r"(?m)^([a-z0-9-]+==\S+)", text))


def test_both_runtimes_have_the_same_versions_of_what_both_have() -> None:
    assert locked("lean")
    assert locked("lean") < locked("sklearn")


def test_with_pandas_come_the_same_versions_as_without_and_as_with_what_fetches() -> None:
    assert locked("sklearn") < locked("frame")
    frame, outside = (dict(each.split("==") for each in locked(name)) for name in ("frame", "outside"))
    both = frame.keys() & outside.keys()
    assert {name: frame[name] for name in both} == {name: outside[name] for name in both}


def test_what_fetches_a_model_brings_nothing_that_a_runtime_has_already() -> None:
    names = [{each.partition("==")[0] for each in locked(name)} for name in ("outside", "sklearn")]
    assert not names[0] & names[1]
    # And needs of them what they have.
    text = (REPOSITORY_ROOT / "service" / "requirements-outside.txt").read_text()
    left_out = re.findall(r"(?m)^# ([a-z0-9-]+)$", text.partition("excluded from the output:")[2])
    assert left_out == ["idna"]
    assert set(left_out) <= {each.partition("==")[0] for each in locked("lean")}
