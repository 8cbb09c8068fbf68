"""Sends HTTP requests to one repository: credentials, retries, safe addresses, and errors in plain words.

`Connection.with_retries` is the only place that retries. `Connection._require_safe_url` checks every address that a
registry redirects to. Tokens: https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import anyio
import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from drydock.errors import RegistryError, UsageError
from drydock.oci.registry import tls

ATTEMPTS = 5
TIMEOUT_SECONDS = 10
USER_VARIABLE, PASSWORD_VARIABLE = "DRYDOCK_REGISTRY_USER", "DRYDOCK_REGISTRY_PASSWORD"
# Whose they are, if they are not of the host of image.repository.
HOST_VARIABLE = "DRYDOCK_REGISTRY_HOST"
# Of the registry that an image is read from, if that takes others than the one that is written to.
SOURCE_VARIABLES = "DRYDOCK_SOURCE_USER", "DRYDOCK_SOURCE_PASSWORD", "DRYDOCK_SOURCE_HOST"
# What an error's own words may take.
ERROR_BYTES = 64 * 1024
RETRYABLE_STATUSES = (429, 500, 502, 503, 504)
# A registry of several machines does not know at once everywhere what it was sent a moment ago.
RETRYABLE_CODES = frozenset({"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN"})
REDIRECTS = 10
# Docker Hub's names, and where it answers. https://docs.docker.com/reference/api/registry/latest/
HUB_NAMES, HUB_HOST = ("docker.io", "index.docker.io", "registry-1.docker.io"), "registry-1.docker.io"

Body = Callable[[], AsyncGenerator[bytes, None]]
T = TypeVar("T")


@dataclass(frozen=True)
class Credentials:
    """A name and a password or token for the registry at `host`; the password is in no repr.

    Without a host they are for any registry. Those from the environment always have one.
    """

    user: str
    password: str = field(repr=False)
    host: str = ""

    def are_for(self, host: str) -> bool:
        """Whether the registry at this host may have them."""
        return not self.host or get_base_url(self.host.lower()) == get_base_url(host.lower())


@dataclass(frozen=True)
class RetryPolicy:
    """How often one request is tried, how long all waits may take, and how long one answer.

    A Retry-After is respected, up to `max_wait_seconds`. What is sent takes as long as it takes; its answer may
    take `commit_seconds`, since a registry moves a blob to its place before it says so.
    """

    attempts: int = ATTEMPTS
    max_total_wait_seconds: float = 60
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 20
    timeout_seconds: float = TIMEOUT_SECONDS
    commit_seconds: float = 60


def read_credentials(environment: Mapping[str, str], host: str) -> Credentials | None:
    """The credentials in the environment: those of `host`, unless DRYDOCK_REGISTRY_HOST names another."""
    user, password = environment.get(USER_VARIABLE), environment.get(PASSWORD_VARIABLE)
    return Credentials(user, password, environment.get(HOST_VARIABLE) or host) if user and password else None


def read_source_credentials(environment: Mapping[str, str]) -> Credentials | None:
    """Those of the registry that an image is read from. Raises UsageError if they do not say which one that is."""
    user, password, host = (environment.get(variable) for variable in SOURCE_VARIABLES)
    if not user or not password:
        return None
    if not host:
        raise UsageError(
            f"{SOURCE_VARIABLES[0]} is set, and {SOURCE_VARIABLES[2]} is not",
            likely_cause="credentials are of one registry, and go to no other",
            next_step=f"set {SOURCE_VARIABLES[2]} to its host, such as ghcr.io, then run again",
        )
    return Credentials(user, password, host)


def choose_login(repository: str, *logins: Credentials | None) -> Credentials | None:
    """The first of the credentials that are for the registry of `repository`."""
    host = repository.partition("/")[0]
    return next((login for login in logins if login and login.are_for(host)), None)


async def require_answer(repository: str) -> None:
    """Raise RegistryError if nobody answers at the registry of `repository`. Sends one request, before any work."""
    retry_policy = RetryPolicy(attempts=1, timeout_seconds=TIMEOUT_SECONDS)
    async with connect(repository, None, lambda _: None, retry_policy) as connection:
        await connection.require_answer()


def get_base_url(host: str) -> str:
    """The address of a registry: plain HTTP for one on this machine, as Docker does, TLS for all others."""
    return f"{'http' if is_local(host) else 'https'}://{HUB_HOST if host in HUB_NAMES else host}"


def is_local(host: str) -> bool:
    """Whether a registry's host, with or without its port, means this machine."""
    name = host.rpartition(":")[0] or host
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def is_this_machine(host: str) -> bool:
    """Whether the host of a URL means this machine, in any form that a resolver accepts."""
    name = host.rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            # Also 127.1 and 2130706433.
            address = ipaddress.ip_address(socket.inet_aton(name))
        except OSError:
            return name == "localhost" or name.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_unspecified


