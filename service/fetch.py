"""Fetches files into a cache, each known by its sha256: goes on where it broke off, and keeps no wrong bytes."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from service.arriving import Progress
from service.model import ModelRefused
from service.settings import Settings, without_credentials
from service.sources import CHUNK_BYTES, Source, opened

if TYPE_CHECKING:
    from tenacity import RetryCallState

LOG = logging.getLogger("drydock.model")
# More than any contract has: whoever names the model's file instead is told before all of it is here.
CONTRACT_LIMIT_BYTES = 10_000_000
# A source that says nothing for so long is asked again.
SILENCE_SECONDS = 30.0
# The server's own word that another try may help: too slow, too early, too many requests; and a range that the source
# does not have, after which we begin anew.
PASSING_STATUSES = (408, 416, 425, 429)
# botocore's, by their names: nothing here loads it before it is needed.
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError")


class Cache:
    """The folder of files that were fetched, each under its sha256; two servers may share it."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._folder = Path(settings.cache_dir)
        self._patience_seconds = settings.fetch_seconds
        self._progress = progress

    def path_of(self, uri: str, sha256: str, size_bytes: int = 0) -> Path:
        """Where the file of this hash is, fetched from `uri` unless it is here; 0 bytes means that nobody knows.

        A file of this machine stays where it is, and its bytes have yet to be looked at: a copy of it would only take
        room. Raises ModelRefused.
        """
        parts = urlsplit(uri)
        if parts.scheme in ("", "file"):
            return Path(unquote(parts.path) if parts.scheme else uri)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # The second of two servers waits, and then finds what the first one has fetched.
            with (self._folder / f"{sha256}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                whole = self._folder / sha256
                if not (whole.exists() and _sha256(whole) == sha256):
                    Fetch(uri, whole, size_bytes, self._patience_seconds, self._progress).run()
                return whole
        except OSError as error:
            raise ModelRefused(
                f"{self._folder} cannot hold the model ({error.strerror}); let DRYDOCK_CACHE_DIR name a folder that "
                "may be written to and has room."
            ) from error


class Interrupted(Exception):
    """A fetch that broke off, and may go on; the message says how."""


class Fetch:
    """One file on its way from `uri` to `whole`, whose name is its sha256; what is here of it is kept beside that."""

    def __init__(self, uri: str, whole: Path, size_bytes: int, patience_seconds: float, progress: Progress) -> None:
        self._uri = uri
        self._shown = without_credentials(uri)
        self._whole = whole
        self._part = whole.with_suffix(".part")
        self._size_bytes = size_bytes
        self._patience_seconds = patience_seconds
        self._progress = progress
        # The most that was ever here, and since when.
        self._furthest, self._moved = 0, time.monotonic()
        self._discarded = False

    def run(self) -> None:
        """Fetch, and try again for as long as it gets any further. Raises ModelRefused, and OSError of this machine."""
        try:
            from tenacity import Retrying, retry_if_exception, wait_exponential_jitter
        except ModuleNotFoundError as error:
            raise _without_packages(self._shown, error) from error
        self._progress.total = self._size_bytes
        self._require_room()
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_exponential_jitter(multiplier=0.5, max=20, jitter=0.5),
            stop=lambda _: time.monotonic() - self._moved > self._patience_seconds,
            before_sleep=self._retrying,
            reraise=True,
        )
        started = time.monotonic()
        self._tell("fetching")
        try:
            retrying(self._once)
        except (ModelRefused, LocalError):
            raise
        except Exception as error:
            raise ModelRefused(self._explained(error)) from error
        self._tell("fetched", seconds=round(time.monotonic() - started, 3))

    def _once(self) -> None:
        # Without its size nobody could say whether half of a file is half of this one.
        start = self._part.stat().st_size if self._size_bytes and self._part.exists() else 0
        if start > self._size_bytes:
            start = 0
        self._furthest = max(self._furthest, start)
        self._progress.bytes = start
        resumed = start > 0
        if not (self._size_bytes and start == self._size_bytes):
            try:
                with opened(self._uri, start, min(SILENCE_SECONDS, self._patience_seconds)) as source:
                    self._receive(source)
            except ModuleNotFoundError as error:
                raise _without_packages(self._shown, error) from error
            except Exception as error:
                if _status(error) == 416:
                    self._part.unlink(missing_ok=True)
                raise
        if _sha256(self._part) != self._whole.name:
            refused = wrong(self._shown, self._part, self._whole.name)
            self._part.unlink()
            if resumed and not self._discarded:
                self._discarded = True
                raise Interrupted("what was here already is of other bytes, and was discarded")
            raise refused
        self._part.rename(self._whole)

    def _receive(self, source: Source) -> None:
        """Write what comes behind what is here already; all of it anew where the source begins at the beginning."""
        limit_bytes = self._size_bytes or CONTRACT_LIMIT_BYTES
        if source.size_bytes is not None:
            self._require_size(source.size_bytes)
        with self._part.open("ab") as file:
            file.truncate(source.start)
            position = source.start
            while data := source.read(CHUNK_BYTES):
                position += len(data)
                if position > limit_bytes:
                    self._require_size(position)
                with _ours():
                    file.write(data)
                    # What is not written where this process is killed has to be fetched once more.
                    file.flush()
                self._progress.bytes = position
                if position > self._furthest:
                    self._furthest, self._moved = position, time.monotonic()
            with _ours():
                os.fsync(file.fileno())
        if position < self._size_bytes:
            raise Interrupted(f"it ended after {position} of {self._size_bytes} bytes")

    def _require_size(self, size_bytes: int) -> None:
        if self._size_bytes and size_bytes != self._size_bytes:
            self._part.unlink(missing_ok=True)
            raise ModelRefused(
                f"{self._shown} has {size_bytes} bytes, and its contract says {self._size_bytes}; put the right file "
                "there."
            )
        if not self._size_bytes and size_bytes > CONTRACT_LIMIT_BYTES:
            self._part.unlink(missing_ok=True)
            raise ModelRefused(
                f"{self._shown} is too large for a contract ({size_bytes / 1e6:.1f} MB); let MODEL_URI name a "
                "model.json."
            )

    def _require_room(self) -> None:
        here = self._part.stat().st_size if self._part.exists() else 0
        needed, free = self._size_bytes - here, shutil.disk_usage(self._part.parent).free
        if needed > free:
            raise ModelRefused(
                f"{self._shown} needs {needed / 1e6:.1f} MB, and {self._part.parent} has {free / 1e6:.1f} MB free; "
                "mount a larger volume, and let DRYDOCK_CACHE_DIR name it."
            )

    def _retrying(self, state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        self._tell("trying again", error=_what(error) if error else "")

    def _tell(self, message: str, **fields: Any) -> None:  # noqa: ANN401 - whatever JSON can say
        LOG.info(message, extra={"fields": {"uri": self._shown, "bytes": self._progress.bytes, **fields}})

    def _explained(self, error: Exception) -> str:
        what, status = _what(error), _status(error)
        if isinstance(error, FileNotFoundError) or status == 404:
            return f"{self._shown} is not there; see whether MODEL_URI is written right, and the file is where it says."
        if _is_kept_out(error):
            return (
                f"{self._shown} may not be read ({what}); usually credentials are missing or too old, or nothing is "
                "there: look at the variables that give them."
            )
        if _may_pass(error):
            here = f"{self._furthest / 1e6:.1f} of {self._size_bytes / 1e6:.1f} MB" if self._size_bytes else "its start"
            return (
                f"{self._shown} could not be fetched: for {self._patience_seconds:g} s it got no further than {here} "
                f"({what}); usually the source is down, or cannot be reached from here: see whether it answers, then "
                "start again, which goes on from what is kept."
            )
        return f"{self._shown} could not be fetched ({what}); look at MODEL_URI, and at what its server says."


class LocalError(OSError):
    """Something of this machine's own broke, which no other try at the source would mend."""


@contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalError(error.errno, error.strerror) from error


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, (ModelRefused, LocalError, FileNotFoundError)) or _is_kept_out(error):
        return False
    status = _status(error)
    return isinstance(error, Exception) and (status is None or status >= 500 or status in PASSING_STATUSES)


