"""What the real cosign signs in the real registry, and what it makes of those who meddle with it."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from drydock import stages
from drydock.checks import Approval
from drydock.errors import RegistryError, UsageError
from drydock.oci.registry import Credentials
from drydock.report import Images, Signing
from drydock.stages import signer
from drydock.tools import cosign
from drydock.tools.cosign import Key, Keyless, PublicKey, Statement, Verified
from tests.integration.engine import guarded_registry, keys
from tests.integration.engine.project import REGISTRY
from tests.integration.engine.repository import Repository, tag_of, type_of
from tests.integration.registry import proxy
from tests.integration.registry.proxy import ALWAYS, Rule
from tests.support import examples

PASSWORD = "correct horse battery staple"  # noqa: S105 - of a key that is made for a test
PREDICATES: dict[str, dict[str, Any]] = {
    cosign.SBOM: {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": "numpy"}] * 2000},
    cosign.PROVENANCE: {"buildDefinition": {"buildType": "https://example.org"}, "unknown to SLSA": None},
    cosign.VERDICT: {"approved": True, "size_bytes": 292_000_000, "share": 0.1, "rows": ["größer", {}]},
}
# What belongs to a signed image: the SBOM for those who read no signatures, the signature, and what it says.
ALL = (cosign.SBOM_MEDIA_TYPE, cosign.SIGNATURE, *PREDICATES)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Bench:
    """A folder for the engine's log, the images of this world, and a session for each thing that is done."""

    folder: Path
    images: Images

    def do(self, work: Callable[[], Awaitable[Result]]) -> Result:
        plan = examples.plan(self.folder, images=self.images)

        async def connected() -> Result:
            async with stages.connect(plan):
                return await work()

        return anyio.run(connected)

    def sign(
        self,
        repository: Repository,
        digest: str,
        key: Key | Keyless,
        predicates: dict[str, dict[str, Any]],
        login: Credentials | None = None,
    ) -> None:
        policy = examples.policy(image={"repository": repository.address})
        plan = replace(examples.plan(self.folder, images=self.images, policy=policy), login=login)
        documents = {each: json.dumps(predicate) for each, predicate in predicates.items()}
        self.do(lambda: signer.sign_image(plan, key, digest, documents))

    def verify(
        self, repository: Repository, digest: str, key: Key, *types: str, login: Credentials | None = None
    ) -> Verified:
        async def verified() -> Verified:
            trust = PublicKey(await signer.read_public_key(self.images.cosign, key))
            return await signer.verify_image(self.images.cosign, repository.address, digest, trust, login, types)

        return self.do(verified)

    def key(self, password: str) -> Key:
        """A new one."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        return Key((keys.made(folder, password).folder / "cosign.key").read_text(), password)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("signing"), keys.pinned())


@pytest.fixture(scope="module")
def key(bench: Bench) -> Key:
    return bench.key(PASSWORD)


@dataclass(frozen=True)
class Signed:
    """An image that was signed with three predicates, and what the engine said meanwhile."""

    repository: Repository
    digest: str
    log: str


@pytest.fixture(scope="module")
def signed(bench: Bench, key: Key) -> Signed:
    repository = Repository()
    digest = repository.image("1")
    bench.sign(repository, digest, key, PREDICATES)
    return Signed(repository, digest, (bench.folder / "engine.log").read_text())


@pytest.fixture
def meddled(signed: Signed) -> Signed:
    """An image of its own, of which the meddler may write whatever he likes into the registry."""
    digest = signed.repository.image(uuid.uuid4().hex)
    return replace(signed, digest=digest)


def test_the_signature_and_every_statement_verify(bench: Bench, key: Key, signed: Signed) -> None:
    verified = bench.verify(signed.repository, signed.digest, key, *PREDICATES)
    assert verified == Verified(
        signature_failure="",
        statements={each: (Statement((signed.digest,), each, PREDICATES[each]),) for each in PREDICATES},
        failures={},
    )


def test_they_are_referrers_of_the_image(signed: Signed) -> None:
    referrers = signed.repository.referrers(signed.digest)
    assert sorted(map(type_of, referrers)) == sorted([cosign.SIGNATURE, *PREDICATES])
    assert {referrer["subject"]["digest"] for referrer in referrers} == {signed.digest}


def test_each_signing_is_done_anew(bench: Bench, key: Key) -> None:
    repository = Repository()
    digest = repository.image("1")
    for count in (1, 2):
        bench.sign(repository, digest, key, {})
        assert len(repository.referrers(digest)) == count


def test_cosign_calls_no_flag_of_ours_deprecated_and_asks_no_service(signed: Signed) -> None:
    assert "sign --yes" in signed.log
    assert [
        line for line in signed.log.splitlines() if "deprecated" in line or "WARNING" in line or "TUF" in line
    ] == []


def test_no_secret_is_in_the_engines_log(key: Key, signed: Signed) -> None:
    # It is the log of the signing.
    assert f"--type {cosign.VERDICT}" in signed.log
    assert PASSWORD not in signed.log
    lines = key.private_key.splitlines()[1:-1]
    assert lines
    assert [line for line in lines if line in signed.log] == []


def test_a_key_with_another_password_is_told_before_anything_is_signed(bench: Bench, key: Key) -> None:
    async def opened() -> None:
        # The right one first: nothing of it may be replayed.
        assert (await signer.read_public_key(bench.images.cosign, key)).startswith("-----BEGIN PUBLIC KEY-----\n")
        await signer.read_public_key(bench.images.cosign, replace(key, password=PASSWORD[:-1]))

    with pytest.raises(UsageError) as caught:
        bench.do(opened)
    assert caught.value.message == "COSIGN_KEY cannot be used: decrypt: encrypted: decryption failed"


def test_an_empty_password_is_one_as_well(bench: Bench) -> None:
    key = bench.key("")
    assert bench.do(lambda: signer.read_public_key(bench.images.cosign, key)).startswith("-----BEGIN PUBLIC KEY-----\n")


def test_another_key_verifies_nothing(bench: Bench, signed: Signed) -> None:
    verified = bench.verify(signed.repository, signed.digest, bench.key("other"), *PREDICATES)
    assert verified.statements == dict.fromkeys(PREDICATES, ())
    for reason in (verified.signature_failure, *verified.failures.values()):
        assert reason.startswith("no matching attestations: failed to verify signature: could not verify envelope:")


def test_an_image_that_nobody_signed_does_not_verify(bench: Bench, key: Key, meddled: Signed) -> None:
    verified = bench.verify(meddled.repository, meddled.digest, key, cosign.VERDICT)
    none = "no matching attestations"
    assert verified == Verified(none, {cosign.VERDICT: ()}, {cosign.VERDICT: none})


def test_the_signature_of_one_image_is_none_of_another(bench: Bench, key: Key, signed: Signed, meddled: Signed) -> None:
    meddled.repository.refer(meddled.digest, signed.repository.referrers(signed.digest))
    verified = bench.verify(meddled.repository, meddled.digest, key, *PREDICATES)
    assert verified.statements == dict.fromkeys(PREDICATES, ())
    assert "provided artifact digest does not match any digest in statement" in verified.signature_failure


def test_an_edited_predicate_is_not_one_that_was_signed(bench: Bench, key: Key) -> None:
    repository = Repository()
    digest = repository.image("1")
    bench.sign(repository, digest, key, {cosign.VERDICT: {"approved": False}, cosign.SBOM: {"components": []}})
    referrers = repository.referrers(digest)
    edited = next(referrer for referrer in referrers if type_of(referrer) == cosign.VERDICT)
    bundle = repository.bundle(edited)
    envelope = bundle["dsseEnvelope"]
    statement = base64.b64decode(envelope["payload"])
    assert statement.count(b"false") == 1
    envelope["payload"] = base64.b64encode(statement.replace(b"false", b"true")).decode()
    edited["layers"][0] |= repository.blob(json.dumps(bundle).encode())
    repository.refer(digest, referrers)

    verified = bench.verify(repository, digest, key, cosign.VERDICT, cosign.SBOM)
    assert verified.signature_failure == ""
    assert verified.statements == {
        cosign.VERDICT: (),
        cosign.SBOM: (Statement((digest,), cosign.SBOM, {"components": []}),),
    }
    refused = f"none of the attestations matched the predicate type: {cosign.VERDICT}, found: "
    assert verified.failures[cosign.VERDICT].startswith(refused)


def test_statements_alone_are_no_signature(bench: Bench, key: Key) -> None:
    repository = Repository()
    digest = repository.image("1")
    bench.sign(repository, digest, key, {cosign.VERDICT: {"approved": True}})
    repository.refer(
        digest, [referrer for referrer in repository.referrers(digest) if type_of(referrer) != cosign.SIGNATURE]
    )
    refused = f"none of the attestations matched the predicate type: {cosign.SIGNATURE}, found: {cosign.VERDICT}"
    assert bench.verify(repository, digest, key, cosign.VERDICT) == Verified(
        signature_failure=refused,
        statements={cosign.VERDICT: (Statement((digest,), cosign.VERDICT, {"approved": True}),)},
        failures={},
    )


def test_what_another_run_overwrites_is_signed_once_more(bench: Bench, key: Key) -> None:
    """Of two runs that write the list of an image's referrers at one moment the last one wins."""
    overwritten: list[dict[str, Any]] = []
    with proxy.before(REGISTRY) as door:
        repository = Repository(host=door.host)
        digest = repository.image("1")

        def overwrite() -> None:
            listed = repository.get(tag_of(digest))
            first, *others = listed["manifests"]
            if len(listed["manifests"]) == len(ALL) and not overwritten:
                overwritten.extend(others[:2])
                repository.put(tag_of(digest), {**listed, "manifests": [first, *others[2:]]})

        door.rules.append(Rule("PUT", "/manifests/sha256-", proxy.then(overwrite), ALWAYS))
        policy = examples.policy(image={"repository": repository.address})
        plan = replace(examples.plan(bench.folder, images=bench.images, policy=policy), signer=key)
        judged = examples.report(scan=examples.scan().model_copy(update={"sbom": '{"components": []}'}))

        async def attested() -> Signing:
            async with stages.connect(plan) as engine:
                return await engine.attest(Approval(examples.archive(bench.folder), digest), judged)

        signing = anyio.run(attested)
        listed = {entry["digest"] for entry in repository.get(tag_of(digest))["manifests"]}
        verified = bench.verify(repository, digest, key, *ALL[2:])
    assert signing.attached == ("signature", "SBOM", "provenance", "verdict")
    assert len(overwritten) == 2
    assert len(listed) >= len(ALL)
    assert (verified.signature_failure, dict(verified.failures)) == ("", {})


