"""What the files around the image promise, read as text: the image itself is built and checked by the pipeline."""

from __future__ import annotations

import ast
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

from drydock.stages import engine
from export.contract import LIBRARIES
from tests.support.models import REPOSITORY_ROOT

MODELS = ("embedded", "remote")


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


def test_the_base_images_and_the_choice_of_files_are_arguments_with_a_default() -> None:
    before_the_first_stage = instructions()[: [each.name for each in instructions()].index("FROM")]
    assert [each.text for each in before_the_first_stage] == [
        "BUILDER=python:3.13-trixie",
        "BASE_IMAGE=python:3.13-slim-trixie",
        "MODEL_RUNTIME=compiled",
        "MODEL=embedded",
    ]


def test_the_dockerfile_is_read_in_two_minutes_and_names_no_runtime() -> None:
    text = (REPOSITORY_ROOT / "Dockerfile").read_text()
    assert len(stages()) <= 13
    assert text.count("\n") <= 120
    names = [each[0].words[2] for each in stages() if len(each[0].words) == 3]
    bases = {each[0].words[0] for each in stages()}
    # An argument chooses files. Only where the model is chooses a stage.
    assert bases - set(names) == {"${BUILDER}", "${BASE_IMAGE}", "model-${MODEL}"}
    assert {"model-embedded", "model-remote"} <= set(names)
    copied = " ".join(each.text for each in instructions() if each.name == "COPY")
    assert not re.search("image-(compiled|sklearn)|runtimes/[a-z]", copied)


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


LOCK = "requirements/image-${MODEL_RUNTIME}.txt"


@pytest.mark.parametrize(
    ("name", "locks"),
    [
        # The brackets make the file optional: there is no image-embedded.txt.
        ("environment", [LOCK, "requirements/image-${MODEL}.tx[t]"]),
        ("exporter", ["requirements/image-pandas.txt", "requirements/exporter.txt"]),
    ],
)
def test_the_dependencies_are_installed_from_the_locks_alone_before_any_code_is_copied(
    name: str, locks: list[str]
) -> None:
    first, *others = (each for each in stage(name) if each.name in {"COPY", "RUN"})
    assert first.sources() == locks
    assert " pip install -r " in others[0].text
    options = {"PIP_REQUIRE_HASHES=1", "PIP_ONLY_BINARY=:all:", "PIP_NO_COMPILE=1"}
    assert options <= set(only("ENV", stage("builder")).words)


def test_the_image_gets_no_code_by_way_of_its_packages() -> None:
    copies = [each.sources() for name in ("environment", "packages") for each in stage(name) if each.name == "COPY"]
    assert copies == [[LOCK, "requirements/image-${MODEL}.tx[t]"]]


def test_what_trains_has_the_packages_that_will_serve() -> None:
    assert [stage(name)[0].text for name in ("packages", "exporter")] == [
        "environment AS packages",
        "environment AS exporter",
    ]
    # Both locks again: pip then refuses two versions of one package instead of replacing one.
    (install,) = (each.text for each in stage("exporter") if each.name == "RUN")
    assert install.endswith("&& pip install -r packages.lock -r image-pandas.txt -r exporter.txt")


def test_nothing_is_installed_but_the_locks() -> None:
    assert sum("install" in each.words for each in instructions()) == 2


def test_each_install_takes_another_index_and_more_certificates_if_they_are_given() -> None:
    installs = [each.text for each in instructions() if "install" in each.words]
    assert installs
    for install in installs:
        assert " --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca if test " in install


