from __future__ import annotations

import email
import re
import subprocess
from pathlib import Path

from drydock.tools import scanner_self_test

ROOT = Path(__file__).parents[3]
# A classic token, as GitHub makes it and every scanner knows it.
GITHUB_TOKEN = re.compile(r"ghp_[0-9A-Za-z]{36}")


def test_the_token_has_the_shape_of_githubs_own() -> None:
    assert GITHUB_TOKEN.fullmatch(scanner_self_test.TOKEN)
    assert {scanner_self_test.FILES[path] for path in scanner_self_test.TOKEN_FILES} == {
        f"GITHUB_TOKEN={scanner_self_test.TOKEN}\n"
    }


def test_no_file_of_the_repository_holds_a_token() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert ROOT / "ci" / "drydock" / "tools" / "scanner_self_test.py" in paths
    texts = {path: path.read_text(errors="replace") for path in paths if path.is_file()}
    assert [
        str(path) for path, text in texts.items() if GITHUB_TOKEN.search(text) or scanner_self_test.TOKEN in text
    ] == []


def test_one_thing_is_hidden_for_each_way_in_which_a_scanner_looks() -> None:
    names = [expected.split(" in ") for expected in scanner_self_test.EXPECTED]
    assert names == [
        ["CVE-2024-24762", "python-multipart"],
        ["CVE-2025-9230", "openssl"],
        ["github-pat", "srv/config.env"],
        ["github-pat", "srv/tests/config.env"],
        ["github-pat", "usr/local/lib/python3.13/site-packages/settings.py"],
        ["github-pat", "srv/package-lock.json"],
    ]


def test_what_is_expected_is_what_is_hidden() -> None:
    metadata = email.message_from_string(
        scanner_self_test.FILES["usr/local/lib/python3.13/site-packages/python_multipart-0.0.6.dist-info/METADATA"]
    )
    # Mended in 0.0.7.
    assert (metadata["Name"], metadata["Version"]) == ("python-multipart", "0.0.6")
    installed = email.message_from_string(scanner_self_test.FILES["var/lib/dpkg/status"])
    # Mended in 3.5.1-1+deb13u1.
    assert (installed["Package"], installed["Version"]) == ("openssl", "3.5.1-1")
    assert installed["Status"] == "install ok installed"
    assert scanner_self_test.FILES["etc/debian_version"] == "13.1\n"


def test_every_path_is_one_of_an_image() -> None:
    assert all(not path.startswith("/") and ".." not in path for path in scanner_self_test.FILES)
