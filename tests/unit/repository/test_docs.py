"""The docs say what the code does: their commands, tables, links and words."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from drydock import checks, errors
from drydock.cli import arguments
from drydock.errors import DrydockError
from drydock.policy import Policy
from drydock.report import files, publication

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "ci" / "drydock" / "report" / "schema"
PATHS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PATHS}
README = PAGES["README.md"]
REFERENCE = PAGES["docs/reference.md"]
BLOCKS = [block for page in PAGES.values() for block in re.findall(r"(?ms)^```sh\n(.*?)^```", page)]
# A command may continue on the next line.
LINES = [line for block in BLOCKS for line in block.replace("\\\n", "").splitlines() if line.strip()]
COMMAND_TABLE = "| command | argument | default | what it does |"
# What every shell has needs no test.
SHELL = {"cd", "eval", "export", "read", "source", "head", "cut", "sha256sum"}
NOT_RUN_HERE = {
    "cosign": "the pipeline runs the same commands in its pinned image",
    "curl": "it needs a running image or a registry; the smoke test sends the same requests",
    "docker": "it needs a Docker daemon; tests of their own build and run the image with one",
    "git": "the tests of a release type the same commands in a repository of their own",
    "helm": "it needs a cluster",
    "kubectl": "it needs a cluster; the manifests are rendered and checked",
    "kustomize": "the tests of the manifests run it",
    "oras": "it is another tool than the pipeline's own",
    "podman": "it needs an image in a registry; tests of their own run the image with it",
    "trivy": "the pipeline runs it in its pinned image",
}


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell, each as its words, without assignments before it."""
    substituted = r"\$\(([^()]*)\)"
    for text in [*re.findall(substituted, line), re.sub(substituted, "X", line)]:
        lexer = shlex.shlex(text, posix=True, punctuation_chars="();|&")
        lexer.whitespace_split = True
        for is_separator, group in groupby(lexer, lambda token: set(token) <= set("();|&")):
            words = list(group)
            while words and re.match(r"[A-Za-z_]\w*=", words[0]):
                words.pop(0)
            if words and not is_separator:
                yield words


COMMANDS = sorted({tuple(words) for line in LINES for words in simple_commands(line)})
OURS = [words for words in COMMANDS if words[0] == "drydock" or "ci/main.py" in words]
MAKE = [words for words in COMMANDS if words[0] == "make"]


def drydock_arguments(words: tuple[str, ...]) -> list[str]:
    """What follows the program's name."""
    return list(words[words.index("ci/main.py") + 1 if "ci/main.py" in words else 1 :])


