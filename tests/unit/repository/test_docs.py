"""The commands that README prints are commands that there are."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from drydock.cli import arguments

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(r"(?ms)^```sh\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"))
# A command may go on in the next line.
LINES = [line for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]


def typed(line: str) -> list[list[str]]:
    """What a line makes `ci/main.py` do, in its own words: itself, or through `make run`."""
    words = shlex.split(line, comments=True)
    if "ci/main.py" in words:
        return [words[words.index("ci/main.py") + 1 :]]
    if words[:2] == ["make", "run"]:
        given = [word.removeprefix("ARGS=") for word in words if word.startswith("ARGS=")]
        return [shlex.split(given[0] if given else "")]
    return []


COMMANDS = [words for line in LINES for words in typed(line)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_readme_types_is_taken(words: list[str]) -> None:
    assert arguments.parse(words)


def test_readme_shows_every_command_of_a_released_image() -> None:
    shown = {arguments.parse(words).command for words in COMMANDS}
    assert shown >= {"run", "generate-key-pair", "verify", "promote", "rescan", "reproduce", "update-pins"}


def test_readme_puts_no_key_into_the_repository_and_gives_one_to_whatever_verifies_it() -> None:
    [block] = [block for block in BLOCKS if "COSIGN_KEY=" in block]
    lines = [line.partition(" #")[0] for line in block.splitlines()]
    named = [word for line in lines for word in re.findall(r"[^\s=]*cosign\.(?:key|pub)", line)]
    assert named
    assert [path for path in named if not path.startswith("~/")] == []
    assert [line for line in lines if re.search(r"main\.py (verify|promote)", line) and "--key ~/" not in line] == []


def test_a_private_key_in_the_repository_is_ignored_and_a_public_one_can_be_committed() -> None:
    ignored = ["git", "-C", str(ROOT), "check-ignore", "--no-index", "cosign.key", "cosign.pub", "keys/cosign.key"]
    done = subprocess.run(ignored, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["cosign.key", "keys/cosign.key"]
