from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from drydock.report import PendingUpdate, Updates
from drydock.tools import apt

# What apt-get and apt-cache said on Debian 12, cut down.
ANSWER = """\
Reading package lists...
Calculating upgrade...
The following NEW packages will be installed:
  ed
The following packages will be upgraded:
  bash curl libgcrypt20 libssl3
4 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.
Inst bash [5.2.15-2+b8] (5.2.15-2+b13 Debian:12.15/oldstable [amd64])
Conf bash (5.2.15-2+b13 Debian:12.15/oldstable [amd64])
Inst ed (1.19-1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst curl [7.88.1-10+deb12u14] (7.88.1-10+deb12u15 Debian:12.15/oldstable [amd64]) []
Inst libgcrypt20 [1.10.1-3] (1.10.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64]) []
Conf libgcrypt20 (1.10.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst libssl3:i386 [3.0.19-1~deb12u2] (1:3.0.22-1~deb12u2 Debian:12.15/oldstable [i386]) [openssl:amd64 ]
Conf ed (1.19-1 Debian:12.15/oldstable [amd64])
bash:
  Installed: 5.2.15-2+b8
  Candidate: 5.2.15-2+b13
  Version table:
     5.2.15-2+b13 500
        500 http://deb.example/debian bookworm/main amd64 Packages
 *** 5.2.15-2+b8 100
        100 /var/lib/dpkg/status
curl:
  Installed: 7.88.1-10+deb12u14
  Candidate: 7.88.1-10+deb12u15
  Version table:
     7.88.1-10+deb12u15 500
        500 http://deb.example/debian bookworm/main amd64 Packages
 *** 7.88.1-10+deb12u14 100
        100 /var/lib/dpkg/status
     7.88.1-10+deb12u5 500
        500 http://deb.example/debian-security bookworm-security/main amd64 Packages
libgcrypt20:
  Installed: 1.10.1-3
  Candidate: 1.10.1-3+deb12u1
  Version table:
     1.10.1-3+deb12u1 500
        500 http://deb.example/debian bookworm/main amd64 Packages
        500 http://deb.example/debian-security bookworm-security/main amd64 Packages
 *** 1.10.1-3 100
        100 /var/lib/dpkg/status
libssl3:i386:
  Installed: 3.0.19-1~deb12u2
  Candidate: 1:3.0.22-1~deb12u2
  Version table:
     1:3.0.22-1~deb12u2 500
        500 http://deb.example/debian bookworm/main i386 Packages
     3.0.20-1~deb12u2 500
        500 http://deb.example/debian-security bookworm-security/main i386 Packages
 *** 3.0.19-1~deb12u2 100
        100 /var/lib/dpkg/status
"""


def test_an_update_mends_a_security_hole_where_any_version_since_the_installed_one_does() -> None:
    read = apt.read_updates(0, ANSWER, "W: something else")
    assert read.reason == ""
    assert [(each.package, each.installed_version, each.available_version, each.security) for each in read.pending] == [
        ("bash", "5.2.15-2+b8", "5.2.15-2+b13", False),
        # What the security archive has is older than what is installed.
        ("curl", "7.88.1-10+deb12u14", "7.88.1-10+deb12u15", False),
        ("libgcrypt20", "1.10.1-3", "1.10.1-3+deb12u1", True),
        # A point release came after the security archive's version.
        ("libssl3:i386", "3.0.19-1~deb12u2", "1:3.0.22-1~deb12u2", True),
    ]


def test_what_the_table_does_not_tell_of_is_not_said_to_be_harmless() -> None:
    line = "Inst tar [1.35+dfsg-3build1] (1.35+dfsg-3ubuntu0.1 Ubuntu:24.04/noble [amd64])"
    assert apt.read_updates(0, f"1 upgraded, 0 newly installed\n{line}\n", "").security == (
        PendingUpdate(
            package="tar",
            installed_version="1.35+dfsg-3build1",
            available_version="1.35+dfsg-3ubuntu0.1",
            security=True,
        ),
    )


def test_nothing_pending_is_an_answer() -> None:
    assert apt.read_updates(0, "0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n", "") == Updates()


@pytest.mark.parametrize(
    "stdout",
    [
        "",
        "0 aktualisiert, 0 neu installiert\n",
        "1 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n",
        "1 upgraded, 0 newly installed\nInst bash from 5.2 to 5.3\n",
        "0 upgraded, 0 newly installed\nInst bash [5.2] (5.3 Debian:13.8/stable [amd64])\n",
    ],
)
def test_an_answer_that_was_not_understood_to_its_last_upgrade_is_none(stdout: str) -> None:
    assert apt.read_updates(0, stdout, "").reason.startswith("apt-get counts other upgrades than the ")


@pytest.mark.parametrize(
    ("exit_code", "stderr", "reason"),
    [
        (
            100,
            "\nE: The repository is not signed.\nE: more\n",
            "apt-get could not say: E: The repository is not signed.",
        ),
        (100, "W: an old key\nE: no network\n", "apt-get could not say: E: no network"),
        (127, "", "apt-get could not say: exit code 127"),
        (1, " \n", "apt-get could not say: exit code 1"),
    ],
)
def test_an_answer_that_broke_off_is_none_whatever_it_said_before(exit_code: int, stderr: str, reason: str) -> None:
    assert apt.read_updates(exit_code, ANSWER, stderr) == Updates(reason=reason)


ASKED = "--quiet --simulate --ignore-hold dist-upgrade --option Acquire::Languages=none"
SOURCES = 'test "$1" = indextargets && echo debian-security && exit'


@pytest.mark.parametrize(
    ("apt_get", "exit_code", "stdout", "stderr"),
    [
        (None, 1, "", "the image has no apt-get to ask\n"),
        ("echo main", 1, "", "the image names no source of security updates\n"),
        (f'{SOURCES}; case "$*" in *" update "*) echo no network >&2; exit 9 ;; esac', 1, "", "no network\n"),
        (f'{SOURCES}; case "$*" in *dist-upgrade*) echo no lock >&2; exit 9 ;; esac', 1, "", "no lock\n"),
        (f"{SOURCES}; echo nothing", 0, "nothing\n", ""),
        (f'{SOURCES}; case "$*" in *dist-upgrade*) echo "$@" ;; esac', 0, f"{ASKED}\n", ""),
        (
            f"{SOURCES}; echo 'Inst a [1] (2 x [all])\nInst new (1 x [all])\nInst b:i386 [1] (2 x [all])'",
            0,
            "Inst a [1] (2 x [all])\nInst new (1 x [all])\nInst b:i386 [1] (2 x [all])\nC policy a b:i386 --option Acquire::Languages=none\n",  # noqa: E501
            "",
        ),
    ],
)
def test_the_question_is_asked_only_where_an_answer_would_mean_something(
    tmp_path: Path, apt_get: str | None, exit_code: int, stdout: str, stderr: str
) -> None:
    commands = {"apt-get": apt_get, "apt-cache": 'echo "$LC_ALL" "$@"'} if apt_get else {}
    for name, script in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("sh", "sed"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        apt.COMMAND,
        env={"PATH": str(tmp_path), "LC_ALL": "de_DE.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (exit_code, stdout, stderr)
