"""The registry of this machine, behind a door that asks for a name and a password."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from drydock.oci.registry import Credentials
from tests.integration.engine.project import REGISTRY
from tests.integration.registry import proxy
from tests.integration.registry.proxy import ALWAYS, Exchange, Rule


@contextmanager
def served(login: Credentials, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Pass on what comes with these credentials, and refuse all else; host:port."""
    expected = "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
    refuse = proxy.answers(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="test"'})

    def guard(exchange: Exchange) -> None:
        (proxy.passes if exchange.handler.headers.get("Authorization") == expected else refuse)(exchange)

    with proxy.before(REGISTRY, address, tls) as door:
        door.rules.append(Rule(".*", "", guard, ALWAYS))
        yield door.host
