"""Finds Debian's mirrors in this machine's own apt settings, installs packages, and makes root file systems."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drydock.bootstrap.cache import Cache
from drydock.bootstrap.processes import find_program, read_output
from drydock.errors import EngineError

SUITE = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# The official slim images leave these out too.
NOT_INSTALLED = (
    *("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*"),
    *("/usr/share/groff/*", "/usr/share/lintian/*", "/usr/share/linda/*"),
)
COPYRIGHT = "/usr/share/doc/*/copyright"


@dataclass(frozen=True)
class Mirror:
    """A source of Debian packages, and the keyring that verifies it."""

    uri: str
    suite: str
    keyring: str


def find_mirrors(apt: Path, codename: str) -> list[Mirror]:
    """Debian's mirrors among the sources under `apt` (/etc/apt), for SUITE instead of this machine's release.

    Raises EngineError if there are none: this machine is not a Debian, or its sources are elsewhere.
    """
    found: list[Mirror] = []
    for path in sorted([apt / "sources.list", *(apt / "sources.list.d").glob("*")]):
        if path.suffix in (".list", ".sources") and path.is_file():
            text = path.read_text(encoding="utf-8")
            read = _parse_deb822 if path.suffix == ".sources" else _parse_one_line
            for uri, suite, keyring in read(text):
                # A vendor signs with its own key.
                if keyring and "debian-archive" not in keyring:
                    continue
                if suite in (codename, f"{codename}-updates", f"{codename}-security"):
                    mirror = Mirror(uri, suite.replace(codename, SUITE), keyring or KEYRING)
                    found += [mirror] if mirror not in found else []
    if SUITE not in [mirror.suite for mirror in found]:
        raise EngineError(
            f"no Debian mirror for {codename or 'this system'} is among the sources in {apt}",
            next_step="use Debian 12 or 13, or a machine with Docker or Podman that reaches a container registry",
        )
    return found


def parse_codename(os_release: str) -> str:
    """VERSION_CODENAME out of /etc/os-release."""
    match = re.search(r'^VERSION_CODENAME="?([a-z]+)', os_release, re.MULTILINE)
    return match[1] if match else ""


def install_packages(cache: Cache, commands: dict[str, str]) -> None:
    """Install with apt the packages whose commands are not on PATH: {command: package}."""
    if not _find_missing_packages(commands):
        return
    apt = find_program("apt-get")
    if not apt:
        names = ", ".join(_find_missing_packages(commands))
        raise EngineError(
            f"{names} are not installed, and there is no apt-get here",
            next_step=f"install {names} with this system's package manager, then run again",
        )
    # One apt-get at a time: a second one fails at once with "Could not get lock".
    with Path(apt).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if missing := _find_missing_packages(commands):
            _apt_install(cache, missing)


def _find_missing_packages(commands: dict[str, str]) -> list[str]:
    return [package for command, package in commands.items() if not find_program(command)]


def _apt_install(cache: Cache, packages: list[str]) -> None:
    with cache.runner.step(f"Debian packages {' '.join(packages)}"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        cache.runner.run(["apt-get", "update"], cache.log_path("apt-update"), environment=quiet)
        cache.runner.run(
            ["apt-get", "install", "--yes", "--no-install-recommends", *packages],
            cache.log_path("apt-install"),
            environment=quiet,
        )


def build_root_file_system(
    cache: Cache, name: str, sources: Sequence[Mirror], packages: Sequence[str], hooks: Sequence[str]
) -> Path:
    """A tar of a minimal Debian with `packages`; `hooks` are shell lines run at its end, with the root as $1."""
    proxies = [
        line.rstrip(";")
        for line in (read_output(["apt-config", "dump"]) or "").splitlines()
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
        cache.runner.run(
            [*command, SUITE, str(directory / "root.tar"), "-"], cache.log_path(name), stdin="\n".join(lines) + "\n"
        )

    return cache.get_or_build(name, inputs, make) / "root.tar"


def _parse_deb822(text: str) -> list[tuple[str, str, str]]:
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


def _parse_one_line(text: str) -> list[tuple[str, str, str]]:
    """URI, suite and keyring of each source in the one-line form; see sources.list(5)."""
    found = []
    for options, uri, suite in re.findall(r"(?m)^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)", text):
        keyring = re.search(r"signed-by=(/\S+)", options)
        found.append((uri, suite, keyring[1] if keyring else ""))
    return found
