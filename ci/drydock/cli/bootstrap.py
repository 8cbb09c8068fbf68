"""The command `drydock bootstrap [up|env|status|down|clean] [--with-cosign]`."""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from drydock.bootstrap import modes
from drydock.bootstrap.cache import CACHE_VARIABLE, Cache, cache_root
from drydock.bootstrap.modes import Mode
from drydock.bootstrap.processes import CommandRunner
from drydock.cli import arguments
from drydock.cli.console import Terminal
from drydock.cli.guard import run_guarded
from drydock.cli.interrupts import Interrupts
from drydock.errors import EngineError, Interrupted

MODE_SENTENCES = {
    Mode.EXTERNAL: "Using the engine that the environment names. Nothing was started.",
    Mode.DOCKER: "Using Docker with the official images. Nothing was built.",
    Mode.PODMAN: "Using Podman with the official images. Nothing was built.",
    Mode.LOCAL: "No container registry is reachable. Using base images built on this machine; "
    "the result cannot be released.",
}


def main(argv: Sequence[str]) -> int:
    """Run `drydock bootstrap` with its arguments, its own name first; return the exit code that README.md lists."""
    args = arguments.parse_arguments(argv)
    # A shell evaluates what `env` prints, so no command for GitHub may be in it.
    terminal = Terminal(on_github=os.environ.get("GITHUB_ACTIONS") == "true" and args.action != "env")
    return run_guarded(partial(_run, args, terminal), terminal, Interrupts(), Path(tempfile.gettempdir()))


def _run(args: Namespace, terminal: Terminal) -> int:
    cache = Cache(cache_root(os.environ), CommandRunner(terminal.errors))
    try:
        with terminal.stop_github_commands():
            return _run_action(args, cache, terminal)
    except OSError as error:
        next_step = f"check that {CACHE_VARIABLE}, or ~/.cache, is a folder that can be written, then run again"
        raise EngineError(str(error), next_step=next_step) from error
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped by a signal", next_step="drydock bootstrap continues with what is not finished yet"
        ) from None


def _run_action(args: Namespace, cache: Cache, terminal: Terminal) -> int:
    match args.action:
        case "up":
            with cache.runner:
                mode = modes.up(cache, os.environ, with_cosign=args.with_cosign)
            terminal.note(f"bootstrap  {MODE_SENTENCES[mode]}\n")
        case "env":
            terminal.out.write(modes.shell_exports(cache, os.environ))
        case "status":
            rows = modes.status(cache)
            terminal.show(
                "".join(f" {'up' if is_up else 'down':<6} {name:<10} {place}\n" for name, is_up, place in rows)
            )
            return 0 if all(is_up for _, is_up, _ in rows) else EngineError.exit_code
        case "down":
            modes.down(cache)
        case "clean":
            modes.clean(cache)
    return 0