def test_a_registry_that_wants_credentials_gets_them_and_nobody_else_does(bench: Bench, key: Key) -> None:
    login = Credentials("ana", "an unlikely word")
    with guarded_registry.served(login) as host:
        repository = Repository(host=host)
        digest = repository.image("1")
        with pytest.raises(RegistryError, match=r"could not be signed: .*: UNAUTHORIZED"):
            bench.sign(repository, digest, key, {})
        bench.sign(repository, digest, key, {cosign.VERDICT: {}}, login)
        log = (bench.folder / "engine.log").read_text()
        assert bench.verify(repository, digest, key, cosign.VERDICT, login=login).signature_failure == ""
    assert "sign --yes" in log
    encoded = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
    assert not [secret for secret in (login.password, encoded) if secret in log]


def test_an_image_that_is_not_there_is_a_fault_of_the_registry(bench: Bench, key: Key) -> None:
    repository, digest = Repository(), "sha256:" + "00" * 32
    with pytest.raises(RegistryError) as caught:
        bench.sign(repository, digest, key, {})
    assert caught.value.message.startswith(
        f"{repository.address}@{digest} is in the registry, but could not be signed: "
    )
    assert "404" in caught.value.log


def test_a_cosign_that_nobody_serves_is_told(bench: Bench, key: Key) -> None:
    nowhere = f"{bench.images.cosign.partition('@')[0]}@sha256:{'0' * 64}"
    with pytest.raises(RegistryError, match=r"^cosign could not be had: "):
        bench.do(lambda: signer.read_public_key(nowhere, key))


def test_no_registry_is_told_at_once(bench: Bench, key: Key) -> None:
    nobody = Repository(host="127.0.0.1:1")
    with pytest.raises(RegistryError, match=r"no registry answers at 127\.0\.0\.1:1"):
        bench.sign(nobody, "sha256:" + "00" * 32, key, {})
    with pytest.raises(RegistryError, match=r"no registry answers at 127\.0\.0\.1:1"):
        bench.verify(nobody, "sha256:" + "00" * 32, key)


def test_a_jobs_token_is_in_no_log_either(bench: Bench, signed: Signed) -> None:
    job = Keyless("http://127.0.0.1:1/?secret-url", "secret-token")
    with pytest.raises(RegistryError, match="is in the registry, but could not be signed: ") as caught:
        bench.sign(signed.repository, signed.digest, job, {})
    said = f"{caught.value.message}\n{caught.value.log}\n{(bench.folder / 'engine.log').read_text()}"
    assert "sign --yes" in said
    assert not [secret for secret in ("secret-url", "secret-token") if secret in said]
