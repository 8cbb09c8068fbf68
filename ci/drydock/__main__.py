"""The command `drydock`, and `python -m drydock`: the rest is imported when it is known what is needed."""

from __future__ import annotations

import os
import signal
import sys

from drydock.errors import Interrupted


def main() -> int:
    """Run the command that the arguments name and return its exit code."""
    # The imports take a second, and Python would answer Ctrl-C with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:2] == ["bootstrap"]:
        from drydock.cli.bootstrap import main as run
    else:
        from drydock.cli.commands import main as run
    exit_code = run(sys.argv[1:])
    if exit_code == Interrupted.exit_code:
        # A thread may still read an archive, and Python would wait for its end.
        os._exit(exit_code)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
