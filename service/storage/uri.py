"""Opens the file that a URI names, from any byte on. HTTP and S3 use fsspec; `mlflow:` asks its tracking server."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from service.contract import ModelLoadError
from service.settings import redact_uri

CHUNK_BYTES = 8_000_000
MLFLOW = re.compile(
    r"mlflow:(?:models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/]+))|runs:/(?P<run>[^/]+))/(?P<path>.+)"
)


class RemoteFile(NamedTuple):
    """An open file: the byte at which it begins, the size of the whole file if known, and `read(size_bytes)`."""

    start: int
    size_bytes: int | None
    read: Callable[[int], bytes]


@contextmanager
def open_uri(uri: str, start: int, timeout_seconds: float) -> Iterator[RemoteFile]:
    """Open a file at byte `start`, or at its beginning if the server does not support ranges."""
    import fsspec

    uri, headers = resolve_uri(uri, timeout_seconds)
    if uri.startswith("s3:"):
        with fsspec.filesystem("s3").open(uri, "rb", block_size=CHUNK_BYTES, cache_type="none") as file:
            file.seek(min(start, file.size))
            yield RemoteFile(start, file.size, file.read)
        return
    # `block_size=0` makes one stream, so that a broken connection loses nothing of it. `size` spares a HEAD request,
    # which links that are signed for GET do not answer; nothing depends on its value.
    headers = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with _http(timeout_seconds).open(uri, "rb", block_size=0, size=1, headers=headers) as file:
        first, size_bytes = _parse_content_range(file.r.status, file.r.headers)
        yield RemoteFile(first, size_bytes, file.read)


def _http(timeout_seconds: float) -> Any:  # noqa: ANN401 - fsspec has no types
    import aiohttp
    import fsspec

    timeout = aiohttp.ClientTimeout(total=None, connect=timeout_seconds, sock_read=timeout_seconds)
    return fsspec.filesystem("https", client_kwargs={"timeout": timeout, "trust_env": True})


def _parse_content_range(status: int, headers: Mapping[str, str]) -> tuple[int, int | None]:
    """The byte at which a response begins, and the size of the whole file if it says so."""
    if status == 206 and (found := re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))):
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() and "Content-Encoding" not in headers else None


def resolve_uri(uri: str, timeout_seconds: float) -> tuple[str, dict[str, str]]:
    """The address of a file, and the headers that open it. Only an `mlflow:` URI is another one than it says.

    MLflow's own client does the same, and is larger than everything else in the image. Raises ModelLoadError.
    """
    if not uri.startswith("mlflow:"):
        return uri, {}
    server = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise ModelLoadError("MODEL_URI begins with mlflow:, so set MLFLOW_TRACKING_URI to the server, http(s)://….")
    match = MLFLOW.fullmatch(uri)
    if not match:
        raise ModelLoadError(
            f"MODEL_URI cannot be {uri}. It must be mlflow:models:/NAME/VERSION, mlflow:models:/NAME@ALIAS or "
            "mlflow:runs:/RUN/FOLDER."
        )
    headers = _mlflow_login(os.environ)

    def get(path: str, **query: str) -> Any:  # noqa: ANN401 - JSON of the server
        url = f"{server}/api/2.0/mlflow/{path}?{urlencode(query)}"
        return json.loads(_http(timeout_seconds).cat_file(url, headers=headers))

    uri = uri.removeprefix("mlflow:")
    if not match["run"]:
        name, version = match["name"], match["version"]
        if not version:
            version = get("registered-models/alias", name=name, alias=match["alias"])["model_version"]["version"]
        folder = get("model-versions/get-download-uri", name=name, version=version)["artifact_uri"]
        uri = f"{folder.rstrip('/')}/{match['path']}"
    # A version may have been registered by the run that made it.
    if uri.startswith("runs:/"):
        run, _, path = uri.removeprefix("runs:/").partition("/")
        uri = f"{get('runs/get', run_id=run)['run']['info']['artifact_uri'].rstrip('/')}/{path}"
    scheme = urlsplit(uri).scheme
    if scheme == "mlflow-artifacts":
        return f"{server}/api/2.0/mlflow-artifacts/artifacts/{urlsplit(uri).path.lstrip('/')}", headers
    if scheme not in ("http", "https", "s3"):
        raise ModelLoadError(
            f"MLflow has the model at {redact_uri(uri)}, and this image cannot read {scheme or 'its disk'}: let its "
            "server pass artifacts on (--serve-artifacts)."
        )
    return uri, {}


def _mlflow_login(environment: Mapping[str, str]) -> dict[str, str]:
    """The login by the variables that MLflow's own client reads."""
    user, password, token = (
        environment.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD", "TOKEN")
    )
    if user:
        return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token else {}
