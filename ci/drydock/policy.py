"""The policy of a run: pipeline.toml, read strictly, and frozen. It has the origin of each value."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from drydock.errors import UsageError
from drydock.oci.media_types import DIGEST
from drydock.oci.reference import is_repository, parse_reference
from drydock.oci.tags import TAG
from drydock.report import PLAIN_NAME

REMOTE_LOCK = "requirements/image-remote.txt"
RUNTIME_FIELD = "{runtime}"
REPOSITORY_VARIABLE = "DRYDOCK_REPOSITORY"
IGNORE_DAYS = 90

# A file in .github/workflows, and the branch or tag on which it may have run.
SIGNER = re.compile(r"[^@/\s]+\.ya?ml@refs/(heads|tags)/\S+")

# A list's index stands between the name of the list and the names in it.
Key = tuple[str | int, ...]
Count = Annotated[int, Field(gt=0)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Severity = Literal["UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL"]


def _require_plain_name(name: str) -> str:
    if re.fullmatch(PLAIN_NAME, name):
        return name
    raise PydanticCustomError("name", "The report's folder gets this name: use letters, digits, and . _ - only")


def _require_signer(name: str) -> str:
    if SIGNER.fullmatch(name):
        return name
    raise PydanticCustomError("signer", "It is no workflow with a branch or tag, such as release.yml@refs/tags/v*")


def _require_image(words: str) -> str:
    with suppress(UsageError):
        if not words or TAG.fullmatch(words) or DIGEST.fullmatch(words) or parse_reference(words):
            return words
    raise PydanticCustomError("image", "It is no tag, no digest, and no image such as ghcr.io/owner/name:1.2.3")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, serialize_by_alias=True)


class ImageSection(_Section):
    """The name of the image, and its repository."""

    name: Annotated[str, AfterValidator(_require_plain_name)] = "iris-classifier"
    repository: str = "127.0.0.1:5000/iris-classifier"
    source: str = ""
    moving_tags: bool = True
    attachments: bool = True


class BuildSection(_Section):
    """What is built, from which files."""

    dockerfile: Words = "Dockerfile"
    platform: Annotated[str, Field(pattern=r"^linux/[a-z0-9]+(/v[0-9]+)?$")] = "linux/amd64"
    root: Words = "."
    python: Annotated[str, Field(pattern=r"^3\.[0-9]+$")] = "3.13"
    runtime: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "compiled"
    model: Literal["embedded", "remote"] = "embedded"
    lock: Words = "requirements/image-{runtime}.txt"
    # To the engine no pattern at all means everything.
    context: Annotated[list[Words], Field(min_length=1)] = [
        "Dockerfile",
        ".dockerignore",
        "requirements/image-*.txt",
        "requirements/exporter.txt",
        "service/*.py",
        "service/*/*.py",
        "export/*.py",
        "export/forest.c",
        "training/*",
    ]
    secrets: dict[str, str] = {}

    @property
    def lock_paths(self) -> list[str]:
        """The lock of the chosen runtime, and of what downloads a remote model."""
        return [self.lock.replace(RUNTIME_FIELD, self.runtime), *([REMOTE_LOCK] if self.model == "remote" else [])]


class ModelSection(_Section):
    """The source of the model: the command `train`, or the folder `path` if that is empty; and what it is asked."""

    train: Annotated[str, StringConstraints(strip_whitespace=True)] = "python -m training.iris --out /trained"
    path: Words = "artifacts"
    unknown_categories: Literal["accept", "reject"] = "accept"


class LimitsSection(_Section):
    """What is allowed: MB are 10^6 bytes, uncompressed."""

    image_size_mb: Count = 500
    layer_size_mb: Count = 200
    waste_mb: Count = 20
    start_seconds: Count = 60
    ready_seconds: Count = 30
    request_seconds: Count = 10
    latency_ms: Count = 100
    log_lines: Count = 15


def _flatten_scores(values: object) -> object:
    """Scores by name: in TOML, recall.virginica = 0.8 is a table in a table."""
    if not isinstance(values, dict):
        return values
    flat: dict[str, object] = {}
    for name, value in values.items():
        inner = _flatten_scores(value) if isinstance(value, dict) else None
        flat |= {f"{name}.{key}": each for key, each in inner.items()} if isinstance(inner, dict) else {name: value}
    return flat


ScoreLimits = Annotated[dict[str, Annotated[float, Field(strict=False)]], BeforeValidator(_flatten_scores)]


class QualitySection(_Section):
    """How good the model must be on its held-out rows, by the names of the contract's scores."""

    min: ScoreLimits = {}
    max: ScoreLimits = {}