def imported_modules(path: Path) -> set[str]:
    """The names of all modules that a file may import, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_a_change_of_the_server_does_not_train_again() -> None:
    sources = [source for each in stage("exporter") if each.name == "COPY" for source in each.sources()]
    files = [source for source in sources if source.startswith("service/")]
    assert files == ["service/__init__.py", "service/contract.py", "service/model.py", "service/runtimes/"]
    copied = {path for name in files for path in REPOSITORY_ROOT.glob(f"{name}*.py" if name[-1] == "/" else name)}
    # precompile alone runs in the image, where the whole server is.
    makers = {path for path in (REPOSITORY_ROOT / "export").glob("*.py") if path.stem != "precompile"}
    needed = {name for path in copied | makers for name in imported_modules(path) if name.startswith("service")}
    paths = {REPOSITORY_ROOT / f"{name.replace('.', '/')}.py" for name in needed}
    assert {path for path in paths if path.exists()} <= copied


def test_a_remote_models_image_has_its_contract_alone() -> None:
    copies = {name: [each.sources() for each in stage(f"model-{name}") if each.name == "COPY"] for name in MODELS}
    assert copies == {"embedded": [["artifacts/model.*"]], "remote": [["artifacts/model.json"]]}
    # The last stage takes only these two trees from `code`, which has read the model.
    assert [each.text for each in stages()[-1] if each.name == "COPY"] == [
        "--from=code /bytecode/ /",
        "--from=code /app/service/ /app/service/",
    ]


def test_rows_beside_a_model_reach_a_conversion_and_no_image() -> None:
    rows = [f"artifacts/{name}" for name in engine.ROWS_FILES]
    assert [travels(path) for path in rows] == [True, True]
    assert [each.sources() for each in stage("convert") if each.name == "COPY"] == [["artifacts/"]]
    for name in MODELS:
        (copied,) = (each.sources() for each in stage(f"model-{name}") if each.name == "COPY")
        assert not [path for path in rows if any(fnmatchcase(path, source) for source in copied)]


def test_no_pickle_and_no_scikit_learn_come_near_the_compiled_image() -> None:
    compiled = (REPOSITORY_ROOT / "requirements" / "image-compiled.txt").read_text()
    assert not re.search("(?m)^(numpy|scipy|scikit-learn|joblib|cloudpickle)==", compiled)


def test_everything_stays_out_of_the_build_except_what_is_named() -> None:
    first, *others = rules()
    assert first == "**"
    assert others
    assert [rule for rule in others if not rule.startswith("!") or "**" in rule] == []


def test_all_that_is_copied_reaches_the_build() -> None:
    sources = context_sources()
    assert "service/" in sources
    # A folder arrives with those of its files that are let in, and a pattern with those that match it.
    within = {
        "service/": "http/app.py",
        "service/runtimes/": "base.py",
        "export/": "compiled.py",
        "training/": "iris.py",
        "input/": "data/rows.csv",
        "artifacts/": "model.pkl",
    }
    values = {"${MODEL_RUNTIME}": "compiled", "${MODEL}": "remote", "tx[t]": "txt", "model.*": "model.forest"}
    files = [source + within.get(source, "") for source in sources]
    for name, value in values.items():
        files = [file.replace(name, value) for file in files]
    assert [file for file in files if not travels(file)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".git/HEAD",
        ".git/config",
        ".env",
        ".venv/bin/python",
        "service/http/__pycache__/app.cpython-313.pyc",
        "notebook.ipynb",
        "service/notebook.ipynb",
        "data/raw/iris.csv",
        "mlruns/0/meta.yaml",
        "artifacts/model.pkl.bak",
        "requirements/dev.txt",
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
    ("name", "needed"),
    [
        ("compiled", {"fastapi", "uvicorn", "msgspec"}),
        ("sklearn", {*LIBRARIES, "fastapi", "uvicorn"}),
        ("pandas", {*LIBRARIES, "pandas", "fastapi", "uvicorn"}),
        ("remote", {"fsspec", "aiohttp", "s3fs", "tenacity"}),
    ],
)
def test_every_dependency_is_pinned_and_hashed(name: str, needed: set[str]) -> None:
    text = (REPOSITORY_ROOT / "requirements" / f"image-{name}.txt").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    requirements = "\n".join(lines).replace("\\\n", " ").splitlines()
    pinned = re.compile(r"([a-z0-9-]+)==[^\s;*]+( ; [^-]+)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [line for line in requirements if not pinned.fullmatch(line)] == []
    assert needed <= {line.partition("==")[0] for line in requirements}


def locked(name: str) -> dict[str, str]:
    text = (REPOSITORY_ROOT / "requirements" / f"image-{name}.txt").read_text()
    return dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", text))


@pytest.mark.parametrize("name", ["compiled", "sklearn", "remote"])
def test_every_image_has_the_versions_that_trained(name: str) -> None:
    lock, trained = locked(name), locked("pandas")
    shared = lock.keys() & trained.keys()
    assert shared
    assert {package: lock[package] for package in shared} == {package: trained[package] for package in shared}
    # A runtime is a part of what trains; only a download needs more.
    assert (lock.keys() <= trained.keys()) == (name != "remote")


def test_a_runtime_is_a_module_and_a_lock() -> None:
    modules = {path.stem for path in (REPOSITORY_ROOT / "service" / "runtimes").glob("[a-z]*.py")}
    locks = {path.stem.removeprefix("image-") for path in (REPOSITORY_ROOT / "requirements").glob("image-*.in")}
    assert modules == locks - {"remote"}
