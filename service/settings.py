"""The server's limits, each a variable of the environment with a default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

PREFIX = "DRYDOCK_"


class SettingsRefused(Exception):
    """A variable that cannot be what it is set to; the message names it."""


class Settings(Struct, frozen=True):
    """What a server allows; memory is bounded by `body_limit_bytes` times `concurrency_limit`."""

    body_limit_bytes: Annotated[int, Meta(ge=1, description="the longest body of a request, in bytes")] = 1_000_000
    rows_limit: Annotated[int, Meta(ge=1, description="the most rows of a request")] = 1_000
    concurrency_limit: Annotated[
        int, Meta(ge=1, description="how many predictions may be under way; beyond them /predict answers 503")
    ] = 128
    body_seconds: Annotated[
        float, Meta(gt=0, description="how long a request may take to arrive, in seconds; then it is a 408")
    ] = 5.0
    grace_seconds: Annotated[
        float, Meta(ge=2, description="how long answering goes on after SIGTERM, in seconds; Docker kills after 10")
    ] = 8.0
    log_requests: Annotated[
        Literal["all", "refused", "none"], Meta(description="which requests get a line in the log")
    ] = "refused"
    # No DRYDOCK_PORT: Kubernetes sets that variable to an address wherever a Service is called drydock.
    listen_port: Annotated[int, Meta(ge=1, le=65535, description="where the server listens")] = 8000


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings that the environment asks for. Raises SettingsRefused."""
    given = {
        name: environment[variable] for name, variable, _, _ in described() if environment.get(variable, "").strip()
    }
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        message, _, name = str(error).removesuffix("`").rpartition(" - at `$.")
        raise SettingsRefused(f"{variable_of(name)} cannot be {given[name]!r}: {message.lower()}.") from error


def described() -> Iterator[tuple[str, str, object, str]]:
    """Each setting: its name, its variable, its default, and what it is."""
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        yield field.name, variable_of(field.name), field.default, get_args(hints[field.name])[1].description


def variable_of(name: str) -> str:
    """The variable of the environment that a setting is read from."""
    return PREFIX + name.upper()
