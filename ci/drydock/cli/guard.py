"""How every command ends: with its exit code, or with an error that says what to type next; never with a traceback."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from drydock.cli.console import Terminal
from drydock.cli.interrupts import Interrupts
from drydock.errors import DrydockError, Interrupted, UsageError
from drydock.report import faults


def run_guarded(command: Callable[[], int], terminal: Terminal, interrupts: Interrupts, traceback_dir: Path) -> int:
    """Run `command` and return its exit code. It shows every error at `terminal`.

    The traceback of a mistake of Drydock's own goes into a file in `traceback_dir`.
    """
    with interrupts.catch_signals():
        try:
            exit_code = command()
        except KeyboardInterrupt:
            exit_code = show_error(
                Interrupted("stopped by a signal", next_step="run again; nothing has to be cleaned up"), terminal
            )
        except DrydockError as error:
            exit_code = show_error(error, terminal)
        except Exception as error:
            exit_code = show_error(faults.internal_error(error, traceback_dir), terminal)
        return _check_output(exit_code, terminal)


def show_error(error: DrydockError, terminal: Terminal) -> int:
    """Show what happened, the tool's own output, the likely cause and the next step; return the exit code."""
    with terminal.stop_github_commands():
        terminal.note(f"{error.message}\n", style="bold red")
        terminal.note("".join(f"  {line}\n" for line in error.log.splitlines()))
        terminal.note(f"  usually   {error.likely_cause}\n" if error.likely_cause else "")
        terminal.note(f"  next      {error.next_step}\n")
    return error.exit_code


def _check_output(exit_code: int, terminal: Terminal) -> int:
    """Return the exit code, or show that standard output broke. A reader that has read enough broke nothing."""
    broken = terminal.out.error
    if exit_code or broken is None or broken.errno == errno.EPIPE:
        return exit_code
    error = UsageError(
        f"standard output cannot be written: {broken.strerror}",
        likely_cause="its disk is full, or its terminal was closed",
        next_step="read the report in the report directory; run a command without a report again",
    )
    return show_error(error, terminal)
