"""Finds in the engine's words what a person wants to read: the first line, the last ones, the failed instruction's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

TAIL_LINES = 20
MASK = "***"
# A shorter line, such as "true", is in too many other words.
SHORTEST_MASKED = 8


def find_failed_output(log: str) -> str:
    """What the instruction that failed printed last, out of the engine's log; its lines are `12 : [1.3s] | words`."""
    lines = [re.match(r"(\d+) *:(.*)", line) for line in re.sub(r"\x1b\[[0-9;]*m", "", log).splitlines()]
    steps = [(line[1], line[2]) for line in lines if line]
    # The others that ran beside it are killed with it, and did nothing wrong.
    failed = {number for number, words in steps if re.search(r"! process .* did not complete.*(?<!canceled)$", words)}
    printed = [re.search(r"\[[0-9.]+m?[0-9.]*s\] \| (.*)", words) for number, words in steps if number in failed]
    return get_tail("\n".join(words[1] for words in printed if words))


def get_first_line(text: str) -> str:
    """The first line that says something, as one sentence."""
    lines = [line for line in _remove_trace_id(text).splitlines() if line.strip()]
    return re.sub(r"\s+", " ", lines[0])[:300] if lines else "no message"


def get_last_line(text: str) -> str:
    """The last line with text: there a tool names the reason of its failure."""
    lines = [line for line in _remove_trace_id(text).splitlines() if line.strip()]
    return re.sub(r"\s+", " ", lines[-1])[:300] if lines else "no message"


def get_tail(text: str) -> str:
    """The last lines of a log."""
    return "\n".join(_remove_trace_id(text).splitlines()[-TAIL_LINES:])


def skip_first_line(text: str) -> str:
    """What comes after the first line, which stands above it."""
    return get_tail("\n".join(text.strip().splitlines()[1:]))


def mask_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text without any line of these secrets, and without the passwords of the addresses in them.

    The engine masks what a secret has as a whole; a tool that cannot read its configuration prints a line of it.
    """
    texts = list(secrets)
    words = {line.strip() for secret in texts for line in secret.splitlines() if len(line.strip()) >= SHORTEST_MASKED}
    passwords = {password for secret in texts for password in re.findall(r"://[^/\s:@]*:([^/\s@]+)@", secret)}
    for word in sorted(words | passwords | {unquote(password) for password in passwords}, key=len, reverse=True):
        text = text.replace(word, MASK)
    return text


def _remove_trace_id(text: str) -> str:
    """The engine's words without the number of its own tracing that it ends them with."""
    return re.sub(r" \[traceparent:[^\]]*\]", "", text)
