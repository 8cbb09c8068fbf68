"""Asks the package manager that an image brings along which updates are pending, and reads what it says.

A second opinion beside the scanner's: it knows nothing of severities, and needs no advisory database. It runs in a
throw-away container, never in the image. apt-get's answer has a line for each package, such as
`Inst libssl3t64 [3.5.1-1] (3.5.4-1~deb13u2 Debian-Security:13/stable-security [amd64])`.
"""

from __future__ import annotations

import re

from report import PendingUpdate, Updates

# Three ways in which the answer would be "nothing" though nobody knows: no source of security updates is named; an
# index could not be fetched, which without the mode is a warning; and `upgrade` keeps back what needs a new package.
SCRIPT = """\
command -v apt-get >/dev/null || { echo 'the image has no apt-get to ask' >&2; exit 1; }
case "$(apt-get indextargets)" in
  *[Ss]ecurity*) ;;
  *) echo 'the image names no source of security updates' >&2; exit 1 ;;
esac
apt-get --quiet --option APT::Update::Error-Mode=any update >/dev/null && apt-get --quiet --simulate dist-upgrade
"""
COMMAND = ("sh", "-c", SCRIPT)

INSTALLS = re.compile(r"Inst (?P<package>\S+) \[(?P<installed>[^\]]+)\] \((?P<available>\S+) (?P<origins>[^\[)]*)")


def read(exit_code: int, stdout: str, stderr: str) -> Updates:
    """Read what COMMAND printed; an exit code other than 0 means that it could not say."""
    if exit_code:
        words = stderr.strip().splitlines()
        return Updates(why_not=f"apt-get could not say: {words[0] if words else f'exit code {exit_code}'}")
    return Updates(
        pending=tuple(
            PendingUpdate(
                package=line["package"],
                installed_version=line["installed"],
                available_version=line["available"],
                security="security" in line["origins"].lower(),
            )
            for line in map(INSTALLS.match, stdout.splitlines())
            if line
        )
    )
