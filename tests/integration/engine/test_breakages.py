"""Whatever breaks has its own exit code, its words and its report, and nothing is in the registry afterwards."""

from __future__ import annotations

import hashlib
import json
import re
import socket

import pytest

from tests.integration.engine.project import Project


def test_a_failing_instruction_is_named_with_its_own_last_words(tiny: Project) -> None:
    tiny.edit("Dockerfile", "USER 10001", "RUN echo no room in the dock >&2; exit 7\nUSER 10001")
    finished = tiny.run()
    tiny.assert_broken(finished, "build", 4)
    failure = finished.report["failures"][0]
    assert "echo no room in the dock" in failure["message"]
    assert failure["log"].splitlines()[0] == "no room in the dock"


def test_a_package_whose_hash_differs_stops_the_build(shipped: Project) -> None:
    lock = shipped.root / "requirements" / "image-compiled.txt"
    comments, first, *others = re.split(r"(?m)^(?=\w)", lock.read_text())
    lock.write_text("".join([comments, re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", first), *others]))
    finished = shipped.run()
    shipped.assert_broken(finished, "train", 4)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in finished.output


def test_a_package_that_nobody_has_stops_the_build(shipped: Project) -> None:
    with (shipped.root / "requirements" / "image-pandas.txt").open("a") as lock:
        lock.write(f"drydock-nonesuch==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    finished = shipped.run()
    shipped.assert_broken(finished, "train", 4)
    assert "pip install -r packages.lock -r image-pandas.txt" in finished.report["failures"][0]["message"]
    assert "No matching distribution found for drydock-nonesuch==1.0" in finished.report["failures"][0]["log"]


def test_a_base_image_that_is_gone_stops_the_build(tiny: Project) -> None:
    tiny.edit("Dockerfile", "FROM ${BASE_IMAGE}", "FROM python:3.13-nonesuch")
    finished = tiny.run()
    tiny.assert_broken(finished, "build", 4)
    assert "python:3.13-nonesuch" in finished.report["failures"][0]["message"]


@pytest.mark.parametrize("damage", ["missing", "cut short", "another"])
def test_a_model_that_is_not_its_contracts_stops_the_run_before_anything_is_built(tiny: Project, damage: str) -> None:
    tiny.edit("pipeline.toml", "[limits]", '[model]\ntrain = ""\n\n[limits]')
    model = b"a table of two rows"
    artifacts = tiny.root / "artifacts"
    artifacts.mkdir()
    written = {"missing": None, "cut short": model[:-1], "another": b"another table"}[damage]
    if written is not None:
        (artifacts / "model.pkl").write_bytes(written)
    row = {"features": [1.0], "label": "small", "probabilities": {"small": 1.0}}
    artifact = {"file": "model.pkl", "sha256": hashlib.sha256(model).hexdigest(), "size_bytes": len(model)}
    contract = {
        "schema_version": 1,
        "name": "tiny",
        "task": "classification",
        "artifact": artifact,
        "features": [{"name": "size", "type": "number"}],
        "labels": ["small"],
        "python": "3.13",
        "libraries": {},
        "holdout": {"rows": 1, "scores": {"accuracy": 1.0}},
        "golden": [row],
        "tolerance": 0.0,
    }
    (artifacts / "model.json").write_text(json.dumps(contract))
    finished = tiny.run()
    tiny.assert_broken(finished, "train", 4)
    stages = ["check-registry", "check-signing-key", "find-previous", "train"]
    assert [stage["name"] for stage in finished.report["stages"]] == stages


def test_a_registry_that_does_not_answer_is_known_before_any_work(tiny: Project) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    finished = tiny.run(environment={"DRYDOCK_REPOSITORY": f"{host}/tiny"})
    tiny.assert_broken(finished, "check-registry", 6)
    assert [stage["name"] for stage in finished.report["stages"]] == ["check-registry"]


def test_a_model_of_another_scikit_learn_is_refused_with_both_versions(shipped: Project) -> None:
    # The lean runtime needs none of them; the pickle does.
    shipped.edit("pipeline.toml", 'runtime = "compiled" ', 'runtime = "sklearn"')
    shipped.edit("export/contract.py", "library: metadata.version(library) for", 'library: "0.0.1" for')
    shipped.edit("pipeline.toml", "start_seconds = 60", "start_seconds = 10")
    finished = shipped.run()
    shipped.assert_rejected(finished, "answers /predict as trained")
    (said,) = [line for line in finished.row("answers /predict as trained")["details"] if "trained with" in line]
    assert re.search(r"scikit-learn 0\.0\.1 \(.*1\.\d+\.\d+", said)


def test_a_version_stays_as_it_is_and_a_pre_release_moves_no_tag(tiny: Project) -> None:
    first = tiny.committed("v1.2.2")
    runs = [tiny.run("--tag", "1.2.2"), tiny.run("--tag", "1.2.2")]
    assert [run.exit_code for run in runs] == [0, 0], runs[-1].output
    assert runs[0].report["publication"]["digest"] == runs[1].report["publication"]["digest"]
    before = tiny.manifest("1.2.2").content
    tiny.edit("service/server.py", '"not a row"', '"no row"')
    second = tiny.committed("v1.2.2", "v1.2.3-rc.1")
    refused = tiny.run("--tag", "1.2.2")
    assert refused.exit_code == 7, refused.output
    finished = tiny.run("--tag", "1.2.3-rc.1")
    assert finished.exit_code == 0, finished.output
    assert sorted(tiny.names()) == sorted(["1", "1.2", "1.2.2", "1.2.3-rc.1", f"sha-{first}", f"sha-{second}"])
    for tag in ("1.2.2", "1.2", "1"):
        assert tiny.manifest(tag).content == before
