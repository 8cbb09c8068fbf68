"""The shipped image, from its training to its digest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from drydock import checks
from drydock.report import schemas
from tests.integration.engine.conftest import copied
from tests.integration.engine.project import REGISTRY, REPOSITORY_ROOT, Finished, Project

PODMANS = ("--tls-verify", "--read-only-tmpfs")
SITE_PACKAGES = "opt/venv/lib/python3.13/site-packages"


def test_every_check_passes_and_the_last_line_is_the_digest(good: Finished, project: Project) -> None:
    assert good.exit_code == 0, good.output
    verdicts = {row["name"]: row["verdict"] for row in good.report["checks"]}
    # How long an answer took is this machine's time too: on a busy one it warns, and rejects nothing.
    assert verdicts.pop("answers in time") in ("PASS", "WARN")
    assert verdicts == {
        **{check.name: "PASS" for check in checks.CHECKS if check.name != "answers in time"},
        # A sample, where no real database can be had.
        "advisories are recent": "WARN" if good.report["images"]["base_images"] == "local" else "PASS",
        "model is good enough": "SKIP",
        # Nothing was published before it.
        "answers as before": "SKIP",
        "schema as before": "SKIP",
        "signed and attested": "SKIP",
    }
    digest = good.report["image"]["manifest_digest"]
    assert good.output.splitlines()[-1] == f"published  {REGISTRY}/{project.repository}:test@{digest}"


def test_all_twelve_golden_rows_were_asked(good: Finished) -> None:
    assert good.row("answers /predict as trained")["measured"] == "12 of 12 rows"


def test_the_registry_serves_the_manifest_that_was_judged(good: Finished, project: Project) -> None:
    digest = good.report["publication"]["digest"]
    for reference in ("test", digest):
        served = project.manifest(reference)
        assert f"sha256:{hashlib.sha256(served.content).hexdigest()}" == digest


def test_the_record_says_what_was_published_and_from_what(good: Finished, project: Project) -> None:
    release = json.loads((good.report_dir / "release.json").read_text())
    contract = json.loads((good.report_dir / "model" / "model.json").read_text())
    assert release["image"] == f"{REGISTRY}/{project.repository}:test@{release['digest']}"
    assert release["model_sha256"] == contract["artifact"]["sha256"]
    assert release["scanner_version"] == "0.74.0"
    assert all("@sha256:" in pin for pin in release["pinned_images"].values())
    assert release["checks"] == good.report["checks"]
    assert not release["is_release"]


def test_the_report_and_the_record_keep_to_their_schemas(good: Finished) -> None:
    for name in ("report", "release"):
        schema = json.loads((schemas.FOLDER / f"{name}.schema.json").read_text())
        document = json.loads((good.report_dir / f"{name}.json").read_text())
        errors = Draft202012Validator(schema).iter_errors(document)
        assert [error.message for error in errors] == []


def test_explain_names_the_largest_packages_without_an_engine(good: Finished) -> None:
    command = [sys.executable, str(REPOSITORY_ROOT / "ci" / "main.py"), "explain", "--report-dir", str(good.report_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    assert re.findall(r"(?m)^ +\d+ MB +[\d.]+ % +python +(\S+) ", done.stdout)[0] == "pydantic_core"
    layers = good.report["image"]["layers"]
    assert f"size       {round(sum(layer['size_bytes'] for layer in layers) / 1e6)} MB" in done.stdout
    assert all(layer["created_by"][:40] in done.stdout for layer in layers)


def test_whose_the_bytes_are_adds_up_to_the_image(good: Finished) -> None:
    """Every byte is a package's or a folder's, but for what a later layer removed or wrote anew."""
    image = good.report["image"]
    owned = sum(each["size_bytes"] for each in [*image["packages"], *image["other_folders"]])
    assert owned + image["wasted_bytes"] == sum(layer["size_bytes"] for layer in image["layers"])
    debian = [package for package in image["packages"] if package["kind"] == "debian"]
    assert len(debian) == good.report["scan"]["os_packages"]


def test_the_image_says_what_it_is(good: Finished) -> None:
    contract = json.loads((good.report_dir / "model" / "model.json").read_text())
    labels = good.report["image"]["labels"]
    assert labels["dev.drydock.model.sha256"] == contract["artifact"]["sha256"]
    assert labels["org.opencontainers.image.revision"] == good.report["revision"]["commit"] + "-dirty"
    # What is not known has no label: this folder is no checkout.
    assert labels.keys() == {
        "dev.drydock.model.sha256",
        *(f"org.opencontainers.image.{key}" for key in ("title", "description", "revision")),
    }
    assert good.report["image"]["user"] == "10001:10001"


def test_nothing_that_only_building_needs_is_in_our_layers(good: Finished, tmp_path: Path) -> None:
    subprocess.run(["tar", "-x", "-C", tmp_path, "-f", good.report_dir / "image.tar"], check=True)
    names = set[str]()
    for layer in good.report["image"]["layers"]:
        blob = tmp_path / "blobs" / layer["digest"].replace(":", "/")
        listed = subprocess.run(["tar", "-tf", blob], capture_output=True, text=True, check=True).stdout.split("\n")
        names |= {name for name in listed if name.startswith(("opt/", "app/"))}
    assert f"{SITE_PACKAGES}/fastapi/__init__.py" in names
    assert "app/artifacts/model.forest" in names
    building = ("/training/", "/convert.py", "/describe.py", "/bytecode.py", "/pickled.py")
    unwanted = ("/tests/", "/pip/", *building, ".pyi", ".h\n", ".ipynb")
    assert [name for name in names if any(part in f"{name}\n" for part in unwanted)] == []


def test_a_change_of_the_server_keeps_every_other_layer(good: Finished, tmp_path: Path) -> None:
    before = layers(good.report)
    changed_project = copied(tmp_path / "changed")
    changed_project.edit("service/http/openapi.py", "There is nothing at this path.", "Nothing is at this path.")
    again = changed_project.run("--no-push")
    assert again.exit_code == 0, again.output
    after = layers(again.report)
    changed = [instruction for instruction, digest in before.items() if after[instruction] != digest]
    assert len(before) == len(after)
    assert len(changed) == 1
    assert changed[0].endswith(" COPY --from=code /app/service/ /app/service/")
    assert again.report["contract"] == good.report["contract"]


def layers(report: dict[str, Any]) -> dict[str, str]:
    return {
        f"{number} {layer['created_by']}": layer["digest"] for number, layer in enumerate(report["image"]["layers"])
    }


def test_without_a_push_the_archive_is_there_to_load(project: Project) -> None:
    finished = project.run("--no-push", "--tag", "unpushed")
    assert finished.exit_code == 0, finished.output
    assert "unpushed" not in project.tags()
    digest = finished.report["image"]["manifest_digest"]
    assert finished.output.splitlines()[-1] == f"approved   iris-classifier@{digest}; not pushed, as asked"
    loaded = podman("load", "--quiet", "--input", str(finished.report_dir / "image.tar"))
    assert loaded.startswith("Loaded image")
    podman("rmi", loaded.split()[-1])


def test_the_digest_can_be_pulled_and_the_image_answers(good: Finished, project: Project) -> None:
    reference = f"{REGISTRY}/{project.repository}@{good.report['publication']['digest']}"
    podman("pull", "--quiet", "--tls-verify=false", reference)
    port = free_port()
    # As production runs it; host networking and its own limits, since a machine without CAP_SYS_RESOURCE has no others.
    container = podman(
        # Podman alone would add folders in memory that may be written to.
        *("run", "--detach", "--network", "host", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"),
        *("--security-opt", "no-new-privileges", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"),
        *("--env", f"DRYDOCK_LISTEN_PORT={port}", reference),
    )
    try:
        answer = asked(f"http://127.0.0.1:{port}/predict", {"features": [5.1, 3.5, 1.4, 0.2]})
        assert answer["predictions"][0]["label"] == "setosa"
        contract = httpx.get(f"http://127.0.0.1:{port}/model").json()
        trained = json.loads((good.report_dir / "model" / "model.json").read_text())
        # The golden rows are the user's data, and nobody's who only reaches the port.
        assert trained.pop("golden")
        assert contract["contract"] == trained
        assert contract["revision"] == good.report["revision"]["commit"] + "-dirty"
    finally:
        podman("stop", "--time", "10", container)
        podman("rm", container)


def test_the_same_image_is_a_one_shot(good: Finished, project: Project) -> None:
    reference = f"{REGISTRY}/{project.repository}@{good.report['publication']['digest']}"
    podman("pull", "--quiet", "--tls-verify=false", reference)
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "host")
    said = podman("run", "--rm", *limits, reference, "service.predict", "--features", "5.1", "3.5", "1.4", "0.2")
    assert said == "5.1, 3.5, 1.4, 0.2 → setosa (100%)"


def test_the_dagger_command_runs_the_same_pipeline(project: Project) -> None:
    dagger = shutil.which("dagger") or os.environ.get("_EXPERIMENTAL_DAGGER_CLI_BIN")
    if not dagger:
        pytest.skip("no dagger command here: with Docker the client brings its own")
    done = subprocess.run(
        [
            *(dagger, "run", "--progress=plain", sys.executable, str(REPOSITORY_ROOT / "ci" / "main.py"), "--no-push"),
            *(
                "--tag",
                "test",
                "--config",
                str(project.root / "pipeline.toml"),
                "--report-dir",
                str(project.root / "d"),
            ),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("approved   iris-classifier@sha256:")


def podman(*arguments: str) -> str:
    """Docker's twin, or Docker itself, as a stranger who only has the digest would use it."""
    command = ["podman", "--runtime", "runc"] if shutil.which("podman") else ["docker"]
    words = [word for word in arguments if command[0] == "podman" or not word.startswith(PODMANS)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def asked(url: str, content: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        try:
            return dict(httpx.post(url, json=content).raise_for_status().json())
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
