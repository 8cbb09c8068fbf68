"""Builds all images on this machine, from Debian packages, Go modules and PyPI. `up` lists what is needed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from drydock.bootstrap import advisories, binaries, debian, services
from drydock.bootstrap.cache import Cache, hash_tree
from drydock.bootstrap.debian import Mirror
from drydock.bootstrap.processes import parallel_tasks, program_environment, read_output
from drydock.errors import EngineError
from drydock.oci.media_types import IMAGE_MANIFEST
from drydock.report.files import write_atomic

PACKAGES = {command: command for command in ("podman", "runc", "mmdebstrap", "docker-registry")}
ENGINE_PACKAGES = (
    *("ca-certificates", "containernetworking-plugins", "dnsmasq-base", "e2fsprogs", "git", "iptables"),
    *("openssh-client", "pigz", "ripgrep", "runc", "sqlite3", "tini", "xz-utils"),
)
PYTHON_PACKAGES = ("ca-certificates", "python3")
# The official builder has a compiler too. Ours compiles without a C library, so it needs no headers.
BUILDER_PACKAGES = ("python3-venv", "gcc")
# As in the official images: `python` in /usr/local/bin, no apt lists, and an interpreter that pip may use.
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


def images_path(root: Path) -> Path:
    """The pins of the local images, in the form of images.toml."""
    return root / "images.toml"


def shell_environment(root: Path) -> dict[str, str]:
    """What a shell needs to run `drydock` with the local images."""
    client = root / "bin"
    return {
        "_EXPERIMENTAL_DAGGER_RUNNER_HOST": f"unix://{services.socket_path(root)}",
        "_EXPERIMENTAL_DAGGER_CLI_BIN": str(client / "dagger"),
        "DAGGER_NO_NAG": "1",
        "DRYDOCK_IMAGES": str(images_path(root)),
        "PATH": f"{client}{os.pathsep}$PATH",
    }


def up(cache: Cache, *, with_cosign: bool = False) -> None:
    """Build what a run needs, each part once; start the registry, push the images, and start the engine.

    cosign takes minutes to build, and most runs sign nothing. It is built on request, and kept from then on.
    """
    _require_machine()
    debian.install_packages(cache, PACKAGES)
    go = binaries.find_go(cache)
    with_cosign = with_cosign or (cache.root / binaries.COSIGN.module).is_dir()
    codename = debian.parse_codename(Path("/etc/os-release").read_text(encoding="utf-8"))
    mirrors = debian.find_mirrors(Path("/etc/apt"), codename)
    services.start_registry(cache)
    # Go needs the processors, the root file systems the network.
    with parallel_tasks(cache.runner) as start:
        trivy_build = start(lambda: binaries.build_binaries(cache, binaries.TRIVY, go))
        dagger_build = start(lambda: binaries.build_binaries(cache, binaries.DAGGER, go))
        cosign_build = start(lambda: binaries.build_binaries(cache, binaries.COSIGN, go)) if with_cosign else None
        roots = start(lambda: _build_root_file_systems(cache, mirrors))
    dagger, trivy = dagger_build.result(), trivy_build.result()
    engine_root, python_pins = roots.result()
    _link_client(cache.root, dagger)
    database = _get_database(cache, trivy, go)
    engine_image = _build_engine_image(cache, engine_root, dagger)
    trivy_image = _build_single_binary_rootfs(cache, trivy / "trivy")
    pins = python_pins | {
        "trivy": _push_image(cache, "aquasec/trivy", binaries.TRIVY_VERSION, trivy_image, TRIVY_CONFIG)
    }
    if cosign_build:
        cosign_image = _build_single_binary_rootfs(cache, cosign_build.result() / "cosign")
        tag = f"v{binaries.COSIGN_VERSION}"
        pins["cosign"] = _push_image(cache, "sigstore/cosign/cosign", tag, cosign_image, COSIGN_CONFIG)
    lines = [f'{name} = "docker.io/{pin}"' for name, pin in pins.items()]
    lines += [] if cosign_build else ['cosign = ""']
    write_atomic(
        images_path(cache.root), "\n".join(['base_images = "local"', *lines, f'databases = ["{database}"]', ""])
    )
    services.start_engine(cache, engine_image)


def _build_root_file_systems(cache: Cache, mirrors: Sequence[Mirror]) -> tuple[Path, dict[str, str]]:
    """Build the engine's root file system, and push both Python images; return its path and their pins."""
    engine = debian.build_root_file_system(cache, "engine-root", mirrors, ENGINE_PACKAGES, ())
    runtime = debian.build_root_file_system(cache, "python-slim", mirrors, PYTHON_PACKAGES, PYTHON_HOOKS)
    builder = debian.build_root_file_system(
        cache, "python", mirrors, (*PYTHON_PACKAGES, *BUILDER_PACKAGES), PYTHON_HOOKS
    )
    return engine, {
        "builder": _push_image(cache, "library/python", "3.13-trixie", builder, PYTHON_CONFIG),
        "base": _push_image(cache, "library/python", "3.13-slim-trixie", runtime, PYTHON_CONFIG),
    }