def documented_rows(page: str, header: str) -> list[list[str]]:
    """The cells of the table below this header; a cell may have an escaped bar."""
    table = page.partition(f"{header}\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert table, f"no table begins with {header}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_a_drydock_command_is_one_that_the_parser_takes(words: tuple[str, ...]) -> None:
    assert arguments.parse_arguments(drydock_arguments(words))


@pytest.mark.parametrize("words", MAKE, ids=" ".join)
def test_a_make_command_has_a_real_target(words: tuple[str, ...]) -> None:
    targets = re.findall(r"(?m)^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert words[1] in targets
    for word in words[2:]:
        name, _, value = word.partition("=")
        assert name in ("ARGS", "PYTHON", "UPGRADE", "WORKERS")
        if words[1] == "run" and name == "ARGS":
            assert arguments.parse_arguments(shlex.split(value))


@pytest.mark.parametrize("words", [each for each in COMMANDS if each not in [*OURS, *MAKE]], ids=" ".join)
def test_any_other_command_is_listed_with_the_reason_why_it_is_not_run(words: tuple[str, ...]) -> None:
    program = words[0]
    if program == "python":
        assert words[1] == "-m"
        assert importlib.util.find_spec(words[2])
    elif program == "jq":
        schema = json.loads((SCHEMAS / "report.schema.json").read_text(encoding="utf-8"))
        fields = {name for part in [schema, *schema["$defs"].values()] for name in part.get("properties", {})}
        unknown = set(re.findall(r"\.([a-z_]+)", words[2])) - fields
        assert unknown <= {"checks", "disposition"}
    else:
        assert program in {*SHELL, *NOT_RUN_HERE}


def test_nothing_is_listed_that_the_docs_do_not_type() -> None:
    assert {words[0] for words in COMMANDS} >= set(NOT_RUN_HERE)


def test_the_docs_show_every_command() -> None:
    shown = {drydock_arguments(words)[0] for words in OURS}
    documented = {command.strip("`") for command, *_ in documented_rows(REFERENCE, COMMAND_TABLE)}
    # `make train` is what the docs type.
    assert shown == {*documented, "bootstrap"} - {"every command", "train"}


def help_of(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        arguments.parse_arguments([command, "--help"])
    return capsys.readouterr().out


def test_the_table_of_commands_has_every_argument(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = documented_rows(REFERENCE, COMMAND_TABLE)
    documented: dict[str, list[str]] = {}
    for command, argument, *_ in rows:
        found = documented.setdefault(command.strip("`"), [])
        found += [argument.strip("`").split()[0]] if argument else []
    everywhere = documented.pop("every command")
    for command, described in documented.items():
        text = help_of(command, capsys, monkeypatch).partition("\n\n")[2]
        known = re.findall(r"(?m)^  (?:-h, --help|(?:--push, )?(--[\w-]+|[A-Z]+))", text)
        expected = [*described, *([] if command == "update-pins" else everywhere)]
        assert sorted(filter(None, known)) == sorted(expected), command


def test_the_table_of_policy_keys_has_every_key_and_its_default() -> None:
    rows = documented_rows(REFERENCE, "| key | default | what it sets |")
    keys = {
        f"`{section}.{value.alias or key}`": f"`{json.dumps(value.default, ensure_ascii=False)}`"
        for section, field in Policy.model_fields.items()
        if section not in ("ignore", "skip", "origins")
        for key, value in type(field.default).model_fields.items()
    }
    assert [(key, default) for key, default, _ in rows] == list(keys.items())


@pytest.mark.parametrize("kind", ["report", "release"])
def test_the_tables_of_fields_have_every_field_of_the_schemas(kind: str) -> None:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{kind}.schema.json").read_text(encoding="utf-8"))
    section = REFERENCE.partition(f"\n## {kind}.json\n")[2]
    fields = [cell.strip("`") for cell, _ in documented_rows(section, "| field | content |")]
    assert fields == list(schema["properties"])


def test_the_table_of_model_json_has_every_field_of_its_schema() -> None:
    schema = json.loads((ROOT / "export" / "model.schema.json").read_text(encoding="utf-8"))
    section = REFERENCE.partition("\n## model.json\n")[2]
    fields = [cell.strip("`") for cell, _ in documented_rows(section, "| field | content |")]
    assert sorted(fields) == sorted(schema["properties"])


@pytest.mark.parametrize("page", ["README.md", "docs/reference.md"])
def test_the_exit_codes_are_those_of_the_errors(page: str) -> None:
    kinds = {kind.exit_code: kind.__name__ for kind in DrydockError.__subclasses__()}
    tree = dict(re.findall(r"[├└]── (\w+)\s+(\d+) ", errors.__doc__ or ""))
    assert {int(code): name for name, code in tree.items()} == kinds
    codes = [int(code) for code, _ in documented_rows(PAGES[page], "| code | meaning |")]
    assert codes == [0, 1, *sorted(kinds)]


def test_the_table_of_files_has_every_file_that_a_run_leaves() -> None:
    cells = [cell for cell, _ in documented_rows(REFERENCE, "| file | content |")]
    names = re.findall("`([^`]+)`", " ".join(cells))
    assert sorted(names) == sorted([*files.REPORT_FILES, publication.RECORD, publication.PREVIOUS_RECORD])


def test_troubleshooting_has_a_section_for_each_exit_code() -> None:
    codes = re.findall(r"(?m)^## Exit code (\d+)$", PAGES["docs/troubleshooting.md"])
    assert [int(code) for code in codes] == [1, *sorted({kind.exit_code for kind in DrydockError.__subclasses__()})][
        :-1
    ]


@pytest.mark.parametrize("page", ["README.md", "docs/checks.md"])
def test_the_table_of_checks_has_every_check(page: str) -> None:
    rows = documented_rows(PAGES[page], "| check | passes when |")
    assert [name for name, _ in rows] == [check.name for check in checks.CHECKS]


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"(?ms)^```.*?^```", "", page)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.+)$", prose)
    }


LINKS = [
    (name, link) for name, page in PAGES.items() for link in re.findall(r"\]\(([^)\s]+)\)", page) if "://" not in link
]


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda value: value)
def test_a_link_leads_to_a_file_and_to_a_heading(page: str, link: str) -> None:
    target, _, anchor = link.partition("#")
    path = ((ROOT / page).parent / target).resolve() if target else ROOT / page
    assert path.exists()
    if anchor:
        assert anchor in anchors(path.read_text(encoding="utf-8"))


