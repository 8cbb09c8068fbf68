"""Asks git, so that neither the user's configuration nor the environment changes an answer."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from drydock.errors import UsageError

# A name that git gives may be no UTF-8; it stays the same bytes, and is shown with replacements.
NAMES = ("utf-8", "surrogateescape")
# These name another repository, index or way of reading paths than the folder's own; a git hook sets some of them.
# What says which configuration files there are stays: a container may trust its folders nowhere else.
KEPT_VARIABLES = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_COUNT", "GIT_EXEC_PATH")
KEPT_PREFIXES = ("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_")
OWN_VARIABLES = {
    "LC_ALL": "C",
    # git writes nothing, prompts for no password, and fetches no missing object.
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    # A commit is what its own bytes say, and not what `git replace` puts in its place.
    "GIT_NO_REPLACE_OBJECTS": "1",
}
# Each of these may hide a change; no other setting changes what these commands print.
OWN_SETTINGS = {
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.fileMode": "true",
    "core.trustctime": "true",
    "core.checkStat": "default",
    "core.ignoreStat": "false",
    "core.quotePath": "true",
    "log.showSignature": "false",
    "color.ui": "false",
}
SAFE_DIRECTORY = "git config --global --add safe.directory"
# What git says, why it mostly says it, and what to type.
KNOWN_FAILURES = (
    (
        "dubious ownership",
        "the folder belongs to another user than the one who runs this, as in a container",
        f"{SAFE_DIRECTORY} {{root}}, or run as the owner of the folder",
    ),
    (
        "does not have any commits yet",
        "the repository is new",
        "git add the files and git commit them, then run again",
    ),
    (
        "index file",
        "git's index was cut short, or another git is at work",
        "wait for the other git; a broken index is made again by: rm .git/index && git reset",
    ),
)


class NoRepository(Exception):
    """A folder is in no git repository at all."""


def run_git(root: Path, *arguments: str) -> bytes:
    """What git prints about `root`, as bytes.

    Raises NoRepository if the folder is in none, and UsageError with git's own sentence if git fails.
    """
    done = _start_git(root, *arguments)
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip()
    if said.startswith("fatal: not a git repository (or any") and not (root / ".git").exists():
        raise NoRepository(root)
    raise _git_error(root, said or f"exit code {done.returncode}, without a word")


def try_git(root: Path, *arguments: str) -> str | None:
    """What git prints about `root`, without the line's end; None if git has no answer."""
    done = _start_git(root, *arguments)
    return decode_path(done.stdout).removesuffix("\n") if done.returncode == 0 else None


def is_in_work_tree(folder: Path) -> bool:
    """Whether a folder is in a work tree of git's; no, if git is not there or cannot read the repository."""
    with suppress(NoRepository, UsageError):
        return try_git(folder.resolve(), "rev-parse", "--is-inside-work-tree") == "true"
    return False


def decode_path(name: bytes) -> str:
    """A name as Python's file functions take it."""
    return name.decode(*NAMES)


def encode_path(name: str) -> bytes:
    """The bytes of a name."""
    return name.encode(*NAMES)


def _start_git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    if not any((folder / ".git").exists() for folder in (root, *root.parents)) and not _is_bare(root):
        raise NoRepository(root)
    settings = [word for setting in OWN_SETTINGS.items() for word in ("-c", "=".join(setting))]
    try:
        return subprocess.run(
            ["git", "--no-pager", "-C", str(root), *settings, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_create_environment(),
            check=False,
        )
    except OSError as error:
        raise UsageError(
            f"git cannot be started to say which commit {root} is: {error.strerror}",
            likely_cause="git is not installed, or not on the PATH",
            next_step="install git, then run again",
        ) from error


def _is_bare(root: Path) -> bool:
    return (root / "HEAD").is_file() and (root / "objects").is_dir()


def _create_environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in KEPT_VARIABLES or name.startswith(KEPT_PREFIXES)
    }
    return {**kept, **OWN_VARIABLES}


def _git_error(root: Path, said: str) -> UsageError:
    sentence, _, rest = said.removeprefix("fatal: ").removeprefix("error: ").partition("\n")
    usually, next_step = next(
        ((why, cure) for word, why, cure in KNOWN_FAILURES if word in said),
        (
            "the repository is damaged, or a part of it is missing",
            "git status says the same; repair it, or clone again",
        ),
    )
    return UsageError(
        f"git cannot say what is checked out in {root}: {sentence}",
        likely_cause=usually,
        next_step=next_step.format(root=root),
        log=rest.strip(),
    )
