"""A registry that lists referrers itself, as newer ones do: the real one, and a door that adds what it lacks.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drydock.oci.media_types import IMAGE_INDEX
from tests.integration.registry import archives, proxy
from tests.integration.registry.proxy import ALWAYS, Door, Exchange, Rule


@contextmanager
def listing(upstream: str) -> Iterator[Door]:
    """Serve the registry at `upstream` with a list of referrers, one entry a page."""
    kept: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def put(exchange: Exchange) -> None:
        body = exchange.body()
        status, headers, answer = exchange.ask(body)
        manifest = json.loads(body)
        if subject := manifest.get("subject"):
            entry = archives.described(body, manifest["mediaType"]) | {"artifactType": manifest["artifactType"]}
            entries = kept.setdefault((_repository(exchange), subject["digest"]), [])
            entries += [entry] if entry not in entries else []
            headers.append(("OCI-Subject", subject["digest"]))
        exchange.say(status, headers, answer)

    def referrers(exchange: Exchange) -> None:
        path, _, page = exchange.handler.path.partition("?page=")
        number = int(page or 0)
        entries = kept.get((_repository(exchange), path.rpartition("/")[2]), [])
        listed = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": entries[number : number + 1]}
        body = json.dumps(listed).encode()
        headers = [("Content-Type", IMAGE_INDEX), ("Content-Length", str(len(body)))]
        if number + 1 < len(entries):
            headers.append(("Link", f'<{path}?page={number + 1}>; rel="next"'))
        exchange.say(200, headers, body)

    with proxy.before(upstream) as door:
        door.rules += [Rule("PUT", "/manifests/", put, ALWAYS), Rule("GET", "/referrers/", referrers, ALWAYS)]
        yield door


def _repository(exchange: Exchange) -> str:
    return re.split("/manifests/|/referrers/", exchange.handler.path)[0]
