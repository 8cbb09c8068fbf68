"""Writes printable text to the terminal, also if a stream breaks. No line of it is a command for GitHub."""

from __future__ import annotations

import errno
import io
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TextIO, cast

from rich.console import Console
from rich.text import Text

from drydock.report import units

STYLES = {"PASS": "green", "WARN": "yellow", "FAIL": "bold red", "SKIP": "yellow", "NOT RUN": "yellow"}


class Stream:
    """A stream of text that may break: its reader goes away, its disk is full. Words are dropped from then on.

    `error` is what broke it. A character that the stream's encoding does not have becomes a question mark.
    """

    def __init__(self, stream: TextIO | None) -> None:
        # Python has no stream for a descriptor that was closed before it started.
        self.error: OSError | None = None if stream else OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        """Write and flush `text`, unless the stream is broken."""
        if self._stream and not self.error:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError as error:
                self.error = error
                self._discard()
        return len(text)

    def flush(self) -> None:
        """Nothing is left to flush."""

    def isatty(self) -> bool:
        """Whether a person watches."""
        return bool(self._stream and self._stream.isatty())

    def fileno(self) -> int:
        """Return the descriptor, from which the width of a terminal is read."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def _discard(self) -> None:
        """Let the interpreter's own flush at exit succeed: it would complain, and end with exit code 120."""
        # A stream of a test has no descriptor.
        with suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)


class Terminal:
    """The result goes to standard output, everything else to standard error.

    All text is made printable here: no control character reaches the terminal.
    """

    def __init__(self, *, on_github: bool) -> None:
        self.on_github = on_github
        self._guarded = False
        self.out = Stream(sys.stdout)
        self._out = _create_console(self.out)
        # GitHub reads commands from both streams, and their order only within one.
        self.errors = self._out if on_github else _create_console(Stream(sys.stderr))

    def show(self, text: str) -> None:
        """Show the result, each verdict in its colour."""
        shown = _make_harmless(text)
        for word, style in STYLES.items():
            shown.highlight_regex(rf"(?m)^ {word}\b", style)
        with self.stop_github_commands():
            self._out.print(shown, end="")

    def note(self, text: str, style: str = "") -> None:
        """Show a note that is not part of the result."""
        with self.stop_github_commands():
            self.errors.print(_make_harmless(text), end="", style=style)

    def command_github(self, commands: str) -> None:
        """Give GitHub its commands, if it is there to take them."""
        if self.on_github:
            self.out.write(commands)

    @contextmanager
    def stop_github_commands(self) -> Iterator[None]:
        """On GitHub, let no line that is printed in here be a command: only who knows the token can end that."""
        if self._guarded:
            yield
            return
        token = secrets.token_hex(16)
        self.command_github(f"::stop-commands::{token}\n")
        self._guarded = True
        try:
            yield
        finally:
            self._guarded = False
            self.command_github(f"::{token}::\n")


def _create_console(stream: Stream) -> Console:
    return Console(file=cast("IO[str]", stream), soft_wrap=True)


def _make_harmless(text: str) -> Text:
    return Text("\n".join(map(units.sanitize, text.split("\n"))))
