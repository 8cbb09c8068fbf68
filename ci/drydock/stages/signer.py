"""Lets the pinned cosign sign what the registry serves, say what is true of it, and verify both.

A registry on this machine is not that of a container, so the container reaches it through the engine by a name of its
own. That name is then the one in the signed statements; it is the digest beside it that says what they are about.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import dagger
from dagger import PortForward, ReturnType, dag

from drydock.errors import RegistryError, UsageError
from drydock.oci import registry
from drydock.pipeline.plan import Plan
from drydock.stages import session
from drydock.tools import cosign, dagger_log
from drydock.tools.cosign import Key, Keyless, KeyPair, PublicKey, Signer, Trust, Verified

LOCAL_REGISTRY = "registry"
HTTP_PORT = 80
DOCKER_CONFIG = "/docker"
# cosign's exit code is 0 as well if what verified is about another image.
SOMETHING_ELSE = "what verified is something else than was asked for"


async def read_public_key(image: str, key: Key) -> str:
    """Return the public key to a private one, in PEM. Raises UsageError if the password does not open it."""
    with _cosign_errors():
        opened = _with_signer(_create_cosign(image), key).with_exec(
            cosign.public_key_arguments(), use_entrypoint=True, expect=ReturnType.ANY
        )
        if await opened.exit_code():
            raise UsageError(
                f"{cosign.KEY_VARIABLE} cannot be used: {cosign.find_reason(await opened.stderr())}",
                likely_cause=f"{cosign.PASSWORD_VARIABLE} is not set, or is the password of another key",
                next_step=f"set {cosign.PASSWORD_VARIABLE} to the password of this key, then run again",
            )
        # Not from the standard output, where the engine masks whatever looks like the password.
        return await opened.file(cosign.PUBLIC_KEY_FILE).contents()


async def generate_key_pair(image: str, password: str) -> KeyPair:
    """A new key pair, whose private key is encrypted with `password`."""
    with _cosign_errors():
        container = (
            _create_cosign(image)
            .with_secret_variable(cosign.PASSWORD_VARIABLE, dag.set_secret("new-key-password", password))
            .with_exec(cosign.generate_key_pair_arguments(), use_entrypoint=True)
        )
        private_key = await container.file(f"/{cosign.PRIVATE_KEY}").contents()
        return KeyPair(private_key, await container.file(f"/{cosign.PUBLIC_KEY}").contents())


async def sign_image(
    plan: Plan, signer: Signer, digest: str, predicates: Mapping[str, str], *, signature: bool = True
) -> None:
    """Sign the published image, and that `predicates` are true of it: JSON objects by the URIs of their types.

    Without `signature` only the latter.

    Raises RegistryError; what was signed until then stays.
    """
    repository = plan.policy.image.repository
    await registry.require_answer(repository)
    endpoint = _RegistryEndpoint.from_repository(repository)
    reference = f"{endpoint.repository}@{digest}"
    login = registry.choose_login(repository, plan.login)
    container = _with_signer(
        endpoint.connect_container(_create_cosign(plan.images.cosign, plan.certificates), login), signer
    )
    with _cosign_errors():
        try:
            # One after the other: each one adds itself to a list that all of them share, and the last writer wins.
            if signature:
                container = container.with_exec(
                    cosign.sign_arguments(reference, signer, plain_http=endpoint.is_local), use_entrypoint=True
                )
            for predicate_type, predicate in predicates.items():
                container = container.with_new_file(cosign.PREDICATE_FILE, predicate).with_exec(
                    cosign.attest_arguments(reference, signer, predicate_type, plain_http=endpoint.is_local),
                    use_entrypoint=True,
                )
            await container.sync()
        except dagger.ExecError as error:
            reason = cosign.find_reason(error.stderr)
            usually, next_step = cosign.explain_failure(error.stderr)
            raise RegistryError(
                f"{repository}@{digest} is in the registry, but could not be signed: {reason}",
                likely_cause=usually,
                next_step=next_step,
                log=dagger_log.get_tail(error.stderr),
            ) from error


async def verify_image(
    image: str,
    repository: str,
    digest: str,
    trust: Trust,
    login: registry.Credentials | None,
    predicate_types: Sequence[str],
    certificates: str = "",
) -> Verified:
    """What somebody trusted signed about an image: whether it, and which statements of these types.

    Raises RegistryError if the registry or Sigstore did not answer. What does not verify is not an error.
    """
    await registry.require_answer(repository)
    endpoint = _RegistryEndpoint.from_repository(repository)
    reference = f"{endpoint.repository}@{digest}"
    container = endpoint.connect_container(_create_cosign(image, certificates), login)
    if isinstance(trust, PublicKey):
        container = container.with_env_variable(cosign.PUBLIC_KEY_VARIABLE, trust.pem)
    types = (cosign.SIGNATURE, *predicate_types)
    questions = [cosign.verify_arguments(reference, trust, each, plain_http=endpoint.is_local) for each in types]
    with _cosign_errors():
        answers = await asyncio.gather(*(_run_verification(container, question) for question in questions))
    for answer in answers:
        if answer.exit_code and not cosign.is_verdict(answer.reason):
            raise RegistryError(
                f"{repository}@{digest} could not be verified: {answer.reason}",
                likely_cause=(
                    "the credentials may not read there"
                    if isinstance(trust, PublicKey)
                    else "this machine does not reach Sigstore, which vouches for a workflow, or may not read the image"
                ),
                next_step=(
                    "check the network and the credentials, then run again; nothing was found for or against the image."
                    + ("" if isinstance(trust, PublicKey) else " An image that a key signed needs --key FILE")
                ),
            )
    if all(answer.exit_code for answer in answers):
        async with registry.open_repository(repository, login) as opened:
            await opened.require_referrers(digest)
    statements = {
        each: cosign.select_statements(cosign.parse_statements(answer.stdout), digest, each)
        if answer.exit_code == 0
        else ()
        for each, answer in zip(types, answers, strict=True)
    }
    failures = {each: answer.reason for each, answer in zip(types, answers, strict=True) if not statements[each]}
    signatures = statements.pop(cosign.SIGNATURE)
    return Verified(failures.pop(cosign.SIGNATURE, ""), statements, failures, signatures)


@dataclass(frozen=True)
class _Answer:
    exit_code: int
    stdout: str
    reason: str


async def _run_verification(container: dagger.Container, question: list[str]) -> _Answer:
    asked = container.with_exec(question, use_entrypoint=True, expect=ReturnType.ANY)
    exit_code, stderr = await asked.exit_code(), await asked.stderr()
    reason = cosign.find_reason(stderr) if exit_code else SOMETHING_ELSE
    return _Answer(exit_code, await asked.stdout(), reason)


@dataclass(frozen=True)
class _RegistryEndpoint:
    """A repository as a container names it; `port` is that of a registry on this machine, None for any other."""

    repository: str
    host: str
    port: int | None

    @classmethod
    def from_repository(cls, repository: str) -> _RegistryEndpoint:
        host, _, name = repository.partition("/")
        if not registry.is_local(host):
            return cls(repository, host, None)
        address, _, port = host.partition(":")
        return cls(f"{LOCAL_REGISTRY}:{port or HTTP_PORT}/{name}", address, int(port or HTTP_PORT))

    @property
    def is_local(self) -> bool:
        return self.port is not None

    def connect_container(self, container: dagger.Container, login: registry.Credentials | None) -> dagger.Container:
        """The container with a way to the registry, and its credentials."""
        if self.port is not None:
            service = dag.host().service([PortForward(backend=self.port, frontend=self.port)], host=self.host)
            container = container.with_service_binding(LOCAL_REGISTRY, service)
        if login:
            config = cosign.create_docker_config(self.repository.partition("/")[0], login)
            container = container.with_env_variable("DOCKER_CONFIG", DOCKER_CONFIG).with_mounted_secret(
                f"{DOCKER_CONFIG}/config.json", dag.set_secret("registry-config", config)
            )
        return container


def _create_cosign(image: str, certificates: str = "") -> dagger.Container:
    return (
        session.with_certificates(dag.container().from_(cosign.require_image(image)), certificates)
        # The official image runs as a user who can read no secret that is mounted; the local image has no users.
        .with_user("0:0")
        .with_env_variable("HOME", "/tmp")  # noqa: S108 - in cosign's own container
        .with_mounted_temp("/tmp")  # noqa: S108
        # The engine repeats a step with the same inputs from its cache, and a secret's text is no input.
        .with_env_variable("DRYDOCK_RUN", uuid.uuid4().hex)
    )


def _with_signer(container: dagger.Container, signer: Signer) -> dagger.Container:
    match signer:
        case Key():
            for path, text in cosign.NO_SERVICES.items():
                container = container.with_new_file(path, text)
            secrets = {
                cosign.PRIVATE_KEY_VARIABLE: signer.private_key,
                cosign.PASSWORD_VARIABLE: signer.password,
            }
        case Keyless():
            secrets = {cosign.TOKEN_URL_VARIABLE: signer.token_url, cosign.TOKEN_VARIABLE: signer.token}
    for name, text in secrets.items():
        container = container.with_secret_variable(name, dag.set_secret(name, text))
    return container


@contextmanager
def _cosign_errors() -> Iterator[None]:
    with session.engine_errors():
        try:
            yield
        except dagger.QueryError as error:
            raise RegistryError(
                f"cosign could not be had: {dagger_log.get_first_line(str(error))}",
                likely_cause="images.toml names a cosign that this machine cannot reach",
                next_step="check the network; on a machine without a container registry: drydock bootstrap",
                log=dagger_log.skip_first_line(str(error)),
            ) from error
