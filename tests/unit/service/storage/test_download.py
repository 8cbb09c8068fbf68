"""What is fetched is whole and right, or is not there; over real HTTP, from a server that fails half-way."""

from __future__ import annotations

import hashlib
import resource
import shutil
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.contract import ModelLoadError
from service.settings import Settings
from service.storage.download import ModelCache
from service.storage.progress import LoadProgress
from tests.support.flaky_server import TIMEOUT_SECONDS, FlakyServer, flaky_server

MODEL, OTHER = (hashlib.shake_256(name).digest(300_000) for name in (b"model", b"other"))
SHA256 = hashlib.sha256(MODEL).hexdigest()
HALF = 150_000


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def source(cache: Path) -> Iterator[FlakyServer]:
    def arrived(position: int) -> bool:
        part = cache / f"{SHA256}.part"
        return part.exists() and part.stat().st_size >= position

    with flaky_server() as server:
        server.files["/model"] = MODEL
        server.arrived = arrived
        yield server


def fetched(
    source: FlakyServer, cache: Path, size_bytes: int = len(MODEL), path: str = "/model", seconds: float = 5
) -> Path:
    settings = Settings(cache_dir=str(cache), download_stall_seconds=seconds)
    return ModelCache(settings, LoadProgress()).ensure(f"{source.url}{path}", SHA256, size_bytes)


def refused(source: FlakyServer, cache: Path, size_bytes: int = len(MODEL)) -> str:
    with pytest.raises(ModelLoadError) as refusal:
        fetched(source, cache, size_bytes)
    return str(refusal.value)


def kept(cache: Path) -> dict[str, bytes]:
    """What the cache holds, but for its locks."""
    return {path.name: path.read_bytes() for path in cache.iterdir() if path.suffix != ".lock"}


def leave_half(cache: Path, content: bytes) -> None:
    cache.mkdir()
    (cache / f"{SHA256}.part").write_bytes(content)


def test_what_is_fetched_lies_under_its_hash_and_is_not_fetched_again(source: FlakyServer, cache: Path) -> None:
    for _ in range(2):
        assert fetched(source, cache) == cache / SHA256
        assert kept(cache) == {SHA256: MODEL}
    assert source.asked == [("/model", "")]
    # A part of what a proxy has compressed is no part of the file.
    assert source.headers[0]["Accept-Encoding"] == "identity"


def test_a_kept_file_that_has_changed_is_fetched_again(source: FlakyServer, cache: Path) -> None:
    fetched(source, cache)
    (cache / SHA256).write_bytes(OTHER)
    fetched(source, cache)
    assert kept(cache) == {SHA256: MODEL}
    assert len(source.asked) == 2


def test_a_fetch_that_is_cut_goes_on_where_it_broke_off(source: FlakyServer, cache: Path) -> None:
    source.cuts["/model"] = [100_000, 50_000]
    fetched(source, cache)
    assert kept(cache) == {SHA256: MODEL}
    assert source.asked == [("/model", ""), ("/model", "bytes=100000-"), ("/model", "bytes=150000-")]


def test_a_cut_is_seen_where_nobody_says_the_length(source: FlakyServer, cache: Path) -> None:
    source.says_length = False
    source.cuts["/model"] = [100_000]
    fetched(source, cache)
    assert kept(cache) == {SHA256: MODEL}
    assert source.ranges_of("/model") == ["", "bytes=100000-"]


def test_a_half_that_an_earlier_process_left_is_gone_on_with(source: FlakyServer, cache: Path) -> None:
    leave_half(cache, MODEL[:HALF])
    fetched(source, cache)
    assert kept(cache) == {SHA256: MODEL}
    assert source.asked == [("/model", "bytes=150000-")]


