"""Runs other programs, shows how long each takes, and raises the last lines of its output if it fails."""

from __future__ import annotations

import os
import shutil
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

from drydock.errors import EngineError
from drydock.report import units

Made = TypeVar("Made")
HEARTBEAT_SECONDS = 15
TAIL_LINES = 20
# Debian has dockerd there, and Debian 12 has runc there. It is on the PATH of a login shell of root alone.
ADMIN_COMMANDS = Path("/usr/sbin")


class CommandRunner:
    """Runs programs and shows their progress: live lines on a terminal, elsewhere a line each HEARTBEAT_SECONDS.

    Enter it for the live lines. Programs may run side by side, each from its own thread.
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

    def __enter__(self) -> CommandRunner:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def stop(self) -> None:
        """Kill all programs that run, and start no more."""
        self._is_stopped = True
        for process in list(self._running):
            process.kill()

    def print_line(self, line: str) -> None:
        """Print one line, without its control characters."""
        self._console.print(Text(units.sanitize(line)))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print the name of a step when it starts, and its seconds when it succeeds."""
        started = time.monotonic()
        self.print_line(f"  {name} …")
        yield
        self.print_line(f"  {name}: {time.monotonic() - started:.0f} s")

    def run(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        cwd: Path | None = None,
    ) -> None:
        """Run `command` and write its output to the file `log`.

        `environment` adds to that of this process. Raises EngineError with the last lines of the output.
        """
        if self._is_stopped:
            raise EngineError(f"{command[0]} was not started, because another program failed", next_step="run again")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=program_environment() | dict(environment or {}),
                    cwd=cwd,
                    text=True,
                )
            except OSError as error:
                message = f"{command[0]} cannot be run: {error.strerror}"
                raise EngineError(message, next_step=f"install {command[0]}, then run again") from error
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
            raise EngineError(
                f"{' '.join(command[:3])} … failed with exit code {process.returncode}",
                next_step=f"read {log}; drydock bootstrap continues with what is not finished yet",
                log=read_tail(log),
            )

    def _watch(self, process: subprocess.Popen[str], stdin: str, log: Path, line: TaskID) -> None:
        started = printed = time.monotonic()
        pending: str | None = stdin
        while True:
            try:
                process.communicate(pending, timeout=1)
                return
            except subprocess.TimeoutExpired:
                pending = None
            now = time.monotonic()
            progress = units.sanitize(f"{log.stem} {now - started:.0f} s  {read_last_line(log)[:80]}")
            self._live.update(line, description=progress)
            if not self._console.is_terminal and now - printed >= HEARTBEAT_SECONDS:
                printed = now
                self.print_line(f"    {progress}")


@contextmanager
def parallel_tasks(runner: CommandRunner) -> Iterator[Callable[[Callable[[], Made]], Future[Made]]]:
    """Yield a function that starts a task in its own thread; leaving this waits for all tasks.

    If a task fails, the others are stopped, and its error is raised.
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
            runner.stop()
            raise
        if unfinished:
            runner.stop()
        for task in ended:
            task.result()


def program_environment() -> dict[str, str]:
    """The environment of every program: that of this process, with ADMIN_COMMANDS at the end of PATH."""
    return {**os.environ, "PATH": f"{os.environ['PATH']}{os.pathsep}{ADMIN_COMMANDS}"}


def find_program(name: str) -> str | None:
    """The path of a program on the PATH of `program_environment`, or None."""
    return shutil.which(name, path=program_environment()["PATH"])


def read_output(command: Sequence[str], timeout_seconds: float = 20) -> str | None:
    """What a short command prints; None if it is missing, fails, or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_seconds, check=False, env=program_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def read_tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])


def read_last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line.strip() for line in read_tail(log).splitlines() if line.strip()]
    return lines[-1] if lines else ""
