"""Compares what is built with the commit that it is called by.

By the bytes: `git status` passes over files that are ignored or marked, and over what a setting has changed.
"""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from drydock.errors import UsageError
from drydock.tools import git

SUBMODULE = b"160000"
LINK = b"120000"
SHA256_DIGITS = 64
BLOCK_BYTES = 1024 * 1024
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: a pointer has less than 1024 bytes.
LFS_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:(?P<sha256>[0-9a-f]{64})\n(?:.*\n)*"
)
POINTER_BYTES = 1024


@dataclass(frozen=True)
class Model:
    """A trained model that a run takes as it is: its file, and the sha256 that its contract records of it.

    `description` has the contract, and then the training rows if they came with it.
    """

    file: Path
    description: tuple[Path, ...]
    sha256: str


@dataclass(frozen=True)
class Inputs:
    """What a build takes from the checkout: patterns of its context, single files, and a model that came trained."""

    patterns: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    model: Model | None = None


NOTHING = Inputs()


@dataclass(frozen=True)
class Change:
    """A file that is not as the commit has it, by its path from the folder of the build, and why."""

    path: str
    why: str

    def __str__(self) -> str:
        """As a sentence names it; a name that is no text, or steers a terminal, is escaped."""
        shown = git.encode_path(self.path).decode("utf-8", "backslashreplace")
        return f"{''.join(each if each.isprintable() else ascii(each)[1:-1] for each in shown)} ({self.why})"


@dataclass(frozen=True)
class _Commit:
    """The files of HEAD: mode and object by their path from the top of the repository."""

    top: Path
    files: dict[bytes, tuple[bytes, str]]


def list_changes(root: Path, inputs: Inputs) -> tuple[Change, ...]:
    """All that is in the checkout at `root` and not in its commit, by path: what git sees, and what it passes over.

    What git passes over counts if the build takes it: ignored files, those marked as unchanged, and contents that a
    setting of this machine has changed on the way out of the repository. `__pycache__` is never built. Raises
    UsageError if git fails, and git.NoRepository.
    """
    root = root.resolve()
    top = Path(git.decode_path(git.run_git(root, "rev-parse", "--show-toplevel").removesuffix(b"\n")))
    if not root.is_relative_to(top):
        raise UsageError(
            f"the repository of {root} has its work tree elsewhere, in {top}",
            likely_cause="core.worktree in .git/config names another folder",
            next_step="git config --unset core.worktree, or run in that folder",
        )
    commit = _Commit(top, dict(_read_tree(top)))
    found = dict(_read_status(top))
    for path, must_be_there in _paths_to_compare(root, commit, inputs):
        if path not in found and (why := _compare_file(commit, path, must_be_there=must_be_there)):
            found[path] = why
    named = {os.path.relpath(top / git.decode_path(path), root): why for path, why in found.items()}
    if inputs.model and (why := _compare_model(commit, inputs.model, set(found))):
        named[os.path.relpath(inputs.model.file, root)] = why
    named |= {str(file): "not in this repository" for file in inputs.files if not file.is_relative_to(top)}
    return tuple(Change(path, why) for path, why in sorted(named.items()))


def is_committed(root: Path, model: Model) -> bool:
    """Whether the commit has a model, its contract and its training rows as they are here, or vouches for them."""
    try:
        changes = list_changes(root, Inputs(files=model.description, model=model))
    except git.NoRepository:
        return False
    changed = {os.path.normpath(root.resolve() / change.path) for change in changes}
    return changed.isdisjoint(map(str, (*model.description, model.file)))


def _read_status(top: Path) -> Iterator[tuple[bytes, str]]:
    said = git.run_git(
        top, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignore-submodules=none", "--no-renames"
    )
    for entry in filter(None, said.split(b"\0")):
        state, path = entry[:2], entry[3:]
        yield path, "new" if state == b"??" else "missing" if b"D" in state else "changed"


def _read_tree(top: Path) -> Iterator[tuple[bytes, tuple[bytes, str]]]:
    for entry in filter(None, git.run_git(top, "ls-tree", "-r", "-z", "--full-tree", "HEAD").split(b"\0")):
        described, path = entry.split(b"\t", 1)
        mode, _, name = described.split(b" ")
        yield path, (mode, name.decode())


def _paths_to_compare(root: Path, commit: _Commit, inputs: Inputs) -> Iterator[tuple[bytes, bool]]:
    """The paths to compare, and whether each must be there since the build takes it."""
    top = commit.top
    submodules = (path for path, (mode, _) in commit.files.items() if mode == SUBMODULE)
    taken = set(_match_files(root, top, inputs.patterns, submodules))
    taken |= {git.encode_path(os.path.relpath(path, top)) for path in inputs.files if path.is_relative_to(top)}
    # h is assumed to be unchanged, S is not checked out; lower case says that it is both.
    for entry in filter(None, git.run_git(top, "ls-files", "-z", "-v").split(b"\0")):
        flag, path = entry[:1], entry[2:]
        if path not in taken and (flag == b"S" or flag.islower()):
            yield path, False
    for path in taken:
        yield path, True