def test_what_has_come_is_kept_though_nothing_follows(source: FlakyServer, cache: Path) -> None:
    # Few enough for a buffer, which would be lost with its process.
    source.holds["/model"] = 5_000
    thread = threading.Thread(target=fetched, args=(source, cache))
    thread.start()
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not source.arrived(5_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert kept(cache) == {f"{SHA256}.part": MODEL[:5_000]}
    source.go_on.set()
    thread.join()
    assert kept(cache) == {SHA256: MODEL}


def test_a_whole_that_was_not_yet_named_needs_no_network(source: FlakyServer, cache: Path) -> None:
    leave_half(cache, MODEL)
    fetched(source, cache)
    assert (kept(cache), source.asked) == ({SHA256: MODEL}, [])


@pytest.mark.parametrize(
    ("half", "ranges"),
    [
        pytest.param(OTHER[:HALF], ["bytes=150000-", ""], id="of other bytes"),
        pytest.param(OTHER, [""], id="whole, and of other bytes"),
        pytest.param(MODEL + b"more", [""], id="longer than the file"),
        pytest.param(b"", [""], id="empty"),
    ],
)
def test_a_half_of_something_else_is_discarded(
    half: bytes, ranges: list[str], source: FlakyServer, cache: Path
) -> None:
    leave_half(cache, half)
    fetched(source, cache)
    assert kept(cache) == {SHA256: MODEL}
    assert source.ranges_of("/model") == ranges


def test_where_the_server_knows_no_ranges_the_half_is_discarded(source: FlakyServer, cache: Path) -> None:
    source.knows_ranges = False
    leave_half(cache, MODEL[:HALF])
    fetched(source, cache)
    assert kept(cache) == {SHA256: MODEL}


def test_a_file_that_changed_between_two_halves_is_fetched_anew(source: FlakyServer, cache: Path) -> None:
    source.turns = [OTHER]
    source.cuts["/model"] = [HALF]
    fetched(source, cache)
    assert kept(cache) == {SHA256: MODEL}
    assert source.ranges_of("/model") == ["", "bytes=150000-", ""]


def test_wrong_bytes_are_refused_and_not_kept(source: FlakyServer, cache: Path) -> None:
    source.files["/model"] = OTHER
    assert refused(source, cache) == (
        f"{source.url}/model is not the expected file: expected sha256 {SHA256}, got "
        f"{hashlib.sha256(OTHER).hexdigest()} (300000 bytes); nothing of it was loaded: put the right file there, "
        f"or correct MODEL_SHA256."
    )
    assert kept(cache) == {}
    assert len(source.asked) == 1


def test_wrong_bytes_stay_refused_where_a_half_was_discarded_before(source: FlakyServer, cache: Path) -> None:
    source.files["/model"] = OTHER
    leave_half(cache, MODEL[:HALF])
    assert " is not the expected file: " in refused(source, cache)
    assert kept(cache) == {}
    assert source.ranges_of("/model") == ["bytes=150000-", ""]


@pytest.mark.parametrize("content", [MODEL[:-1], MODEL + b"!"])
def test_a_file_of_another_size_is_refused_before_it_is_fetched(
    content: bytes, source: FlakyServer, cache: Path
) -> None:
    source.files["/model"] = content
    source.holds["/model"] = 0
    assert refused(source, cache) == (
        f"{source.url}/model has {len(content)} bytes, but its contract says 300000; put the right file there."
    )
    assert kept(cache) == {}


def test_a_file_that_is_shorter_than_its_half_is_refused(source: FlakyServer, cache: Path) -> None:
    source.files["/model"] = MODEL[:1000]
    leave_half(cache, MODEL[:HALF])
    assert refused(source, cache) == (
        f"{source.url}/model has 1000 bytes, but its contract says 300000; put the right file there."
    )
    assert source.ranges_of("/model") == ["bytes=150000-", ""]


def test_an_endless_file_is_not_kept(source: FlakyServer, cache: Path) -> None:
    source.says_length = False
    source.files["/model"] = MODEL + OTHER
    assert "but its contract says 300000" in refused(source, cache)
    assert kept(cache) == {}


def test_what_is_too_large_for_a_contract_is_refused(source: FlakyServer, cache: Path) -> None:
    source.files["/model"] = bytes(10_000_001)
    source.holds["/model"] = 0
    assert refused(source, cache, size_bytes=0) == (
        f"{source.url}/model is too large for a contract (10.0 MB); let MODEL_URI name a model.json."
    )


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_that_may_pass_is_waited_for(status: int, source: FlakyServer, cache: Path) -> None:
    source.statuses = [status, status]
    fetched(source, cache)
    assert len(source.asked) == 3


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (404, "does not exist; check MODEL_URI, and that the file is where it says."),
        (
            403,
            "may not be read (HTTP 403); usually the credentials are missing or expired, or the file does not "
            "exist: check the variables that give them.",
        ),
        (410, "could not be downloaded (HTTP 410); check MODEL_URI and the log of its server."),
    ],
)
def test_an_answer_that_will_not_pass_ends_it_at_once(
    status: int, sentence: str, source: FlakyServer, cache: Path
) -> None:
    source.statuses = [status]
    assert refused(source, cache) == f"{source.url}/model {sentence}"
    assert len(source.asked) == 1


