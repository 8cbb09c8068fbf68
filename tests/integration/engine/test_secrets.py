"""The canaries: words that only a secret has, looked for wherever a run could have left them."""

from __future__ import annotations

import base64
import gzip
import re
import tarfile
import threading
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from drydock.oci.registry import PASSWORD_VARIABLE, USER_VARIABLE, Credentials
from tests.integration.engine import databases, guarded_registry, private_index
from tests.integration.engine.keys import KeyPair, made
from tests.integration.engine.private_index import Index
from tests.integration.engine.project import REGISTRY, REPOSITORY_ROOT, Finished, Project
from tests.integration.engine.repository import Repository
from tests.support import tls

LOGIN = Credentials("ana", "canary-of-the-registry-5b1f")
KEY_PASSWORD = "canary-of-the-key-77c0"  # noqa: S105 - of a key that is made for a test
INDEX_LOGIN = Credentials("ben", "canary-of-the-index-1d9e")
TOKEN = "canary-of-the-build-40b7"  # noqa: S105 - of a test
LOOK_SECONDS = 0.02


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return made(tmp_path_factory.mktemp("keys"), KEY_PASSWORD)


@pytest.fixture
def canaries(keys: KeyPair) -> list[bytes]:
    """Every form in which one of the secrets could be somewhere."""
    logins = [f"{login.user}:{login.password}" for login in (LOGIN, INDEX_LOGIN)]
    words = [LOGIN.password, INDEX_LOGIN.password, *logins, KEY_PASSWORD, TOKEN]
    key = (keys.folder / "cosign.key").read_text().splitlines()[1:-1]
    forms = [*words, *key]
    # A secret within a longer text has one of three forms in base64; what stands at its edges is its neighbours'.
    forms += [base64.b64encode(b" " * shift + word.encode())[4:-4].decode() for word in words for shift in range(3)]
    return [form.encode() for form in forms]


@contextmanager
def process_list() -> Iterator[set[bytes]]:
    """The arguments of every process of this machine, those in the engine's containers among them."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.add(path.read_bytes().replace(b"\0", b" "))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def unpacked(content: bytes) -> bytes:
    """What compressed bytes say, and themselves."""
    with suppress(OSError, EOFError, zlib.error):
        return content + gzip.decompress(content)
    return content


def left_behind(finished: Finished) -> dict[str, bytes]:
    """Every file of the report's folder, and every one within the image's archive."""
    files = {str(path): path.read_bytes() for path in finished.report_dir.rglob("*") if path.is_file()}
    with tarfile.open(finished.report_dir / "image.tar") as archive:
        for member in archive:
            if content := archive.extractfile(member):
                files[f"image.tar: {member.name}"] = unpacked(content.read())
    return files


def served(project: Project, digest: str) -> dict[str, bytes]:
    """Every manifest and blob that belongs to the image in the registry."""
    repository = Repository(project.repository)
    found = {}
    for manifest in [repository.get(digest), *repository.referrers(digest)]:
        for blob in [manifest["config"], *manifest["layers"]]:
            url = f"http://{REGISTRY}/v2/{project.repository}/blobs/{blob['digest']}"
            found[url] = unpacked(httpx.get(url).raise_for_status().content)
    return found


def installing(project: Project, lock: str) -> None:
    """Let the project train where the shipped Dockerfile has installed `lock`, and print a secret in its own image."""
    shipped = (REPOSITORY_ROOT / "Dockerfile").read_text()
    builder, environment = (
        re.search(rf"(?ms)^FROM \S+ AS {stage}$.*?(?=^FROM )", shipped) for stage in ("builder", "environment")
    )
    assert builder
    assert environment
    project.edit("Dockerfile", "FROM ${BUILDER} AS train", f"{builder[0]}{environment[0]}FROM environment AS train")
    copied = "requirements/image-${MODEL_RUNTIME}.txt requirements/image-${MODEL}.tx[t]"
    project.edit("Dockerfile", copied, "service/requirements-private.txt")
    project.edit("Dockerfile", "USER 10001", "RUN --mount=type=secret,id=token cat /run/secrets/token\nUSER 10001")
    (project.root / "service" / "requirements-private.txt").write_text(lock)
    secrets = '{pip = "env://PIP_CONF", token = "file://../token"}'
    project.edit("pipeline.toml", "[build]\n", f"[build]\nsecrets = {secrets}\n")
    (project.root.parent / "token").write_text(TOKEN)


def pip_conf(index: Index, login: Credentials) -> str:
    """The one setting that reaches pip in the build."""
    url = f"https://{login.user}:{login.password}@{private_index.HOST}/simple"
    return f"[global]\nindex-url = {url}\nproxy = {index.proxy}\n"


def test_no_secret_is_left_anywhere(tiny: Project, keys: KeyPair, canaries: list[bytes]) -> None:
    """Registry and index are elsewhere, and of an authority that nobody trusts but who reads SSL_CERT_FILE."""
    address = databases.address()
    certificates, server = tls.authority(tiny.root.parent, address, private_index.HOST)
    with (
        guarded_registry.served(LOGIN, address, server) as host,
        # No other run has built it.
        private_index.served(INDEX_LOGIN, address, server, f"RUN = {uuid.uuid4().hex!r}\n") as index,
        process_list() as arguments,
    ):
        installing(tiny, index.lock)
        environment = {
            **keys.environment,
            "DRYDOCK_REPOSITORY": f"{host}/{tiny.repository}",
            USER_VARIABLE: LOGIN.user,
            PASSWORD_VARIABLE: LOGIN.password,
            "SSL_CERT_FILE": str(certificates),
            "PIP_CONF": pip_conf(index, INDEX_LOGIN),
        }
        finished = tiny.run("--debug", environment=environment)
        installed = list(index.asked)
        # With another password nothing is installed again: no secret is in the key of a cached step.
        wrong = {"PIP_CONF": pip_conf(index, Credentials(INDEX_LOGIN.user, "another-password"))}
        again = tiny.command("train", "--report-dir", str(tiny.root / "again"), environment={**environment, **wrong})
        assert (again.exit_code, index.asked) == (0, installed), again.output
    assert finished.exit_code == 0, finished.output
    assert finished.row("signed and attested")["verdict"] == "PASS"
    digest = finished.report["publication"]["digest"]
    places = {
        "the terminal": finished.output.encode(),
        **{f"the process list: {line[:80]!r}": line for line in arguments},
        **left_behind(finished),
        **served(tiny, digest),
    }
    # All of it was really looked at: the engine's log, the signer's process, the attestations.
    assert any(line.startswith(b"cosign sign ") for line in arguments)
    assert b"cosign" in places[str(finished.report_dir / "engine.log")]
    assert b"cat /run/secrets/token" in places[str(finished.report_dir / "engine.log")]
    assert [f"/simple/{private_index.NAME}/", f"/files/{private_index.WHEEL}"] == installed
    assert any(b"dev.drydock" in content or b"drydock.dev" in content for content in served(tiny, digest).values())
    assert {place for place, content in places.items() if any(canary in content for canary in canaries)} == set()


@pytest.mark.parametrize("form", range(3))
def test_a_canary_is_found_in_base64_wherever_it_begins(canaries: list[bytes], form: int) -> None:
    hidden = base64.b64encode(b"x" * form + f"{LOGIN.user}:{LOGIN.password}".encode() + b"and more")
    assert any(canary in hidden for canary in canaries)