def _match_files(root: Path, top: Path, patterns: Sequence[str], submodules: Iterator[bytes]) -> Iterator[bytes]:
    """The files that the patterns take, tracked or not. A pattern that takes a folder takes all that is in it.

    A pattern that begins with ! gives files back if no other comes after it, as in a .dockerignore.
    """
    last = max((number for number, pattern in enumerate(patterns) if not pattern.startswith("!")), default=-1)
    words, plains = [], []
    for number, pattern in enumerate(patterns):
        plain = posixpath.normpath(pattern.removeprefix("!").strip())
        # What begins with a slash takes all that there is: so the engine reads it.
        plain = "**" if plain == "." or plain.startswith("/") else plain
        if not pattern.startswith("!"):
            words += [f":(glob){plain}", f":(glob){plain}/**"]
            plains.append(plain)
        elif number > last and plain != "**":
            words += [f":(exclude,glob){plain}", f":(exclude,glob){plain}/**"]
    if not plains:
        return
    listed = git.run_git(root, "ls-files", "-z", "--cached", "--others", "--full-name", "--", *words)
    for path in filter(None, listed.split(b"\0")):
        if b"__pycache__" not in path.split(b"/"):
            yield path
    for path in submodules:
        folder = os.path.relpath(top / git.decode_path(path), root)
        if any(_reaches_into(plain, folder) for plain in plains):
            yield path


def _reaches_into(pattern: str, folder: str) -> bool:
    """Whether a pattern can take files of a folder that git does not look into, a submodule."""
    if "**" not in pattern and pattern.count("/") <= folder.count("/"):
        return False
    fixed = re.split(r"[*?\[\\]", pattern, maxsplit=1)[0]
    return folder.startswith(fixed) or fixed.startswith(f"{folder}/")


def _compare_file(commit: _Commit, path: bytes, *, must_be_there: bool) -> str:
    """Why a file is not as the commit has it; empty if it is."""
    known, file = commit.files.get(path), commit.top / git.decode_path(path)
    try:
        status = file.lstat()
    except OSError:
        return "missing" if known and must_be_there else ""
    if known is None:
        return "not in the commit"
    mode, name = known
    if mode == SUBMODULE:
        return _compare_submodule(file, name)
    if mode != _get_mode(status):
        return "another mode" if stat.S_ISREG(status.st_mode) else "another kind of file"
    if mode == LINK:
        return "" if _compute_object_name(os.fsencode(file.readlink()), name) == name else "changed"
    try:
        same = _compute_file_object_name(file, status.st_size, name) == name
        if same:
            is_pointer = status.st_size < POINTER_BYTES and LFS_POINTER.fullmatch(file.read_bytes())
            return "a Git LFS pointer and not the file: git lfs pull" if is_pointer else ""
        return "" if _is_restored(commit, path, file, name) else "not the bytes of the commit"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _get_mode(status: os.stat_result) -> bytes:
    if stat.S_ISLNK(status.st_mode):
        return LINK
    if not stat.S_ISREG(status.st_mode):
        return b""
    return b"100755" if status.st_mode & stat.S_IXUSR else b"100644"


def _is_restored(commit: _Commit, path: bytes, file: Path, name: str) -> bool:
    """Whether the commit itself says how the file comes from its blob: by the hash of Git LFS, or an attribute `eol`.

    A filter, or a setting such as core.autocrlf, is this machine's own, and another checkout has other bytes.
    """
    blob = git.run_git(commit.top, "cat-file", "blob", name)
    pointer = LFS_POINTER.fullmatch(blob) if len(blob) < POINTER_BYTES else None
    if pointer:
        return _compute_file_sha256(file) == pointer["sha256"].decode()
    attribute = git.run_git(commit.top, "check-attr", "-z", "eol", "--", git.decode_path(path)).split(b"\0")
    return attribute[2:3] == [b"crlf"] and file.read_bytes().replace(b"\r\n", b"\n") == blob


def _compare_submodule(folder: Path, commit: str) -> str:
    if not (folder / ".git").exists():
        return "a submodule that is not checked out: git submodule update --init"
    if git.try_git(folder, "rev-parse", "--verify", "HEAD") != commit:
        return "a submodule at another commit"
    inside = list_changes(folder, Inputs(patterns=(".",)))
    return f"a submodule with {inside[0]}" if inside else ""


def _compare_model(commit: _Commit, model: Model, changed: set[bytes]) -> str:
    """A contract that is in the commit vouches for its model's bytes, which may be too many for git."""
    if not model.file.exists():
        return ""
    paths = [git.encode_path(os.path.relpath(path, commit.top)) for path in (model.description[0], model.file)]
    if paths[0] in commit.files and paths[0] not in changed:
        return "" if _compute_file_sha256(model.file) == model.sha256 else "not the model of its contract"
    return "" if paths[1] in commit.files and paths[1] not in changed else "a model that git does not hold"


def _compute_object_name(content: bytes, like: str) -> str:
    """The name that git gives to a blob, by the hash that the repository uses."""
    return _compute_digest(io.BytesIO(content), _choose_algorithm(like), _create_head(len(content)))


def _compute_file_object_name(file: Path, size_bytes: int, like: str) -> str:
    with file.open("rb") as content:
        return _compute_digest(content, _choose_algorithm(like), _create_head(size_bytes))


def _compute_file_sha256(file: Path) -> str:
    with file.open("rb") as content:
        return _compute_digest(content, "sha256")


def _choose_algorithm(name: str) -> str:
    return "sha256" if len(name) == SHA256_DIGITS else "sha1"


def _create_head(size_bytes: int) -> bytes:
    return b"blob %d\0" % size_bytes


def _compute_digest(content: IO[bytes], algorithm: str, head: bytes = b"") -> str:
    found = hashlib.new(algorithm, head, usedforsecurity=False)
    while block := content.read(BLOCK_BYTES):
        found.update(block)
    return found.hexdigest()