def test_it_gives_up_where_it_gets_no_further_and_keeps_the_half(source: FlakyServer, cache: Path) -> None:
    source.cuts["/model"] = [HALF]
    source.statuses = [200, *[503] * 100]
    with pytest.raises(ModelLoadError) as refusal:
        fetched(source, cache, seconds=1)
    assert str(refusal.value) == (
        f"{source.url}/model could not be downloaded: it made no progress beyond 0.1 of 0.3 MB for 1 s (HTTP 503); "
        f"usually the server is down, or not reachable from here: check that it answers, then start again, which "
        f"resumes the download."
    )
    assert kept(cache) == {f"{SHA256}.part": MODEL[:HALF]}


def test_it_gives_up_on_a_source_that_is_silent(source: FlakyServer, cache: Path) -> None:
    source.holds["/model"] = HALF
    with pytest.raises(ModelLoadError) as refusal:
        fetched(source, cache, seconds=0.5)
    assert "it made no progress beyond 0.1 of 0.3 MB for 0.5 s (FSTimeoutError)" in str(refusal.value)


def test_it_gives_up_where_nobody_listens(cache: Path) -> None:
    with pytest.raises(ModelLoadError) as refusal:
        ModelCache(Settings(cache_dir=str(cache), download_stall_seconds=0.5), LoadProgress()).ensure(
            "http://127.0.0.1:1/model", SHA256
        )
    assert "it made no progress beyond its start for 0.5 s (Connect call failed ('127.0.0.1', 1))" in str(refusal.value)


def test_no_room_is_said_before_anything_is_fetched(
    source: FlakyServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_half(cache, MODEL[:HALF])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, HALF - 1))
    assert refused(source, cache) == (
        f"{source.url}/model needs 0.1 MB, but {cache} has 0.1 MB free; mount a larger volume, and set "
        f"DRYDOCK_CACHE_DIR to it."
    )
    assert source.asked == []
    # What is here already needs no room.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, HALF))
    fetched(source, cache)


def test_a_cache_that_cannot_be_written_is_said(source: FlakyServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused(source, tmp_path / "file" / "cache") == (
        f"{tmp_path}/file/cache cannot hold the model (Not a directory); set DRYDOCK_CACHE_DIR to a writable "
        f"folder with free space."
    )


def test_a_disk_that_takes_no_more_ends_it_at_once(source: FlakyServer, cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        sentence = refused(source, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sentence == (
        f"{cache} cannot hold the model (File too large); set DRYDOCK_CACHE_DIR to a writable folder with free space."
    )
    assert len(source.asked) == 1


def test_of_two_that_need_one_file_the_second_finds_what_the_first_fetched(source: FlakyServer, cache: Path) -> None:
    source.holds["/model"] = HALF
    found: list[Path] = []
    both = [threading.Thread(target=lambda: found.append(fetched(source, cache))) for _ in range(2)]
    for thread in both:
        thread.start()
    source.go_on.set()
    for thread in both:
        thread.join()
    assert found == [cache / SHA256] * 2
    assert source.asked == [("/model", "")]


@pytest.mark.parametrize("uri", ["file://{}/a%20model", "{}/a model"])
def test_a_file_of_this_machine_stays_where_it_is(uri: str, tmp_path: Path, cache: Path) -> None:
    found = ModelCache(Settings(cache_dir=str(cache)), LoadProgress()).ensure(uri.format(tmp_path), SHA256)
    assert found == tmp_path / "a model"
    assert not cache.exists()
