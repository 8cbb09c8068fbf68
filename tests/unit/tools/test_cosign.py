from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from drydock.errors import UsageError
from drydock.oci.registry import Credentials
from drydock.tools import cosign
from drydock.tools.cosign import Bundle, Identity, Key, Keyless, NoSigner, PublicKey, Statement
from tests.support import examples

REFERENCE = f"{examples.REPOSITORY}@{examples.MANIFEST_DIGEST}"
OTHER_DIGEST = "sha256:" + "cd" * 32
PEM = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
WITH_KEY = Key(PEM, "open sesame")
KEYLESS = Keyless("https://token.example/?job=1", "job token")
KEY_TRUST = PublicKey("-----BEGIN PUBLIC KEY-----\n…")
IDENTITY_TRUST = Identity("^https://github.com/owner/", "https://token.actions.githubusercontent.com")
GITHUB = {"ACTIONS_ID_TOKEN_REQUEST_URL": KEYLESS.token_url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": KEYLESS.token}


# --- who signs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [PEM, PEM.replace("SIGSTORE", "COSIGN"), f"\n{PEM}"], ids=["new", "old", "indented"])
def test_a_key_is_read_from_the_file_that_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "cosign.key").write_text(text)
    named = {"COSIGN_KEY": str(tmp_path / "cosign.key"), "COSIGN_PASSWORD": "open sesame"}
    assert cosign.find_signer(named) == Key(text, "open sesame")


@pytest.mark.parametrize("text", [PEM, f"\n{PEM}"])
def test_a_key_may_be_in_the_environment_itself(text: str) -> None:
    assert cosign.find_signer({"COSIGN_KEY": text}) == Key(text, "")


def test_a_github_job_lends_its_identity() -> None:
    assert cosign.find_signer(GITHUB) == KEYLESS


def test_a_key_comes_before_an_identity() -> None:
    assert cosign.find_signer({**GITHUB, "COSIGN_KEY": PEM}) == Key(PEM, "")


