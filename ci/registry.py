"""Reads a manifest back from a registry, byte for byte, so that a digest is what the registry serves and no hope.

The protocol is the OCI distribution specification: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from errors import RegistryError

MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
# A host may be of a form that no address has, and what comes back no answer of a registry.
UNREACHABLE = (httpx.HTTPError, httpx.InvalidURL, ValueError)
ATTEMPTS = 4
TIMEOUT_SECONDS = 10
USER_VARIABLE, PASSWORD_VARIABLE = "DRYDOCK_REGISTRY_USER", "DRYDOCK_REGISTRY_PASSWORD"


@dataclass(frozen=True)
class Credentials:
    """A name and a password or token for the registry; the password is in no repr."""

    user: str
    password: str = field(repr=False)


def credentials(environment: Mapping[str, str]) -> Credentials | None:
    """The registry's credentials, from the environment and nowhere else."""
    user, password = environment.get(USER_VARIABLE), environment.get(PASSWORD_VARIABLE)
    return Credentials(user, password) if user and password else None


class _Unavailable(Exception):
    """The registry answered 429 or 5xx: worth another try."""


async def require_answer(repository: str) -> None:
    """Raise RegistryError where nobody answers at the registry of `repository`; one question, before any work."""
    host = repository.partition("/")[0]
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
            await client.get(f"{base_url(host)}/v2/")
    except UNREACHABLE as error:
        raise _silent(host, error) from error


async def manifest_digest(repository: str, tag: str, login: Credentials | None) -> str | None:
    """The digest of the manifest that `repository` serves under `tag`, computed from its bytes; None where it is not.

    Retries what may pass (429, 5xx, a cut connection), never a refusal. Raises RegistryError.
    """
    host, _, name = repository.partition("/")
    url = f"{base_url(host)}/v2/{name}/manifests/{tag}"
    attempts = AsyncRetrying(
        retry=retry_if_exception_type((_Unavailable, httpx.TransportError)),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.5, max=5),
        reraise=True,
    )
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=True) as client:
            async for attempt in attempts:
                with attempt:
                    response = await _get(client, url, name, login)
    except (_Unavailable, *UNREACHABLE) as error:
        raise _silent(host, error) from error
    if response.status_code == httpx.codes.NOT_FOUND:
        return None
    if response.status_code != httpx.codes.OK:
        raise RegistryError(
            f"{host} answered {response.status_code} when asked for {name}:{tag}",
            usually="the credentials are missing, have run out, or may not read this repository",
            next_step=f"set {USER_VARIABLE} and {PASSWORD_VARIABLE}, then run again",
        )
    return f"sha256:{hashlib.sha256(response.content).hexdigest()}"


async def _get(client: httpx.AsyncClient, url: str, name: str, login: Credentials | None) -> httpx.Response:
    headers = {"Accept": MANIFESTS}
    response = await client.get(url, headers=headers)
    challenge = response.headers.get("WWW-Authenticate", "")
    if response.status_code == httpx.codes.UNAUTHORIZED and challenge:
        if challenge.lower().startswith("bearer"):
            headers["Authorization"] = f"Bearer {await _token(client, challenge, name, login)}"
            response = await client.get(url, headers=headers)
        elif login:
            response = await client.get(url, headers=headers, auth=(login.user, login.password))
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        raise _Unavailable(f"HTTP {response.status_code}")
    return response


async def _token(client: httpx.AsyncClient, challenge: str, name: str, login: Credentials | None) -> str:
    """A short-lived token, as the registry's challenge says: https://distribution.github.io/distribution/spec/auth/token/"""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    response = await client.get(
        asked.get("realm", ""),
        params={"service": asked.get("service", ""), "scope": asked.get("scope", f"repository:{name}:pull")},
        auth=(login.user, login.password) if login else None,
    )
    answer = response.json() if response.is_success else {}
    return str(answer.get("token") or answer.get("access_token") or "")


def base_url(host: str) -> str:
    """Plain HTTP for a registry on this machine, as Docker does it; TLS for all others."""
    return f"{'http' if is_local(host) else 'https'}://{host}"


def is_local(host: str) -> bool:
    """Whether a registry's host, with or without its port, means this machine."""
    name = host.rpartition(":")[0] or host
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _silent(host: str, error: Exception) -> RegistryError:
    local = is_local(host)
    return RegistryError(
        f"no registry answers at {host}: {error or type(error).__name__}",
        usually="it is not running" if local else "the name is wrong, or the network does not reach it",
        next_step=(
            "python -m bootstrap starts the local one; --no-push leaves the image in the report directory instead"
            if local
            else "check image.repository in the policy; --no-push leaves the image in the report directory instead"
        ),
    )
