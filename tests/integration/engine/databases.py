"""Advisory databases for tests: built by Trivy's own builder, and served by a registry that can be told to refuse."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import socket
import ssl
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from drydock.bootstrap import advisories, binaries, cache, local_images, modes
from drydock.bootstrap.modes import Mode
from drydock.bootstrap.processes import CommandRunner
from tests.integration.engine.project import REPOSITORY_ROOT
from tests.support.http_server import Request, Response, serve

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def images(path: Path, **changed: str | list[str]) -> dict[str, str]:
    """The environment of a run that takes the pins of this machine, but for those that are given."""
    pins = Path(os.environ.get("DRYDOCK_IMAGES") or REPOSITORY_ROOT / "images.toml").read_text()
    for key, value in changed.items():
        # A list in JSON is a list in TOML.
        pins = re.sub(rf"(?m)^{key} = .*$", f"{key} = {json.dumps(value)}", pins)
    path.write_text(pins)
    return {"DRYDOCK_IMAGES": str(path)}


def folder(environment: dict[str, str] | None = None) -> Path:
    """The folder of the sample database of this machine."""
    pins = Path((environment or os.environ)["DRYDOCK_IMAGES"]).read_text()
    found = re.search(r'(?m)^databases = \["(/[^"]+)"\]', pins)
    if not found:
        pytest.skip("the sample database is there only with local base images")
    return Path(found[1])


def copied(directory: Path, **metadata: object) -> Path:
    """A copy of the sample database that says these things of itself."""
    shutil.copytree(folder(), directory)
    described = {**json.loads((directory / "metadata.json").read_text()), **metadata}
    (directory / "metadata.json").write_text(json.dumps(described))
    return directory


def now() -> str:
    return datetime.now(UTC).isoformat()


def built(directory: Path, *, python: Sequence[str] = (), debian: Sequence[str] = (), with_sample: bool = True) -> Path:
    """A database of these lines, in the form of python.csv and debian.csv, beside those of the sample or alone."""
    kept = cache.Cache(cache.cache_root(os.environ), CommandRunner(Console(file=io.StringIO())))
    if modes.read_recorded_mode(kept.root) is not Mode.LOCAL:
        pytest.skip("the builder of databases is there only with local base images")
    go = binaries.find_go(kept)
    trivy = binaries.build_binaries(kept, binaries.TRIVY, go)
    samples = directory / "samples"
    shutil.copytree(advisories.DIRECTORY, samples)
    for name, lines in (("python.csv", python), ("debian.csv", debian)):
        path = samples / name
        if not with_sample:
            path.write_text(path.read_text().splitlines(keepends=True)[0])
        with path.open("a", newline="") as file:
            csv.writer(file).writerows(line.split(",") for line in lines)
    with kept.runner:
        local_images.build_database(kept, trivy, go, samples, directory)
    return directory / "db"


@contextmanager
def served(directory: Path, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve the database in `directory` as the artifact that Trivy downloads; host:port, and the paths asked for."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("trivy.db", "metadata.json"):
            archive.add(directory / name, name)
    layer, config = packed.getvalue(), b"{}"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.aquasec.trivy.config.v1+json",
                "digest": _digest(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip",
                    "digest": _digest(layer),
                    "size": len(layer),
                    "annotations": {"org.opencontainers.image.title": "db.tar.gz"},
                }
            ],
        }
    ).encode()
    blobs = {_digest(blob): blob for blob in (layer, config, manifest)} | {"2": manifest}
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.path)
        if refused := re.match(r"/v2/refuses-(\d+)/", request.path):
            return Response(int(refused[1]), b'{"errors": []}')
        blob = blobs.get(request.path.rpartition("/")[2]) if request.path.startswith("/v2/whole/") else None
        if blob is None:
            return Response(200, b"{}") if request.path == "/v2/" else Response(404, b'{"errors": []}')
        media_type = MANIFEST if "/manifests/" in request.path else "application/octet-stream"
        return Response(200, blob, {"Content-Type": media_type, "Docker-Content-Digest": _digest(blob)})

    # On every address: the scanner's container has a network of its own.
    with serve(answer, tls, "0.0.0.0") as host:  # noqa: S104
        yield f"{address()}:{host.rpartition(':')[2]}", asked


def address() -> str:
    """This machine's address for the engine's containers: the one that a packet to elsewhere would leave from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.87.0.1", 9))
        return str(probe.getsockname()[0])


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