@pytest.mark.parametrize("missing", [*GITHUB, None])
def test_without_either_nothing_is_signed(missing: str | None) -> None:
    environment = {"COSIGN_KEY": "", **({name: GITHUB[name] for name in GITHUB if name != missing} if missing else {})}
    assert cosign.find_signer(environment) == NoSigner("COSIGN_KEY names no key, and no GitHub job lends its identity")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "the file that COSIGN_KEY names cannot be read: No such file or directory"),
        (b"\xff\xfe", "the file that COSIGN_KEY names cannot be read: it is no text"),
        (b"", "COSIGN_KEY is no encrypted private key of cosign's"),
        (b"-----BEGIN PUBLIC KEY-----\nabc\n", "COSIGN_KEY is no encrypted private key of cosign's"),
        (b"-----BEGIN PRIVATE KEY-----\nabc\n", "COSIGN_KEY is no encrypted private key of cosign's"),
        (f"a comment\n{PEM}".encode(), "COSIGN_KEY is no encrypted private key of cosign's"),
    ],
)
def test_a_key_that_is_none_stops_the_run_before_it_starts(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "cosign.key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        cosign.find_signer({"COSIGN_KEY": str(path)})
    assert (caught.value.message, caught.value.next_step) == (
        what,
        "drydock generate-key-pair FOLDER makes one; set COSIGN_KEY to its path or its text",
    )


@pytest.mark.parametrize("key", ["c2VjcmV0" * 100, "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0", "c2VjcmV0\0"])
def test_what_may_be_a_key_is_never_repeated(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        cosign.find_signer({"COSIGN_KEY": key})
    said = [caught.value.message, caught.value.likely_cause, caught.value.next_step, caught.value.log]
    assert "c2VjcmV0" not in "".join(said)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("signer", [WITH_KEY, KEYLESS])
def test_no_repr_has_a_secret(signer: Key | Keyless) -> None:
    assert repr(signer) in ("Key()", "Keyless()")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("ghcr.io", "ghcr.io"),
        ("registry:5000", "registry:5000"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("index.docker.io", "https://index.docker.io/v1/"),
    ],
)
def test_the_credentials_go_where_cosign_looks_for_them(host: str, name: str) -> None:
    # echo -n ana:pass:word | base64
    assert json.loads(cosign.create_docker_config(host, Credentials("ana", "pass:word"))) == {
        "auths": {name: {"auth": "YW5hOnBhc3M6d29yZA=="}}
    }


PUSHING = "Signing artifact...\nPushing signature to: host/name\nError: signing [host/name@sha256:0]: signing digest: "
LIST_STAYS = f"PUT https://host/v2/name/manifests/sha256-{'0' * 64}: TAG_INVALID: The image tag already exists"
NO_LIST = f"GET https://host/v2/name/referrers/sha256:{'0' * 64}: UNSUPPORTED: not here"


@pytest.mark.parametrize(
    ("said", "likely_cause", "next_step"),
    [
        (
            LIST_STAYS,
            "the registry keeps no list of referrers itself, and does not let the list's own tag move",
            "exempt tags that begin with sha256- from the registry's rule, then run again",
        ),
        (
            NO_LIST,
            "the registry keeps no list of referrers, and says so in another way than cosign takes",
            "let the registry, or a proxy before it, answer 404 to /v2/NAME/referrers/, then run again",
        ),
        (
            "PUT https://host/v2/name/blobs/uploads/: DENIED: no",
            "the credentials may not write there, or Sigstore's services do not answer",
            "run again: the same image is signed where it is",
        ),
    ],
    ids=["the list's tag stays", "no list", "anything else"],
)
def test_a_registry_that_cosign_cannot_sign_at_has_its_own_way_out(
    said: str, likely_cause: str, next_step: str
) -> None:
    stderr = f"{PUSHING}failed to upload manifest: {said}\nerror during command execution: {said}\n"
    assert cosign.explain_failure(stderr) == (likely_cause, next_step)


# --- what cosign is asked -------------------------------------------------------------------------------------------


def test_a_key_signs_without_a_log() -> None:
    assert cosign.sign_arguments(REFERENCE, WITH_KEY, plain_http=True) == [
        *("sign", "--yes", "--key", "env://COSIGN_PRIVATE_KEY"),
        *("--signing-config", "/signing-config.json", "--trusted-root", "/trusted-root.json"),
        *("--allow-http-registry", REFERENCE),
    ]
    assert cosign.attest_arguments(REFERENCE, WITH_KEY, cosign.SBOM, plain_http=False) == [
        *("attest", "--type", "https://cyclonedx.org/bom", "--predicate", "/predicate.json"),
        *("--yes", "--key", "env://COSIGN_PRIVATE_KEY"),
        *("--signing-config", "/signing-config.json", "--trusted-root", "/trusted-root.json"),
        REFERENCE,
    ]


def test_an_identity_signs_as_is_sigstores_default() -> None:
    assert cosign.sign_arguments(REFERENCE, KEYLESS, plain_http=False) == ["sign", "--yes", REFERENCE]
    assert cosign.attest_arguments(REFERENCE, KEYLESS, cosign.PROVENANCE, plain_http=False) == [
        *("attest", "--type", "https://slsa.dev/provenance/v1", "--predicate", "/predicate.json"),
        *("--yes", REFERENCE),
    ]


def test_a_public_key_verifies_without_a_log() -> None:
    assert cosign.verify_arguments(REFERENCE, KEY_TRUST, cosign.SIGNATURE, plain_http=True) == [
        *(
            "verify-attestation",
            "--type",
            "https://sigstore.dev/cosign/sign/v1",
            "--key",
            "env://COSIGN_PUBLIC_KEY",
            "--insecure-ignore-tlog=true",
        ),
        *("--allow-http-registry", REFERENCE),
    ]


def test_an_identity_is_a_name_and_who_gave_it() -> None:
    words = [
        *("--certificate-identity-regexp", "^https://github.com/owner/"),
        *("--certificate-oidc-issuer", "https://token.actions.githubusercontent.com"),
    ]
    assert cosign.verify_arguments(REFERENCE, IDENTITY_TRUST, cosign.VERDICT, plain_http=False) == [
        *("verify-attestation", "--type", "https://drydock.dev/verdict/v1", *words, REFERENCE)
    ]


def test_the_public_key_goes_into_a_file() -> None:
    assert cosign.public_key_arguments() == [
        *("public-key", "--key", "env://COSIGN_PRIVATE_KEY", "--outfile", "/cosign.pub")
    ]


# --- what it answers ------------------------------------------------------------------------------------------------

# As cosign 3.1.3 prints both.
IN_TOTO = "application/vnd.in-toto+json"
STATEMENT: dict[str, Any] = {
    "_type": "https://in-toto.io/Statement/v0.1",
    "subject": [{"name": examples.REPOSITORY, "digest": {"sha256": examples.MANIFEST_DIGEST.removeprefix("sha256:")}}],
    "predicateType": cosign.VERDICT,
    "predicate": {"approved": True},
}
READ = Statement((examples.MANIFEST_DIGEST,), cosign.VERDICT, {"approved": True})


def envelope(statement: object, kind: str = IN_TOTO) -> str:
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps({"payload": payload, "payloadType": kind, "signatures": [{"sig": "MEQC"}]})


def test_statements_are_read_an_envelope_a_line() -> None:
    other = {**STATEMENT, "subject": [{"digest": {"sha256": "cd" * 32, "sha512": "ef"}}, {"digest": {}}]}
    assert cosign.parse_statements(f"{envelope(STATEMENT)}\n{envelope(other)}\n") == (
        READ,
        Statement((OTHER_DIGEST, "sha512:ef"), cosign.VERDICT, {"approved": True}),
    )


@pytest.mark.parametrize(
    "line",
    [
        *("", "\n", "Verification for …", "null", "[]", "{}", "7"),
        envelope(STATEMENT, "text/plain"),
        envelope("text"),
        envelope({**STATEMENT, "subject": None}),
        envelope({**STATEMENT, "subject": [{"name": "image"}]}),
        envelope({**STATEMENT, "subject": [{"digest": "sha256:ab"}]}),
        envelope({**STATEMENT, "predicate": "approved"}),
        envelope({name: STATEMENT[name] for name in STATEMENT if name != "predicateType"}),
        json.dumps({"payload": "%", "payloadType": IN_TOTO}),
        json.dumps({"payload": base64.b64encode(b"\xff").decode(), "payloadType": IN_TOTO}),
    ],
)
def test_what_is_no_statement_says_nothing(line: str) -> None:
    assert cosign.parse_statements(f"{line}\n{envelope(STATEMENT)}") == (READ,)


def test_a_statement_counts_for_the_digest_and_the_type_that_were_asked() -> None:
    both = Statement((OTHER_DIGEST, examples.MANIFEST_DIGEST), cosign.VERDICT, {})
    other = Statement((OTHER_DIGEST,), cosign.VERDICT, {})
    none = Statement((), cosign.VERDICT, {})
    sbom = Statement((examples.MANIFEST_DIGEST,), cosign.SBOM, {})
    found = cosign.select_statements((READ, both, other, none, sbom), examples.MANIFEST_DIGEST, cosign.VERDICT)
    assert found == (READ, both)


def test_what_cosign_prints_and_what_a_registry_keeps_are_one_envelope() -> None:
    printed = envelope(STATEMENT)
    [read] = cosign.parse_statements(printed)
    kept = json.loads(printed)
    by_key = {"verificationMaterial": {"publicKey": {"hint": "a"}}, "dsseEnvelope": kept}
    assert cosign.parse_bundle(json.dumps(by_key, indent=2).encode()) == Bundle(read.envelope, by_key=True)
    by_identity = {**by_key, "verificationMaterial": {"certificate": {"rawBytes": "MIIC"}}}
    assert cosign.parse_bundle(json.dumps(by_identity).encode()) == Bundle(read.envelope, by_key=False)
    others = [
        {**kept, "payload": base64.b64encode(b"{}").decode()},
        {**kept, "payloadType": "text/plain"},
        {**kept, "signatures": [{"sig": "MEQD"}]},
        {**kept, "signatures": []},
        {**kept, "signatures": [*kept["signatures"], *kept["signatures"]]},
    ]
    for other in others:
        found = cosign.parse_bundle(json.dumps({**by_key, "dsseEnvelope": other}).encode())
        assert found
        assert found.envelope != read.envelope


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"[]", b"{}", b"\xff", b'{"dsseEnvelope": {}}', b'{"dsseEnvelope": 7, "verificationMaterial": {}}'),
        b'{"verificationMaterial": {}, "dsseEnvelope": {"payloadType": "a", "payload": "%", "signatures": []}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_bundle_is_none(document: bytes) -> None:
    assert cosign.parse_bundle(document) is None


REFUSED = """\
WARNING: Skipping tlog verification is an insecure practice that lacks transparency.
Error: no matching attestations: failed to verify signature: accepted signatures do not match threshold
failed to verify signature: accepted signatures do not match threshold
error during command execution: no matching attestations: failed to verify signature: …
"""


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        (REFUSED, "no matching attestations: failed to verify signature: accepted signatures do not match threshold"),
        ("Error: no matching attestations: \nerror during command execution: …", "no matching attestations"),
        ("main.go: Error: one\nError: two\nError: three\n", "two"),
        ("panic", "cosign did not say why"),
    ],
)
def test_the_reason_is_the_first_line_that_cosign_calls_an_error(stderr: str, reason: str) -> None:
    assert cosign.find_reason(stderr) == reason