class Refused(RegistryError):
    """The registry answered with a status that was not expected; `status` is that of HTTP."""

    def __init__(self, what: str, *, likely_cause: str, next_step: str, status: int) -> None:
        super().__init__(what, likely_cause=likely_cause, next_step=next_step)
        self.status = status


class TransientError(Exception):
    """One try failed, and another one may succeed; `final` is the error if none does."""

    def __init__(self, what: str, *, retry_after_seconds: float = 0, final: RegistryError | None = None) -> None:
        super().__init__(what)
        self.retry_after_seconds = retry_after_seconds
        self.final = final


class Connection:
    """Sends requests to one repository. Made by `connect`; used in one event loop."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        repository: str,
        login: Credentials | None,
        on_retry: Callable[[str], None],
        retry_policy: RetryPolicy,
    ) -> None:
        self.host, _, self.name = repository.partition("/")
        if self.host in HUB_NAMES and "/" not in self.name:
            # An official image.
            self.name = f"library/{self.name}"
        self.retry_policy = retry_policy
        self._client = client
        self._login = choose_login(repository, login)
        self._others_login = login if login and not self._login else None
        self._on_retry = on_retry
        self._authorizations: dict[str, str] = {}
        self._has_answered = False

    @property
    def url(self) -> str:
        """The base of this repository's addresses."""
        return f"{get_base_url(self.host)}/v2/{self.name}"

    async def require_answer(self) -> None:
        """Raise RegistryError if nobody answers; any answer will do."""
        try:
            response = await self._client.get(
                f"{get_base_url(self.host)}/v2/", timeout=self.retry_policy.timeout_seconds
            )
        # A host may be of a form that no address has, and what comes back no answer of a registry.
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise await self._explain_error(error) from error
        if response.status_code == httpx.codes.BAD_REQUEST:
            await self._require_plain_http()

    async def with_retries(self, once: Callable[[], Awaitable[T]]) -> T:
        """Call `once` until it raises no TransientError; raises RegistryError if the last try fails."""
        limits = self.retry_policy
        jitter = wait_random_exponential(multiplier=limits.first_wait_seconds, max=limits.max_wait_seconds)

        def wait_seconds(state: RetryCallState) -> float:
            retry_after = getattr(_get_last_error(state), "retry_after_seconds", 0)
            return min(max(retry_after, jitter(state)), limits.max_wait_seconds)

        def should_stop(state: RetryCallState) -> bool:
            waited = state.idle_for + state.upcoming_sleep
            return state.attempt_number >= limits.attempts or waited > limits.max_total_wait_seconds

        def notify(state: RetryCallState) -> None:
            self._on_retry(f"{_get_last_error(state)}; try {state.attempt_number + 1} of {limits.attempts}")

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=should_stop,
            wait=wait_seconds,
            before_sleep=notify,
            sleep=anyio.sleep,
            reraise=True,
        )
        try:
            return await attempts(once)
        except TransientError as error:
            tries = int(attempts.statistics["attempt_number"])
            raise error.final or RegistryError(
                f"{error}, {tries} {'time' if tries == 1 else 'times'}",
                likely_cause="it is overloaded, out of space, or just starting again",
                next_step=f"check it with curl -i {get_base_url(self.host)}/v2/, then run again",
            ) from error

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        what: str,
        *,
        expected: Collection[int],
        headers: Mapping[str, str] | None = None,
        content: bytes | Body | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send one request, and yield the unread response; `what` names the resource in errors.

        Raises TransientError if another try may help, and Refused for a status that is not `expected`.
        """
        action = "pull" if method in ("GET", "HEAD") else "pull,push"
        operation = f"{method} {what}"
        try:
            response = await self._send(method, url, action, headers or {}, content)
            challenge = response.headers.get("WWW-Authenticate", "")
            if (
                response.status_code == httpx.codes.UNAUTHORIZED
                # Nobody else's challenge is answered: it might send the password anywhere.
                and self._is_own(response.url)
                and await self._authorize(challenge, action)
            ):
                await response.aclose()
                response = await self._send(method, url, action, headers or {}, content)
            async with aclosing(response):
                if response.status_code not in expected:
                    raise await self._translate_response(response, operation)
                self._has_answered = True
                yield response
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise await self._translate_transport_error(
                error, operation, self._choose_timeout_seconds(method)
            ) from error

    async def _send(
        self, method: str, url: str, action: str, headers: Mapping[str, str], content: bytes | Body | None
    ) -> httpx.Response:
        target = self._require_safe_url(url)
        for _ in range(REDIRECTS):
            response = await self._send_once(target, method, action, headers, content)
            if not (response.has_redirect_location and method in ("GET", "HEAD")):
                return response
            await response.aclose()
            target = self._require_safe_url(response.headers["Location"], target)
        raise RegistryError(
            f"{self.host} sends us from one address to the next without end",
            likely_cause="a proxy before the registry redirects to itself",
            next_step=f"follow its redirects with curl -iL {get_base_url(self.host)}/v2/, fix them, then run again",
        )

    async def _send_once(
        self, target: httpx.URL, method: str, action: str, headers: Mapping[str, str], content: bytes | Body | None
    ) -> httpx.Response:
        # Without compression the bytes are those that the digest names.
        headers = {"Accept-Encoding": "identity", **headers}
        # An upload may go to a storage of another host, which gets no password of ours.
        if self._is_own(target) and action in self._authorizations:
            headers["Authorization"] = self._authorizations[action]
        seconds = httpx.Timeout(self.retry_policy.timeout_seconds, read=self._choose_timeout_seconds(method))
        async with aclosing(content()) if callable(content) else nullcontext(content) as body:
            request = self._client.build_request(method, target, headers=headers, content=body, timeout=seconds)
            return await self._client.send(request, stream=True)

    async def _authorize(self, challenge: str, action: str) -> bool:
        """Whether there are credentials for the challenge; they are kept for the next requests."""
        if challenge.lower().startswith("bearer"):
            self._authorizations[action] = f"Bearer {await self._fetch_token(challenge, action)}"
            return True
        known = self._authorizations.get(action)
        if not challenge.lower().startswith("basic") or not self._login or known == self._basic:
            return False
        self._authorizations[action] = self._basic
        return True

    async def _fetch_token(self, challenge: str, action: str) -> str:
        """A short-lived token, for the scope that the registry asks for, else for what is to be done."""
        parameters = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = self._require_safe_url(parameters.get("realm", ""))
        scope = parameters.get("scope") or f"repository:{self.name}:{action}"
        response = await self._client.get(
            realm,
            params={"service": parameters.get("service", ""), "scope": scope},
            headers={"Authorization": self._basic} if self._login else {},
            timeout=self.retry_policy.timeout_seconds,
        )
        if not response.is_success:
            raise await self._translate_response(response, "GET token")
        try:
            answer = response.json()
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not token or not isinstance(token, str):
            raise RegistryError(
                f"{self.host} sent us to {realm.host} for a token, and that gave none",
                likely_cause="a proxy answers in its place",
                next_step=f"check it with curl -i {realm.scheme}://{realm.host}, then run again",
            )
        return token

    async def _translate_response(self, response: httpx.Response, operation: str) -> Exception:
        status = response.status_code
        codes = parse_error_codes(await read_body(response, ERROR_BYTES))
        if status == httpx.codes.BAD_REQUEST and not self._has_answered:
            await self._require_plain_http()
        named = " ".join([str(status), *codes])
        later = operation.startswith(("PUT", "PATCH")) and status in (400, 404) and RETRYABLE_CODES & set(codes)
        if status in RETRYABLE_STATUSES or later:
            after = parse_retry_after(response.headers.get("Retry-After", ""))
            return TransientError(f"{self.host} answered {named} to {operation}", retry_after_seconds=after)
        what = f"{self.host} answered {named} to {operation} of {self.name}"
        if status in (401, 403):
            right = "read" if operation.startswith(("GET", "HEAD")) else "write to"
            likely_cause = f"the credentials are missing, wrong, have run out, or may not {right} this repository"
            if other := self._others_login:
                likely_cause = f"the credentials here are those of {other.host}, and go to no other registry"
            return Refused(
                what,
                status=status,
                likely_cause=likely_cause,
                next_step=(
                    f"set {USER_VARIABLE} and {PASSWORD_VARIABLE}, and {HOST_VARIABLE} if they are not for "
                    f"image.repository; or {', '.join(SOURCE_VARIABLES)} to read from {self.host}; then run again"
                ),
            )
        return Refused(
            what,
            status=status,
            likely_cause="the repository's name is wrong, or a proxy before the registry does not let this through",
            next_step="check image.repository in the policy, and what the registry takes; then run again",
        )

    def _require_safe_url(self, url: str, before: httpx.URL | None = None) -> httpx.URL:
        """The address that the registry sends us to, from the one `before` it if that is a redirect.

        No password, token or layer leaves this machine without TLS, and no registry elsewhere has us ask a service of
        this machine. Raises RegistryError.
        """
        try:
            target = before.join(url) if before else httpx.URL(url)
            host = target.host
        except (httpx.InvalidURL, ValueError) as error:
            raise self._unreachable_error(str(error)) from error
        here = is_this_machine(host)
        problem = ""
        if here and not is_local(self.host):
            problem = f"a service of this machine: {host}"
        elif target.scheme != "https" and not (target.scheme == "http" and here):
            problem = f"{host or 'no address'} without TLS"
        if problem:
            raise RegistryError(
                f"{self.host} sends us to {problem}",
                likely_cause="a proxy before the registry does not tell it by which address it is reached",
                next_step="fix the registry's own address in its settings, then run again",
            )
        if before and before.scheme == "https" and target.scheme != "https":
            raise RegistryError(
                f"{self.host} sends us from TLS to {host} without",
                likely_cause="the storage behind the registry names itself by an address without TLS",
                next_step="fix the storage's own address in the registry's settings, then run again",
            )
        return target

    def _is_own(self, url: httpx.URL) -> bool:
        """Whether a URL is the registry's own: the same scheme, host and port."""
        own = httpx.URL(self.url)
        return (url.scheme, url.netloc) == (own.scheme, own.netloc)

    async def _translate_transport_error(
        self, error: httpx.TransportError | httpx.DecodingError, operation: str, seconds: float
    ) -> Exception:
        """What kept an answer from its end; most of it may pass."""
        nobody = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.DecodingError)
        if isinstance(error, nobody) or not self._has_answered:
            explained = await self._explain_error(error)
            if isinstance(error, httpx.DecodingError) or not explained.message.startswith("no registry answers"):
                return explained
            if isinstance(error, nobody):
                return TransientError(explained.message, final=explained)
        if isinstance(error, httpx.TimeoutException):
            return TransientError(f"{self.host} did not answer {operation} within {seconds:g} s")
        return TransientError(f"{self.host} cut the connection at {operation}")

    async def _explain_error(self, error: Exception) -> RegistryError:
        """Why there is no answer at all."""
        if broken := tls.explain_tls_error(self.host, error):
            return broken
        seconds = self.retry_policy.timeout_seconds
        match error:
            case httpx.ConnectTimeout():
                reason = f"no connection within {seconds:g} s"
            case httpx.TimeoutException():
                reason = f"no answer within {seconds:g} s"
            case httpx.ProxyError():
                reason = f"the proxy that the environment names says {error}"
            case _:
                reason = str(error) or type(error).__name__
        if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError) and await self._speaks_tls():
            return self._speaks_tls_error()
        return self._unreachable_error(reason)

    async def _require_plain_http(self) -> None:
        """Raise RegistryError if a registry on this machine speaks TLS: it answers 400, or closes the connection."""
        if await self._speaks_tls():
            raise self._speaks_tls_error()

    async def _speaks_tls(self) -> bool:
        """Whether a registry on this machine speaks TLS; Drydock speaks plain HTTP to it."""
        if not is_local(self.host):
            return False
        name, _, port = self.host.rpartition(":")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with anyio.fail_after(self.retry_policy.timeout_seconds):
                stream = await anyio.connect_tcp(name or port, int(port) if name else 80, ssl_context=context)
                await anyio.aclose_forcefully(stream)
        except (OSError, ValueError, anyio.BrokenResourceError, anyio.EndOfStream):
            return False
        return True

    def _speaks_tls_error(self) -> RegistryError:
        return RegistryError(
            f"{self.host} speaks TLS, and a registry on this machine is asked without",
            likely_cause="it has a certificate, and is named by an address that means this machine",
            next_step="name it by a name of this machine that its certificate has, such as that of `hostname -f`",
        )

    def _unreachable_error(self, reason: str) -> RegistryError:
        local = is_local(self.host)
        return RegistryError(
            f"no registry answers at {self.host}: {reason}",
            likely_cause="it is not running" if local else "the name is wrong, or the network does not reach it",
            next_step=(
                "drydock bootstrap starts the local one; --no-push leaves the image in the report directory instead"
                if local
                else "check image.repository in the policy; --no-push leaves the image in the report directory instead"
            ),
        )

    def _choose_timeout_seconds(self, method: str) -> float:
        return self.retry_policy.commit_seconds if method in ("PUT", "PATCH") else self.retry_policy.timeout_seconds

    @property
    def _basic(self) -> str:
        login = self._login or Credentials("", "")
        return f"Basic {base64.b64encode(f'{login.user}:{login.password}'.encode()).decode()}"


