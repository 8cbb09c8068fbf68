"""Asks the package manager that an image brings along which updates are pending, and reads what it says.

A second opinion beside the scanner's: it knows nothing of severities, and needs no advisory database. It runs in a
throw-away container, never in the image. apt-get's simulation names what it would install, such as
`Inst libssl3t64 [3.5.1-1] (3.5.9-1~deb13u1 Debian:13.8/stable [amd64])`. That origin is the newest version's only, and
a point release swallows what the security archive had first; so apt-cache is asked for all the versions in between.
"""

from __future__ import annotations

import re

from drydock.report import PendingUpdate, Updates

# Where no source of security updates is named, none is ever pending. Without the error mode, an index that could not be
# fetched is a warning, and what is left says "nothing to upgrade". `upgrade` keeps back whatever another package has to
# come or go for, and what is on hold is pending all the same. In another language the table has other words. Nobody
# reads the packages' descriptions here: without their translations apt-get needs less than half the time.
SCRIPT = r"""
export LC_ALL=C
set -- --option Acquire::Languages=none
command -v apt-get >/dev/null || { echo 'the image has no apt-get to ask' >&2; exit 1; }
apt-get --quiet --option APT::Update::Error-Mode=any update "$@" >/dev/null || exit 1
case "$(apt-get indextargets "$@")" in
  *[Ss]ecurity*) ;;
  *) echo 'the image names no source of security updates' >&2; exit 1 ;;
esac
simulated=$(apt-get --quiet --simulate --ignore-hold dist-upgrade "$@") || exit 1
echo "$simulated"
packages=$(echo "$simulated" | sed -n 's/^Inst \([^ ]*\) \[.*/\1/p')
test -z "$packages" || apt-cache policy $packages "$@"
"""
COMMAND = ("sh", "-c", SCRIPT)

INSTALLS = re.compile(r"Inst (?P<package>\S+) \[(?P<installed>[^\]]+)\] \((?P<available>\S+) ")
# How many of these lines there are, in apt-get's own words.
COUNT = re.compile(r"(?m)^(?P<upgraded>\d+) upgraded, ")
# In apt-cache's table the newest version comes first, and *** stands before the one that is installed.
TABLE = re.compile(r"(?m)^(?P<package>\S+):\n(?:  .*\n)+? *Version table:\n(?P<newer>(?:     .*\n)*)")


def read(exit_code: int, stdout: str, stderr: str) -> Updates:
    """Read what COMMAND printed; an exit code other than 0 means that it could not say."""
    if exit_code:
        words = [line for line in stderr.splitlines() if line.strip() and not line.startswith("W:")]
        return Updates(reason=f"apt-get could not say: {words[0] if words else f'exit code {exit_code}'}")
    upgrades = [line for line in map(INSTALLS.match, stdout.splitlines()) if line]
    counted = COUNT.search(stdout)
    if not counted or int(counted["upgraded"]) != len(upgrades):
        return Updates(reason=f"apt-get counts other upgrades than the {len(upgrades)} that are read of it")
    newer = {table["package"]: table["newer"] for table in TABLE.finditer(f"{stdout}\n")}
    return Updates(
        pending=tuple(
            PendingUpdate(
                package=line["package"],
                installed_version=line["installed"],
                available_version=line["available"],
                # What the table does not tell of is not said to be harmless.
                security="security" in newer.get(line["package"], "security"),
            )
            for line in upgrades
        )
    )
