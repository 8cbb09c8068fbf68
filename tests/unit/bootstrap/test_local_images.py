from __future__ import annotations

import json
import os
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from drydock.bootstrap import advisories, debian, local_images, services
from drydock.bootstrap.cache import Cache
from drydock.bootstrap.debian import Mirror
from drydock.errors import EngineError
from tests.unit.bootstrap.conftest import FakePrograms, listener, web_server


@pytest.mark.parametrize(
    ("platform", "user", "what", "next_step"),
    [
        (
            *("darwin", 0),
            "neither Docker nor Podman can pull the official engine, and local images can be built on Linux only",
            "start Docker or Podman with access to registry.dagger.io, then run again",
        ),
        (
            *("linux", 1000),
            "neither Docker nor Podman can pull the official engine, and only root can build local images",
            "start Docker or Podman with access to registry.dagger.io, or run this as root",
        ),
    ],
)
def test_local_images_are_built_on_linux_by_root_only(
    cache: Cache,
    programs: FakePrograms,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    user: int,
    what: str,
    next_step: str,
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(EngineError) as caught:
        local_images.up(cache)
    assert (caught.value.message, caught.value.next_step) == (what, next_step)
    assert programs.calls() == []
    assert not cache.root.exists()


def test_a_shell_is_told_the_engine_its_client_and_the_images() -> None:
    assert local_images.shell_environment(Path("/kept")) == {
        "_EXPERIMENTAL_DAGGER_RUNNER_HOST": "unix:///kept/run/engine.sock",
        "_EXPERIMENTAL_DAGGER_CLI_BIN": "/kept/bin/dagger",
        "DAGGER_NO_NAG": "1",
        "DRYDOCK_IMAGES": "/kept/images.toml",
        "PATH": "/kept/bin:$PATH",
    }


def test_the_client_is_linked_once_a_build(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for build in (old, new):
        build.mkdir()
        (build / "dagger").write_text(build.name)
    client = tmp_path / "bin" / "dagger"

    local_images._link_client(tmp_path, old)
    assert client.readlink() == old / "dagger"
    # A link that is made anew would be younger.
    os.utime(client, ns=(1, 1), follow_symlinks=False)
    local_images._link_client(tmp_path, old)
    assert client.lstat().st_mtime_ns == 1

    local_images._link_client(tmp_path, new)
    assert client.read_text() == "new"
    # A build that has gone leaves a link to nothing.
    (new / "dagger").unlink()
    local_images._link_client(tmp_path, old)
    assert client.read_text() == "old"


DIGEST, OTHER_DIGEST = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
GO = """\
[ "$1" = version ] && echo go version go1.26.3 linux/amd64 && exit
for word; do [ "$last" = -o ] && folder=$word; last=$word; done
case "$folder" in
*/dagger/*) for name in dagger dialstdio dnsname engine init; do echo $name >"$folder$name"; done ;;
*/cosign/*) echo cosign >"$folder/cosign" ;;
*) echo trivy >"$folder/trivy"; cp {builder} "$folder" ;;
esac
"""
# The folders with the advisories and for the database are its seventh and ninth word.
TRIVY_DB = """\
mkdir "$9"
cp "$7/vuln-list-debian/tracker/distributions.json" "$9"
echo '{"Version": 2, "UpdatedAt": "now"}' >"$9/metadata.json"
"""
# Lists what is in an image, by the image's name without its registry and tag.
PODMAN = """\
[ "$1" = inspect ] && cat "{folder}/running"
[ "$1" = import ] || exit 0
for word; do archive=$image; image=$word; done
case "$image" in */drydock-engine:*) echo "$image" >"{folder}/running" ;; esac
name=${{image%:*}}
tar --list --file "$archive" | sort >"{folder}/${{name##*/}}"
"""


@pytest.fixture
def machine(tmp_path: Path, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which all can be made, quickly; the folder where its images are listed."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    mirror = Mirror("http://debian.example/debian", "trixie", debian.KEYRING)
    monkeypatch.setattr(debian, "find_mirrors", lambda apt, codename: [mirror])
    certificates = tmp_path / "ca-certificates.crt"
    certificates.write_text("certificates")
    monkeypatch.setattr(services, "BUNDLE", certificates)

    root = tmp_path / "root"
    for place in ("usr/lib/cni", "usr/local/bin"):
        (root / place).mkdir(parents=True)
    (root / "usr/lib/cni/bridge").write_text("bridge")
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(root, ".")
    (tmp_path / "built").mkdir()
    (tmp_path / "images").mkdir()
    builder = programs.add("trivy-db", TRIVY_DB, folder=tmp_path / "built")
    programs.add("go", GO.format(builder=builder))
    programs.add("mmdebstrap", f'for word; do tar=$last; last=$word; done; cp {tmp_path}/root.tar "$tar"')
    programs.add("podman", PODMAN.format(folder=tmp_path / "images"))
    return tmp_path / "images"


def up(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, digest: str = DIGEST, *, with_cosign: bool = False
) -> dict[str, Any]:
    """Build the local images beside an engine and a registry that answer already; its pins."""
    with web_server(200, {"Docker-Content-Digest": digest}) as registry:
        monkeypatch.setattr(services, "REGISTRY", registry)
        path = services.socket_path(cache.root)
        path.unlink(missing_ok=True)
        with listener(path):
            local_images.up(cache, with_cosign=with_cosign)
    return tomllib.loads(local_images.images_path(cache.root).read_text())


def beginnings(calls: list[list[str]]) -> list[str]:
    return [" ".join(call[:2]) for call in calls]


QUESTIONS = [*["go version"] * 4, *["apt-config dump"] * 3, "podman image", "podman inspect"]
PUSHES = ["podman import", "podman push"]


def test_everything_is_made_once_and_pinned(
    cache: Cache, programs: FakePrograms, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = up(cache, monkeypatch, with_cosign=True)
    databases = pins.pop("databases")
    assert pins == {
        "base_images": "local",
        "builder": f"docker.io/library/python:3.13-trixie@{DIGEST}",
        "base": f"docker.io/library/python:3.13-slim-trixie@{DIGEST}",
        "trivy": f"docker.io/aquasec/trivy:0.74.0@{DIGEST}",
        "cosign": f"docker.io/sigstore/cosign/cosign:v3.1.3@{DIGEST}",
    }
    (database,) = map(Path, databases)
    assert sorted(file.name for file in database.iterdir()) == ["distributions.json", "metadata.json"]
    # Old advisories are no newer for having been built now.
    described = json.loads((database / "metadata.json").read_text())
    assert described == {"Version": 2, "UpdatedAt": advisories.SNAPSHOT_AT}
    # The sources of the database are not kept.
    assert [folder.name for folder in database.parent.iterdir()] == ["db"]
    assert (cache.root / "bin" / "dagger").read_text() == "dagger\n"

    calls = programs.calls()
    # Side by side: all that is built with Go, and the root file systems with both Python images.
    first, last = beginnings(calls)[:17], beginnings(calls)[17:]
    assert sorted(call for call in first if call.startswith("go")) == [*["go build"] * 3, *["go version"] * 4]
    assert [call for call in first if not call.startswith("go")] == [
        *["apt-config dump", "mmdebstrap --variant=minbase"] * 3,
        *PUSHES * 2,
    ]
    assert last == ["trivy-db build", "podman import", "podman image", *PUSHES * 2, "podman inspect"]
    assert [call[2] for call in calls if call[0] == "mmdebstrap"] == [
        "--include=ca-certificates,containernetworking-plugins,dnsmasq-base,e2fsprogs,git,iptables,"
        "openssh-client,pigz,ripgrep,runc,sqlite3,tini,xz-utils",
        "--include=ca-certificates,python3",
        "--include=ca-certificates,python3,python3-venv,gcc",
    ]
    builder = next(call[2:-2] for call in calls if call[:2] == ["podman", "import"])
    assert builder == [
        *("--change", "CMD python3"),
        *("--change", "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"),
        *("--change", "ENV LANG=C.UTF-8"),
    ]
    engine = (machine / "drydock-engine").read_text().splitlines()
    assert {
        "./etc/dagger/",
        "./opt/cni/bin/bridge",
        "./opt/cni/bin/dnsname",
        "./usr/local/bin/buildctl",
        "./usr/local/bin/dagger-engine",
        "./usr/local/bin/dagger-init",
        "./usr/local/bin/runc",
        "./usr/local/share/dagger/content/",
    } <= set(engine)
    for name in ("trivy", "cosign"):
        assert (machine / name).read_text().splitlines() == [
            *("./", "./etc/", "./etc/ssl/", "./etc/ssl/certs/", "./etc/ssl/certs/ca-certificates.crt", "./tmp/"),
            *("./usr/", "./usr/local/", "./usr/local/bin/", f"./usr/local/bin/{name}"),
        ]

    # What was built once stays.
    assert up(cache, monkeypatch) == {**pins, "databases": databases}
    assert sorted(beginnings(programs.calls())) == sorted(QUESTIONS)


def test_a_machine_on_which_nobody_signs_builds_no_cosign_until_somebody_asks(
    cache: Cache, programs: FakePrograms, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert up(cache, monkeypatch)["cosign"] == ""
    assert [call[-1] for call in programs.calls() if call[:2] == ["go", "build"] and "cosign" in call[-1]] == []
    assert up(cache, monkeypatch, with_cosign=True)["cosign"] == f"docker.io/sigstore/cosign/cosign:v3.1.3@{DIGEST}"
    built = [" ".join(call[:2]) for call in programs.calls() if call[0] in ("go", "mmdebstrap")]
    assert built.count("go build") == 1
    assert "mmdebstrap --variant=minbase" not in built


def test_what_podman_and_the_registry_lost_is_given_to_them_again(
    cache: Cache, programs: FakePrograms, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(cache, monkeypatch)
    programs.calls()
    programs.add("podman", f'[ "$1" != image ] || exit 1\n{PODMAN.format(folder=machine)}')
    pins = up(cache, monkeypatch, OTHER_DIGEST)
    assert pins["trivy"] == f"docker.io/aquasec/trivy:0.74.0@{OTHER_DIGEST}"
    assert sorted(beginnings(programs.calls())) == sorted([*QUESTIONS[1:], "podman import", *PUSHES * 3])
