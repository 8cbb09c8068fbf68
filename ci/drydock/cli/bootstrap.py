"""The command `drydock bootstrap [up|env|status|down|clean] [--with-cosign]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from rich.console import Console

from drydock.bootstrap import cache, modes
from drydock.bootstrap.errors import BootstrapError
from drydock.bootstrap.processes import Watcher, harmless

CANNOT_BE_WRITTEN = f"see that {cache.CACHE_VARIABLE}, or ~/.cache, is a folder that can be written, then run again"
NO_ENGINE, INTERRUPTED = 3, 130
COMMANDS = {
    "up": "bring up an engine and a registry, and make what they need (default)",
    "env": 'print what a shell needs: eval "$(drydock bootstrap env)"',
    "status": "say what is there",
    "down": "stop the engine and the registry; what was built stays",
    "clean": "stop them and remove all that was built",
}
WORLDS = {
    modes.NAMED: "using the engine that the environment names; nothing was started",
    modes.STAND_IN: "no official images can be had here; running on stand-ins, made on this machine",
    "docker": "running the official images with Docker; nothing was built",
    "podman": "running the official images with Podman; nothing was built",
}


def main(arguments: Sequence[str]) -> int:
    """Do what was asked; the exit code is 0, 2 for wrong usage, 3 where no engine can be had, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="drydock bootstrap", description="An engine and a registry for a run.")
    parser.add_argument(
        "command",
        nargs="?",
        choices=COMMANDS,
        default="up",
        help="; ".join(f"{name}: {words}" for name, words in COMMANDS.items()),
    )
    parser.add_argument(
        "--with-cosign",
        action="store_true",
        help="build cosign, too, on a machine that builds its own images; done by itself if COSIGN_KEY is set",
    )
    chosen = parser.parse_args(arguments)
    errors = Console(stderr=True, soft_wrap=True)
    try:
        kept = cache.Cache(cache.root(os.environ), Watcher(errors))
        match chosen.command:
            case "up":
                with kept.watcher:
                    found = modes.up(kept, os.environ, with_cosign=chosen.with_cosign)
                errors.print(harmless(f"bootstrap  {WORLDS[found]}"))
            case "env":
                sys.stdout.write(modes.shell(kept, os.environ))
            case "status":
                rows = modes.status(kept)
                for name, there, place in rows:
                    sys.stdout.write(f" {'up' if there else 'down':<6} {name:<10} {place}\n")
                return 0 if all(there for _, there, _ in rows) else NO_ENGINE
            case "down":
                modes.down(kept)
            case "clean":
                modes.clean(kept)
    except BootstrapError as error:
        errors.print(harmless(error.what), style="bold red")
        errors.print(harmless("".join(f"  {line}\n" for line in error.log.splitlines())), end="")
        errors.print(harmless(f"  next      {error.next_step}"))
        return NO_ENGINE
    except OSError as error:
        errors.print(harmless(str(error)), style="bold red")
        errors.print(harmless(f"  next      {CANNOT_BE_WRITTEN}"))
        return NO_ENGINE
    except KeyboardInterrupt:
        errors.print(harmless("stopped; what was finished is kept, and the next call goes on from here"))
        return INTERRUPTED
    return 0
