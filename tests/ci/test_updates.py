from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import updates
from report import PendingUpdate, Updates

# What `apt-get --quiet --simulate dist-upgrade` said on Debian 12, cut down.
ANSWER = """\
Reading package lists...
Building dependency tree...
Reading state information...
Calculating upgrade...
The following NEW packages will be installed:
  ed
The following packages will be upgraded:
  bash libgcrypt20 libgcrypt20-dev liblzma-dev libssl3
5 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.
Inst bash [5.2.15-2+b8] (5.2.15-2+b13 Debian:12.15/oldstable [amd64])
Conf bash (5.2.15-2+b13 Debian:12.15/oldstable [amd64])
Inst ed (1.19-1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst libgcrypt20-dev [1.10.1-3] (1.10.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64]) []
Inst libgcrypt20 [1.10.1-3] (1.10.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])
Conf libgcrypt20 (1.10.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst liblzma-dev [5.4.1-1] (5.4.1-1+deb12u2 Debian-Security:12/oldstable-security [amd64]) []
Inst libssl3:i386 [3.0.19-1~deb12u2] (1:3.0.22-1~deb12u2 Debian-Security:12/oldstable-security [i386]) [openssl:amd64 ]
Conf ed (1.19-1 Debian:12.15/oldstable [amd64])
"""  # noqa: E501 - apt-get's own lines


def test_every_update_of_what_is_installed_is_read_and_whether_it_mends_a_security_hole() -> None:
    read = updates.read(0, ANSWER, "W: something else")
    assert read.why_not == ""
    assert [(each.package, each.installed_version, each.available_version, each.security) for each in read.pending] == [
        ("bash", "5.2.15-2+b8", "5.2.15-2+b13", False),
        ("libgcrypt20-dev", "1.10.1-3", "1.10.1-3+deb12u1", True),
        ("libgcrypt20", "1.10.1-3", "1.10.1-3+deb12u1", True),
        ("liblzma-dev", "5.4.1-1", "5.4.1-1+deb12u2", True),
        ("libssl3:i386", "3.0.19-1~deb12u2", "1:3.0.22-1~deb12u2", True),
    ]


def test_ubuntu_names_its_security_updates_by_their_suite() -> None:
    line = "Inst tar [1.35+dfsg-3build1] (1.35+dfsg-3ubuntu0.1 Ubuntu:24.04/noble-security [amd64])"
    assert updates.read(0, line, "").security == (
        PendingUpdate(
            package="tar",
            installed_version="1.35+dfsg-3build1",
            available_version="1.35+dfsg-3ubuntu0.1",
            security=True,
        ),
    )


def test_debian_10_names_its_security_updates_by_their_label_alone() -> None:
    line = "Inst tar [1.30+dfsg-6] (1.30+dfsg-6+deb10u1 Debian-Security:10/oldstable [amd64])"
    assert [each.security for each in updates.read(0, line, "").pending] == [True]


# What it said of an image of Debian 13, and what apt-cache said then: a point release had swallowed the update.
SWALLOWED = """\
Inst libssl3t64 [3.5.0-1] (3.5.9-1~deb13u1 Debian:13.8/stable [amd64])
Inst tzdata [2026a-0+deb13u1] (2026b-0+deb13u1 Debian:13.8/stable [all])
Conf libssl3t64 (3.5.9-1~deb13u1 Debian:13.8/stable [amd64])
Conf tzdata (2026b-0+deb13u1 Debian:13.8/stable [all])
libssl3t64:
  Installed: 3.5.0-1
  Candidate: 3.5.9-1~deb13u1
  Version table:
     3.5.9-1~deb13u1 500
        500 http://debian.example/debian trixie/main amd64 Packages
     3.5.7-1~deb13u3 500
        500 http://debian.example/debian-security trixie-security/main amd64 Packages
 *** 3.5.0-1 100
        100 /var/lib/dpkg/status
tzdata:
  Installed: 2026a-0+deb13u1
  Candidate: 2026b-0+deb13u1
  Version table:
     2026b-0+deb13u1 500
        500 http://debian.example/debian trixie/main amd64 Packages
 *** 2026a-0+deb13u1 100
        100 /var/lib/dpkg/status
     2025z-0+deb13u1 500
        500 http://debian.example/debian-security trixie-security/main amd64 Packages
"""


def test_a_security_update_that_a_point_release_swallowed_is_one_still() -> None:
    """An older one than what is installed mends nothing."""
    assert [(each.package, each.security) for each in updates.read(0, SWALLOWED, "").pending] == [
        ("libssl3t64", True),
        ("tzdata", False),
    ]


def test_a_package_that_is_named_after_security_is_no_security_update() -> None:
    line = "Inst debian-security-support [1:12] (1:13 Debian:12.15/oldstable [all])"
    assert [each.security for each in updates.read(0, line, "").pending] == [False]


def test_nothing_pending_is_an_answer() -> None:
    assert updates.read(0, "0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n", "") == Updates()


@pytest.mark.parametrize(
    ("exit_code", "stderr", "why_not"),
    [
        (
            100,
            "\nE: The repository is not signed.\nE: more\n",
            "apt-get could not say: E: The repository is not signed.",
        ),
        (127, "", "apt-get could not say: exit code 127"),
        (1, " \n", "apt-get could not say: exit code 1"),
    ],
)
def test_an_answer_that_broke_off_is_none_whatever_it_said_before(exit_code: int, stderr: str, why_not: str) -> None:
    assert updates.read(exit_code, ANSWER, stderr) == Updates(why_not=why_not)


@pytest.mark.parametrize(
    ("apt_get", "exit_code", "stdout", "stderr"),
    [
        (None, 1, "", "the image has no apt-get to ask\n"),
        ('test "$1" = indextargets && echo main', 1, "", "the image names no source of security updates\n"),
        (
            'case "$*" in indextargets) echo debian-security ;; *update) echo no network >&2; exit 100 ;; esac',
            100,
            "",
            "no network\n",
        ),
        ('test "$1" = indextargets && echo debian-security || echo "$*"', 0, "--quiet --simulate dist-upgrade\n", ""),
        ('test "$1" = indextargets && echo noble-security || echo "$*"', 0, "--quiet --simulate dist-upgrade\n", ""),
        (
            'echo "$*" | grep -q update || echo "security\nInst a [1] (2)\nInst b [1] (2)"',
            0,
            "security\nInst a [1] (2)\nInst b [1] (2)\napt-cache policy a b\n",
            "",
        ),
    ],
)
def test_the_question_is_asked_only_where_an_answer_would_mean_something(
    tmp_path: Path, apt_get: str | None, exit_code: int, stdout: str, stderr: str
) -> None:
    shell, *arguments = updates.COMMAND
    for program in (shell, "sed", "grep"):
        (tmp_path / program).symlink_to(f"/bin/{program}")
    (tmp_path / "apt-cache").write_text('#!/bin/sh\necho "apt-cache $*"\n')
    (tmp_path / "apt-cache").chmod(0o755)
    if apt_get:
        (tmp_path / "apt-get").write_text(f"#!/bin/sh\n{apt_get}\n")
        (tmp_path / "apt-get").chmod(0o755)
    done = subprocess.run([shell, *arguments], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (exit_code, stdout, stderr)
