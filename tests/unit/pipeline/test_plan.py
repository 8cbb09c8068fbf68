from __future__ import annotations

import hashlib
import re
import shlex
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from drydock.errors import UsageError
from drydock.oci.registry import Credentials
from drydock.oci.tags import ImageTags
from drydock.pipeline.plan import Plan, create_plan
from drydock.report import files
from drydock.tools import trivy
from drydock.tools.cosign import Identity, NoSigner, PublicKey
from tests.support import examples
from tests.unit.tools.test_revision import git

ROOT = Path(__file__).parents[3]
LOCAL = f"""\
base_images = "local"
builder = "docker.io/library/python:3.13-trixie@sha256:{"1" * 64}"
base = "docker.io/library/python:3.13-slim-trixie@sha256:{"2" * 64}"
trivy = "docker.io/aquasec/trivy:0.74.0@sha256:{"3" * 64}"
cosign = "docker.io/sigstore/cosign/cosign:v3.1.3@sha256:{"4" * 64}"
databases = ["/sample/db"]
"""


def made(root: Path, *, tag: str | None = "test", push: bool = True, **environment: str) -> Plan:
    return create_plan(
        policy_path=root / "pipeline.toml",
        report_dir=root / "dist",
        publishes=True,
        tag=tag,
        push=push,
        environment=environment,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.toml").write_text("")
    (tmp_path / "images.toml").write_text(LOCAL)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "image-compiled.txt").write_text("numpy==2.1.0 \\\n    --hash=sha256:1\n")
    return tmp_path


def test_a_plan_knows_where_the_image_goes(project: Path) -> None:
    gathered = made(project)
    assert gathered.root == project
    assert gathered.reference == "127.0.0.1:5000/iris-classifier:test"
    assert gathered.images.base_images == "local"
    assert gathered.locked_packages == {"numpy": "2.1.0"}
    assert gathered.published == ()


def test_a_policy_may_lie_in_another_folder_than_what_it_is_about(project: Path) -> None:
    (project / "cosign.pub").write_text("-----BEGIN PUBLIC KEY-----")
    (project / "training").mkdir()
    policy = project / "training" / "mine.toml"
    policy.write_text('[build]\nroot = ".."\n\n[trust]\nkey = "cosign.pub"\n')
    gathered = create_plan(policy_path=policy, report_dir=project / "dist", environment={})
    assert gathered.root == project
    assert gathered.locked_packages == {"numpy": "2.1.0"}
    assert gathered.images.base_images == "local"
    assert gathered.trust == PublicKey("-----BEGIN PUBLIC KEY-----")


@pytest.mark.parametrize("root", ["none", "images.toml"])
def test_a_root_that_is_no_folder_names_its_line(project: Path, root: str) -> None:
    (project / "pipeline.toml").write_text(f'[build]\n\nroot = "{root}"\n')
    with pytest.raises(UsageError) as refused:
        made(project)
    assert refused.value.message == f"pipeline.toml:3: build.root is no folder: {project / root}"
    assert refused.value.likely_cause == "the path is relative to the folder of the policy, not to the current folder"
    assert (
        refused.value.next_step == 'name the folder that has the Dockerfile, such as ".." for the one above the policy'
    )


def test_where_the_model_is_outside_what_fetches_it_is_locked_as_well(project: Path) -> None:
    (project / "requirements" / "image-remote.txt").write_text("s3fs==2026.9.0 \\\n    --hash=sha256:2\n")
    assert made(project).locked_packages == {"numpy": "2.1.0"}
    (project / "pipeline.toml").write_text('[build]\nmodel = "remote"\n')
    assert made(project).locked_packages == {"numpy": "2.1.0", "s3fs": "2026.9.0"}


def trained(project: Path, content: str) -> str:
    """Put a model and its contract into the folder that the policy names; its sha256."""
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    artifact = examples.CONTRACT.artifact.model_copy(update={"sha256": sha256, "size_bytes": len(content)})
    contract = examples.CONTRACT.model_copy(update={"artifact": artifact})
    (project / "artifacts").mkdir(exist_ok=True)
    (project / "artifacts" / artifact.file).write_text(content)
    (project / "artifacts" / "model.json").write_text(contract.model_dump_json())
    return sha256


