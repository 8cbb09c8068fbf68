"""An OCI runtime in front of runc that drops one capability, for a machine whose root lacks it."""

import json
import os
import sys
from pathlib import Path

CAPABILITY = "CAP_SYS_RESOURCE"


def drop(path: Path, key: str | None) -> None:
    """Take the capability out of a container's configuration, or out of a process that is to run in it."""
    config = json.loads(path.read_text())
    process = config[key] if key else config
    for names in (process.get("capabilities") or {}).values():
        if CAPABILITY in names:
            names.remove(CAPABILITY)
    path.write_text(json.dumps(config))


def value(option: str) -> str | None:
    """What an option of runc's is given, after it or after a `=`."""
    for position, word in enumerate(sys.argv):
        name, _, given = word.partition("=")
        if name == option:
            return given or sys.argv[position + 1]
    return None


if bundle := value("--bundle"):
    drop(Path(bundle, "config.json"), "process")
# `docker exec` has a process alone.
if process := value("--process"):
    drop(Path(process), None)
os.execvp("runc", ["runc", *sys.argv[1:]])  # noqa: S606 - it takes the place of this program