def _is_kept_out(error: BaseException) -> bool:
    named = type(error).__name__ in NO_CREDENTIALS
    return named or isinstance(error, PermissionError) or _status(error) in (401, 403)


def _status(error: BaseException) -> int | None:
    """The status of an HTTP answer that is an error."""
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def _what(error: BaseException) -> str:
    """An error in a few words. A library's own message may have the whole URI in it."""
    if isinstance(error, Interrupted):
        return str(error)
    if status := _status(error):
        return f"HTTP {status}"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong(uri: str, path: Path, expected: str) -> ModelRefused:
    """What refuses a file that is not the expected one, by its sha256."""
    size_bytes = path.stat().st_size
    sentence = (
        f"{without_credentials(uri)} is not what its hash says: expected sha256 {expected}, got {_sha256(path)} "
        f"({size_bytes} bytes); nothing of it was loaded: "
    )
    if size_bytes <= CONTRACT_LIMIT_BYTES and expected.encode() in path.read_bytes():
        return ModelRefused(
            f"{sentence}MODEL_SHA256 is the model's, let it be that of this contract, which has the model's."
        )
    return ModelRefused(f"{sentence}put the right file there, or mend MODEL_SHA256.")


def _without_packages(shown: str, error: ModuleNotFoundError) -> ModelRefused:
    return ModelRefused(
        f"{shown} cannot be fetched by this image, which has its model inside ({error.name} is missing); build it with "
        'model = "outside" under [build] in pipeline.toml, or mount the model and name its path.'
    )