@pytest.fixture
def given(project: Path) -> Path:
    """A commit of a project whose model is ignored by git and was trained elsewhere."""
    (project / "pipeline.toml").write_text('[model]\ntrain = ""\n')
    (project / ".gitignore").write_text("artifacts/\ndist/\n")
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "one")
    git(project, "tag", "v1.2.3")
    return project


def test_two_models_of_one_commit_have_two_tags(given: Path) -> None:
    commit = git(given, "rev-parse", "HEAD")
    for content in ("one model", "another"):
        sha256 = trained(given, content)
        gathered = made(given, tag=None)
        assert gathered.revision.name == f"{commit}-dirty"
        assert gathered.name.tag == f"sha-{commit}-dirty-model-{sha256[:12]}"
    with pytest.raises(UsageError) as refused:
        made(given, tag="1.2.3")
    assert refused.value.message == (
        "v1.2.3 would be built from a work tree that is not the tag's commit: artifacts/model.json (not in the commit),"
        " artifacts/model.pkl (a model that git does not hold)"
    )


def test_a_contract_in_the_commit_vouches_for_a_model_that_is_too_large_for_git(given: Path) -> None:
    trained(given, "one model")
    git(given, "add", "--force", "artifacts/model.json")
    git(given, "commit", "--quiet", "--message", "the model")
    commit = git(given, "rev-parse", "HEAD")
    assert made(given, tag=None).name.tag == f"sha-{commit}"
    (given / "artifacts" / "training.npy").write_text("rows that a conversion counts")
    assert made(given, tag=None).name.tag.startswith(f"sha-{commit}-dirty-model-")
    (given / "artifacts" / "training.npy").unlink()
    (given / "artifacts" / "model.pkl").write_text("another model")
    assert made(given, tag=None).revision.dirty
    # And both again, as a training does.
    sha256 = trained(given, "another model")
    assert made(given, tag=None).name.tag == f"sha-{commit}-dirty-model-{sha256[:12]}"


@pytest.mark.parametrize("page", ["README.md", "docs/your-model.md"])
def test_the_command_of_the_docs_commits_all_that_contract_writes(given: Path, page: str) -> None:
    trained(given, "one model")
    (given / "artifacts" / "training.npy").write_text("rows that a conversion counts")
    [command] = re.findall(r"(?m)^git (add --force .*?)(?:  +#.*)?$", (ROOT / page).read_text(encoding="utf-8"))
    if "wine.toml" in command:
        (given / "wine.toml").write_text("")
    for line in command.split(" && git "):
        git(given, *shlex.split(line))
    assert made(given, tag=None).name.tag == f"sha-{git(given, 'rev-parse', 'HEAD')}"


@pytest.mark.parametrize("name", ["model.json", "model.pkl", "training.npy"])
def test_a_model_that_git_holds_is_of_its_commit(name: str, given: Path) -> None:
    trained(given, "one model")
    (given / "artifacts" / "training.npy").write_text("rows that a conversion counts")
    git(given, "add", "--force", "artifacts")
    git(given, "commit", "--quiet", "--message", "the model")
    commit = git(given, "rev-parse", "HEAD")
    assert made(given, tag=None).name.tag == f"sha-{commit}"
    # Another file that changed says nothing of the model.
    (given / "note.txt").write_text("x")
    assert made(given, tag=None).name.tag == f"sha-{commit}-dirty"
    with (given / "artifacts" / name).open("a") as file:
        file.write(" ")
    assert made(given, tag=None).name.tag.startswith(f"sha-{commit}-dirty-model-")


def test_a_model_that_the_run_trains_does_not_count(given: Path) -> None:
    (given / "pipeline.toml").write_text("")
    git(given, "commit", "--quiet", "--all", "--message", "train")
    trained(given, "left by make train")
    assert made(given, tag=None).name.tag == f"sha-{git(given, 'rev-parse', 'HEAD')}"


