"""The policy of a run: pipeline.toml, read strictly, frozen, and aware of where each value came from."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from errors import UsageError

REPOSITORY_VARIABLE = "DRYDOCK_REPOSITORY"

# The grammar of a repository name, with a registry's host before it:
# https://github.com/distribution/reference/blob/v0.6.0/reference.go
REPOSITORY = re.compile(
    r"[A-Za-z0-9.-]+(:[0-9]+)?/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
)

Count = Annotated[int, Field(gt=0)]
Words = Annotated[str, Field(min_length=1)]
Severity = Literal["UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ImageSection(_Section):
    """What the image is called and where it goes."""

    name: Words = "iris-classifier"
    repository: str = "127.0.0.1:5000/iris-classifier"


class BuildSection(_Section):
    """What is built, from which files."""

    dockerfile: Words = "Dockerfile"
    train: bool = True
    lock: Words = "service/requirements.txt"
    context: list[str] = ["Dockerfile", ".dockerignore", "service/*.py", "service/requirements.txt"]


class LimitsSection(_Section):
    """What is allowed: MB are 10^6 bytes, uncompressed."""

    image_size_mb: Count = 500
    layer_size_mb: Count = 200
    start_seconds: Count = 60
    request_seconds: Count = 10
    log_lines: Count = 15


class ScanSection(_Section):
    """What a finding has to be to reject the image."""

    severities: Annotated[list[Severity], Field(min_length=1)] = ["HIGH", "CRITICAL"]
    unfixed: Literal["list", "reject"] = "list"
    timeout_seconds: Count = 600


class Policy(_Section):
    """The whole policy; `origins` says of each key that was set where that was, such as `pipeline.toml:7`."""

    image: ImageSection = ImageSection()
    build: BuildSection = BuildSection()
    limits: LimitsSection = LimitsSection()
    scan: ScanSection = ScanSection()
    skip: dict[str, Words] = {}
    origins: dict[str, str] = Field(default={}, exclude=True)


def load(path: Path, environment: Mapping[str, str]) -> Policy:
    """Read the policy at `path`; the environment may name another repository.

    Raises UsageError, with file, line and key, for whatever is not as it should be.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}",
            next_step="name the policy with --config, or run in the folder that has pipeline.toml",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", next_step="mend that line, then run again") from error
    if "origins" in values:
        raise _unknown_key(path, text, ("origins",))
    origins = {".".join(key): f"{path.name}:{_line(text, key)}" for key in _keys(values)}
    if repository := environment.get(REPOSITORY_VARIABLE):
        values.setdefault("image", {})["repository"] = repository
        origins["image.repository"] = REPOSITORY_VARIABLE
    try:
        policy = Policy.model_validate({**values, "origins": origins})
    except ValidationError as error:
        raise _explained(path, text, error) from error
    if not REPOSITORY.fullmatch(policy.image.repository) or len(policy.image.repository) > 255:
        where = origins.get("image.repository", "the default")
        raise UsageError(
            f"{where}: image.repository {policy.image.repository!r} is not host/name in lower case",
            usually="the registry's host is missing, or the name has a capital or a tag in it",
            next_step="write it like ghcr.io/owner/name; the tag comes from git, or from --tag",
        )
    return policy


def _explained(path: Path, text: str, error: ValidationError) -> UsageError:
    first = error.errors()[0]
    # A list's index is no key of the file.
    key = tuple(part for part in first["loc"] if isinstance(part, str))
    if first["type"] == "extra_forbidden":
        return _unknown_key(path, text, key)
    return UsageError(
        f"{path}:{_line(text, key)}: {'.'.join(key)} is {first['input']!r}: {first['msg'].lower()}",
        next_step="mend that line; the comments in pipeline.toml name each key's unit",
    )


def _unknown_key(path: Path, text: str, key: tuple[str, ...]) -> UsageError:
    section: Any = Policy
    for part in key[:-1]:
        section = section.model_fields[part].annotation
    known = sorted(set(section.model_fields) - {"origins"})
    nearest = difflib.get_close_matches(key[-1], known, n=1, cutoff=0.5)
    return UsageError(
        f"{path}:{_line(text, key)}: unknown key {'.'.join(key)}",
        usually=f"did you mean {nearest[0]}?" if nearest else f"known keys are {', '.join(known)}",
        next_step="mend or remove that line, then run again",
    )


def _keys(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = []
    for name, value in values.items():
        keys += _keys(value, (*above, name)) if isinstance(value, dict) else [(*above, name)]
    return keys


def _line(text: str, key: tuple[str, ...]) -> int:
    """The line on which a key stands; its section's line where it has none of its own. tomllib does not say."""
    section: tuple[str, ...] = ()
    found = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = tuple(part.strip(" \"'") for part in header[1].split("."))
            if section == key[: len(section)]:
                found = number
        elif (name := re.match(r"""\s*["']?([^"'=]+?)["']?\s*=""", line)) and (*section, name[1]) == key:
            return number
    return found
