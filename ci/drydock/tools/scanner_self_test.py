"""A tiny vulnerable image, the canary. A scanner that misses something in it gives no verdict.

It has one thing for each way in which a scanner searches: a vulnerable Python package, a vulnerable system package, and
a token in each kind of place that Trivy excludes by default.
"""

from __future__ import annotations

TOKEN_FILES = (
    "srv/config.env",
    # Its built-in allow rules: tests, and what Python has installed.
    "srv/tests/config.env",
    "usr/local/lib/python3.13/site-packages/settings.py",
    # Its built-in patterns of names that are skipped.
    "srv/package-lock.json",
)

DPKG_STATUS = """\
Package: openssl
Status: install ok installed
Maintainer: nobody
Architecture: amd64
Version: 3.5.1-1
Description: not really
"""

METADATA = """\
Metadata-Version: 2.1
Name: python-multipart
Version: 0.0.6
"""

# Put together here, since a token that stands in a file is found by every scanner of the repository, too.
TOKEN = "ghp_" + "c4n4ry" * 6

FILES = {
    # By this file and no other Trivy knows that a system is Debian, and which.
    "etc/debian_version": "13.1\n",
    "var/lib/dpkg/status": DPKG_STATUS,
    "usr/local/lib/python3.13/site-packages/python_multipart-0.0.6.dist-info/METADATA": METADATA,
    **dict.fromkeys(TOKEN_FILES, f"GITHUB_TOKEN={TOKEN}\n"),
}

EXPECTED = (
    "CVE-2024-24762 in python-multipart",
    "CVE-2025-9230 in openssl",
    *(f"github-pat in {path}" for path in TOKEN_FILES),
)
