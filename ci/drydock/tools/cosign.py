"""The command lines of cosign, and the reading of its output. cosign itself runs in `stages`.

Signature and attestations are in-toto statements in Sigstore bundles. Each is a manifest that refers to the image's. A
key signs without a transparency log, so nothing leaves the machine. A signature with a GitHub job's identity is logged
in Sigstore's log, as is their default. cosign's exit code only says that something about the image verified. So its
output is read too, and a statement counts only if it is about exactly the requested digest.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drydock.errors import UsageError
from drydock.oci.registry import Credentials

PRIVATE_KEY, PUBLIC_KEY = "cosign.key", "cosign.pub"
KEY_VARIABLE, PASSWORD_VARIABLE = "COSIGN_KEY", "COSIGN_PASSWORD"
# GitHub sets both in a job with the permission `id-token: write`; cosign itself asks for the token.
TOKEN_URL_VARIABLE, TOKEN_VARIABLE = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
# The variables of cosign's container that have the keys. A variable leaves no file behind.
PRIVATE_KEY_VARIABLE, PUBLIC_KEY_VARIABLE = "COSIGN_PRIVATE_KEY", "COSIGN_PUBLIC_KEY"
PUBLIC_KEY_FILE = "/cosign.pub"
PREDICATE_FILE = "/predicate.json"
# A key needs no service. Without these files cosign would download Sigstore's own.
# https://github.com/sigstore/protobuf-specs/blob/v0.5.1/protos/sigstore_trustroot.proto
SIGNING_CONFIG_FILE, TRUSTED_ROOT_FILE = "/signing-config.json", "/trusted-root.json"
NO_SERVICES = {
    SIGNING_CONFIG_FILE: '{"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json"}',
    TRUSTED_ROOT_FILE: '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}',
}

SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
SBOM = "https://cyclonedx.org/bom"
PROVENANCE = "https://slsa.dev/provenance/v1"
VERDICT = "https://drydock.dev/verdict/v1"

# As a scanner looks for it beside an image, unsigned.
SBOM_MEDIA_TYPE = "application/vnd.cyclonedx+json"
IN_TOTO = "application/vnd.in-toto+json"
# Of its bundles, each with its version at the end.
BUNDLE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle"
# cosign's verdicts on what it found; whatever else ends it kept it from one.
VERDICTS = (
    *("no signatures found", "no matching signatures", "no matching attestations"),
    "none of the attestations matched",
)
# What reading raises: the JSON of others may have anything, or nothing, in every place.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
# cosign wrote the second one before its version 2.
PRIVATE_KEYS = tuple(f"-----BEGIN ENCRYPTED {maker} PRIVATE KEY-----" for maker in ("SIGSTORE", "COSIGN"))


# --- who signs, and whom to trust -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """A private key of cosign's in PEM, encrypted with a password."""

    private_key: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True)
class KeyPair:
    """A new private key, encrypted with a password, and the public key that verifies what it signs; both in PEM."""

    private_key: str = field(repr=False)
    public_key: str


@dataclass(frozen=True)
class Keyless:
    """The identity of a GitHub job: the address that issues its token, and the token for this request."""

    token_url: str = field(repr=False)
    token: str = field(repr=False)


Signer = Key | Keyless


@dataclass(frozen=True)
class NoSigner:
    """Nothing can be signed here, and why."""

    reason: str


@dataclass(frozen=True)
class PublicKey:
    """Trust in the owner of the private key to this public one, in PEM."""

    pem: str


@dataclass(frozen=True)
class Identity:
    """Trust in whom `issuer` calls by a name that the regular expression matches, as Go reads it."""

    regexp: str
    issuer: str


Trust = PublicKey | Identity


def trust_identity(name: str, issuer: str) -> Identity:
    """Trust in one identity alone."""
    return Identity(f"^{re.escape(name)}$", issuer)


def find_signer(environment: Mapping[str, str]) -> Signer | NoSigner:
    """The signer: the key in COSIGN_KEY, otherwise the GitHub job. Raises UsageError if the key is not valid."""
    if key := environment.get(KEY_VARIABLE):
        return Key(_read_private_key(key), environment.get(PASSWORD_VARIABLE, ""))
    url, token = environment.get(TOKEN_URL_VARIABLE), environment.get(TOKEN_VARIABLE)
    if url and token:
        return Keyless(url, token)
    return NoSigner(f"{KEY_VARIABLE} names no key, and no GitHub job lends its identity")


def require_image(image: str) -> str:
    """The pin of cosign's image. Raises UsageError if this machine builds its own images and has not built this one."""
    if image:
        return image
    raise UsageError(
        "cosign is not on this machine yet, and only cosign signs and verifies",
        likely_cause="it takes minutes to build, so bootstrap builds it only if COSIGN_KEY is set or it is asked for",
        next_step="drydock bootstrap --with-cosign, then run again",
    )


