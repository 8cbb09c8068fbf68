"""Downloads a file that is named by its hash. A broken download resumes, and nothing is used before it is verified."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from service.contract import ModelLoadError
from service.logging_setup import MODEL_LOG
from service.settings import Settings, redact_uri
from service.storage.progress import LoadProgress
from service.storage.uri import CHUNK_BYTES, RemoteFile, open_uri

if TYPE_CHECKING:
    from tenacity import RetryCallState

# More than any contract has. Somebody who names the model's file instead gets an error before all of it is downloaded.
MAX_CONTRACT_BYTES = 10_000_000
# A server that sends nothing for so long gets a new request.
READ_TIMEOUT_SECONDS = 30.0
# Another try may help after a timeout, "too early" and "too many requests". If the server does not have the range, the
# download starts over.
TRANSIENT_STATUSES = (408, 416, 425, 429)
# botocore's errors, by their names: it is not imported before it is needed.
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError")


class ModelCache:
    """A folder of downloaded files, each named by its sha256. Two servers may share it."""

    def __init__(self, settings: Settings, progress: LoadProgress) -> None:
        self._folder = Path(settings.cache_dir)
        self._stall_seconds = settings.download_stall_seconds
        self._progress = progress

    def ensure(self, uri: str, sha256: str, size_bytes: int = 0) -> Path:
        """The path of the file of this hash, downloaded from `uri` if it is not here; 0 bytes: its size is not known.

        A local file is not copied, so its hash is not verified here. Raises ModelLoadError.
        """
        parts = urlsplit(uri)
        if parts.scheme in ("", "file"):
            return Path(unquote(parts.path) if parts.scheme else uri)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # The second of two servers waits here, and then finds what the first one has downloaded.
            with (self._folder / f"{sha256}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                path = self._folder / sha256
                if not (path.exists() and _sha256(path) == sha256):
                    Download(uri, path, size_bytes, self._stall_seconds, self._progress).run()
                return path
        except OSError as error:
            raise ModelLoadError(
                f"{self._folder} cannot hold the model ({error.strerror}); set DRYDOCK_CACHE_DIR to a writable folder "
                "with free space."
            ) from error


class IncompleteDownload(Exception):
    """A download that ended early, and may resume; the message says how it ended."""


class Download:
    """Downloads `uri` to `path`, whose name is its sha256. An incomplete file is kept beside it as `.part`."""

    def __init__(self, uri: str, path: Path, size_bytes: int, stall_seconds: float, progress: LoadProgress) -> None:
        self._uri = uri
        self._redacted = redact_uri(uri)
        self._path = path
        self._part = path.with_suffix(".part")
        self._size_bytes = size_bytes
        self._stall_seconds = stall_seconds
        self._progress = progress
        # The most bytes that were ever here, and since when.
        self._max_bytes, self._advanced_at = 0, time.monotonic()
        self._discarded = False

    def run(self) -> None:
        """Download, and try again as long as there is progress. Raises ModelLoadError, and OSError of this machine."""
        try:
            from tenacity import Retrying, retry_if_exception, wait_exponential_jitter
        except ModuleNotFoundError as error:
            raise _missing_packages(self._redacted, error) from error
        self._progress.total_bytes = self._size_bytes
        self._check_disk_space()
        retrying = Retrying(
            retry=retry_if_exception(_is_transient),
            wait=wait_exponential_jitter(multiplier=0.5, max=20, jitter=0.5),
            stop=lambda _: time.monotonic() - self._advanced_at > self._stall_seconds,
            before_sleep=self._log_retry,
            reraise=True,
        )
        started = time.monotonic()
        self._log("downloading")
        try:
            retrying(self._attempt)
        except (ModelLoadError, LocalError):
            raise
        except Exception as error:
            raise ModelLoadError(self._explain(error)) from error
        self._log("downloaded", seconds=round(time.monotonic() - started, 3))

    def _attempt(self) -> None:
        # Without the size, nobody could say whether half a file is half of this one.
        start = self._part.stat().st_size if self._size_bytes and self._part.exists() else 0
        if start > self._size_bytes:
            start = 0
        self._max_bytes = max(self._max_bytes, start)
        self._progress.bytes = start
        resumed = start > 0
        if not (self._size_bytes and start == self._size_bytes):
            try:
                with open_uri(self._uri, start, min(READ_TIMEOUT_SECONDS, self._stall_seconds)) as remote:
                    self._receive(remote)
            except ModuleNotFoundError as error:
                raise _missing_packages(self._redacted, error) from error
            except Exception as error:
                if _status(error) == 416:
                    self._part.unlink(missing_ok=True)
                raise
        if _sha256(self._part) != self._path.name:
            mismatch = hash_mismatch(self._redacted, self._part, self._path.name)
            self._part.unlink()
            if resumed and not self._discarded:
                self._discarded = True
                raise IncompleteDownload("the part that was here already is of another file, and was deleted")
            raise mismatch
        self._part.rename(self._path)

    def _receive(self, remote: RemoteFile) -> None:
        """Append what arrives to the part that is here; start over if the server sends the file from its beginning."""
        max_bytes = self._size_bytes or MAX_CONTRACT_BYTES
        if remote.size_bytes is not None:
            self._check_size(remote.size_bytes)
        with self._part.open("ab") as file:
            file.truncate(remote.start)
            position = remote.start
            while data := remote.read(CHUNK_BYTES):
                position += len(data)
                if position > max_bytes:
                    self._check_size(position)
                with _local_errors():
                    file.write(data)
                    # What is not flushed is lost if this process is killed.
                    file.flush()
                self._progress.bytes = position
                if position > self._max_bytes:
                    self._max_bytes, self._advanced_at = position, time.monotonic()
            with _local_errors():
                os.fsync(file.fileno())
        if position < self._size_bytes:
            raise IncompleteDownload(f"it ended after {position} of {self._size_bytes} bytes")

    def _check_size(self, size_bytes: int) -> None:
        if self._size_bytes and size_bytes != self._size_bytes:
            self._part.unlink(missing_ok=True)
            raise ModelLoadError(
                f"{self._redacted} has {size_bytes} bytes, but its contract says {self._size_bytes}; put the right "
                "file there."
            )
        if not self._size_bytes and size_bytes > MAX_CONTRACT_BYTES:
            self._part.unlink(missing_ok=True)
            raise ModelLoadError(
                f"{self._redacted} is too large for a contract ({size_bytes / 1e6:.1f} MB); let MODEL_URI name a "
                "model.json."
            )

    def _check_disk_space(self) -> None:
        here = self._part.stat().st_size if self._part.exists() else 0
        needed, free = self._size_bytes - here, shutil.disk_usage(self._part.parent).free
        if needed > free:
            raise ModelLoadError(
                f"{self._redacted} needs {needed / 1e6:.1f} MB, but {self._part.parent} has {free / 1e6:.1f} MB free; "
                "mount a larger volume, and set DRYDOCK_CACHE_DIR to it."
            )

    def _log_retry(self, state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        self._log("trying again", error=_summarize(error) if error else "")

    def _log(self, message: str, **fields: Any) -> None:  # noqa: ANN401 - whatever JSON can say
        MODEL_LOG.info(message, extra={"fields": {"uri": self._redacted, "bytes": self._progress.bytes, **fields}})

    def _explain(self, error: Exception) -> str:
        summary, status = _summarize(error), _status(error)
        if isinstance(error, FileNotFoundError) or status == 404:
            return f"{self._redacted} does not exist; check MODEL_URI, and that the file is where it says."
        if _is_access_denied(error):
            return (
                f"{self._redacted} may not be read ({summary}); usually the credentials are missing or expired, or "
                "the file does not exist: check the variables that give them."
            )
        if _is_transient(error):
            got = f"{self._max_bytes / 1e6:.1f} of {self._size_bytes / 1e6:.1f} MB" if self._size_bytes else "its start"
            return (
                f"{self._redacted} could not be downloaded: it made no progress beyond {got} for "
                f"{self._stall_seconds:g} s ({summary}); usually the server is down, or not reachable from here: check "
                "that it answers, then start again, which resumes the download."
            )
        return f"{self._redacted} could not be downloaded ({summary}); check MODEL_URI and the log of its server."


class LocalError(OSError):
    """An error of this machine, which another try at the server would not fix."""


@contextmanager
def _local_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalError(error.errno, error.strerror) from error


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, (ModelLoadError, LocalError, FileNotFoundError)) or _is_access_denied(error):
        return False
    status = _status(error)
    return isinstance(error, Exception) and (status is None or status >= 500 or status in TRANSIENT_STATUSES)


def _is_access_denied(error: BaseException) -> bool:
    no_credentials = type(error).__name__ in NO_CREDENTIALS
    return no_credentials or isinstance(error, PermissionError) or _status(error) in (401, 403)


def _status(error: BaseException) -> int | None:
    """The status of an HTTP error."""
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def _summarize(error: BaseException) -> str:
    """An error in a few words. The message of a library's error may contain the whole URI."""
    if isinstance(error, IncompleteDownload):
        return str(error)
    if status := _status(error):
        return f"HTTP {status}"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_mismatch(uri: str, path: Path, expected_sha256: str) -> ModelLoadError:
    """The error of a file that does not have the expected sha256."""
    size_bytes = path.stat().st_size
    sentence = (
        f"{redact_uri(uri)} is not the expected file: expected sha256 {expected_sha256}, got {_sha256(path)} "
        f"({size_bytes} bytes); nothing of it was loaded: "
    )
    if size_bytes <= MAX_CONTRACT_BYTES and expected_sha256.encode() in path.read_bytes():
        return ModelLoadError(f"{sentence}MODEL_SHA256 is the model's; set it to the hash of this contract.")
    return ModelLoadError(f"{sentence}put the right file there, or correct MODEL_SHA256.")


def _missing_packages(redacted: str, error: ModuleNotFoundError) -> ModelLoadError:
    return ModelLoadError(
        f"{redacted} cannot be downloaded by this image, whose model is embedded ({error.name} is missing); build it "
        'with model = "remote" under [build] in pipeline.toml, or mount the model and name its path.'
    )
