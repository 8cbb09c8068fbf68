"""The server's limits, each a variable of the environment with a default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

PREFIX = "DRYDOCK_"
SCHEMES = ("file", "http", "https", "s3", "mlflow")


class SettingsRefused(Exception):
    """A variable that cannot be what it is set to; the message names it."""


class Settings(Struct, frozen=True):
    """What a server allows; what its memory is bounded by stands in README, What the server bears."""

    body_limit_bytes: Annotated[
        int, Meta(ge=1, description="the longest body of a request, in bytes; more if one row of the model is longer")
    ] = 1_000_000
    rows_limit: Annotated[int, Meta(ge=1, description="the most rows of a request")] = 1_000
    concurrency_limit: Annotated[
        int, Meta(ge=1, description="how many predictions may be under way; beyond them /predict answers 503")
    ] = 128
    connections_limit: Annotated[
        int, Meta(ge=1, description="the most connections; beyond them the one that is idle for longest is closed")
    ] = 512
    buffer_limit_bytes: Annotated[
        int,
        Meta(
            ge=1,
            description="the most bytes of all bodies that wait for their answers, and again of all answers "
            "that wait for their readers",
        ),
    ] = 32_000_000
    body_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="how long a request may take to arrive, in seconds; then it is a 408. "
            "As long an answer may take to be read, and a connection be idle",
        ),
    ] = 5.0
    grace_seconds: Annotated[
        float, Meta(ge=2, description="how long answering goes on after SIGTERM, in seconds; Docker kills after 10")
    ] = 8.0
    log_requests: Annotated[
        Literal["all", "refused", "none"], Meta(description="which requests get a line in the log")
    ] = "refused"
    # No DRYDOCK_PORT: Kubernetes sets that variable to an address wherever a Service is called drydock.
    listen_port: Annotated[int, Meta(ge=1, le=65535, description="where the server listens")] = 8000
    model_uri: Annotated[
        str, Meta(description="where the model lies that is served instead of the image's own; see the README")
    ] = ""
    model_sha256: Annotated[
        str, Meta(pattern="^[0-9a-f]{64}$", description="the sha256 of the file that MODEL_URI names")
    ] = ""
    cache_dir: Annotated[
        str, Meta(description="where fetched models are kept; it needs room for one, and a start finds it again there")
    ] = "/tmp/drydock"  # noqa: S108 - where compose and Kubernetes mount what may be written to; bytes are hashed again
    fetch_seconds: Annotated[
        float, Meta(gt=0, description="how long a fetch may get no further before the server gives up, in seconds")
    ] = 120.0


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings that the environment asks for. Raises SettingsRefused."""
    given = {
        # A line's end comes along where a variable was read from a file.
        name: given
        for name, variable, _, _ in described()
        if (given := environment.get(variable, "").strip())
    }
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        message, _, name = str(error).removesuffix("`").rpartition(" - at `$.")
        raise SettingsRefused(f"{variable_of(name)} cannot be {given[name]!r}: {message.lower()}.") from error
    _require_whole(settings)
    return settings


def without_credentials(uri: str) -> str:
    """A URI as a log may have it: without user and password, and without a query, which may be a signature."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "a URI that cannot be read"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _require_whole(settings: Settings) -> None:
    uri, shown = settings.model_uri, without_credentials(settings.model_uri)
    if uri and not settings.model_sha256:
        raise SettingsRefused(
            f"MODEL_URI is {shown}, and MODEL_SHA256 is not set: nothing is loaded of which no hash says what "
            "it is; set it to what sha256sum says of the file that MODEL_URI names."
        )
    if settings.model_sha256 and not uri:
        raise SettingsRefused("MODEL_SHA256 is set, and MODEL_URI is not: set both, or neither.")
    if uri and not uri.startswith("/") and uri.partition(":")[0] not in SCHEMES:
        raise SettingsRefused(f"MODEL_URI cannot be {shown}: it begins with {': or '.join(SCHEMES)}: or is a path.")


def described() -> Iterator[tuple[str, str, object, str]]:
    """Each setting: its name, its variable, its default, and what it is."""
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        yield field.name, variable_of(field.name), field.default, get_args(hints[field.name])[1].description


def variable_of(name: str) -> str:
    """The variable of the environment that a setting is read from."""
    return name.upper() if name.startswith("model_") else PREFIX + name.upper()