class DriftSection(_Section):
    """How far the answers and the schema may be from those of the image before."""

    enabled: bool = True
    previous: Annotated[str, AfterValidator(_require_image)] = ""
    labels_changed_percent: Annotated[float, Field(ge=0, le=100, strict=False)] = 5
    value_shift: Annotated[float, Field(ge=0, strict=False)] = 0.1
    answers: Literal["warn", "reject"] = "warn"
    # pydantic has a method of this name.
    schema_: Annotated[Literal["warn", "reject"], Field(alias="schema")] = "warn"


class ScanSection(_Section):
    """What a finding has to be to reject the image."""

    severities: Annotated[list[Severity], Field(min_length=1)] = ["HIGH", "CRITICAL"]
    unfixed: Literal["list", "reject"] = "list"
    pending_updates: Literal["warn", "reject"] = "warn"
    unused_ignores: Literal["warn", "reject"] = "warn"
    database_warn_hours: Count = 24
    database_max_hours: Count = 48
    timeout_seconds: Count = 600


class TrustSection(_Section):
    """Whose images `verify` and `promote` let through."""

    signers: Annotated[list[Annotated[str, AfterValidator(_require_signer)]], Field(min_length=1)] = [
        "image.yml@refs/heads/main",
        "release.yml@refs/tags/v*",
    ]
    key: str = ""
    scan_max_days: Count = 30


class IgnoreEntry(_Section):
    """A finding that somebody answers for, until a day that is near: `expires` is the last day on which it holds.

    `package` names the one package in which a vulnerability is ignored. `path` makes it an ignore of a secret: `id` is
    then the scanner's rule, and `path` the place as the report names it.
    """

    id: Words
    package: str = ""
    path: str = ""
    reason: Words
    owner: Words
    expires: date

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if self.package and self.path:
            words = "a secret has a path, a vulnerability a package, and none has both"
            raise PydanticCustomError("of_two_kinds", words)
        return self


class Policy(_Section):
    """The whole policy; `origins` has the place of each key that was set, such as `pipeline.toml:7`."""

    image: ImageSection = ImageSection()
    build: BuildSection = BuildSection()
    model: ModelSection = ModelSection()
    limits: LimitsSection = LimitsSection()
    quality: QualitySection = QualitySection()
    drift: DriftSection = DriftSection()
    scan: ScanSection = ScanSection()
    trust: TrustSection = TrustSection()
    ignore: list[IgnoreEntry] = []
    skip: dict[str, Words] = {}
    origins: dict[str, str] = Field(default={}, exclude=True)