def _require_machine() -> None:
    if not sys.platform.startswith("linux"):
        raise EngineError(
            "neither Docker nor Podman can pull the official engine, and local images can be built on Linux only",
            next_step="start Docker or Podman with access to registry.dagger.io, then run again",
        )
    if os.geteuid() != 0:
        raise EngineError(
            "neither Docker nor Podman can pull the official engine, and only root can build local images",
            next_step="start Docker or Podman with access to registry.dagger.io, or run this as root",
        )


def _link_client(root: Path, dagger: Path) -> None:
    """Link the client into a folder for PATH: the engine's other commands have names that are too general."""
    client = root / "bin" / "dagger"
    client.parent.mkdir(parents=True, exist_ok=True)
    if not client.exists() or client.resolve() != (dagger / "dagger").resolve():
        client.unlink(missing_ok=True)
        client.symlink_to(dagger / "dagger")


def _get_database(cache: Cache, trivy: Path, go: Path) -> Path:
    inputs = {"advisories": hash_tree(advisories.DIRECTORY), "builder": trivy.name, "shape": read_source(advisories)}

    def make(directory: Path) -> None:
        build_database(cache, trivy, go, advisories.DIRECTORY, directory)

    return cache.get_or_build("advisories", inputs, make) / "db"


def build_database(cache: Cache, trivy: Path, go: Path, samples: Path, directory: Path) -> None:
    """Build `directory`/db, an advisory database for Trivy, from `samples`, with the builder in the folder `trivy`.

    Its date is that of the samples: a new build does not make old advisories newer.
    """
    sources = directory / "sources"
    advisories.write_sources(samples, sources)
    command = [str(trivy / "trivy-db"), "build", "--only-update", "ghsa", "--only-update", "debian"]
    cache.runner.run(
        [*command, "--cache-dir", str(sources), "--output-dir", str(directory / "db"), "--update-interval", "24h"],
        cache.log_path("advisories"),
        # The builder runs `go` to list the packages of Go itself.
        environment={"PATH": f"{go.parent}{os.pathsep}{program_environment()['PATH']}"},
    )
    shutil.rmtree(sources)
    metadata = directory / "db" / "metadata.json"
    fields = json.loads(metadata.read_text(encoding="utf-8"))
    metadata.write_text(json.dumps({**fields, "UpdatedAt": advisories.SNAPSHOT_AT}), encoding="utf-8")


def read_source(module: object) -> str:
    """The source of a module: how something is built is one of its inputs."""
    return Path(str(getattr(module, "__file__", ""))).read_text(encoding="utf-8")


