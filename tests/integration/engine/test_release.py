"""A release as its users do it: tagged in git, signed with a key, verified, promoted, rescanned and built again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from drydock.checks import verification
from tests.integration.engine.conftest import in_miniature
from tests.integration.engine.keys import KeyPair, made
from tests.integration.engine.project import REGISTRY, Finished, Project
from tests.integration.engine.second_engine import SecondEngine
from tests.unit.repository import test_docs

PASSWORD = "a passphrase that is found nowhere"  # noqa: S105 - of a key that is made for a test
LINES = ["signature", "provenance", "model", "verdict", "last scan", "SBOM", verification.BASE_IMAGES]


@dataclass(frozen=True)
class Released:
    """A project that was released, verified and promoted as the docs type it, and what all of that said."""

    project: Project
    keys: KeyPair
    finished: Finished

    @property
    def digest(self) -> str:
        return str(self.finished.report["publication"]["digest"])

    @property
    def image(self) -> str:
        return f"{REGISTRY}/{self.project.repository}@{self.digest}"

    @property
    def version(self) -> str:
        return f"{REGISTRY}/{self.project.repository}:1.2.3"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    project = in_miniature(tmp_path_factory.mktemp("released") / "tiny")
    project.committed()
    [commands] = [block for block in test_docs.BLOCKS if "generate-key-pair" in block]
    for name, here in (("iris-classifier", project.repository), ("prod/iris", f"{project.repository}-prod")):
        assert f"127.0.0.1:5000/{name}" in commands
        commands = commands.replace(f"127.0.0.1:5000/{name}", f"{REGISTRY}/{here}")
    home = tmp_path_factory.mktemp("home")
    finished = project.typed(commands, home, f"{PASSWORD}\n")
    assert finished.exit_code == 0, finished.output
    return Released(project, KeyPair(home / "drydock-keys", PASSWORD), finished)


def rows(finished: Finished) -> dict[str, str]:
    """Verdicts by name, as the terminal has them."""
    found = {}
    for line in finished.output.splitlines():
        for name in [*LINES, "tag", "copied", "digest"]:
            verdict, _, rest = line.strip().partition(" ")
            if rest.strip().startswith(f"{name} "):
                found[name] = verdict
    return found


def test_a_release_has_all_its_tags_and_a_record_of_who_signed_it(released: Released) -> None:
    commit = released.project.git("rev-parse", "HEAD")
    fallback = f"sha256-{released.digest.removeprefix('sha256:')}"
    assert sorted(released.project.tags()) == sorted(["1.2.3", "1.2", "1", f"sha-{commit}", fallback])
    for tag in ("1.2.3", "1.2", "1", f"sha-{commit}"):
        assert released.project.manifest(tag).headers["Docker-Content-Digest"] == released.digest
    record = json.loads((released.finished.report_dir / "release.json").read_text())
    assert sorted(record["tags"]) == sorted(["1.2.3", "1.2", "1", f"sha-{commit}"])
    assert record["signed_by"].startswith("key SHA256:")
    assert released.finished.row("signed and attested")["measured"] == "signature, SBOM, provenance, verdict"
    labels = released.finished.report["image"]["labels"]
    assert labels == {
        "org.opencontainers.image.title": "tiny",
        "org.opencontainers.image.revision": commit,
        "org.opencontainers.image.version": "1.2.3",
        "org.opencontainers.image.source": "https://github.com/owner/tiny",
        "org.opencontainers.image.created": released.finished.report["revision"]["committed_at"],
        "dev.drydock.model.sha256": record["model_sha256"],
    }


def test_the_verdict_of_the_key_holder_is_believed(released: Released) -> None:
    assert rows(released.finished) == {
        **dict.fromkeys(LINES, "PASS"),
        verification.BASE_IMAGES: rows(released.finished)[verification.BASE_IMAGES],
        "tag": "PASS",
        "copied": "PASS",
    }
    assert f"verified   {released.version}@{released.digest}" in released.finished.output.splitlines()


def test_another_key_verifies_nothing(released: Released, tmp_path: Path) -> None:
    other = made(tmp_path, PASSWORD)
    refused = released.project.command("verify", "--key", str(other.public), released.image)
    assert refused.exit_code == 1, refused.output
    assert set(rows(refused).values()) == {"FAIL"}
    assert refused.output.splitlines()[-1] == f"refused    7 of 7 lines fail for {released.image}"


def test_an_image_that_was_pushed_by_hand_is_refused(released: Released) -> None:
    """The same bytes, built and pushed by the pipeline itself, but by somebody who has no key."""
    project = replace(released.project, repository=f"{released.project.repository}-by-hand")
    pushed = project.run("--tag", "by-hand", "--report-dir", str(project.root / "dist" / "by-hand"))
    assert pushed.exit_code == 0, pushed.output
    assert " SKIP    signed and attested" in pushed.output
    image = f"{REGISTRY}/{project.repository}:by-hand"
    refused = project.command("verify", "--key", str(released.keys.public), image)
    assert refused.exit_code == 1, refused.output
    assert rows(refused) == {**dict.fromkeys(LINES, "FAIL"), "tag": "WARN"}


def test_a_stricter_policy_refuses_what_a_softer_one_let_through(released: Released, tmp_path: Path) -> None:
    strict = tmp_path / "strict.toml"
    strict.write_text((released.project.root / "pipeline.toml").read_text() + "image_size_mb = 1\n")
    for name in ("service",):
        (tmp_path / name).symlink_to(released.project.root / name)
    refused = released.project.command(
        "verify", "--key", str(released.keys.public), released.image, "--config", str(strict)
    )
    assert refused.exit_code == 1, refused.output
    assert rows(refused)["verdict"] == "FAIL"
    assert "→ image size: " in refused.output


def test_a_promotion_copies_the_bytes_and_all_that_verified(released: Released) -> None:
    target = Project(released.project.root, f"{released.project.repository}-prod")
    there = f"{REGISTRY}/{target.repository}"
    assert released.finished.output.splitlines()[-1] == f"promoted   {there}:1.2.3@{released.digest}"
    assert target.manifest("1.2.3").content == released.project.manifest("1.2.3").content
    assert {"1.2.3", "1.2", "1"} <= set(target.tags())
    # The SBOM for those who read no signatures, the signature, and three statements.
    assert "1 image, 5 of 5 referrers" in released.finished.output
    verified = released.project.command("verify", "--key", str(released.keys.public), f"{there}:1.2")
    assert verified.exit_code == 0, verified.output


def test_what_a_key_signed_is_promoted_with_that_key_alone(released: Released) -> None:
    refused = released.project.command("promote", released.version, f"{REGISTRY}/{released.project.repository}-never")
    assert refused.exit_code == 2, refused.output
    assert f"{released.version} was signed with a key, and no public key was given to verify it" in refused.output


def test_what_does_not_verify_is_not_promoted(released: Released, tmp_path: Path) -> None:
    target = Project(released.project.root, f"{released.project.repository}-never")
    other = made(tmp_path, PASSWORD)
    there = f"{REGISTRY}/{target.repository}"
    refused = released.project.command("promote", "--key", str(other.public), released.image, there)
    assert refused.exit_code == 1, refused.output
    assert target.tags() == []


def test_a_rescan_finds_nothing_new_on_the_day_of_the_release(released: Released) -> None:
    record = released.finished.report_dir / "release.json"
    rescanned = released.project.command("rescan", str(record))
    assert rescanned.exit_code == 0, rescanned.output
    assert rescanned.output.splitlines()[-1] == "rescanned  1 image"


def test_the_same_commit_is_built_again_from_nothing_to_the_same_digest(
    released: Released, engine: SecondEngine
) -> None:
    record = released.finished.report_dir / "release.json"
    again = released.project.command("reproduce", str(record), "--no-cache", environment=engine.environment)
    assert again.exit_code == 0, again.output
    assert again.output.splitlines()[-1] == f"reproduced {released.image}"


def test_another_work_tree_is_not_the_release(released: Released) -> None:
    record = released.finished.report_dir / "release.json"
    (released.project.root / "new").write_text("")
    try:
        refused = released.project.command("reproduce", str(record))
    finally:
        (released.project.root / "new").unlink()
    assert refused.exit_code == 2, refused.output


def test_the_release_is_there_and_nothing_of_it_changes(released: Released) -> None:
    again = released.project.run("--tag", "v1.2.3", "--report-dir", str(released.project.root / "dist" / "again"))
    assert again.exit_code == 0, again.output
    assert "existed    it was there already" in again.output


def test_a_wrong_password_is_told_before_anything_is_built(released: Released) -> None:
    report_dir = str(released.project.root / "dist" / "wrong")
    wrong = {**released.keys.environment, "COSIGN_PASSWORD": "another"}
    refused = released.project.run("--report-dir", report_dir, environment=wrong)
    assert refused.exit_code == 2, refused.output
    assert "COSIGN_KEY cannot be used" in refused.output
    assert "build" not in [line.split()[0] for line in refused.output.splitlines() if line.strip()]
