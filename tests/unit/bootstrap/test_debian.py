from __future__ import annotations

from pathlib import Path

import pytest

from drydock.bootstrap import debian
from drydock.bootstrap.cache import Cache
from drydock.bootstrap.debian import Mirror
from drydock.errors import EngineError
from tests.unit.bootstrap.conftest import FakePrograms

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEB822 = """\
Types: deb deb-src
# http://snapshot.example/archive/debian/20250520T000000Z
URIs: http://debian.example/debian
Suites: bookworm
# A comment does not end a field that goes on.
  bookworm-updates bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

types: deb
uris: http://debian.example/debian-security
suites: bookworm-security
components: main
signed-by: /etc/apt/debian-archive.gpg

Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
# deb http://comment.example/debian bookworm main
deb http://debian.example/debian bookworm main contrib
deb-src http://sources.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/debian-archive.gpg] https://mirror.example/debian bookworm-updates main # nearby
deb [trusted=yes] http://debian.example/debian-security\tbookworm-security  main
"""
THIRD_PARTY = {
    "google.list": "deb https://packages.vendor.example/apt cloud-sdk-bookworm main\n",
    "node.sources": "Types: deb\nURIs: https://packages.other.example/node_20.x\nSuites: nodistro\nComponents: main\n",
    "old.list.save": "deb http://saved.example/debian bookworm main\n",
}


def apt(folder: Path, files: dict[str, str]) -> Path:
    """A folder like /etc/apt."""
    (folder / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        (folder / name if name == "sources.list" else folder / "sources.list.d" / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            {"debian.sources": DEB822},
            [
                Mirror("http://debian.example/debian", "trixie", KEYRING),
                Mirror("http://debian.example/debian", "trixie-updates", KEYRING),
                Mirror(
                    "http://debian.example/debian-security",
                    "trixie-security",
                    "/etc/apt/debian-archive.gpg",
                ),
            ],
        ),
        (
            {"sources.list": ONE_LINE},
            [
                Mirror("http://debian.example/debian", "trixie", KEYRING),
                Mirror("https://mirror.example/debian", "trixie-updates", "/etc/apt/debian-archive.gpg"),
                Mirror("http://debian.example/debian-security", "trixie-security", KEYRING),
            ],
        ),
        (
            # The same mirror named twice counts once.
            {"sources.list": "deb http://debian.example/debian bookworm main\n", "more.sources": DEB822},
            [
                Mirror("http://debian.example/debian", "trixie", KEYRING),
                Mirror("http://debian.example/debian", "trixie-updates", KEYRING),
                Mirror(
                    "http://debian.example/debian-security",
                    "trixie-security",
                    "/etc/apt/debian-archive.gpg",
                ),
            ],
        ),
    ],
    ids=["deb822", "one-line", "both"],
)
def test_the_machines_own_mirrors_serve_trixie(tmp_path: Path, files: dict[str, str], found: list[Mirror]) -> None:
    assert debian.find_mirrors(apt(tmp_path / "apt", {**files, **THIRD_PARTY}), "bookworm") == found