def test_what_only_looks_does_not_need_a_git_that_works(project: Path) -> None:
    git(project, "init", "--quiet")
    with pytest.raises(UsageError, match="does not have any commits yet"):
        made(project)
    with pytest.raises(UsageError, match="does not have any commits yet"):
        create_plan(policy_path=project / "pipeline.toml", report_dir=project / "dist", environment={}, builds=True)
    looking = create_plan(policy_path=project / "pipeline.toml", report_dir=project / "dist", environment={})
    assert looking.revision.commit == "unknown"


def test_labels_say_what_is_known_and_nothing_else(tagged: Path) -> None:
    commit, at = git(tagged, "log", "-1", "--format=%H %cI").split()
    created = datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    known = {
        "org.opencontainers.image.title": "iris-classifier",
        "org.opencontainers.image.revision": commit,
        "org.opencontainers.image.version": f"sha-{commit}",
        "org.opencontainers.image.source": "",
        "org.opencontainers.image.created": created,
        "dev.drydock.model.sha256": "a" * 64,
    }
    assert made(tagged, tag="test").create_labels("a" * 64) == known
    assert made(tagged, tag=None).create_labels("a" * 64) == known
    git(tagged, "remote", "add", "origin", "https://user:secret@git.example:8443/owner/name.git")
    assert made(tagged, tag="1.2.3").create_labels("a" * 64) == {
        **known,
        "org.opencontainers.image.version": "1.2.3",
        "org.opencontainers.image.source": "https://git.example:8443/owner/name",
    }


def test_the_source_in_the_policy_is_a_plain_address_or_refused(project: Path) -> None:
    policy = project / "pipeline.toml"
    policy.write_text('[image]\nsource = "https://user:secret@github.com/owner/name.git"\n')
    assert made(project).create_labels("")["org.opencontainers.image.source"] == "https://github.com/owner/name"
    policy.write_text('[image]\nsource = "https://user:1/secret@github.com"\n')
    with pytest.raises(UsageError) as refused:
        made(project)
    assert refused.value.message == "pipeline.toml:2: image.source is no web address"


def test_a_folder_without_a_commit_has_no_label_of_one(project: Path) -> None:
    labels = made(project).create_labels("a" * 64)
    assert labels["org.opencontainers.image.revision"] == "unknown-dirty"
    assert {key for key, value in labels.items() if not value} == {
        f"org.opencontainers.image.{key}" for key in ("version", "source", "created")
    }


def test_what_publishes_nothing_needs_no_commit_to_name_an_image_by(project: Path) -> None:
    with pytest.raises(UsageError, match="this folder is no git checkout"):
        made(project, tag=None)
    looking = create_plan(policy_path=project / "pipeline.toml", report_dir=project / "dist", environment={})
    assert (looking.name, looking.push) == (ImageTags(tag=""), False)


