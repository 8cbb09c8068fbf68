from __future__ import annotations

from pathlib import Path

import pytest

from drydock.cli import arguments

SHARED = {"config": Path("pipeline.toml"), "report_dir": None}
A_RUN = {"command": "run", **SHARED, "push": True, "tag": None, "debug": False}
A_CONTRACT = {
    "model": Path("model.pkl"),
    "data": Path("data.csv"),
    "target": [],
    "string_columns": [],
    "number_columns": [],
    "private_columns": [],
    "golden": "",
    "decimal": "",
    "encoding": "",
    "name": "",
}
DIGEST = "sha256:" + "a1" * 32


def parsed(*given: str) -> dict[str, object]:
    return vars(arguments.parse_arguments(given))


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ([], {}),
        (["run"], {}),
        (["--no-push"], {"push": False}),
        (["--push"], {"push": True}),
        (["--no-push", "--push"], {"push": True}),
        (["--tag", "v1.2.3"], {"tag": "v1.2.3"}),
        (["--tag=-a"], {"tag": "-a"}),
        (["--tag", ""], {"tag": ""}),
        (["--tag", "verify"], {"tag": "verify"}),
        (["--debug"], {"debug": True}),
        (["--config", "other.toml", "--report-dir", "out"], {"config": Path("other.toml"), "report_dir": Path("out")}),
        (["run", "--tag", "mine", "--no-push", "--debug"], {"tag": "mine", "push": False, "debug": True}),
    ],
)
def test_where_no_command_is_named_it_is_a_run(given: list[str], asked: dict[str, object]) -> None:
    assert parsed(*given) == {**A_RUN, **asked}
    assert parsed(*([] if given[:1] == ["run"] else ["run"]), *given) == {**A_RUN, **asked}


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (["train"], {}),
        (
            ["contract", "model.pkl", "data.csv"],
            A_CONTRACT,
        ),
        (
            [
                *("contract", "model.pkl", "data.csv", "--target", "price", "--name", "mine"),
                *("--string-columns", "zip", "year", "--private-columns", "income", "--golden", "synthetic"),
                *("--decimal", ",", "--encoding", "cp1252"),
            ],
            {
                **A_CONTRACT,
                "target": ["price"],
                "string_columns": ["zip", "year"],
                "private_columns": ["income"],
                "golden": "synthetic",
                "decimal": ",",
                "encoding": "cp1252",
                "name": "mine",
            },
        ),
        (
            ["contract", "model.pkl", "data.csv", "--string-columns", "zip", "--string-columns", "year"],
            {**A_CONTRACT, "string_columns": ["zip", "year"]},
        ),
        (["explain"], {"archive": None, "layer": None}),
        (["explain", "--archive", "image.tar"], {"archive": Path("image.tar"), "layer": None}),
        (["explain", "--layer", "3"], {"archive": None, "layer": 3}),
        (["explain", "--layer", "-1"], {"archive": None, "layer": -1}),
        (["generate-key-pair", "keys"], {"folder": Path("keys")}),
        (["verify", "host/name:1"], {"image": "host/name:1", "key": None}),
        (["verify", "--key", "cosign.pub", "host/name:1"], {"image": "host/name:1", "key": Path("cosign.pub")}),
        (["promote", "a/b:1", "c/d"], {"source": "a/b:1", "target": "c/d", "key": None}),
        (["promote", "a/b:1", "c/d", "--key", "k"], {"source": "a/b:1", "target": "c/d", "key": Path("k")}),
        (["rescan"], {"records": [], "issues": False}),
        (["rescan", "a.json", "b.json"], {"records": [Path("a.json"), Path("b.json")], "issues": False}),
        (["rescan", "--issues"], {"records": [], "issues": True}),
        (["reproduce"], {"released": "dist/release.json", "no_cache": False}),
        (["reproduce", DIGEST, "--no-cache"], {"released": DIGEST, "no_cache": True}),
    ],
)
def test_each_command_has_its_own_words_and_those_of_all(given: list[str], asked: dict[str, object]) -> None:
    assert parsed(*given) == {"command": given[0], **SHARED, **asked}
    elsewhere = parsed(*given, "--config", "other.toml", "--report-dir", "out")
    assert elsewhere == {
        "command": given[0],
        "config": Path("other.toml"),
        "report_dir": Path("out"),
        **asked,
    }


def test_the_lock_needs_no_policy_and_leaves_no_report() -> None:
    assert parsed("update-pins") == {"command": "update-pins", "images": Path("images.toml")}
    assert parsed("update-pins", "other.toml") == {"command": "update-pins", "images": Path("other.toml")}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["train", "--no-push"], "unrecognized arguments: --no-push"),
        (["contract", "model.pkl"], "the following arguments are required: DATA"),
        (["contract", "model.pkl", "data.csv", "more.csv"], "unrecognized arguments: more.csv"),
        (
            ["contract", "model.pkl", "data.csv", "--string-columns"],
            "argument --string-columns: expected at least one argument",
        ),
        (["contract", "model.pkl", "data.csv", "--decimal", "'"], 'argument --decimal: invalid choice: "\'"'),
        (["explain", "--tag", "1"], "unrecognized arguments: --tag 1"),
        (["explain", "--layer", "base"], "argument --layer: invalid int value: 'base'"),
        (["generate-key-pair"], "the following arguments are required: FOLDER"),
        (["verify"], "the following arguments are required: IMAGE"),
        (["verify", "a/b", "c/d"], "unrecognized arguments: c/d"),
        (["verify", "a/b", "--issues"], "unrecognized arguments: --issues"),
        (["promote", "a/b"], "the following arguments are required: TO"),
        (["promote", "a/b", "c/d", "--tag", "1"], "unrecognized arguments: --tag 1"),
        (["rescan", "--key", "k"], "unrecognized arguments: --key"),
        (["reproduce", "a.json", "b.json"], "unrecognized arguments: b.json"),
        (["update-pins", "--config", "a"], "unrecognized arguments: --config"),
        (["--issues"], "unrecognized arguments: --issues"),
        (["--tag"], "argument --tag: expected one argument"),
        # A command that stands behind a flag would be run as something else than it says.
        (["--config", "pipeline.toml", "verify", "a/b"], "unrecognized arguments: verify a/b"),
        ([""], "argument COMMAND: invalid choice: ''"),
    ],
)
def test_what_a_command_does_not_take_is_exit_code_2(
    given: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments.parse_arguments(given)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.out == ""
