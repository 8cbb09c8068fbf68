from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drydock import checks, stages
from drydock.cli import commands
from drydock.errors import BuildError, EngineError, ScanError, UsageError
from drydock.oci import archive
from drydock.report import Archive, Scan
from tests.support import examples
from tests.support.fake_stages import FakeStages
from tests.unit.oci.test_archive import layout
from tests.unit.tools.test_revision import git

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
OURS = ("DRYDOCK_IMAGES", "DRYDOCK_REPOSITORY")
GITHUBS = ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
COMMON = ["--config", str(ROOT / "pipeline.toml"), "--tag", "test"]


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run on GitHub; what they run says nothing to it."""
    for name in GITHUBS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake_stages(monkeypatch: pytest.MonkeyPatch) -> FakeStages:
    """The command line as it is, with stages that need no engine."""
    fake_stages = FakeStages()
    monkeypatch.setattr(stages, "connect", fake_stages.connect)
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    return fake_stages


def typed(
    *arguments: str, environment: dict[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "ci" / "main.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        check=False,
        # Whatever is wrong is said in less. Raises TimeoutExpired.
        timeout=30,
    )


def test_a_run_prints_its_table_and_ends_with_its_exit_code(
    fake_stages: FakeStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    last = shown.out.splitlines()[-1]
    assert last == f"published  127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}"
    assert " PASS    runs as non-root             USER 10001:10001, uid 10001  limit not 0\n" in shown.out
    policy = f"policy     {ROOT.name}: push to 127.0.0.1:5000/iris-classifier:test (pipeline.toml:6)"
    assert shown.err.startswith(policy)
    assert json.loads((tmp_path / "report.json").read_text())["exit_code"] == 0


def test_what_was_published_is_said_even_where_its_record_cannot_be_written(
    fake_stages: FakeStages, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise UsageError("the disk is full", next_step="free some space")

    monkeypatch.setattr(commands, "write_reports", full)
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].startswith("published  127.0.0.1:5000/iris-classifier:1.2.3@")
    assert "the disk is full" in shown.err


def test_a_rejection_is_exit_code_1_and_its_own_last_line(
    fake_stages: FakeStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_stages.scanned = examples.scan([examples.HIGH])
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"rejected   1 of {len(checks.CHECKS)} checks failed; nothing was pushed"


@pytest.mark.parametrize(
    ("stage", "error", "exit_code"),
    [
        ("connect", EngineError("no engine answers", next_step="start it"), 3),
        ("scan", ScanError("no database", next_step="fetch it"), 5),
    ],
)
def test_what_breaks_has_its_own_exit_code_and_its_report(
    fake_stages: FakeStages,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    error: EngineError | ScanError,
    exit_code: int,
) -> None:
    fake_stages.breaks = {stage: error}
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == exit_code
    assert f"  next      {error.next_step}" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["exit_code"] == exit_code


@pytest.mark.parametrize("flags", [[], ["--debug"]])
def test_debug_shows_the_engines_whole_log(
    fake_stages: FakeStages,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
) -> None:
    class Talking(FakeStages):
        async def scan(self, archive: Archive) -> Scan:
            (tmp_path / "engine.log").write_text("what the engine said")
            return await super().scan(archive)

    monkeypatch.setattr(stages, "connect", Talking().connect)
    commands.main([*COMMON, "--report-dir", str(tmp_path), *flags])
    assert ("what the engine said" in capsys.readouterr().err) == bool(flags)


def test_github_gets_the_report_with_no_command_in_it_and_then_its_annotations(
    fake_stages: FakeStages, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    said = "::set-output name=digest::evil"
    fake_stages.smoked = examples.smoke(ready_seconds=None, not_ready="it ended", log=f"{said}\n  {said}")
    fake_stages.breaks = {"scan": ScanError("no database", next_step="fetch it", log=said)}
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.err == ""
    token = re.findall(r"(?m)^::stop-commands::([0-9a-f]{32})$", shown.out)
    # One for what is about to be done, one for the report.
    assert len(token) == 2
    before, report, after = re.split(rf"(?m)^::(?:stop-commands::)?{token[1]}(?:::)?\n", shown.out)
    assert said not in before
    assert re.findall(rf"(?m)^\s*(?:→ )?{said}$", report) == [f"           {said}", f"             {said}", f"  {said}"]
    assert re.findall("(?m)^::([a-z]+) title=([^:]*)::", after) == [
        ("error", "answers /predict as trained"),
        ("error", "scan broke"),
    ]
    assert all(line.startswith(("::error ", "::warning ")) for line in after.splitlines())


def test_every_run_has_another_token(
    fake_stages: FakeStages, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for _ in range(2):
        commands.main([*COMMON, "--report-dir", str(tmp_path)])
    tokens = re.findall(r"(?m)^::stop-commands::([0-9a-f]{32})$", capsys.readouterr().out)
    assert len(set(tokens)) == len(tokens) == 4


def test_what_stops_a_run_before_its_report_is_no_command_either(tmp_path: Path) -> None:
    policy = tmp_path / "pipeline.toml"
    policy.write_text('"::error::x" = 1\n')
    done = typed("--config", str(policy), environment={"GITHUB_ACTIONS": "true"})
    first, *_, last = done.stdout.splitlines()
    assert re.fullmatch("::stop-commands::[0-9a-f]{32}", first)
    assert last == f"::{first.removeprefix('::stop-commands::')}::"
    assert "unknown key" in done.stdout
    assert (done.returncode, done.stderr) == (2, "")


@pytest.mark.parametrize("value", ["", "false"])
def test_a_laptop_gets_no_commands(
    fake_stages: FakeStages,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", value)
    commands.main([*COMMON, "--report-dir", str(tmp_path)])
    assert "::" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
        (["deploy"], "unrecognized arguments: deploy"),
        (["--tag", '1"; curl x'], "--tag '1\"; curl x' is not a tag"),
        (["--tag", "latest"], "--tag latest is refused"),
        (["--config", "none.toml"], "none.toml cannot be read: No such file or directory"),
        (["--report-dir", "/dev/null/dist"], "cannot be written: Not a directory"),
        (["--layer", "0"], "unrecognized arguments: --layer 0"),
        (["--tag", "1.2"], "--tag '1.2' is not a version"),
        (["--tag", "v99.0.0"], "the git tag 'v99.0.0' does not point at the commit that is checked out"),
    ],
)
def test_wrong_usage_is_exit_code_2_before_anything_starts(arguments: list[str], said: str, tmp_path: Path) -> None:
    # An engine that would be asked for would be said not to answer.
    done = typed(
        *("--config", str(ROOT / "pipeline.toml"), "--report-dir", str(tmp_path / "dist"), *arguments),
        environment={"_EXPERIMENTAL_DAGGER_RUNNER_HOST": "unix:///nowhere"},
    )
    assert said in done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ['1"; touch canary #', "$(touch canary)"])
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--tag", "{}"], {}),
        ([], {"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.2.3{}"}),
        (["--tag", "test"], {"DRYDOCK_REPOSITORY": "127.0.0.1:5000/{}"}),
        (["--tag", "test", "--config", "{}"], {}),
    ],
    ids=["--tag", "git tag", "repository", "--config"],
)
def test_words_for_a_shell_are_refused_and_run_nothing(
    arguments: list[str], environment: dict[str, str], words: str, tmp_path: Path
) -> None:
    filled = {name: value.format(words) for name, value in environment.items()}
    done = typed(
        *("--config", str(ROOT / "pipeline.toml"), *(argument.format(words) for argument in arguments)),
        environment={"_EXPERIMENTAL_DAGGER_RUNNER_HOST": "unix:///nowhere", **filled},
        folder=tmp_path,
    )
    assert done.returncode == 2, done.stdout
    assert "  next      " in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["v1.2", "v1.02.3", "release-1", "v1.2.3+build.5"])
def test_a_git_tag_that_is_no_version_is_exit_code_2_before_anything_starts(name: str, tmp_path: Path) -> None:
    done = typed(
        *("--config", str(ROOT / "pipeline.toml"), "--report-dir", str(tmp_path / "dist")),
        environment={
            "_EXPERIMENTAL_DAGGER_RUNNER_HOST": "unix:///nowhere",
            "GITHUB_REF_TYPE": "tag",
            "GITHUB_REF_NAME": name,
        },
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"the git tag '{name}' is not a version\n")
    assert "three numbers without leading zeros, and no +build" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_release_from_another_commit_than_its_tags_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "pipeline.toml").write_text("")
    (tmp_path / "requirements" / "image-compiled.txt").write_text("a==1\n")
    (tmp_path / "images.toml").write_text((ROOT / "images.toml").read_text())
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for words in (
        ["init", "--quiet"],
        ["add", "."],
        ["commit", "--quiet", "--message", "released"],
        ["tag", "v1.2.3"],
        ["commit", "--quiet", "--allow-empty", "--message", "later"],
    ):
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True)
    done = typed(
        *("--config", str(tmp_path / "pipeline.toml"), "--report-dir", str(tmp_path / "dist")),
        environment={
            "_EXPERIMENTAL_DAGGER_RUNNER_HOST": "unix:///nowhere",
            "GITHUB_REF_TYPE": "tag",
            "GITHUB_REF_NAME": "v1.2.3",
            "DRYDOCK_IMAGES": "",
        },
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("the git tag 'v1.2.3' does not point at the commit that is checked out\n")
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ('[limits]\nimage_size_mb = "500"\n', ":2: limits.image_size_mb is '500': input should be a valid integer"),
        ("[limits\n", " is not TOML: "),
        ('[[ignore]]\nid = "CVE-1"\nreason = "none"\nowner = "ana"\n', ":1: ignore.expires is missing"),
        ('[[ignore]]\nid = "CVE-1"\nowner = "ana"\nexpires = 2026-12-01\n', ":1: ignore.reason is missing"),
        ('[[ignore]]\nid = "CVE-1\n', " is not TOML: "),
        ("[ignore]\nid = 1\n", ":1: ignore is {'id': 1}: input should be a valid list"),
        (None, " cannot be read: No such file or directory"),
    ],
    ids=["wrong type", "no TOML", "never expires", "no reason", "ignore cut short", "no list of ignores", "not there"],
)
def test_a_policy_that_cannot_be_kept_to_is_exit_code_2_before_anything_starts(
    policy: str | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "pipeline.toml"
    if policy is not None:
        path.write_text(policy)
    done = typed(
        *("--config", str(path), "--report-dir", str(tmp_path / "dist"), "--tag", "test"),
        environment={"_EXPERIMENTAL_DAGGER_RUNNER_HOST": "unix:///nowhere"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{path}{said}")
    assert "  next      " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "dist").exists()


def test_a_wrong_policy_is_exit_code_2_with_file_line_key_and_the_nearest_known_one(tmp_path: Path) -> None:
    policy = tmp_path / "pipeline.toml"
    policy.write_text("[limits]\nlayer_sise_mb = 100\n")
    done = typed(
        *("--config", str(policy), "--report-dir", str(tmp_path / "dist")),
        environment={"_EXPERIMENTAL_DAGGER_RUNNER_HOST": "unix:///nowhere"},
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"{policy}:2: unknown key limits.layer_sise_mb\n"
        "  usually   did you mean layer_size_mb?\n"
        "  next      fix or remove that line, then run again\n"
    )
    assert not (tmp_path / "dist").exists()


def test_no_engine_is_exit_code_3_with_how_to_start_one_and_a_report(tmp_path: Path) -> None:
    done = typed(
        *(*COMMON, "--report-dir", str(tmp_path)),
        environment={"_EXPERIMENTAL_DAGGER_RUNNER_HOST": f"unix://{tmp_path}/none.sock"},
    )
    assert done.returncode == 3
    assert f"engine broke: no engine answers at unix://{tmp_path}/none.sock: [Errno 2] No such" in done.stdout
    assert 'next      make run starts one; by hand: drydock bootstrap, then eval "$(drydock bootstrap env)"' in (
        done.stdout
    )
    assert done.stdout.splitlines()[-1] == "no verdict engine broke (exit code 3); nothing was pushed"
    assert "Traceback" not in done.stdout + done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["exit_code"] == 3


def test_a_report_that_cannot_be_written_is_shown_all_the_same(
    fake_stages: FakeStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "release.json").mkdir()
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].startswith("published  127.0.0.1:5000/iris-classifier:1.2.3@sha256:")
    assert "  next      free some space" in shown.err


FLAGS = {
    "run": {"--push", "--no-push", "--tag", "--debug"},
    "train": set(),
    "contract": {
        *("--target", "--string-columns", "--number-columns", "--private-columns"),
        *("--golden", "--decimal", "--encoding", "--name"),
    },
    "explain": {"--archive", "--layer"},
    "generate-key-pair": set(),
    "verify": {"--key"},
    "promote": {"--key"},
    "rescan": {"--issues"},
    "reproduce": {"--no-cache"},
}


@pytest.mark.parametrize("command", FLAGS)
def test_help_names_every_flag_and_no_other(command: str) -> None:
    shown = typed(command, "--help").stdout
    flags = {word.strip(",[]") for word in shown.split() if word.strip("[").startswith("--")}
    assert flags == {"--help", "--config", "--report-dir"} | FLAGS[command]


def test_help_names_every_command() -> None:
    shown = typed("--help").stdout
    assert set(commands.COMMANDS) == {*FLAGS, "update-pins"}
    assert all(f"\n    {command}" in shown for command in commands.COMMANDS)


def test_a_word_that_is_no_command_is_refused() -> None:
    done = typed("deploy")
    assert (done.returncode, "invalid choice: 'deploy'" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "name"], "'name' names no image"),
        (["verify", "--key", "none.pub", "127.0.0.1:1/name"], "none.pub is no public key that can be read: "),
        (["promote", "127.0.0.1:1/name", "name"], "'name' names no image"),
        (["rescan", "none.json"], "none.json is no record of a published image"),
        (["reproduce", "none.json"], "none.json is no record of a published image"),
        (["update-pins", "none.toml"], "none.toml cannot be read: No such file or directory"),
    ],
)
def test_what_names_nothing_published_is_exit_code_2(arguments: list[str], said: str) -> None:
    done = typed(*arguments, folder=ROOT, environment={"_EXPERIMENTAL_DAGGER_RUNNER_HOST": "unix:///nowhere"})
    assert said in done.stderr
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_without_a_registry_nothing_is_verified() -> None:
    done = typed("verify", "127.0.0.1:1/name:1", folder=ROOT)
    assert "no registry answers at 127.0.0.1:1" in done.stderr
    assert (done.returncode, "Traceback" in done.stderr) == (6, False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a policy of its own, in a folder of its own."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "image-compiled.txt").write_text("a==1\n")
    (tmp_path / "images.toml").write_text((ROOT / "images.toml").read_text())
    (tmp_path / "pipeline.toml").write_text('[image]\nname = "mine"\n\n[model]\npath = "models/[b]"\n')
    (tmp_path / "fitted.pkl").write_bytes(b"a model")
    (tmp_path / "rows.csv").write_text("age,price\n1,2\n")
    return tmp_path


def of(project: Path) -> list[str]:
    return ["--config", str(project / "pipeline.toml"), "--report-dir", str(project / "dist")]


def test_a_run_names_the_files_that_the_commit_does_not_have(
    fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["run", "--tag", "mine", *of(project)]
    assert commands.main(asked) == 0
    assert "dirty " not in capsys.readouterr().err
    (project / ".gitignore").write_text("dist/\n")
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "one"]):
        git(project, *words)
    assert commands.main(asked) == 0
    assert "dirty " not in capsys.readouterr().err
    (project / "note.txt").write_text("x")
    (project / "rows.csv").write_text("y")
    assert commands.main(asked) == 0
    assert "\ndirty      note.txt (new), rows.csv (changed)\n" in capsys.readouterr().err


def test_train_puts_the_model_where_the_policy_says(
    fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["train", *of(project)]) == 0
    assert fake_stages.trained_to == [project / "models/[b]"]
    assert capsys.readouterr().err == "trained    models/[b]/model.json, and the model that it names\n"


def test_where_nothing_is_trained_train_says_so_before_anything_starts(
    fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "pipeline.toml").write_text('[model]\ntrain = ""\n')
    assert commands.main(["train", *of(project)]) == 2
    assert capsys.readouterr().err == (
        "there is nothing to train: model.train is empty\n"
        "  usually   pipeline.toml:2 says that the model is trained already\n"
        "  next      name a train command under [model], or run the pipeline as it is\n"
    )
    assert fake_stages.called == []
    assert not (project / "dist").exists()


def test_a_new_key_pair_is_its_owners_and_never_in_the_place_of_another(
    fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project / "keys"
    asked = ["generate-key-pair", str(folder), *of(project)]
    monkeypatch.delenv("COSIGN_PASSWORD", raising=False)
    assert commands.main(asked) == 2
    assert capsys.readouterr().err == (
        "COSIGN_PASSWORD is not set, and without a password anybody who finds the key can sign\n"
        "  next      read -rs COSIGN_PASSWORD && export COSIGN_PASSWORD, then run again\n"
    )
    monkeypatch.setenv("COSIGN_PASSWORD", "open sesame")
    assert commands.main(asked) == 0
    assert (fake_stages.passwords, fake_stages.called) == (
        ["open sesame"],
        ["connect", "generate-key-pair", "disconnect"],
    )
    assert {path.name: path.read_text()[:10] for path in folder.iterdir()} == {
        "cosign.key": "private",
        "cosign.pub": "-----BEGIN",
    }
    assert [path.stat().st_mode & 0o077 for path in (folder, folder / "cosign.key")] == [0, 0]
    assert capsys.readouterr().out == (
        f"private    {folder}/cosign.key: keep it, and its password, where nobody else can read them\n"
        f"public     {folder}/cosign.pub: give it to those who verify; key SHA256:709e80c88487a241\n"
        f"next       COSIGN_KEY={folder}/cosign.key make run signs with it\n"
    )
    subprocess.run(["git", "init", "--quiet", str(project)], check=True)
    assert commands.main(["generate-key-pair", str(project / "inside"), *of(project)]) == 0
    note = "note       this folder is in a git work tree: better keep the private key outside it"
    assert note in capsys.readouterr().out.splitlines()
    assert commands.main(asked) == 2
    assert capsys.readouterr().err.startswith(f"{folder}/cosign.key exists, and no key is ever written over another\n")
    assert commands.main(["generate-key-pair", str(project / "rows.csv"), *of(project)]) == 2
    assert "cannot be written: " in capsys.readouterr().err


def test_contract_says_what_was_found_out_about_a_model(
    fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "pipeline.toml").write_text('[image]\nname = "mine"\n\n[model]\ntrain = ""\n')
    (project / "link.pkl").symlink_to(project / "fitted.pkl")
    fake_stages.description = "model      regression: 1 [number] → a value\nnext       \x1b[31mred\n"
    given = [str(project / "link.pkl"), str(project / "rows.csv")]
    assert commands.main(["contract", *given, *of(project)]) == 0
    # The engine follows no links.
    assert fake_stages.described == [(project / "fitted.pkl", project / "rows.csv", ["--name=mine"])]
    assert fake_stages.called == ["connect", "contract", "disconnect"]
    shown = capsys.readouterr()
    assert (shown.err, shown.out) == (
        "",
        "model      regression: 1 [number] → a value\nnext       \N{REPLACEMENT CHARACTER}[31mred\n",
    )


def test_contract_takes_its_columns_and_a_name_and_says_what_would_pass_over_the_model(
    fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(project / "fitted.pkl"), str(project / "rows.csv")]
    asked = ["--target", "price", "--string-columns", "zip", "year", "--name", "yours", "--number-columns", "rooms"]
    asked += ["--private-columns", "income", "--golden", "synthetic", "--decimal", ",", "--encoding", "cp1252"]
    assert commands.main(["contract", *given, *asked, *of(project)]) == 0
    files = (project / "fitted.pkl", project / "rows.csv")
    options = [
        "--name=yours",
        "--target=price",
        "--string-columns=zip,year",
        "--number-columns=rooms",
        "--private-columns=income",
        "--golden=synthetic",
        "--decimal=,",
        "--encoding=cp1252",
    ]
    assert fake_stages.described == [(*files, options)]
    shown = capsys.readouterr().out
    following = 'set train = "" under [model] in {}, or the next run trains its own model\n'
    assert shown == f"model      of a test\nnext       {following.format(project / 'pipeline.toml')}"
    page = (ROOT / "docs" / "your-model.md").read_text(encoding="utf-8")
    assert f"next       {following.format('pipeline.toml')}" in page


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "the model takes hours, but the data have no such column.",
            "fitted.pkl gets no contract: the model takes hours, but the data have no such column.\n"
            "  next      change what it names, then run again\n",
        ),
        (
            "Traceback (most recent call last):\nValueError: no.",
            "the contract of fitted.pkl did not build: exit code: 1\n"
            "  Traceback (most recent call last):\n"
            "  ValueError: no.\n"
            "  next      read the log\n",
        ),
        ("", "the contract of fitted.pkl did not build: exit code: 1\n  next      read the log\n"),
    ],
)
def test_a_refusal_of_a_contract_is_its_own_sentence(
    log: str, said: str, fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "the contract of fitted.pkl did not build: exit code: 1"
    fake_stages.breaks["contract"] = BuildError(message, next_step="read the log", log=log)
    assert commands.main(["contract", str(project / "fitted.pkl"), str(project / "rows.csv"), *of(project)]) == 4
    assert capsys.readouterr().err == said


def test_contract_says_that_a_dockerfile_of_ones_own_makes_none(
    fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "Dockerfile").write_text("FROM base AS train\nFROM base\n")
    assert commands.main(["contract", str(project / "fitted.pkl"), str(project / "rows.csv"), *of(project)]) == 2
    assert capsys.readouterr().err == (
        "Dockerfile has no stage `contract`\n"
        "  usually   it is a Dockerfile of your own\n"
        "  next      run drydock contract in a clone of Drydock, and copy model.json and the model\n"
    )
    assert fake_stages.called == []


def test_contract_gives_github_no_command(
    fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    fake_stages.description = "::set-output name=digest::evil\n"
    assert commands.main(["contract", str(project / "fitted.pkl"), str(project / "rows.csv"), *of(project)]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch("::stop-commands::[0-9a-f]{32}", first)
    assert last == f"::{first.removeprefix('::stop-commands::')}::"


@pytest.mark.parametrize(("model", "data", "named"), [("none.pkl", "rows.csv", "none.pkl"), ("fitted.pkl", ".", ".")])
def test_contract_of_what_is_not_there_is_exit_code_2_before_anything_starts(
    model: str, data: str, named: str, fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["contract", str(project / model), str(project / data), *of(project)]) == 2
    assert capsys.readouterr().err == (
        f"{project / named} is no file that is there\n"
        "  usually   its name is written differently, or it is seen from another folder\n"
        "  next      drydock contract MODEL DATA: a model that joblib saved, and a CSV or Parquet file\n"
    )
    assert fake_stages.called == []
    assert not (project / "dist").exists()


def test_contract_takes_50_mb_of_rows_and_no_byte_more(
    fake_stages: FakeStages, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = project / "rows.csv"
    asked = ["contract", str(project / "fitted.pkl"), str(rows), *of(project)]
    os.truncate(rows, 50_000_000)
    assert commands.main(asked) == 0
    os.truncate(rows, 50_000_001)
    fake_stages.called.clear()
    assert commands.main(asked) == 2
    assert capsys.readouterr().err == (
        f"{rows} has 50,000,001 bytes, and 50 MB are the most\n"
        "  usually   it is all that the model was trained on\n"
        "  next      name a file with some hundred rows that it has not seen: they are enough\n"
    )
    assert fake_stages.called == []


def test_explain_says_where_the_bytes_are_and_needs_nothing_but_the_archive(tmp_path: Path) -> None:
    layout(tmp_path / "image.tar", {"a": b"x" * 2_000_000}, {"b": b"12"})
    (tmp_path / "report.json").write_text("of the last run")
    done = typed("explain", "--report-dir", str(tmp_path), "--config", "none.toml", environment={"PATH": ""})
    assert (done.returncode, done.stderr) == (0, "")
    assert "size       2 MB\n" in done.stdout
    assert "     2 MB   layer 1  /a\n" in done.stdout
    assert " since " not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar", "report.json"]


def test_explain_compares_with_what_was_published_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "release.json").write_text(examples.release().model_dump_json())
    judged = archive.read_image(layout(tmp_path / "image.tar", {"a": b"12"}))
    (tmp_path / "report.json").write_text(examples.report(image=judged).model_dump_json())
    assert commands.main(["explain", "--report-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(
        "\n\n-258 MB since 127.0.0.1:5000/iris-classifier:1.2.2@sha256:b2b2b2b2b2b2\n  scipy 1.15.0 is gone -82 MB\n"
    )


def test_explain_compares_no_archive_whose_repository_nobody_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "release.json").write_text(examples.release().model_dump_json())
    (tmp_path / "report.json").write_text(examples.report().model_dump_json())
    archive = layout(tmp_path / "other.tar", {"a": b"12"})
    assert commands.main(["explain", "--archive", str(archive), "--report-dir", str(tmp_path)]) == 0
    assert " since " not in capsys.readouterr().out


def test_explain_of_a_named_archive_needs_no_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = layout(tmp_path / "image.tar", {"a": b"1"}, {"b": b"12"})
    assert commands.main(["explain", "--archive", str(archive), "--layer", "2"]) == 0
    assert capsys.readouterr().out.endswith("\n  2 bytes   + /b\n")


def test_explain_lists_a_layers_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout(tmp_path / "image.tar", {"a": b"1"}, {"[bold]b": b"12"})
    assert commands.main(["explain", "--layer", "2", "--report-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("\n  2 bytes   + /[bold]b\n")


def test_explain_gives_github_no_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    layout(tmp_path / "image.tar", {"\n::set-output name=digest::evil": b"1"})
    assert commands.main(["explain", "--report-dir", str(tmp_path)]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert last == f"::{first.removeprefix('::stop-commands::')}::"


def test_explain_without_an_archive_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["explain", "--report-dir", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"{tmp_path}/image.tar does not exist\n"
        "  usually   no run has built an image yet, or its report went into another folder\n"
        "  next      run the pipeline first, or name an OCI archive with --archive\n"
    )