def _build_engine_image(cache: Cache, root: Path, dagger: Path) -> str:
    """Build the engine's image in Podman's storage, tagged with the key of its inputs; return its name."""

    def make(directory: Path) -> None:
        tree = directory / "tree"
        _unpack_archive(cache, root, tree)
        plugins = tree / "opt" / "cni" / "bin"
        plugins.mkdir(parents=True)
        for plugin in (tree / "usr" / "lib" / "cni").iterdir():
            (plugins / plugin.name).symlink_to(f"/usr/lib/cni/{plugin.name}")
        # The places in distconsts.go.
        for name, place in {
            # A client's `docker exec` calls it; the official image has it under this name too.
            "dialstdio": tree / "usr/local/bin/buildctl",
            "dnsname": plugins / "dnsname",
            "engine": tree / "usr/local/bin/dagger-engine",
            "init": tree / "usr/local/bin/dagger-init",
        }.items():
            shutil.copy(dagger / name, place)
        (tree / "usr/local/bin/runc").symlink_to("/usr/sbin/runc")
        (tree / "usr/local/share/dagger/content").mkdir(parents=True)
        (tree / "etc/dagger").mkdir(parents=True)
        _import_image(
            cache, tree, f"localhost/{services.ENGINE}:{directory.name.strip('.').removesuffix('.part')}", ENGINE_CONFIG
        )
        shutil.rmtree(tree)

    inputs = {"root": root.parent.name, "dagger": dagger.name, "config": ENGINE_CONFIG}
    key = cache.get_or_build("engine-image", inputs, make)
    image = f"localhost/{services.ENGINE}:{key.name}"
    if read_output(["podman", "image", "exists", image]) is None:
        # Somebody emptied Podman's storage.
        shutil.rmtree(key)
        cache.get_or_build("engine-image", inputs, make)
    return image


def _build_single_binary_rootfs(cache: Cache, program: Path) -> Path:
    """Build a root file system of one program, a folder for temporary files and the public certificates."""
    step = f"{program.name}-image"

    def make(directory: Path) -> None:
        tree = directory / "tree"
        for place in ("usr/local/bin", "tmp", "etc/ssl/certs"):
            (tree / place).mkdir(parents=True)
        shutil.copy(program, tree / "usr/local/bin")
        shutil.copy(services.BUNDLE, tree / "etc/ssl/certs")
        cache.runner.run(
            ["tar", "--create", "--file", str(directory / "root.tar"), "--directory", str(tree), "."],
            cache.log_path(step),
        )
        shutil.rmtree(tree)

    return cache.get_or_build(step, {program.name: program.parent.name}, make) / "root.tar"


def _push_image(cache: Cache, name: str, tag: str, root: Path, config: tuple[str, ...]) -> str:
    """Push a root file system as an image to the local registry; return its name with its digest."""
    local = f"{services.REGISTRY}/{name}:{tag}"
    inputs = {"root": f"{root.parent.parent.name}/{root.parent.name}", "config": config, "name": name}

    def make(directory: Path) -> None:
        _import_image(cache, root, local, config)
        cache.runner.run(["podman", "push", "--tls-verify=false", local], cache.log_path("push"))
        digest = _find_registry_digest(name, tag)
        if digest is None:
            raise EngineError(
                f"the registry does not serve {local}", next_step=f"read {cache.log_path('registry')}, then run again"
            )
        (directory / "digest").write_text(digest)

    step = f"push-{tag}"
    made = cache.get_or_build(step, inputs, make)
    if _find_registry_digest(name, tag) != (made / "digest").read_text():
        # The registry was emptied, or has another image under this tag.
        shutil.rmtree(made)
        made = cache.get_or_build(step, inputs, make)
    return f"{name}:{tag}@{(made / 'digest').read_text()}"


def _find_registry_digest(name: str, tag: str) -> str | None:
    """The digest of a tag in the local registry, or None."""
    url = f"http://{services.REGISTRY}/v2/{name}/manifests/{tag}"
    try:
        response = httpx.head(url, headers={"Accept": IMAGE_MANIFEST}, timeout=10, trust_env=False)
    except httpx.TransportError:
        return None
    return response.headers.get("Docker-Content-Digest") if response.is_success else None


def _unpack_archive(cache: Cache, archive: Path, tree: Path) -> None:
    tree.mkdir(parents=True)
    command = ["tar", "--extract", "--file", str(archive), "--directory", str(tree), "--exclude", "./dev/*"]
    cache.runner.run(command, cache.log_path("unpack"))


def _import_image(cache: Cache, source: Path, image: str, config: tuple[str, ...]) -> None:
    """Import an image of one layer into Podman, from a tar file or from a folder."""
    archive = source
    if source.is_dir():
        archive = source.with_suffix(".tar")
        cache.runner.run(
            ["tar", "--create", "--file", str(archive), "--directory", str(source), "."], cache.log_path("pack")
        )
    changes = [argument for line in config for argument in ("--change", line)]
    cache.runner.run(["podman", "import", *changes, str(archive), image], cache.log_path("import"))
    if source.is_dir():
        archive.unlink()
