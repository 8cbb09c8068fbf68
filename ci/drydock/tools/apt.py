"""The command that lists the pending updates of an image, and the reading of its output.

It is a second opinion beside the scanner's. It knows no severities, and needs no advisory database. It runs in a
throw-away container, never in the image. The simulation of apt-get prints what it would install, such as
`Inst libssl3t64 [3.5.1-1] (3.5.9-1~deb13u1 Debian:13.8/stable [amd64])`. This is the origin of the newest version only.
A point release replaces the versions of the security archive, so apt-cache lists all versions in between.
"""

from __future__ import annotations

import re

from drydock.report import PendingUpdate, Updates

# Without a source of security updates, none is ever pending. Without the error mode, an index that apt-get could not
# fetch is only a warning, and the rest says "nothing to upgrade". `upgrade` keeps back each update that adds or removes
# another package, and a package on hold is still pending. In another language the table has other words. The
# descriptions of packages are not used: without their translations apt-get needs less than half the time.
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


def read_updates(exit_code: int, stdout: str, stderr: str) -> Updates:
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