def test_the_key_of_the_docs_lies_outside_the_repository_and_every_verification_gets_one() -> None:
    [block] = [block for block in BLOCKS if "COSIGN_KEY=" in block]
    lines = [line.partition(" #")[0] for line in block.splitlines()]
    named = [word for line in lines for word in re.findall(r"[^\s=]*cosign\.(?:key|pub)", line)]
    assert named
    assert [path for path in named if not path.startswith("~/")] == []
    assert [line for line in lines if re.search(r"drydock (verify|promote)", line) and "--key ~/" not in line] == []


def test_a_private_key_in_the_repository_is_ignored_and_a_public_one_can_be_committed() -> None:
    ignored = ["git", "-C", str(ROOT), "check-ignore", "--no-index", "cosign.key", "cosign.pub", "keys/cosign.key"]
    done = subprocess.run(ignored, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["cosign.key", "keys/cosign.key"]


def prose_of(page: str) -> str:
    """The text of a page without its code, tables and the targets of its links."""
    without_code = re.sub(r"(?ms)^```.*?^```\n", "", re.sub(r"`[^`\n]+`", "CODE", page))
    without_tables = re.sub(r"(?m)^\|.*\n", "", without_code)
    return re.sub(r"\]\([^)]+\)", "]", re.sub(r"(?m)^!\[.*$|<!--.*?-->", "", without_tables))


def sentences(page: str) -> list[str]:
    """The sentences, headings and list items of a page."""
    pieces = re.split(r"(?m)\n\n+|^(?:[-*]|\d+\.|#+) |[.!?:;][*)]*\s", prose_of(page))
    return [piece.strip() for piece in pieces if piece.strip()]


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 10_000


def test_the_first_screen_of_the_readme_is_a_screen() -> None:
    screen = README.partition("\n## ")[0]
    assert len(screen.splitlines()) <= 40
    # With the output of the command; the targets of links are not read.
    assert len(re.sub(r"\]\([^)]+\)", "]", screen).split()) <= 200


# Words that this project's English does without: see CONTRIBUTING.md.
FORBIDDEN = (
    *(r"mend(?:s|ed|ing)?", "anew", "unless told", "(?:is|are) none of", "to come", "bears?", "lent", "whoever"),
    *("stand-ins?", "artefacts?", "lean", "in the midst", "(?:be|is|as) told", "dead ignores?", "wherever it"),
)


@pytest.mark.parametrize("page", PAGES)
def test_the_docs_use_no_word_of_a_dialect(page: str) -> None:
    prose = prose_of(PAGES[page]) + " ".join(re.findall(r"(?m)^\|.*$", PAGES[page]))
    assert re.findall(rf"\b(?:{'|'.join(FORBIDDEN)})\b", prose, re.IGNORECASE) == []


@pytest.mark.parametrize("folder", ["ci", "service", "export", "training", "deploy"])
def test_the_code_uses_no_word_of_a_dialect(folder: str) -> None:
    texts = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".j2", ".yaml", ".toml"}
    }
    pattern = re.compile(rf"\b(?:{'|'.join(FORBIDDEN)})\b", re.IGNORECASE)
    assert {path: words for path, text in texts.items() if (words := pattern.findall(text))} == {}


@pytest.mark.parametrize("page", PAGES)
def test_no_sentence_of_the_docs_is_long(page: str) -> None:
    assert [each for each in sentences(PAGES[page]) if len(each.split()) > 20] == []