def load_policy(path: Path, environment: Mapping[str, str]) -> Policy:
    """Read the policy at `path`; the environment may name another repository.

    Raises UsageError, with file, line and key, if a value is wrong.
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
        raise UsageError(f"{path} is not TOML: {error}", next_step="fix that line, then run again") from error
    if "origins" in values:
        raise _unknown_key_error(path, text, ("origins",))
    origins = {".".join(map(str, key)): f"{path.name}:{_find_line(text, key)}" for key in _list_keys(values)}
    image, repository = values.setdefault("image", {}), environment.get(REPOSITORY_VARIABLE)
    if repository and isinstance(image, dict):
        image["repository"] = repository
        origins["image.repository"] = REPOSITORY_VARIABLE
    try:
        policy = Policy.model_validate({**values, "origins": origins})
    except ValidationError as error:
        raise _explain_error(path, text, error) from error
    if not is_repository(policy.image.repository):
        origin = origins.get("image.repository", "the default")
        raise UsageError(
            f"{origin}: image.repository {policy.image.repository!r} is not host/name in lower case",
            likely_cause="the registry's host is missing, or the name has a capital or a tag in it",
            next_step="write it like ghcr.io/owner/name; the tag comes from git, or from --tag",
        )
    return policy


def require_near_expiry(policy: Policy, today: date) -> None:
    """Raise UsageError for an ignore that would hold longer than IGNORE_DAYS: a finding is not forgotten for good."""
    last = today + timedelta(days=IGNORE_DAYS)
    for number, entry in enumerate(policy.ignore):
        if entry.expires > last:
            raise UsageError(
                f"{policy.origins.get(f'ignore.{number}.expires', 'ignore')}: the ignore of {entry.id} expires on"
                f" {entry.expires}, more than {IGNORE_DAYS} days from now",
                likely_cause="an ignore is a loan: somebody looks again before it is renewed",
                next_step=f"write {last} or an earlier day",
            )


def _explain_error(path: Path, text: str, error: ValidationError) -> UsageError:
    first = error.errors()[0]
    key = first["loc"]
    named = ".".join(part for part in key if isinstance(part, str))
    if first["type"] == "extra_forbidden":
        return _unknown_key_error(path, text, key)
    if first["type"] == "of_two_kinds":
        return UsageError(
            f"{path}:{_find_line(text, key)}: the ignore of {first['input'].get('id')} has a package and a path:"
            f" {first['msg']}",
            next_step="remove one of the two, then run again",
        )
    if first["type"] == "missing":
        return UsageError(
            f"{path}:{_find_line(text, key)}: {named} is missing",
            likely_cause="an ignore names the finding, a reason, an owner and the day on which it expires",
            next_step="add that key, then run again",
        )
    # Somebody may have written a secret there.
    value = "not what it should be" if key[:2] == ("build", "secrets") else repr(first["input"])
    return UsageError(
        f"{path}:{_find_line(text, key)}: {named} is {value}: {first['msg'].lower()}",
        next_step="fix that line; the comments in pipeline.toml name each key's unit",
    )


def _unknown_key_error(path: Path, text: str, key: Key) -> UsageError:
    known = sorted(_list_fields(key) - {"origins"})
    nearest = difflib.get_close_matches(str(key[-1]), known, n=1, cutoff=0.5)
    return UsageError(
        f"{path}:{_find_line(text, key)}: unknown key {'.'.join(part for part in key if isinstance(part, str))}",
        likely_cause=f"did you mean {nearest[0]}?" if nearest else f"known keys are {', '.join(known)}",
        next_step="fix or remove that line, then run again",
    )


def _list_fields(key: Key) -> set[str]:
    """The names that the section of a key knows."""
    section: Any = Policy
    for part in key[:-1]:
        # An index leads to what a list holds.
        section = get_args(section)[0] if isinstance(part, int) else section.model_fields[part].annotation
    return {field.alias or name for name, field in section.model_fields.items()}


def _list_keys(values: Mapping[str, Any] | list[Any], above: Key = ()) -> list[Key]:
    keys: list[Key] = []
    for name, value in values.items() if isinstance(values, Mapping) else enumerate(values):
        sections = isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict))
        keys += _list_keys(value, (*above, name)) if sections else [(*above, name)]
    return keys


def _find_line(text: str, key: Key) -> int:
    """The line of a key, or of its section if the key has no line. tomllib does not give lines."""
    section: Key = ()
    tables = Counter[str]()
    found = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)([^\[\]]+)\]", line):
            section = tuple(part.strip(" \"'") for part in header[2].split("."))
            if header[1] == "[[":
                section = (*section, tables[header[2]])
                tables[header[2]] += 1
            if section == key[: len(section)]:
                found = number
        elif (name := re.match(r"""\s*["']?([^"'=]+?)["']?\s*=""", line)) and (*section, name[1]) == key[
            : len(section) + 1
        ]:
            return number
    return found
