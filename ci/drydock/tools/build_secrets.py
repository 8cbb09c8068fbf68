"""Reads what a build may use and no image may keep: the policy names each secret, a variable or a file has its text."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from drydock.errors import UsageError
from drydock.policy import Policy
from drydock.tools import dockerfile

# What BuildKit takes: https://github.com/moby/buildkit/blob/v0.26.0/session/secrets/secretsprovider/store.go
LARGEST_BYTES = 500 * 1024


def read_secrets(policy: Policy, root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The text of each secret that `build.secrets` names, by the id under which the Dockerfile mounts it.

    A file is seen from `root`; `~` is the home folder. Raises UsageError, which repeats no secret, if one is not there,
    or if the Dockerfile mounts no such secret.
    """
    _require_mounts(policy, root)
    return {
        name: _read_secret(policy, name, source, root, environment) for name, source in policy.build.secrets.items()
    }


def _require_mounts(policy: Policy, root: Path) -> None:
    mounted = dockerfile.find_secrets(dockerfile.read_dockerfile(root / policy.build.dockerfile))
    if any("$" in name for name in mounted):
        return  # an argument of the build names it
    for name in policy.build.secrets:
        if name not in mounted:
            nearest = difflib.get_close_matches(name, mounted, n=1, cutoff=0.5)
            raise UsageError(
                f"{_find_location(policy, name)}: no instruction of {policy.build.dockerfile} mounts the secret {name}",
                likely_cause=f"did you mean {nearest[0]}?" if nearest else "its id is written in another way there",
                next_step=f"add --mount=type=secret,id={name} to the RUN that needs it, or remove this line",
            )


def _read_secret(policy: Policy, name: str, source: str, root: Path, environment: Mapping[str, str]) -> str:
    place = _find_location(policy, name)
    match source.partition("://"):
        case "env", "://", variable:
            text, reason = environment.get(variable, ""), "this shell exports no such variable, or it is empty"
        case "file", "://", path:
            text, reason = _read_file(root, path)
        case _:
            raise UsageError(
                f"{place}: the secret {name} is read neither from env:// nor from file://",
                likely_cause="the secret itself was written there, or the prefix is missing",
                next_step='write "env://NAME" for a variable of the environment, or "file://PATH" for a file',
            )
    if not text:
        raise UsageError(
            f"{place}: the secret {name} is not set: {source}: {reason}",
            likely_cause="it is on another machine; GitHub gives no secret to a pull request from a fork",
            next_step="set it, then run again; a build that does without removes this line",
        )
    size_bytes = len(text.encode("utf-8", errors="replace"))
    if size_bytes > LARGEST_BYTES:
        raise UsageError(
            f"{place}: the secret {name} has {size_bytes} bytes; a build takes {LARGEST_BYTES} at most",
            likely_cause="another file was named: a secret is a password, a token, or the configuration that has them",
            next_step="name the file that has the secret alone",
        )
    return text


def _read_file(root: Path, path: str) -> tuple[str, str]:
    """The text of a file, and why there is none."""
    try:
        return (root / Path(path).expanduser()).read_text(encoding="utf-8"), "the file is empty"
    except UnicodeDecodeError:
        return "", "the file is no text in UTF-8"
    except RuntimeError:
        return "", "there is no home folder"
    except (OSError, ValueError) as error:
        return "", str(getattr(error, "strerror", None) or error)


def _find_location(policy: Policy, name: str) -> str:
    return policy.origins.get(f"build.secrets.{name}", "the policy")
