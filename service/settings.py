"""The server's settings, each a variable of the environment with a default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

PREFIX = "DRYDOCK_"
SCHEMES = ("file", "http", "https", "s3", "mlflow")


class SettingsError(Exception):
    """A variable has a value that it cannot have; the message names it."""


class Settings(Struct, frozen=True):
    """The limits of a server; the docs have the table of the memory that each of them bounds."""

    max_body_bytes: Annotated[
        int, Meta(ge=1, description="the longest body of a request, in bytes; more if one row of the model is longer")
    ] = 1_000_000
    max_rows: Annotated[int, Meta(ge=1, description="the most rows of a request")] = 1_000
    max_concurrency: Annotated[
        int, Meta(ge=1, description="the most predictions in flight; beyond them /predict answers 503")
    ] = 128
    max_connections: Annotated[
        int, Meta(ge=1, description="the most connections; beyond them the one that is idle for longest is closed")
    ] = 512
    max_buffer_bytes: Annotated[
        int,
        Meta(
            ge=1,
            description="the most bytes of all bodies that wait for their responses, and again of all responses that "
            "wait for their readers",
        ),
    ] = 32_000_000
    request_timeout_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="how long a request may take to arrive, in seconds; then it is a 408. "
            "Also how long a response may take to be read, and how long a connection may be idle",
        ),
    ] = 5.0
    shutdown_grace_seconds: Annotated[
        float,
        Meta(ge=2, description="how long the server answers after SIGTERM, in seconds; Docker kills it after 10"),
    ] = 8.0
    log_requests: Annotated[
        Literal["all", "errors", "none"], Meta(description="which requests get a line in the log")
    ] = "errors"
    unknown_categories: Annotated[
        Literal["accept", "reject"],
        Meta(description="a category's value that the model was not trained with: the model's answer, or a 422"),
    ] = "accept"
    # Not DRYDOCK_PORT: Kubernetes sets that variable to an address if a Service is called drydock.
    listen_port: Annotated[int, Meta(ge=1, le=65535, description="the port that the server listens on")] = 8000
    model_uri: Annotated[
        str, Meta(description="the model that is served instead of the image's own; see docs/your-model.md")
    ] = ""
    model_sha256: Annotated[
        str, Meta(pattern="^[0-9a-f]{64}$", description="the sha256 of the file that MODEL_URI names")
    ] = ""
    cache_dir: Annotated[
        str, Meta(description="the folder of downloaded models; it needs room for one, and a restart reuses it")
    ] = "/tmp/drydock"  # noqa: S108 - the writable mount of compose and Kubernetes; every file is hashed before use
    download_stall_seconds: Annotated[
        float, Meta(gt=0, description="how long a download may make no progress before the server stops, in seconds")
    ] = 120.0


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings from the environment. Raises SettingsError."""
    values = {
        # A value that comes from a file ends with a line break.
        name: value
        for name, variable, _, _ in iter_settings()
        if (value := environment.get(variable, "").strip())
    }
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        message, _, name = str(error).removesuffix("`").rpartition(" - at `$.")
        raise SettingsError(f"{env_name(name)} cannot be {values[name]!r}: {message.lower()}.") from error
    _check_model_variables(settings)
    return settings


def redact_uri(uri: str) -> str:
    """A URI that may be logged: without user and password, and without its query, which may be a signature."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "a malformed URI"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _check_model_variables(settings: Settings) -> None:
    uri, redacted = settings.model_uri, redact_uri(settings.model_uri)
    if uri and not settings.model_sha256:
        raise SettingsError(
            f"MODEL_URI is {redacted}, but MODEL_SHA256 is not set. It is required, because unpickling runs code: "
            "set it to the sha256sum of the file that MODEL_URI names."
        )
    if settings.model_sha256 and not uri:
        raise SettingsError("MODEL_SHA256 is set, but MODEL_URI is not: set both, or neither.")
    if uri and not uri.startswith("/") and uri.partition(":")[0] not in SCHEMES:
        raise SettingsError(
            f"MODEL_URI cannot be {redacted}: it must be a path, or begin with {': or '.join(SCHEMES)}:."
        )


def iter_settings() -> Iterator[tuple[str, str, object, str]]:
    """Each setting: its name, its variable, its default, and its description."""
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        yield field.name, env_name(field.name), field.default, get_args(hints[field.name])[1].description


def env_name(setting: str) -> str:
    """The variable of the environment that a setting is read from."""
    return setting.upper() if setting.startswith("model_") else PREFIX + setting.upper()
