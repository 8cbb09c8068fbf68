"""The stand-in world, made from Debian packages, Go modules and PyPI: read `up` as the list of what it needs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from drydock.bootstrap import advisories, binaries, debian, services
from drydock.bootstrap.cache import Cache, contents, write_whole
from drydock.bootstrap.debian import Mirror
from drydock.bootstrap.errors import BootstrapError
from drydock.bootstrap.processes import output, side_by_side

# runc and docker-registry lie in /usr/sbin or /usr/bin, by release.
PACKAGES = {command: command for command in ("podman", "runc", "mmdebstrap", "docker-registry")}
ENGINE_PACKAGES = (
    *("ca-certificates", "containernetworking-plugins", "dnsmasq-base", "e2fsprogs", "git", "iptables"),
    *("openssh-client", "pigz", "ripgrep", "runc", "sqlite3", "tini", "xz-utils"),
)
PYTHON_PACKAGES = ("ca-certificates", "python3")
# The official builder has a compiler, too; ours compiles without a C library, so its headers are not needed.
BUILDER_PACKAGES = ("python3-venv", "gcc")
# As the official images have it: `python` in /usr/local/bin, no apt lists, and an interpreter that pip may use.
PYTHON_HOOKS = (
    'ln -s ../../bin/python3 "$1/usr/local/bin/python"',
    'ln -s ../../bin/python3 "$1/usr/local/bin/python3"',
    'rm -f "$1"/usr/lib/python3.*/EXTERNALLY-MANAGED',
    'rm -rf "$1"/var/lib/apt/lists/*',
)
PYTHON_CONFIG = (
    "CMD python3",
    "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV LANG=C.UTF-8",
)
ENGINE_CONFIG = (
    'ENTRYPOINT ["tini", "--", "dagger-engine"]',
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)
TRIVY_CONFIG = ('ENTRYPOINT ["trivy"]', "ENV PATH=/usr/local/bin")
COSIGN_CONFIG = ('ENTRYPOINT ["cosign"]', "ENV PATH=/usr/local/bin")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def images_path(root: Path) -> Path:
    """The pins of the stand-in images, in the form of images.toml."""
    return root / "images.toml"


def environment(root: Path) -> dict[str, str]:
    """What a shell needs to run `ci/main.py` in this world."""
    client = root / "bin"
    return {
        "_EXPERIMENTAL_DAGGER_RUNNER_HOST": f"unix://{services.socket_path(root)}",
        "_EXPERIMENTAL_DAGGER_CLI_BIN": str(client / "dagger"),
        "DAGGER_NO_NAG": "1",
        "DRYDOCK_IMAGES": str(images_path(root)),
        "PATH": f"{client}{os.pathsep}$PATH",
    }


def up(cache: Cache, *, with_cosign: bool = False) -> None:
    """Everything that a run needs, each made once; then the registry, the images in it, and the engine.

    cosign takes minutes to build, and most runs sign nothing: it is built if it was asked for, and then it stays.
    """
    _require_machine()
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    debian.install(cache, PACKAGES)
    go = binaries.go(cache)
    with_cosign = with_cosign or (cache.root / binaries.COSIGN.module).is_dir()
    codename = debian.codename(Path("/etc/os-release").read_text(encoding="utf-8"))
    mirrors = debian.mirrors(Path("/etc/apt"), codename)
    services.start_registry(cache)
    # Go keeps the processors busy, and the root file systems come over the network.
    with side_by_side(cache.watcher) as start:
        trivy_build = start(lambda: binaries.built(cache, binaries.TRIVY, go))
        dagger_build = start(lambda: binaries.built(cache, binaries.DAGGER, go))
        cosign_build = start(lambda: binaries.built(cache, binaries.COSIGN, go)) if with_cosign else None
        roots = start(lambda: _root_file_systems(cache, mirrors))
    dagger, trivy = dagger_build.result(), trivy_build.result()
    engine_root, python_pins = roots.result()
    _link_client(cache.root, dagger)
    database = _database(cache, trivy, go)
    engine_image = _engine_image(cache, engine_root, dagger)
    trivy_image = _root_of_one(cache, trivy / "trivy")
    pins = python_pins | {"trivy": _pushed(cache, "aquasec/trivy", binaries.TRIVY_VERSION, trivy_image, TRIVY_CONFIG)}
    if cosign_build:
        cosign_image = _root_of_one(cache, cosign_build.result() / "cosign")
        tag = f"v{binaries.COSIGN_VERSION}"
        pins["cosign"] = _pushed(cache, "sigstore/cosign/cosign", tag, cosign_image, COSIGN_CONFIG)
    lines = [f'{name} = "docker.io/{pin}"' for name, pin in pins.items()]
    lines += [] if cosign_build else ['cosign = ""']
    write_whole(images_path(cache.root), "\n".join(['world = "stand-in"', *lines, f'databases = ["{database}"]', ""]))
    services.start_engine(cache, engine_image)


def _root_file_systems(cache: Cache, mirrors: Sequence[Mirror]) -> tuple[Path, dict[str, str]]:
    """The engine's root file system, and the pins of both Python images, which are in the registry by then."""
    engine = debian.root_file_system(cache, "engine-root", mirrors, ENGINE_PACKAGES, ())
    runtime = debian.root_file_system(cache, "python-slim", mirrors, PYTHON_PACKAGES, PYTHON_HOOKS)
    builder = debian.root_file_system(cache, "python", mirrors, (*PYTHON_PACKAGES, *BUILDER_PACKAGES), PYTHON_HOOKS)
    return engine, {
        "builder": _pushed(cache, "library/python", "3.13-trixie", builder, PYTHON_CONFIG),
        "runtime": _pushed(cache, "library/python", "3.13-slim-trixie", runtime, PYTHON_CONFIG),
    }