def read_new_password(environment: Mapping[str, str], folder: Path) -> str:
    """The password of a key pair that is to be written to `folder`. Raises UsageError if one of them is not right."""
    for name in (PRIVATE_KEY, PUBLIC_KEY):
        if (folder / name).exists():
            raise UsageError(
                f"{folder / name} exists, and no key is ever written over another",
                likely_cause="the key pair was made before",
                next_step=f"set {KEY_VARIABLE} to the path of that {PRIVATE_KEY}, or name another folder",
            )
    if password := environment.get(PASSWORD_VARIABLE):
        return password
    raise UsageError(
        f"{PASSWORD_VARIABLE} is not set, and without a password anybody who finds the key can sign",
        next_step=f"read -rs {PASSWORD_VARIABLE} && export {PASSWORD_VARIABLE}, then run again",
    )


def write_key_pair(pair: KeyPair, folder: Path) -> None:
    """Write both keys into `folder`; only its owner may read the private one. Raises UsageError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, pem, mode in ((PRIVATE_KEY, pair.private_key, 0o600), (PUBLIC_KEY, pair.public_key, 0o644)):
            (folder / name).touch(mode, exist_ok=False)
            (folder / name).write_text(pem, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{error.filename or folder} cannot be written: {error.strerror}",
            likely_cause="the folder belongs to somebody else, or is a file",
            next_step="name another folder, then run again",
        ) from error


def compute_fingerprint(pem: str) -> str:
    """A public key in PEM as people compare it: the SHA-256 of what it encodes."""
    body = "".join(line for line in pem.splitlines() if not line.startswith("-----"))
    return f"SHA256:{hashlib.sha256(base64.b64decode(body)).hexdigest()[:16]}"


def _read_private_key(key: str) -> str:
    # What the variable holds is never repeated: it may be a key that was cut short.
    if not key.lstrip().startswith("-----BEGIN"):
        try:
            key = Path(key).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise _no_key_error(f"the file that {KEY_VARIABLE} names cannot be read: {reason}") from None
    if not key.lstrip().startswith(PRIVATE_KEYS):
        raise _no_key_error(f"{KEY_VARIABLE} is no encrypted private key of cosign's")
    return key


def _no_key_error(what: str) -> UsageError:
    return UsageError(
        what,
        likely_cause="it names the public key, a key that another tool made, or a file that is not there",
        next_step=f"drydock generate-key-pair FOLDER makes one; set {KEY_VARIABLE} to its path or its text",
    )


def create_docker_config(host: str, login: Credentials) -> str:
    """The text of the config.json in which cosign finds the registry's credentials."""
    # Docker Hub goes by its oldest name there.
    name = "https://index.docker.io/v1/" if host in ("docker.io", "index.docker.io") else host
    return json.dumps({"auths": {name: {"auth": base64.b64encode(f"{login.user}:{login.password}".encode()).decode()}}})


# --- command lines --------------------------------------------------------------------------------------------------


def public_key_arguments() -> list[str]:
    """Write the public key to the private one, which opens only with its password."""
    return ["public-key", "--key", f"env://{PRIVATE_KEY_VARIABLE}", "--outfile", PUBLIC_KEY_FILE]


def generate_key_pair_arguments() -> list[str]:
    """Write cosign.key and cosign.pub into the root folder of cosign's container."""
    return ["generate-key-pair", "--output-key-prefix", "/cosign"]


def sign_arguments(reference: str, signer: Signer, *, plain_http: bool) -> list[str]:
    """Sign the image that `reference` names by its digest."""
    return ["sign", *_signing_arguments(signer, plain_http), reference]


def attest_arguments(reference: str, signer: Signer, predicate_type: str, *, plain_http: bool) -> list[str]:
    """Sign that PREDICATE_FILE, a JSON object of the type with this URI, is true of the image."""
    # Given a URI, cosign takes the predicate as it is; by its own short names it drops what it does not know.
    return [
        *("attest", "--type", predicate_type, "--predicate", PREDICATE_FILE),
        *_signing_arguments(signer, plain_http),
        reference,
    ]


def verify_arguments(reference: str, trust: Trust, predicate_type: str, *, plain_http: bool) -> list[str]:
    """Print the statements of this type that somebody trusted signed about the image, an envelope a line.

    A signature is one of them. `cosign verify` would say no more of it, and not which of several it found.
    """
    return ["verify-attestation", "--type", predicate_type, *_verification_arguments(trust, plain_http), reference]


def _signing_arguments(signer: Signer, plain_http: bool) -> list[str]:
    with_key = (
        *("--key", f"env://{PRIVATE_KEY_VARIABLE}"),
        *("--signing-config", SIGNING_CONFIG_FILE, "--trusted-root", TRUSTED_ROOT_FILE),
    )
    return ["--yes", *(with_key if isinstance(signer, Key) else ()), *_registry_arguments(plain_http)]


def _verification_arguments(trust: Trust, plain_http: bool) -> list[str]:
    match trust:
        case PublicKey():
            # Without this cosign asks for a log entry, and a key makes none.
            words = ["--key", f"env://{PUBLIC_KEY_VARIABLE}", "--insecure-ignore-tlog=true"]
        case Identity():
            words = ["--certificate-identity-regexp", trust.regexp, "--certificate-oidc-issuer", trust.issuer]
    return [*words, *_registry_arguments(plain_http)]


