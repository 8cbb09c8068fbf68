"""Downloads the Dagger CLI for the official images: the release of ENGINE_VERSION, pinned by SHA-256."""

from __future__ import annotations

import hashlib
import io
import platform
import ssl
import tarfile
from pathlib import Path

import certifi
import httpx

from drydock.bootstrap.binaries import ENGINE_VERSION
from drydock.bootstrap.cache import Cache
from drydock.errors import EngineError

VARIABLE = "_EXPERIMENTAL_DAGGER_CLI_BIN"
RELEASES = "https://dl.dagger.io/dagger/releases"
# Of the archives of ENGINE_VERSION, as in two public repositories: dagger/homebrew-tap at 30f2cf1 and dagger/nix at
# 24d855c. Neither is on the host that serves the archives.
SHA256 = {
    "linux_amd64": "3c9dfb11e8df8a21133843789a9dc9c9477176e45ebf00442a38bcf9cba4920a",
    "linux_arm64": "2e505f6d1c5985a00d6c6a3a126761c4bfb5ba128186565921ac402520bad8c6",
    "darwin_amd64": "aa7d77923ecb2c4b0c801b4f0f1082cf7e34a89d0b3ff7e5185dfb6f5012c48a",
    "darwin_arm64": "16c749c09fac532685214b0007706d3dff2128ac3ecef006288caf39101f2427",
}
TIMEOUT_SECONDS = 60
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
OWN_CLIENT = f"set {VARIABLE} to a dagger v{ENGINE_VERSION} that you trust, then run again"


def cli_path(cache: Cache) -> Path:
    """The path of the CLI after `download_cli`."""
    return cache.entry_path("dagger-cli", _inputs()) / "dagger"


def download_cli(cache: Cache) -> Path:
    """Download the CLI for this machine once. Raises EngineError if it is not the pinned file."""
    name, expected = _detect_platform(), SHA256.get(_detect_platform())
    if not expected:
        raise EngineError(f"no Dagger CLI for {name} is pinned", next_step=OWN_CLIENT)
    url = f"{RELEASES}/{ENGINE_VERSION}/dagger_v{ENGINE_VERSION}_{name}.tar.gz"

    def make(directory: Path) -> None:
        try:
            response = httpx.get(url, follow_redirects=True, timeout=TIMEOUT_SECONDS, verify=_load_authorities())
            archive = response.raise_for_status().content
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise EngineError(f"the Dagger CLI could not be downloaded: {reason}", next_step=OWN_CLIENT) from error
        actual = hashlib.sha256(archive).hexdigest()
        if actual != expected:
            raise EngineError(
                f"{url} is not the pinned Dagger CLI: its sha256 is {actual}, not {expected}",
                next_step=OWN_CLIENT,
            )
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            program = tar.extractfile("dagger") if "dagger" in tar.getnames() else None
            if program is None:
                raise EngineError(f"{url} has no program named dagger", next_step=OWN_CLIENT)
            (directory / "dagger").write_bytes(program.read())
        (directory / "dagger").chmod(0o755)

    return cache.get_or_build("dagger-cli", _inputs(), make) / "dagger"


def _load_authorities() -> ssl.SSLContext:
    """The authorities of this machine or of SSL_CERT_FILE, and the public ones."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _inputs() -> dict[str, str]:
    name = _detect_platform()
    return {"version": ENGINE_VERSION, "platform": name, "sha256": SHA256.get(name, "")}


def _detect_platform() -> str:
    machine = platform.machine().lower()
    return f"{platform.system().lower()}_{ARCHITECTURES.get(machine, machine)}"