def _require_machine() -> None:
    if not sys.platform.startswith("linux"):
        raise BootstrapError(
            "neither Docker nor Podman can get the official engine, and stand-ins can only be made on Linux",
            "start Docker or Podman with access to registry.dagger.io, then run again",
        )
    if os.geteuid() != 0:
        raise BootstrapError(
            "neither Docker nor Podman can get the official engine, and making stand-ins needs root",
            "start Docker or Podman with access to registry.dagger.io, or run this as root",
        )


def _link_client(root: Path, dagger: Path) -> None:
    """A folder with the client alone: the engine's other commands have names too plain for a PATH."""
    client = root / "bin" / "dagger"
    client.parent.mkdir(parents=True, exist_ok=True)
    if not client.exists() or client.resolve() != (dagger / "dagger").resolve():
        client.unlink(missing_ok=True)
        client.symlink_to(dagger / "dagger")


def _database(cache: Cache, trivy: Path, go: Path) -> Path:
    inputs = {"advisories": contents(advisories.DIRECTORY), "builder": trivy.name, "shape": contents_of(advisories)}

    def make(directory: Path) -> None:
        build_database(cache, trivy, go, advisories.DIRECTORY, directory)

    return cache.made("advisories", inputs, make) / "db"


def build_database(cache: Cache, trivy: Path, go: Path, samples: Path, directory: Path) -> None:
    """Build `directory`/db, an advisory database for Trivy, from the samples in `samples`, by Trivy's own builder.

    `trivy` is the folder with the builder in it. The database says that it is of the day on which the samples were
    taken down: building old advisories anew makes them no newer.
    """
    sources = directory / "sources"
    advisories.write(samples, sources)
    command = [str(trivy / "trivy-db"), "build", "--only-update", "ghsa", "--only-update", "debian"]
    cache.watcher.run(
        [*command, "--cache-dir", str(sources), "--output-dir", str(directory / "db"), "--update-interval", "24h"],
        cache.log("advisories"),
        # The builder asks `go` for a list of Go's own packages.
        environment={"PATH": f"{go.parent}{os.pathsep}{os.environ['PATH']}"},
    )
    shutil.rmtree(sources)
    metadata = directory / "db" / "metadata.json"
    described = json.loads(metadata.read_text(encoding="utf-8"))
    metadata.write_text(json.dumps({**described, "UpdatedAt": advisories.TAKEN_DOWN_AT}), encoding="utf-8")


def contents_of(module: object) -> str:
    """A module's own text: how something is made is one of its inputs."""
    return Path(str(getattr(module, "__file__", ""))).read_text(encoding="utf-8")