def test_the_report_goes_to_a_folder_with_the_name_of_the_image(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    policy = project / "pipeline.toml"
    assert create_plan(policy_path=policy, environment={}).report_dir == project / "dist" / "iris-classifier"
    policy.write_text('[image]\nname = "mine"\n')
    assert create_plan(policy_path=policy, environment={}).report_dir == project / "dist" / "mine"
    assert create_plan(policy_path=policy, report_dir=project / "here", environment={}).report_dir == project / "here"


def test_what_was_published_before_is_known(project: Path) -> None:
    (project / "dist").mkdir()
    files.write_documents(project / "dist", {"release.json": examples.release().model_dump_json()})
    assert made(project).published == (examples.release(),)


@pytest.mark.parametrize("content", [None, "numpy = 2\n"])
def test_a_lock_that_is_none_stops_the_run_before_it_starts(project: Path, content: str | None) -> None:
    lock = project / "requirements" / "image-compiled.txt"
    lock.unlink()
    if content:
        lock.write_text(content)
    with pytest.raises(UsageError) as stopped:
        made(project)
    assert stopped.value.message.startswith(f"{lock} is no lock of packages: ")


@pytest.mark.parametrize("runtime", ["onnx", "lean", "remote"])
def test_an_unknown_runtime_names_its_line_and_the_runtimes_that_exist(project: Path, runtime: str) -> None:
    for name in ("sklearn", "remote"):
        (project / "requirements" / f"image-{name}.txt").write_text("numpy==2.1.0\n")
    (project / "pipeline.toml").write_text(f'[build]\nruntime = "{runtime}"\n')
    with pytest.raises(UsageError) as refused:
        made(project)
    error = refused.value
    assert error.message == f"pipeline.toml:2: build.runtime is '{runtime}', and the runtimes are compiled, sklearn"
    assert error.likely_cause == "its name is misspelt: each runtime has its lock, requirements/image-NAME.txt"
    assert error.next_step == "name one of them under [build]; CONTRIBUTING.md#add-a-runtime says how to add one"


def test_one_lock_serves_every_runtime_of_a_server_of_ones_own(project: Path) -> None:
    (project / "pipeline.toml").write_text('[build]\nruntime = "onnx"\nlock = "locked.txt"\n')
    (project / "locked.txt").write_text("onnxruntime==1.24.0\n")
    assert made(project).locked_packages == {"onnxruntime": "1.24.0"}


def test_every_shipped_runtime_can_be_chosen(project: Path) -> None:
    runtimes = {path.stem for path in (ROOT / "service" / "runtimes").glob("[a-z]*.py")}
    for runtime in runtimes:
        (project / "pipeline.toml").write_text(f'[build]\nroot = "{ROOT}"\nruntime = "{runtime}"\n')
        gathered = create_plan(policy_path=project / "pipeline.toml", report_dir=project / "dist", environment={})
        assert gathered.policy.build.runtime == runtime


def test_every_shipped_pin_is_a_digest() -> None:
    images = made(ROOT).images
    assert images.base_images == "official"
    # Renewed upstream all the time, and so named by the form that the scanner reads.
    assert images.databases
    assert all(source.endswith(f":{trivy.DATABASE_VERSION}") for source in images.databases)
    for pin in (images.builder, images.base, images.trivy):
        name, _, digest = pin.partition("@sha256:")
        assert name.count(":") == 1
        assert len(digest) == 64


def test_the_environment_names_other_images(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(LOCAL.replace("sha256:1", "sha256:f"))
    assert made(project, DRYDOCK_IMAGES=str(other)).images.builder.endswith("sha256:f" + "1" * 63)


@pytest.mark.parametrize(
    "content",
    [None, "base_images = ", 'base_images = "mine"', 'base_images = "official"', LOCAL + "more = 1", "\udcff"],
)
def test_pins_that_are_not_whole_stop_the_run_before_it_starts(project: Path, content: str | None) -> None:
    path = project / "images.toml"
    path.unlink()
    if content is not None:
        path.write_text(content, errors="surrogateescape")
    with pytest.raises(UsageError, match=f"{path} does not name the images of a run: "):
        made(project)


@pytest.mark.parametrize("name", ["builder", "base", "cosign"])
def test_an_image_that_is_named_by_a_tag_alone_is_not_taken(project: Path, name: str) -> None:
    (project / "images.toml").write_text(re.sub(rf"(?m)^({name} = .*)@sha256:\w+", r"\1", LOCAL))
    with pytest.raises(UsageError, match=f"names {name} by no digest: docker.io/"):
        made(project)


def test_a_machine_without_cosign_runs_and_signs_nothing(project: Path) -> None:
    (project / "images.toml").write_text(re.sub(r"(?m)^cosign = .*", 'cosign = ""', LOCAL))
    assert made(project).images.cosign == ""
    key = project / "cosign.key"
    key.write_text("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----")
    with pytest.raises(UsageError, match=r"^cosign is not on this machine yet, ") as refused:
        made(project, COSIGN_KEY=str(key))
    assert refused.value.next_step == "drydock bootstrap --with-cosign, then run again"


def test_official_images_have_their_cosign(project: Path) -> None:
    pins = re.sub(r"(?m)^cosign = .*", 'cosign = ""', LOCAL).replace('"local"', '"official"')
    (project / "images.toml").write_text(pins)
    with pytest.raises(UsageError, match=r"names cosign by no digest: $"):
        made(project)


@pytest.fixture
def tagged(project: Path) -> Path:
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "one")
    git(project, "tag", "v1.2.3")
    return project


def test_a_version_on_local_base_images_never_leaves_this_machine(tagged: Path) -> None:
    with pytest.raises(UsageError, match=r"1\.2\.3 would be a release built on local base images"):
        made(tagged, tag="1.2.3", DRYDOCK_REPOSITORY="ghcr.io/owner/name")
    assert made(tagged, tag="1.2.3", DRYDOCK_REPOSITORY="ghcr.io/owner/name", push=False)
    assert made(tagged, DRYDOCK_REPOSITORY="ghcr.io/owner/name", tag="test")
    assert made(tagged, tag="v1.2.3", DRYDOCK_REPOSITORY="localhost:5000/name").name == ImageTags(
        "1.2.3", f"sha-{git(tagged, 'rev-parse', 'HEAD')}"
    )


def test_a_version_that_nobody_signs_leaves_this_machine_by_no_door(tagged: Path) -> None:
    (tagged / "images.toml").write_text(LOCAL.replace("local", "official"))
    git(tagged, "commit", "--quiet", "--all", "--message", "two")
    git(tagged, "tag", "--force", "v1.2.3")

    def away(*, tag: str = "1.2.3", push: bool = True, **environment: str) -> Plan:
        return made(tagged, tag=tag, push=push, DRYDOCK_REPOSITORY="ghcr.io/owner/name", **environment)

    with pytest.raises(UsageError, match=r"^1\.2\.3 would be a release that nobody signed: COSIGN_KEY names no key"):
        away()
    assert away(ACTIONS_ID_TOKEN_REQUEST_URL="https://example.org", ACTIONS_ID_TOKEN_REQUEST_TOKEN="t").push  # noqa: S106
    assert away(push=False).signer == NoSigner("COSIGN_KEY names no key, and no GitHub job lends its identity")
    assert away(tag="test").push


def test_what_only_looks_needs_no_key_that_opens(project: Path) -> None:
    with pytest.raises(UsageError, match="COSIGN_KEY"):
        made(project, COSIGN_KEY="/nowhere")
    looks = {"COSIGN_KEY": "/nowhere"}
    assert create_plan(policy_path=project / "pipeline.toml", report_dir=project / "dist", environment=looks)


def test_a_version_that_git_does_not_have_is_only_tried_out(tagged: Path) -> None:
    with pytest.raises(UsageError, match=r"the git tag 'v1\.2\.4' does not point at the commit"):
        made(tagged, tag="1.2.4")
    assert made(tagged, tag="1.2.4", push=False).name.is_version
    with pytest.raises(UsageError, match=r"the git tag 'v1\.2\.4' does not point at the commit"):
        made(tagged, tag=None, GITHUB_REF_TYPE="tag", GITHUB_REF_NAME="v1.2.4")


def test_whom_to_trust_is_the_repositorys_workflows_unless_a_key_is_named(project: Path) -> None:
    (project / "pipeline.toml").write_text('[image]\nsource = "https://github.com/owner/name"\n')
    assert made(project).trust == Identity(
        r"^https://github\.com/owner/name/\.github/workflows/(image\.yml@refs/heads/main|release\.yml@refs/tags/v.*)$",
        "https://token.actions.githubusercontent.com",
    )
    (project / "cosign.pub").write_text("-----BEGIN PUBLIC KEY-----")
    (project / "pipeline.toml").write_text('[trust]\nkey = "cosign.pub"\n')
    assert made(project).trust == PublicKey("-----BEGIN PUBLIC KEY-----")
    (project / "pipeline.toml").write_text('[trust]\nkey = "none.pub"\n')
    with pytest.raises(UsageError, match=r"none\.pub is no public key that can be read"):
        made(project)


def test_where_nothing_may_be_attached_nothing_is_signed_and_no_release_goes_elsewhere(tagged: Path) -> None:
    (tagged / "images.toml").write_text(LOCAL.replace("local", "official"))
    (tagged / "pipeline.toml").write_text("[image]\nattachments = false\n")
    git(tagged, "add", "--all")
    git(tagged, "commit", "--quiet", "--message", "two")
    git(tagged, "tag", "--force", "v1.2.3")
    job = {"ACTIONS_ID_TOKEN_REQUEST_URL": "https://example.org", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t"}
    reason = "pipeline.toml:2 says that nothing is attached to the image"
    away = partial(
        create_plan, policy_path=tagged / "pipeline.toml", report_dir=tagged / "dist", publishes=True, push=True
    )
    elsewhere = {**job, "DRYDOCK_REPOSITORY": "ghcr.io/owner/name"}
    assert away(environment=elsewhere, tag="test").signer == NoSigner(reason)
    assert away(environment=job, tag="1.2.3").signer == NoSigner(reason)
    with pytest.raises(UsageError) as refused:
        away(environment=elsewhere, tag="1.2.3")
    assert refused.value.message == f"1.2.3 would be a release that nobody signed: {reason}"
    assert refused.value.next_step == "push it to a registry that takes signatures, without that line; then run again"


def test_credentials_are_each_registrys_own(project: Path) -> None:
    theirs = made(
        project,
        DRYDOCK_SOURCE_USER="a",
        DRYDOCK_SOURCE_PASSWORD="b",  # noqa: S106 - a test's
        DRYDOCK_SOURCE_HOST="staging.example",
    )
    assert (theirs.login, theirs.source_login) == (None, Credentials("a", "b", "staging.example"))
    ours = made(project, DRYDOCK_REGISTRY_USER="a", DRYDOCK_REGISTRY_PASSWORD="b")  # noqa: S106 - a test's
    host = ours.policy.image.repository.partition("/")[0]
    assert (ours.login, ours.source_login) == (Credentials("a", "b", host), None)


def test_an_ignore_that_would_hold_for_years_stops_the_run_before_it_starts(project: Path) -> None:
    ignore = '[[ignore]]\nid = "CVE-1"\nreason = "never reached"\nowner = "ana"\nexpires = {}\n'
    today = datetime.now(UTC).date()
    (project / "pipeline.toml").write_text(ignore.format(today + timedelta(days=89)))
    assert made(project).policy.ignore[0].id == "CVE-1"
    (project / "pipeline.toml").write_text(ignore.format("2999-12-31"))
    with pytest.raises(UsageError, match=r"^pipeline\.toml:5: the ignore of CVE-1 expires on 2999-12-31, more than 90"):
        made(project)


def test_advisories_come_from_somewhere(project: Path) -> None:
    (project / "images.toml").write_text(LOCAL.replace('["/sample/db"]', "[]"))
    with pytest.raises(UsageError, match="does not name the images of a run: 1 validation error for Images"):
        made(project)


def test_a_skip_of_an_unknown_check_names_its_line(project: Path) -> None:
    (project / "pipeline.toml").write_text('[skip]\n"image sise" = "it is large"\n')
    with pytest.raises(UsageError) as refused:
        made(project)
    assert refused.value.message == "pipeline.toml:2: there is no check 'image sise' to skip"


def test_only_what_mounts_the_secrets_of_the_build_needs_them(project: Path) -> None:
    (project / "Dockerfile").write_text("FROM a\nRUN --mount=type=secret,id=pip make\n")
    (project / "pipeline.toml").write_text('[build]\nsecrets = {pip = "env://PIP_CONF"}\n')
    assert made(project).build_secrets == {}
    shared = {"policy_path": project / "pipeline.toml", "report_dir": project / "dist", "mounts_secrets": True}
    with pytest.raises(UsageError, match=r"^pipeline\.toml:2: the secret pip is not set: "):
        create_plan(environment={}, **shared)  # type: ignore[arg-type]
    gathered = create_plan(environment={"PIP_CONF": "[global]"}, **shared)  # type: ignore[arg-type]
    assert gathered.build_secrets == {"pip": "[global]"}


def test_certificates_that_cannot_be_read_stop_every_command(project: Path) -> None:
    with pytest.raises(UsageError, match=r"^SSL_CERT_FILE names no certificates: /nowhere\.pem: "):
        made(project, SSL_CERT_FILE="/nowhere.pem")
