"""The canaries: words that only a secret has, looked for wherever a run could have left them."""

from __future__ import annotations

import base64
import gzip
import tarfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from registry import PASSWORD_VARIABLE, USER_VARIABLE, Credentials
from tests.engine import guarded_registry
from tests.engine.keys import KeyPair, made
from tests.engine.project import REGISTRY, Finished, Project
from tests.engine.repository import Repository

LOGIN = Credentials("ana", "canary-of-the-registry-5b1f")
KEY_PASSWORD = "canary-of-the-key-77c0"  # noqa: S105 - of a key that is made for a test
LOOK_SECONDS = 0.02


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return made(tmp_path_factory.mktemp("keys"), KEY_PASSWORD)


@pytest.fixture
def canaries(keys: KeyPair) -> list[bytes]:
    """Every form in which one of the secrets could be somewhere."""
    words = [LOGIN.password, f"{LOGIN.user}:{LOGIN.password}", KEY_PASSWORD]
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


def test_no_secret_is_left_anywhere(tiny: Project, keys: KeyPair, canaries: list[bytes]) -> None:
    with guarded_registry.served(LOGIN) as host, process_list() as arguments:
        finished = tiny.run(
            "--debug",
            environment={
                **keys.environment,
                "DRYDOCK_REPOSITORY": f"{host}/{tiny.repository}",
                USER_VARIABLE: LOGIN.user,
                PASSWORD_VARIABLE: LOGIN.password,
            },
        )
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
    assert any(b"dev.drydock" in content or b"drydock.dev" in content for content in served(tiny, digest).values())
    assert {place for place, content in places.items() if any(canary in content for canary in canaries)} == set()


@pytest.mark.parametrize("form", range(3))
def test_a_canary_is_found_in_base64_wherever_it_begins(canaries: list[bytes], form: int) -> None:
    hidden = base64.b64encode(b"x" * form + f"{LOGIN.user}:{LOGIN.password}".encode() + b"and more")
    assert any(canary in hidden for canary in canaries)