def _engine_image(cache: Cache, root: Path, dagger: Path) -> str:
    """The engine's image in Podman's own storage, by the key of what it is made from."""

    def make(directory: Path) -> None:
        tree = directory / "tree"
        _unpack(cache, root, tree)
        plugins = tree / "opt" / "cni" / "bin"
        plugins.mkdir(parents=True)
        for plugin in (tree / "usr" / "lib" / "cni").iterdir():
            (plugins / plugin.name).symlink_to(f"/usr/lib/cni/{plugin.name}")
        # Where distconsts.go says.
        for name, place in {
            # How a client's `docker exec` reaches the engine; the official image has it by this name, too.
            "dialstdio": tree / "usr/local/bin/buildctl",
            "dnsname": plugins / "dnsname",
            "engine": tree / "usr/local/bin/dagger-engine",
            "init": tree / "usr/local/bin/dagger-init",
        }.items():
            shutil.copy(dagger / name, place)
        (tree / "usr/local/bin/runc").symlink_to("/usr/sbin/runc")
        (tree / "usr/local/share/dagger/content").mkdir(parents=True)
        (tree / "etc/dagger").mkdir(parents=True)
        _import(
            cache, tree, f"localhost/{services.ENGINE}:{directory.name.strip('.').removesuffix('.part')}", ENGINE_CONFIG
        )
        shutil.rmtree(tree)

    inputs = {"root": root.parent.name, "dagger": dagger.name, "config": ENGINE_CONFIG}
    key = cache.made("engine-image", inputs, make)
    image = f"localhost/{services.ENGINE}:{key.name}"
    if output(["podman", "image", "exists", image]) is None:
        # Podman's storage was emptied behind our back.
        shutil.rmtree(key)
        cache.made("engine-image", inputs, make)
    return image


def _root_of_one(cache: Cache, program: Path) -> Path:
    """A root file system of one program, a folder for its temporary files and the certificates that it trusts."""
    step = f"{program.name}-image"

    def make(directory: Path) -> None:
        tree = directory / "tree"
        for place in ("usr/local/bin", "tmp", "etc/ssl/certs"):
            (tree / place).mkdir(parents=True)
        shutil.copy(program, tree / "usr/local/bin")
        shutil.copy(services.BUNDLE, tree / "etc/ssl/certs")
        cache.watcher.run(
            ["tar", "--create", "--file", str(directory / "root.tar"), "--directory", str(tree), "."], cache.log(step)
        )
        shutil.rmtree(tree)

    return cache.made(step, {program.name: program.parent.name}, make) / "root.tar"


def _pushed(cache: Cache, name: str, tag: str, root: Path, config: tuple[str, ...]) -> str:
    """Import a root file system as an image and push it to the local registry; its name with its digest there."""
    local = f"{services.REGISTRY}/{name}:{tag}"
    inputs = {"root": f"{root.parent.parent.name}/{root.parent.name}", "config": config, "name": name}

    def make(directory: Path) -> None:
        _import(cache, root, local, config)
        cache.watcher.run(["podman", "push", "--tls-verify=false", local], cache.log("push"))
        digest = _served_digest(name, tag)
        if digest is None:
            raise BootstrapError(
                f"the registry does not serve {local}", f"read {cache.log('registry')}, then run again"
            )
        (directory / "digest").write_text(digest)

    step = f"push-{tag}"
    made = cache.made(step, inputs, make)
    if _served_digest(name, tag) != (made / "digest").read_text():
        # The registry was emptied, or holds another image under this tag.
        shutil.rmtree(made)
        made = cache.made(step, inputs, make)
    return f"{name}:{tag}@{(made / 'digest').read_text()}"


def _served_digest(name: str, tag: str) -> str | None:
    """The digest that the local registry has under a tag, or None."""
    url = f"http://{services.REGISTRY}/v2/{name}/manifests/{tag}"
    try:
        response = httpx.head(url, headers={"Accept": MANIFEST}, timeout=10, trust_env=False)
    except httpx.TransportError:
        return None
    return response.headers.get("Docker-Content-Digest") if response.is_success else None


def _unpack(cache: Cache, archive: Path, tree: Path) -> None:
    tree.mkdir(parents=True)
    command = ["tar", "--extract", "--file", str(archive), "--directory", str(tree), "--exclude", "./dev/*"]
    cache.watcher.run(command, cache.log("unpack"))


def _import(cache: Cache, source: Path, image: str, config: tuple[str, ...]) -> None:
    """Make an image of one layer, from a tar file or from a folder."""
    archive = source
    if source.is_dir():
        archive = source.with_suffix(".tar")
        cache.watcher.run(
            ["tar", "--create", "--file", str(archive), "--directory", str(source), "."], cache.log("pack")
        )
    changes = [word for line in config for word in ("--change", line)]
    cache.watcher.run(["podman", "import", *changes, str(archive), image], cache.log("import"))
    if source.is_dir():
        archive.unlink()