def _registry_arguments(plain_http: bool) -> list[str]:
    return ["--allow-http-registry"] if plain_http else []


# --- what it answers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statement:
    """Somebody's signed word about images: their digests, as `sha256:…`, and a JSON object; its type is a URI.

    `envelope` names the signed bytes and their signatures; it is the same in what cosign prints and in the bundle.
    """

    digests: tuple[str, ...]
    predicate_type: str
    predicate: dict[str, Any]
    envelope: str = field(default="", compare=False)


@dataclass(frozen=True)
class Bundle:
    """What a registry keeps of a statement; `by_key` if a key signed it, and no identity's certificate."""

    envelope: str
    by_key: bool


@dataclass(frozen=True)
class Verified:
    """The verified parts of an image. `signature_failure` is empty if the signature verified.

    `statements` has every requested predicate type with its verified statements. `failures` has those without any,
    with cosign's reason.
    """

    signature_failure: str
    statements: Mapping[str, tuple[Statement, ...]]
    failures: Mapping[str, str]
    signatures: tuple[Statement, ...] = field(default=(), compare=False)

    @property
    def envelopes(self) -> frozenset[str]:
        """The envelopes of all that verified."""
        found = (self.signatures, *self.statements.values())
        return frozenset(statement.envelope for statements in found for statement in statements)


def find_reason(stderr: str) -> str:
    """Why cosign ended with another exit code than 0, in the first line of its own words."""
    said = [line.removeprefix("Error: ") for line in stderr.splitlines() if line.startswith("Error: ")]
    return said[0].rstrip(": ") if said else "cosign did not say why"


def explain_failure(stderr: str) -> tuple[str, str]:
    """What it mostly means that cosign could not sign a published image, and what to do."""
    said = find_reason(stderr)
    if re.search(r"PUT \S+/manifests/sha256-[0-9a-f]{64}: ", said):
        return (
            "the registry keeps no list of referrers itself, and does not let the list's own tag move",
            "exempt tags that begin with sha256- from the registry's rule, then run again",
        )
    if re.search(r"GET \S+/referrers/sha256:[0-9a-f]{64}: ", said):
        return (
            "the registry keeps no list of referrers, and says so in another way than cosign takes",
            "let the registry, or a proxy before it, answer 404 to /v2/NAME/referrers/, then run again",
        )
    return (
        "the credentials may not write there, or Sigstore's services do not answer",
        "run again: the same image is signed where it is",
    )


def is_verdict(reason: str) -> bool:
    """Whether cosign looked and found nothing that holds, and not that something kept it from looking."""
    return reason.startswith(VERDICTS)


def parse_statements(stdout: str) -> tuple[Statement, ...]:
    """The in-toto statements in what `cosign verify-attestation` printed: DSSE envelopes, one a line.

    Any other line is ignored.
    https://github.com/secure-systems-lab/dsse/blob/v1.0.0/envelope.md
    https://github.com/in-toto/attestation/blob/v1.0/spec/v1.0/statement.md
    """
    return tuple(statement for line in stdout.splitlines() if (statement := _parse_statement(line)))


def select_statements(found: Iterable[Statement], digest: str, predicate_type: str) -> tuple[Statement, ...]:
    """Those that are of this type and about the image with this digest."""
    return tuple(each for each in found if each.predicate_type == predicate_type and digest in each.digests)


def parse_bundle(document: bytes) -> Bundle | None:
    """A Sigstore bundle with a statement in it; None if the bytes are nothing of that kind.

    https://github.com/sigstore/protobuf-specs/blob/v0.5.1/protos/sigstore_bundle.proto
    """
    try:
        read = json.loads(document)
        return Bundle(_identify_envelope(read["dsseEnvelope"]), by_key="publicKey" in read["verificationMaterial"])
    except UNREADABLE:
        return None


def _identify_envelope(written: Mapping[str, Any]) -> str:
    """Name an envelope by what it signs and by its signatures, in whatever form its JSON has them."""
    signed = [written["payloadType"].encode(), base64.b64decode(written["payload"], validate=True)]
    signed += sorted(base64.b64decode(signature["sig"], validate=True) for signature in written["signatures"])
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in signed)).hexdigest()


def _parse_statement(line: str) -> Statement | None:
    try:
        envelope = json.loads(line)
        if envelope["payloadType"] != IN_TOTO:
            return None
        statement = json.loads(base64.b64decode(envelope["payload"]))
        digests = tuple(
            f"{algorithm}:{value}" for subject in statement["subject"] for algorithm, value in subject["digest"].items()
        )
        predicate = statement["predicate"]
        if not isinstance(predicate, dict):
            return None
        return Statement(digests, str(statement["predicateType"]), predicate, _identify_envelope(envelope))
    except UNREADABLE:
        return None
