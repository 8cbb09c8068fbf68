"""Reads a Dockerfile: the lines that made an image's layers, so that a finding can point there, and its HEALTHCHECK."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from drydock.errors import BuildError
from drydock.report import Image

# BuildKit's history has a RUN without its mounts, and neither has the spaces of the file.
FLAGS_OF_RUN = re.compile(r"^(RUN)((?: --[a-z]+(?:=\S+)?)+)")

OPTIONS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}
FROM = re.compile(r"(--\S+\s+)*(?P<base>\S+)(\s+(?i:AS)\s+(?P<name>\S+))?")
HEALTHCHECK = re.compile(
    rf"(?P<options>(--({'|'.join(OPTIONS)})=\S+\s+|--retries=\d+\s+)*)"
    r"((?i:NONE)|(?i:CMD)\s+(?P<command>\S.*))"
)
TAKES_HEREDOCS = re.compile(r"(ONBUILD\s+)?(RUN|COPY|ADD)\s", re.IGNORECASE)
# A word of a shell with its quotes, since "<<EOF" in quotes begins no heredoc.
SHELL_WORD = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+""")
HEREDOC = re.compile(r"[0-9]*<<(?P<dash>-?)(?P<name>[^<]+)")
NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
PART_OF_DURATION = re.compile(rf"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)({'|'.join(NANOSECONDS)})")
DURATION = re.compile(rf"0|({PART_OF_DURATION.pattern})+")


def read_dockerfile(path: Path) -> str:
    """The text of a Dockerfile; empty if it cannot be read, because the build reports that itself."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def add_line_numbers(image: Image, text: str) -> Image:
    """The image, its layers with the lines on which their instructions begin in the Dockerfile `text`.

    A layer keeps None if the Dockerfile does not have its instruction in these words. That is so for the base's layers,
    for variables and for heredocs.
    """
    lines = find_instructions(text)
    return image.model_copy(
        update={
            "layers": tuple(
                layer.model_copy(update={"dockerfile_line": lines.get(_normalize(layer.created_by))})
                for layer in image.layers
            )
        }
    )


def find_instructions(text: str) -> dict[str, int]:
    """Each instruction as one line, and the number of its first line, from 1; of two alike the last one's."""
    return {_normalize(instruction): begins for begins, instruction in _iter_instructions(text)}


def find_stages(text: str) -> set[str]:
    """The names of the stages of a Dockerfile, in lower case, as a build compares them."""
    instructions = (each.partition(" ") for each in find_instructions(text))
    bases = (FROM.fullmatch(words) for name, _, words in instructions if name.upper() == "FROM")
    return {base["name"].lower() for base in bases if base and base["name"]}


def find_secrets(text: str) -> dict[str, bool]:
    """The id of each secret that instructions mount, and whether a step fails without it.

    https://docs.docker.com/reference/dockerfile/#run---mounttypesecret
    """
    found: dict[str, bool] = {}
    for _, instruction in _iter_instructions(text):
        name, *words = instruction.split()
        for word in takewhile(lambda word: word.startswith("--"), words if name.upper() == "RUN" else []):
            options = dict(option.partition("=")[::2] for option in word.removeprefix("--mount=").split(","))
            if word.startswith("--mount=") and options.get("type") == "secret":
                targets = (options.get(key, "") for key in ("target", "dst", "destination"))
                named = (options.get(key, "") for key in ("source", "src", "id"))
                secret = next(filter(None, named), "") or PurePosixPath(next(filter(None, targets), "")).name
                required = options.get("required", "false").lower() in ("", "true", "1")
                found[secret] = found.get(secret, False) or required
    return found


def find_healthcheck(text: str) -> dict[str, Any] | None:
    """The final stage's HEALTHCHECK, or that of the stage it begins with, as Docker has it in an image's configuration.

    None if there is none. Times are in nanoseconds. Variables are left as they are.
    https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md
    Raises BuildError if Docker would not take it.
    """
    stages: dict[str, dict[str, Any] | None] = {}
    stage, found = "", None
    for _, instruction in _iter_instructions(text):
        name, *rest = instruction.split(maxsplit=1)
        words = "".join(rest)
        if name.upper() == "FROM" and (read := FROM.fullmatch(words)):
            stages[stage] = found
            stage, found = read["name"] or "", stages.get(read["base"])
        elif name.upper() == "HEALTHCHECK":
            found = _parse_healthcheck(words)
    return found


def _parse_healthcheck(words: str) -> dict[str, Any]:
    read = HEALTHCHECK.fullmatch(words)
    if read is None:
        raise _invalid_healthcheck_error(words)
    if read["command"] is None:
        return {"Test": ["NONE"]}
    options = dict(option.removeprefix("--").split("=", 1) for option in read["options"].split())
    times = {OPTIONS[name]: _parse_duration(value) for name, value in options.items() if name in OPTIONS}
    retries = {"Retries": int(options["retries"])} if "retries" in options else {}
    # Docker takes 0 for a value that is not given.
    values = {key: value for key, value in {**times, **retries}.items() if value}
    return {"Test": _create_test(read["command"]), **values}


def _create_test(command: str) -> list[str]:
    with suppress(ValueError):
        words = json.loads(command)
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return ["CMD", *words]
    return ["CMD-SHELL", command]


def _parse_duration(duration: str) -> int:
    """A duration as Go writes it: 1m30s, 1.5h, 500ms, 0."""
    if not DURATION.fullmatch(duration):
        raise _invalid_healthcheck_error(duration)
    return int(sum(Fraction(number) * NANOSECONDS[unit] for number, unit in PART_OF_DURATION.findall(duration)))


def _invalid_healthcheck_error(words: str) -> BuildError:
    return BuildError(
        f"HEALTHCHECK has {words!r}, which Docker does not take",
        likely_cause="an option or the unit of a time is missing or misspelt",
        next_step="write HEALTHCHECK --interval=10s CMD and the command, or HEALTHCHECK NONE",
    )


def _iter_instructions(text: str) -> Iterator[tuple[int, str]]:
    """Each instruction with its continued lines as one, and the line on which it begins, from 1; no heredoc's lines."""
    begins, parts = 0, list[str]()
    lines = enumerate(text.splitlines(), start=1)
    for number, line in lines:
        words = line.rstrip()
        # A comment may stand within an instruction that goes on below it.
        if not words or words.lstrip().startswith("#"):
            continue
        begins = begins or number
        parts.append(words.removesuffix("\\"))
        if not words.endswith("\\"):
            instruction = "".join(parts).strip()
            yield begins, instruction
            for indent, name in _find_heredocs(instruction):
                next((body for _, body in lines if body.lstrip(indent) == name), None)
            begins, parts = 0, []
    # BuildKit also takes an instruction whose last line ends in a backslash.
    if instruction := "".join(parts).strip():
        yield begins, instruction


def _find_heredocs(instruction: str) -> Iterator[tuple[str, str]]:
    """The heredocs whose lines follow an instruction: the indent that is dropped from them, and the line that ends it.

    https://docs.docker.com/reference/dockerfile/#here-documents
    """
    if TAKES_HEREDOCS.match(instruction):
        for word in SHELL_WORD.findall(instruction):
            if heredoc := HEREDOC.fullmatch(word):
                yield "\t" if heredoc["dash"] else "", "".join(shlex.split(heredoc["name"]))


def _normalize(instruction: str) -> str:
    return FLAGS_OF_RUN.sub(r"\1", " ".join(instruction.split()))