VENDORS = {
    "docker.list": "deb [signed-by=/etc/apt/docker.asc] https://download.docker.com/linux/debian bookworm stable",
    "tailscale.list": "deb [signed-by=/etc/apt/tailscale.gpg] https://pkgs.tailscale.com/debian bookworm main",
    "inline.sources": """\
Types: deb
URIs: https://vendor.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBFit2ioBEADhWpZ8
 -----END PGP PUBLIC KEY BLOCK-----
""",
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendors_source_is_no_mirror_of_debian(tmp_path: Path, vendor: str) -> None:
    files = {"sources.list": "deb http://debian.example/debian bookworm main\n", vendor: VENDORS[vendor]}
    assert debian.find_mirrors(apt(tmp_path / "apt", files), "bookworm") == [
        Mirror("http://debian.example/debian", "trixie", KEYRING)
    ]


@pytest.mark.parametrize(
    ("files", "codename", "system"),
    [
        ({}, "bookworm", "bookworm"),
        (THIRD_PARTY, "bookworm", "bookworm"),
        # Updates alone are no Debian.
        ({"sources.list": "deb http://debian.example/debian bookworm-updates main\n"}, "bookworm", "bookworm"),
        ({"sources.list": "deb http://debian.example/debian bookworm main\n"}, "", "this system"),
    ],
)
def test_a_machine_without_debians_mirrors_is_told_so(
    tmp_path: Path, files: dict[str, str], codename: str, system: str
) -> None:
    folder = apt(tmp_path / "apt", files)
    with pytest.raises(EngineError) as caught:
        debian.find_mirrors(folder, codename)
    assert caught.value.message == f"no Debian mirror for {system} is among the sources in {folder}"
    assert caught.value.next_step == (
        "use Debian 12 or 13, or a machine with Docker or Podman that reaches a container registry"
    )


@pytest.mark.parametrize(
    ("os_release", "codename"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n', "bookworm"),
        ('ID=debian\nVERSION_CODENAME="trixie"\n', "trixie"),
        ("ID=alpine\nVERSION_ID=3.20\n", ""),
    ],
)
def test_the_release_has_a_codename(os_release: str, codename: str) -> None:
    assert debian.parse_codename(os_release) == codename


COMMANDS = {"podman": "podman", "fuse-mount": "fuse-package", "docker-registry": "docker-registry"}


def test_what_is_installed_is_not_installed_again(cache: Cache, programs: FakePrograms) -> None:
    programs.add("fuse-mount")
    debian.install_packages(cache, COMMANDS)
    assert programs.calls() == []


@pytest.mark.usefixtures("nothing_installed")
def test_what_is_missing_and_only_that_is_installed_by_apt(
    cache: Cache, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEBIAN_FRONTEND", raising=False)
    programs.add("podman")
    programs.add("apt-get", 'echo "$DEBIAN_FRONTEND"')
    debian.install_packages(cache, COMMANDS)
    assert programs.words() == [
        "apt-get update",
        "apt-get install --yes --no-install-recommends fuse-package docker-registry",
    ]
    assert cache.log_path("apt-update").read_text() == "noninteractive\n"
    assert cache.log_path("apt-install").read_text() == "noninteractive\n"


@pytest.mark.usefixtures("nothing_installed")
def test_a_machine_without_apt_is_told_what_to_install(cache: Cache) -> None:
    with pytest.raises(EngineError) as caught:
        debian.install_packages(cache, COMMANDS)
    assert caught.value.message == (
        "podman, fuse-package, docker-registry are not installed, and there is no apt-get here"
    )
    assert caught.value.next_step == (
        "install podman, fuse-package, docker-registry with this system's package manager, then run again"
    )


SOURCES = [
    Mirror("http://debian.example/debian", "trixie", KEYRING),
    Mirror("http://debian.example/debian-security", "trixie-security", "/etc/apt/debian-archive.gpg"),
]


def test_a_root_file_system_is_made_once_from_the_mirrors(cache: Cache, programs: FakePrograms) -> None:
    proxies = 'Acquire "";\nAcquire::http "";\nAcquire::http::Proxy "http://proxy:3128";\n' + (
        'Acquire::https::Proxy "http://proxy:3129";\nAPT::Architecture "amd64";\n'
    )
    programs.add("apt-config", f"cat <<'END'\n{proxies}END")
    # The tar's name is the last word but one; the sources come on stdin.
    programs.add("mmdebstrap", 'for word; do tar=$last; last=$word; done; cat >"$tar"')
    hooks = ('rm -rf "$1"/var/lib/apt/lists/*', "true")

    tar = debian.build_root_file_system(cache, "python", SOURCES, ("ca-certificates", "python3"), hooks)
    assert tar.read_text() == (
        f"deb [signed-by={KEYRING}] http://debian.example/debian trixie main\n"
        "deb [signed-by=/etc/apt/debian-archive.gpg] http://debian.example/debian-security trixie-security main\n"
    )
    asked, made = programs.calls()
    assert asked == ["apt-config", "dump"]
    assert made == [
        "mmdebstrap",
        "--variant=minbase",
        "--include=ca-certificates,python3",
        '--aptopt=Acquire::http::Proxy "http://proxy:3128"',
        '--aptopt=Acquire::https::Proxy "http://proxy:3129"',
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/info/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/groff/*",
        "--dpkgopt=path-exclude=/usr/share/lintian/*",
        "--dpkgopt=path-exclude=/usr/share/linda/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        '--customize-hook=rm -rf "$1"/var/lib/apt/lists/*',
        "--customize-hook=true",
        "trixie",
        str(tar.parent.with_name(f".{tar.parent.name}.part") / "root.tar"),
        "-",
    ]

    assert debian.build_root_file_system(cache, "python", SOURCES, ("ca-certificates", "python3"), hooks) == tar
    assert programs.words() == ["apt-config dump"]
    debian.build_root_file_system(cache, "python", SOURCES, ("ca-certificates", "python3", "git"), hooks)
    assert [call[0] for call in programs.calls()] == ["apt-config", "mmdebstrap"]
