"""Opens what a URI names, from any byte on: HTTP and S3 by fsspec, `mlflow:` by asking its server where it is."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from service.model import ModelRefused
from service.settings import without_credentials

CHUNK_BYTES = 8_000_000
MLFLOW = re.compile(
    r"mlflow:(?:models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/]+))|runs:/(?P<run>[^/]+))/(?P<path>.+)"
)


class Source(NamedTuple):
    """An open file: at which byte it begins, how many it has where that is known, and what reads some of them."""

    start: int
    size_bytes: int | None
    read: Callable[[int], bytes]


@contextmanager
def opened(uri: str, start: int, silence_seconds: float) -> Iterator[Source]:
    """Open a file from its byte `start` on, or from its beginning where the source can do no better."""
    import fsspec

    uri, headers = located(uri, silence_seconds)
    if uri.startswith("s3:"):
        with fsspec.filesystem("s3").open(uri, "rb", block_size=CHUNK_BYTES, cache_type="none") as file:
            file.seek(min(start, file.size))
            yield Source(start, file.size, file.read)
        return
    # One stream for all of it, so that nothing of it is lost where it breaks off. A size, of which nothing depends,
    # spares the question for it, which links that are signed for GET alone do not answer.
    headers = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with _http(silence_seconds).open(uri, "rb", block_size=0, size=1, headers=headers) as file:
        begins, size_bytes = _offered(file.r.status, file.r.headers)
        yield Source(begins, size_bytes, file.read)


def _http(silence_seconds: float) -> Any:  # noqa: ANN401 - fsspec has no types
    import aiohttp
    import fsspec

    timeout = aiohttp.ClientTimeout(total=None, connect=silence_seconds, sock_read=silence_seconds)
    return fsspec.filesystem("https", client_kwargs={"timeout": timeout, "trust_env": True})


def _offered(status: int, headers: Mapping[str, str]) -> tuple[int, int | None]:
    """Where an answer begins, and how many bytes the whole file has."""
    if status == 206 and (found := re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))):
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() and "Content-Encoding" not in headers else None


def located(uri: str, silence_seconds: float) -> tuple[str, dict[str, str]]:
    """Where a URI leads, and the headers that open it: an `mlflow:` one is asked of the tracking server.

    Its own client would do the same, and is larger than all else in the image. Raises ModelRefused.
    """
    if not uri.startswith("mlflow:"):
        return uri, {}
    server = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise ModelRefused("MODEL_URI begins with mlflow:, so let MLFLOW_TRACKING_URI name the server, http(s)://….")
    named = MLFLOW.fullmatch(uri)
    if not named:
        raise ModelRefused(
            f"{uri} is none of mlflow:models:/NAME/VERSION, mlflow:models:/NAME@ALIAS and mlflow:runs:/RUN/FOLDER; "
            "mend MODEL_URI."
        )
    headers = _mlflow_login(os.environ)

    def asked(path: str, **query: str) -> Any:  # noqa: ANN401 - whatever the server says
        url = f"{server}/api/2.0/mlflow/{path}?{urlencode(query)}"
        return json.loads(_http(silence_seconds).cat_file(url, headers=headers))

    uri = uri.removeprefix("mlflow:")
    if not named["run"]:
        name, version = named["name"], named["version"]
        if not version:
            version = asked("registered-models/alias", name=name, alias=named["alias"])["model_version"]["version"]
        folder = asked("model-versions/get-download-uri", name=name, version=version)["artifact_uri"]
        uri = f"{folder.rstrip('/')}/{named['path']}"
    # A version may have been registered by the run that made it.
    if uri.startswith("runs:/"):
        run, _, path = uri.removeprefix("runs:/").partition("/")
        uri = f"{asked('runs/get', run_id=run)['run']['info']['artifact_uri'].rstrip('/')}/{path}"
    scheme = urlsplit(uri).scheme
    if scheme == "mlflow-artifacts":
        return f"{server}/api/2.0/mlflow-artifacts/artifacts/{urlsplit(uri).path.lstrip('/')}", headers
    if scheme not in ("http", "https", "s3"):
        raise ModelRefused(
            f"{without_credentials(uri)} is where MLflow has the model, and nothing here reads {scheme or 'its disk'}; "
            "let its server pass artifacts on (--serve-artifacts)."
        )
    return uri, {}


def _mlflow_login(environment: Mapping[str, str]) -> dict[str, str]:
    """By the variables that MLflow's own client reads."""
    user, password, token = (
        environment.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD", "TOKEN")
    )
    if user:
        return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token else {}
