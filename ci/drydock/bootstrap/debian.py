"""Finds Debian's mirrors in this machine's own apt settings, installs packages, and makes root file systems."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drydock.bootstrap.cache import Cache
from drydock.bootstrap.errors import BootstrapError
from drydock.bootstrap.processes import output

SUITE = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What the official slim images leave out, too.
NOT_INSTALLED = (
    *("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*"),
    *("/usr/share/groff/*", "/usr/share/lintian/*", "/usr/share/linda/*"),
)
COPYRIGHT = "/usr/share/doc/*/copyright"


@dataclass(frozen=True)
class Mirror:
    """Where a machine gets a part of Debian from, and the keyring that signs it."""

    uri: str
    suite: str
    keyring: str


def mirrors(apt: Path, codename: str) -> list[Mirror]:
    """Debian's own mirrors among the sources under `apt` (/etc/apt), for SUITE instead of this machine's release.

    Raises BootstrapError where there are none: this machine is no Debian, or its sources are elsewhere.
    """
    found: list[Mirror] = []
    for path in sorted([apt / "sources.list", *(apt / "sources.list.d").glob("*")]):
        if path.suffix in (".list", ".sources") and path.is_file():
            text = path.read_text(encoding="utf-8")
            read = _stanzas if path.suffix == ".sources" else _lines
            for uri, suite, keyring in read(text):
                # A vendor signs with a key of its own.
                if keyring and "debian-archive" not in keyring:
                    continue
                if suite in (codename, f"{codename}-updates", f"{codename}-security"):
                    mirror = Mirror(uri, suite.replace(codename, SUITE), keyring or KEYRING)
                    found += [mirror] if mirror not in found else []
    if SUITE not in [mirror.suite for mirror in found]:
        raise BootstrapError(
            f"no Debian mirror for {codename or 'this system'} is among the sources in {apt}",
            "use Debian 12 or 13, or a machine with Docker or Podman that reaches a container registry",
        )
    return found


def codename(os_release: str) -> str:
    """VERSION_CODENAME out of /etc/os-release."""
    match = re.search(r'^VERSION_CODENAME="?([a-z]+)', os_release, re.MULTILINE)
    return match[1] if match else ""


def install(cache: Cache, commands: dict[str, str]) -> None:
    """Install by apt the packages whose commands are not on PATH: {command: package}."""
    if not _missing(commands):
        return
    apt = shutil.which("apt-get")
    if not apt:
        names = ", ".join(_missing(commands))
        raise BootstrapError(
            f"{names} are not installed, and there is no apt-get here",
            f"install {names} with this system's package manager, then run again",
        )
    # One apt-get at a time: a second one ends at once with "Could not get lock".
    with Path(apt).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if missing := _missing(commands):
            _apt_install(cache, missing)


def _missing(commands: dict[str, str]) -> list[str]:
    return [package for command, package in commands.items() if not shutil.which(command)]


def _apt_install(cache: Cache, packages: list[str]) -> None:
    with cache.watcher.step(f"Debian packages {' '.join(packages)}"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        cache.watcher.run(["apt-get", "update"], cache.log("apt-update"), environment=quiet)
        cache.watcher.run(
            ["apt-get", "install", "--yes", "--no-install-recommends", *packages],
            cache.log("apt-install"),
            environment=quiet,
        )


def root_file_system(
    cache: Cache, name: str, sources: Sequence[Mirror], packages: Sequence[str], hooks: Sequence[str]
) -> Path:
    """A tar of a minimal Debian with `packages`; `hooks` are shell lines run at its end, with the root as $1."""
    proxies = [
        line.rstrip(";")
        for line in (output(["apt-config", "dump"]) or "").splitlines()
        if re.match(r"Acquire::https?::Proxy", line)
    ]
    inputs = {"suite": SUITE, "sources": sources, "packages": packages, "hooks": hooks, "without": NOT_INSTALLED}

    def make(directory: Path) -> None:
        command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}"]
        command += [f"--aptopt={proxy}" for proxy in proxies]
        command += [f"--dpkgopt=path-exclude={path}" for path in NOT_INSTALLED]
        command += [f"--dpkgopt=path-include={COPYRIGHT}"]
        command += [f"--customize-hook={hook}" for hook in hooks]
        lines = [f"deb [signed-by={mirror.keyring}] {mirror.uri} {mirror.suite} main" for mirror in sources]
        cache.watcher.run(
            [*command, SUITE, str(directory / "root.tar"), "-"], cache.log(name), stdin="\n".join(lines) + "\n"
        )

    return cache.made(name, inputs, make) / "root.tar"


def _stanzas(text: str) -> list[tuple[str, str, str]]:
    """URI, suite and keyring of each source in deb822 form; see sources.list(5)."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        without_comments = re.sub(r"(?m)^#.*\n?", "", stanza)
        fields = {
            key.lower(): value.split()
            for key, value in re.findall(r"(?m)^([\w-]+):((?:.*)(?:\n[ \t].*)*)", without_comments)
        }
        if "deb" in fields.get("types", []) and fields.get("enabled") != ["no"]:
            keyring = next(iter(fields.get("signed-by", [])), "")
            found += [(uri, suite, keyring) for uri in fields.get("uris", []) for suite in fields.get("suites", [])]
    return found


def _lines(text: str) -> list[tuple[str, str, str]]:
    """URI, suite and keyring of each source in the one-line form; see sources.list(5)."""
    found = []
    for options, uri, suite in re.findall(r"(?m)^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)", text):
        keyring = re.search(r"signed-by=(/\S+)", options)
        found.append((uri, suite, keyring[1] if keyring else ""))
    return found