@asynccontextmanager
async def connect(
    repository: str, login: Credentials | None, on_retry: Callable[[str], None], retry_policy: RetryPolicy
) -> AsyncIterator[Connection]:
    """Open the connections to the registry of `repository`, which is host/name. No request is sent yet."""
    # A proxy of the environment does not know what `localhost` means here.
    local = is_local(repository.partition("/")[0])
    context = tls.create_tls_context(os.environ)
    try:
        client = httpx.AsyncClient(trust_env=not local, verify=context)
    # httpx reads the proxy here, and has no SOCKS without another package.
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise UsageError(
            f"the proxy that the environment names cannot be used: {error}",
            likely_cause="HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is no http:// or https:// address",
            next_step="set HTTPS_PROXY to http://HOST:PORT, or unset what is wrong; then run again",
        ) from error
    async with client:
        yield Connection(client, repository, login, on_retry, retry_policy)


async def read_body(response: httpx.Response, most_bytes: int) -> bytes:
    """The whole answer, or of a longer one the first `most_bytes` and at least one more."""
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > most_bytes:
            break
    return bytes(content)


def parse_error_codes(answer: bytes) -> list[str]:
    """The error codes in a registry's answer, such as NAME_UNKNOWN; empty for a proxy's answer.

    https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes
    """
    try:
        codes = [error["code"] for error in json.loads(answer)["errors"]]
    except (LookupError, ValueError, TypeError, RecursionError):
        return []
    known = [code for code in codes if isinstance(code, str) and re.fullmatch("[A-Z_]{1,40}", code)]
    return list(dict.fromkeys(known))


def parse_retry_after(header: str) -> float:
    """The seconds in a Retry-After header, which has seconds or a date; 0 if it has neither."""
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return 0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _get_last_error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
