"""Runs other programs: quietly while all is well, visibly while it lasts, with their last words when they break."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from drydock.bootstrap.errors import BootstrapError

Made = TypeVar("Made")
HEARTBEAT_SECONDS = 15
TAIL_LINES = 20


class Watcher:
    """Tells people at `console` what is going on: live lines on a terminal, a line now and then elsewhere.

    Enter it for the live lines. Programs may run side by side, each from a thread of its own.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Progress(
            TextColumn("   "),
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._running: set[subprocess.Popen[str]] = set()
        self._is_stopped = False

    def __enter__(self) -> Watcher:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def stop(self) -> None:
        """Kill whatever still runs, and start nothing more: what it was for has failed already."""
        self._is_stopped = True
        for process in list(self._running):
            process.kill()

    def say(self, words: str) -> None:
        """One line."""
        self._console.print(harmless(words))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Frame a step with its name and, at the end, its seconds."""
        started = time.monotonic()
        self.say(f"  {name} …")
        yield
        self.say(f"  {name}: {time.monotonic() - started:.0f} s")

    def run(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        cwd: Path | None = None,
    ) -> None:
        """Run `command`, all its words into the file `log`. Raises BootstrapError with the last of them."""
        if self._is_stopped:
            raise BootstrapError(f"{command[0]} was not started, since something else failed", "run again")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as words:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=words,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environment or {})},
                    cwd=cwd,
                    text=True,
                )
            except OSError as error:
                what = f"{command[0]} cannot be run: {error.strerror}"
                raise BootstrapError(what, f"install {command[0]}, then run again") from error
            line = self._live.add_task(log.stem)
            self._running.add(process)
            try:
                self._watch(process, stdin, log, line)
            except BaseException:
                process.kill()
                process.wait()
                raise
            finally:
                self._running.remove(process)
                self._live.remove_task(line)
        if process.returncode:
            raise BootstrapError(
                f"{' '.join(command[:3])} … failed with exit code {process.returncode}",
                f"read {log}; what was finished before is kept, so a second call goes on from here",
                tail(log),
            )

    def _watch(self, process: subprocess.Popen[str], stdin: str, log: Path, line: TaskID) -> None:
        started = said = time.monotonic()
        pending: str | None = stdin
        while True:
            try:
                process.communicate(pending, timeout=1)
                return
            except subprocess.TimeoutExpired:
                pending = None
            now = time.monotonic()
            words = f"{log.stem} {now - started:.0f} s  {last_line(log)[:80]}"
            words = harmless(words).plain
            self._live.update(line, description=words)
            if not self._console.is_terminal and now - said >= HEARTBEAT_SECONDS:
                said = now
                self.say(f"    {words}")


@contextmanager
def side_by_side(watcher: Watcher) -> Iterator[Callable[[Callable[[], Made]], Future[Made]]]:
    """Give a function that starts work in a thread of its own; what it started has ended when this is left.

    The first piece of work that fails ends the others, and is raised.
    """
    running: list[Future[Any]] = []
    with ThreadPoolExecutor() as threads:

        def start(work: Callable[[], Made]) -> Future[Made]:
            future = threads.submit(work)
            running.append(future)
            return future

        try:
            yield start
            ended, unfinished = wait(running, return_when=FIRST_EXCEPTION)
        except BaseException:
            watcher.stop()
            raise
        if unfinished:
            watcher.stop()
        for each in ended:
            each.result()


def harmless(words: str) -> Text:
    """Words that may be another program's: none of them steers the terminal."""
    lines = (
        "".join(
            character if character.isprintable() else " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"
            for character in line
        )
        for line in words.split("\n")
    )
    return Text("\n".join(lines))


def output(command: Sequence[str], timeout_seconds: float = 20) -> str | None:
    """What a short command prints; None where it is missing, fails, or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in tail(log).splitlines() if line.strip()]
    return lines[-1] if lines else ""
