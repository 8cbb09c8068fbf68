from __future__ import annotations

from pathlib import Path

import pytest

from drydock import policy
from drydock.errors import UsageError
from drydock.tools import build_secrets

DOCKERFILE = """\
FROM a AS b
RUN --mount=type=cache,target=/c --mount=type=secret,id=pip,target=/etc/pip.conf \\
    make
RUN --mount=type=secret,id=token,required=true make
"""


def read(root: Path, secrets: str, dockerfile: str = DOCKERFILE, **environment: str) -> dict[str, str]:
    (root / "Dockerfile").write_text(dockerfile)
    (root / "pipeline.toml").write_text(f"[build]\nsecrets = {secrets}\n")
    return build_secrets.read_secrets(policy.load_policy(root / "pipeline.toml", environment), root, environment)


def refused(root: Path, secrets: str, **environment: str) -> UsageError:
    with pytest.raises(UsageError) as error:
        read(root, secrets, **environment)
    return error.value


def test_a_secret_is_read_from_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "pip.conf").write_text("[global]\n")
    (tmp_path / "token").write_text("of a file\n")
    both = '{pip = "env://PIP_CONF", token = "file://token"}'
    assert read(tmp_path, both, PIP_CONF="of a variable") == {"pip": "of a variable", "token": "of a file\n"}
    assert read(tmp_path, '{pip = "file://~/pip.conf"}') == {"pip": "[global]\n"}
    assert read(tmp_path, f'{{token = "file://{tmp_path}/token"}}') == {"token": "of a file\n"}
    assert read(tmp_path, "{}") == {}


@pytest.mark.parametrize(
    ("secrets", "reason"),
    [
        ('{pip = "env://PIP_CONF"}', "env://PIP_CONF: this shell exports no such variable, or it is empty"),
        ('{pip = "env://EMPTY"}', "env://EMPTY: this shell exports no such variable, or it is empty"),
        ('{pip = "env://"}', "env://: this shell exports no such variable, or it is empty"),
        ('{pip = "file://none"}', "file://none: No such file or directory"),
        ('{pip = "file://"}', "file://: Is a directory"),
        ('{pip = "file://empty"}', "file://empty: the file is empty"),
        ('{pip = "file://binary"}', "file://binary: the file is no text in UTF-8"),
        ('{pip = "file://~nobody-of-that-name/x"}', "file://~nobody-of-that-name/x: there is no home folder"),
        (r'{pip = "file://a\u0000b"}', "file://a\0b: embedded null byte"),
    ],
)
def test_a_secret_that_is_not_set_is_one_sentence(tmp_path: Path, secrets: str, reason: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    error = refused(tmp_path, secrets, EMPTY="")
    assert error.message == f"pipeline.toml:2: the secret pip is not set: {reason}"
    assert error.exit_code == 2
    assert error.next_step == "set it, then run again; a build that does without removes this line"


@pytest.mark.parametrize("source", ["canary-5b1f", "https://ana:canary-5b1f@pypi.example/simple", "env:canary-5b1f"])
def test_a_secret_that_stands_in_the_policy_itself_is_refused_and_not_repeated(tmp_path: Path, source: str) -> None:
    error = refused(tmp_path, f'{{pip = "{source}"}}')
    assert error.message == "pipeline.toml:2: the secret pip is read neither from env:// nor from file://"
    assert "canary" not in f"{error.message} {error.likely_cause} {error.next_step} {error.log}"


@pytest.mark.parametrize("secrets", ['"canary-5b1f"', '{pip = ["canary-5b1f"]}', '[{pip = "canary-5b1f"}]'])
def test_a_table_of_another_form_is_refused_and_not_repeated(tmp_path: Path, secrets: str) -> None:
    error = refused(tmp_path, secrets)
    assert error.message.startswith(f"{tmp_path}/pipeline.toml:2: build.secrets")
    assert "canary" not in f"{error.message} {error.likely_cause} {error.next_step} {error.log}"


def test_a_secret_that_no_instruction_mounts_is_a_mistake(tmp_path: Path) -> None:
    error = refused(tmp_path, '{pipp = "env://HOME"}', HOME="/")
    assert error.message == "pipeline.toml:2: no instruction of Dockerfile mounts the secret pipp"
    assert error.likely_cause == "did you mean pip?"
    assert refused(tmp_path, '{zzz = "env://HOME"}', HOME="/").likely_cause == "its id is written in another way there"


def test_what_an_argument_names_may_be_any_secret(tmp_path: Path) -> None:
    named = "FROM a\nARG ID\nRUN --mount=type=secret,id=$ID make\n"
    assert read(tmp_path, '{any = "env://X"}', named, X="text") == {"any": "text"}


def test_a_secret_is_no_more_than_the_engine_takes(tmp_path: Path) -> None:
    largest = "x" * build_secrets.LARGEST_BYTES
    assert read(tmp_path, '{pip = "env://X"}', X=largest) == {"pip": largest}
    error = refused(tmp_path, '{pip = "env://X"}', X=largest + "x")
    assert error.message == "pipeline.toml:2: the secret pip has 512001 bytes; a build takes 512000 at most"
