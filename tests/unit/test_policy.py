from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydantic import BaseModel

from drydock import policy as config
from drydock.errors import UsageError
from drydock.policy import BuildSection, IgnoreEntry, LimitsSection, Policy

ROOT = Path(__file__).parents[2]
IGNORE = """\
[[ignore]]
id = "CVE-1"
reason = "never reached"
owner = "ana"
expires = 2026-12-01
"""


def known_keys(section: type[BaseModel], *without: str) -> str:
    return f"known keys are {', '.join(sorted({*section.model_fields} - {*without}))}"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    return path


def refused(path: Path, environment: dict[str, str] | None = None) -> UsageError:
    with pytest.raises(UsageError) as error:
        config.load_policy(path, environment or {})
    return error.value


def test_the_scores_of_a_label_are_a_table_in_toml(tmp_path: Path) -> None:
    policy = tmp_path / "pipeline.toml"
    policy.write_text(
        '[quality]\nmin = {accuracy = 1, recall.virginica = 0.8, "precision.a b" = 0.5}\nmax.log_loss = 0.3\n'
    )
    quality = config.load_policy(policy, {}).quality
    assert quality.min == {"accuracy": 1.0, "recall.virginica": 0.8, "precision.a b": 0.5}
    assert quality.max == {"log_loss": 0.3}


def test_the_shipped_policy_is_the_default_one_spelt_out() -> None:
    shipped = config.load_policy(ROOT / "pipeline.toml", {})
    assert shipped.model_dump() == Policy().model_dump()
    every_key = {f"{section}.{key}" for section, keys in shipped.model_dump(exclude={"skip"}).items() for key in keys}
    # A table has a line for each of its keys, and these have none.
    assert set(shipped.origins) == every_key - {"build.secrets", "quality.min", "quality.max"}


def test_each_value_knows_where_it_was_set(tmp_path: Path) -> None:
    path = written(tmp_path, '[image]\nname = "mine"\n\n[limits]\n# why\nimage_size_mb = 400\n')
    policy = config.load_policy(path, {"DRYDOCK_REPOSITORY": "ghcr.io/me/mine"})
    assert (policy.image.name, policy.image.repository, policy.limits.image_size_mb) == ("mine", "ghcr.io/me/mine", 400)
    assert policy.origins == {
        "image.name": "pipeline.toml:2",
        "limits.image_size_mb": "pipeline.toml:6",
        "image.repository": "DRYDOCK_REPOSITORY",
    }


@pytest.mark.parametrize(
    ("text", "what", "likely_cause"),
    [
        ("[limits]\n\nimage_sise_mb = 400\n", ":3: unknown key limits.image_sise_mb", "did you mean image_size_mb?"),
        ("[limit]\nimage_size_mb = 400\n", ":1: unknown key limit", "did you mean limits?"),
        (
            "[limits]\nfoo = 1\n",
            ":2: unknown key limits.foo",
            known_keys(LimitsSection),
        ),
        (
            "\norigins = 1\n",
            ":2: unknown key origins",
            # Nobody writes it: it says where each value was set.
            known_keys(Policy, "origins"),
        ),
        (
            '[limits]\nimage_size_mb = "400"\n',
            ":2: limits.image_size_mb is '400': input should be a valid integer",
            "",
        ),
        ("[limits]\nimage_size_mb = 0\n", ":2: limits.image_size_mb is 0: input should be greater than 0", ""),
        ("[model]\ntrain = false\n", ":2: model.train is False: input should be a valid string", ""),
        ('[model]\npath = " "\n', ":2: model.path is ' ': string should have at least 1 character", ""),
        ('[build]\nroot = ""\n', ":2: build.root is '': string should have at least 1 character", ""),
        (
            "[build]\ntrain = false\n",
            ":2: unknown key build.train",
            known_keys(BuildSection),
        ),
        (
            '[build]\nruntime = "../onnx"\n',
            ":2: build.runtime is '../onnx': string should match pattern '^[a-z][a-z0-9_]*$'",
            "",
        ),
        (
            '[scan]\nseverities = ["HIGH", "SEVERE"]\n',
            ":2: scan.severities is 'SEVERE': input should be 'unknown', 'low', 'medium', 'high' or 'critical'",
            "",
        ),
        (
            "[scan]\nseverities = []\n",
            ":2: scan.severities is []: list should have at least 1 item after validation, not 0",
            "",
        ),
        (
            '[skip]\n"image size" = ""\n',
            ":2: skip.image size is '': string should have at least 1 character",
            "",
        ),
        (
            '[scan]\nunused_ignores = "delete"\n',
            ":2: scan.unused_ignores is 'delete': input should be 'warn' or 'reject'",
            "",
        ),
        *(
            (
                f'[drift]\nprevious = "{words}"\n',
                f":2: drift.previous is {words!r}: it is no tag, no digest, and no image such as"
                " ghcr.io/owner/name:1.2.3",
                "",
            )
            for words in ("v1 2", "sha256:12", "ghcr.io/owner/name@sha256:12", "owner/Name:1")
        ),
        (
            '[drift]\nschema = "ignore"\n',
            ":2: drift.schema is 'ignore': input should be 'warn' or 'reject'",
            "",
        ),
        ("[drift]\nshema = 1\n", ":2: unknown key drift.shema", "did you mean schema?"),
        (
            "[drift]\nlabels_changed_percent = 101\n",
            ":2: drift.labels_changed_percent is 101: input should be less than or equal to 100",
            "",
        ),
        *(
            (
                f'[image]\nname = "{name}"\n',
                f":2: image.name is {name!r}: the report's folder gets this name: use letters, digits, and . _ - only",
                "",
            )
            for name in ("", "..", "team/iris", "my model")
        ),
        (
            '[trust]\nsigners = ["release.yml"]\n',
            ":2: trust.signers is 'release.yml': it is no workflow with a branch or tag,"
            " such as release.yml@refs/tags/v*",
            "",
        ),
        (
            '[trust]\nsigners = ["release.yml@refs/pull/7/merge"]\n',
            ":2: trust.signers is 'release.yml@refs/pull/7/merge': it is no workflow with a branch or tag,"
            " such as release.yml@refs/tags/v*",
            "",
        ),
        ('[ignore]\nid = "CVE-1"\n', ":1: ignore is {'id': 'CVE-1'}: input should be a valid list", ""),
    ],
)
def test_a_wrong_key_or_type_names_file_line_and_key(tmp_path: Path, text: str, what: str, likely_cause: str) -> None:
    path = written(tmp_path, text)
    error = refused(path)
    assert (error.message, error.likely_cause, error.exit_code) == (f"{path}{what}", likely_cause, 2)
    assert error.next_step


@pytest.mark.parametrize("text", ["image = 3\n", "image = []\n", "[[image]]\n"])
def test_a_section_that_is_none_is_said_even_where_the_environment_names_one_of_its_keys(
    tmp_path: Path, text: str
) -> None:
    path = written(tmp_path, text)
    assert refused(path, {"DRYDOCK_REPOSITORY": "127.0.0.1:5000/a"}).message.startswith(f"{path}:1: image is ")


@pytest.mark.parametrize(
    ("second", "what", "likely_cause"),
    [
        (
            'id = "CVE-2"\nowner = "bo"\nexpires = 2026-12-01\n',
            ":7: ignore.reason is missing",
            "an ignore names the finding, a reason, an owner and the day on which it expires",
        ),
        (
            'id = "CVE-2"\nreason = "never reached"\nexpires = 2026-12-01\n',
            ":7: ignore.owner is missing",
            "an ignore names the finding, a reason, an owner and the day on which it expires",
        ),
        (
            'id = "CVE-2"\nreason = "never reached"\nowner = "bo"\n',
            ":7: ignore.expires is missing",
            "an ignore names the finding, a reason, an owner and the day on which it expires",
        ),
        (
            'id = "CVE-2"\nreason = "never reached"\nowner = "bo"\nexpires = "2026-12-01"\n',
            ":11: ignore.expires is '2026-12-01': input should be a valid date",
            "",
        ),
        (
            'id = 2\nreason = "never reached"\nowner = "bo"\nexpires = 2026-12-01\n',
            ":8: ignore.id is 2: input should be a valid string",
            "",
        ),
        # Spaces are no reason.
        (
            'id = "CVE-2"\nreason = "  "\nowner = "bo"\nexpires = 2026-12-01\n',
            ":9: ignore.reason is '  ': string should have at least 1 character",
            "",
        ),
        (
            'id = "CVE-2"\nreason = "never reached"\nownr = "bo"\nowner = "bo"\nexpires = 2026-12-01\n',
            ":10: unknown key ignore.ownr",
            "did you mean owner?",
        ),
        (
            'id = "CVE-2"\nreason = "never reached"\nowner = "bo"\nexpires = 2026-12-01\nxyz = 1\n',
            ":12: unknown key ignore.xyz",
            known_keys(IgnoreEntry),
        ),
    ],
)
def test_the_second_ignore_is_found_by_its_own_lines(tmp_path: Path, second: str, what: str, likely_cause: str) -> None:
    path = written(tmp_path, f"{IGNORE}\n[[ignore]]\n{second}")
    error = refused(path)
    assert (error.message, error.likely_cause, error.exit_code) == (f"{path}{what}", likely_cause, 2)
    assert error.next_step


def test_an_ignore_knows_where_each_of_its_words_was_set(tmp_path: Path) -> None:
    policy = config.load_policy(written(tmp_path, f"{IGNORE}\n{IGNORE.replace('CVE-1', 'CVE-2')}"), {})
    assert [entry.id for entry in policy.ignore] == ["CVE-1", "CVE-2"]
    assert policy.ignore[0] == IgnoreEntry(id="CVE-1", reason="never reached", owner="ana", expires=date(2026, 12, 1))
    keys = ("id", "reason", "owner", "expires")
    assert policy.origins == {
        **{f"ignore.0.{key}": f"pipeline.toml:{number}" for number, key in enumerate(keys, start=2)},
        **{f"ignore.1.{key}": f"pipeline.toml:{number}" for number, key in enumerate(keys, start=8)},
    }


@pytest.mark.parametrize(("today", "taken"), [(date(2026, 9, 2), True), (date(2026, 9, 1), False)])
def test_an_ignore_is_a_loan_of_90_days_at_most(tmp_path: Path, today: date, taken: bool) -> None:
    soon = IGNORE.replace("2026-12-01", "2026-09-03")
    policy = config.load_policy(written(tmp_path, f"{soon}\n{IGNORE.replace('CVE-1', 'CVE-2')}"), {})
    if taken:
        config.require_near_expiry(policy, today)
        return
    with pytest.raises(UsageError) as refused:
        config.require_near_expiry(policy, today)
    assert refused.value.message == (
        "pipeline.toml:11: the ignore of CVE-2 expires on 2026-12-01, more than 90 days from now"
    )
    assert refused.value.next_step == "write 2026-11-30 or an earlier day"


def test_a_file_that_is_no_toml_or_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    path = written(tmp_path, "[limits\n")
    assert refused(path).message.startswith(f"{path} is not TOML: ")
    assert (
        refused(tmp_path / "none.toml").message == f"{tmp_path / 'none.toml'} cannot be read: No such file or directory"
    )
    path.write_bytes(b"\xff\xfe")
    assert refused(path).message.startswith(f"{path} is not TOML: ")


@pytest.mark.parametrize(
    "repository",
    [
        "iris",
        "ghcr.io/Owner/name",
        "ghcr.io/owner/name:1.0",
        "ghcr.io/owner/name@sha256:1",
        "https://ghcr.io/owner/name",
        'ghcr.io/owner/name"; curl x',
        "ghcr.io/owner/$(id)",
        "ghcr.io/owner/-name",
        "ghcr.io/" + "a" * 250,
        "127.0.0.1:65536/name",
        "127.0.0.1:0/name",
    ],
)
def test_a_repository_that_no_registry_takes_is_refused_from_file_and_environment(
    tmp_path: Path, repository: str
) -> None:
    path = written(tmp_path, f"[image]\nrepository = '{repository}'\n")
    assert f"image.repository {repository!r} is not host/name in lower case" in refused(path).message
    assert refused(path).message.startswith("pipeline.toml:2: ")
    assert refused(written(tmp_path, ""), {"DRYDOCK_REPOSITORY": repository}).message.startswith("DRYDOCK_REPOSITORY: ")


@pytest.mark.parametrize("repository", ["ghcr.io/owner/name", "127.0.0.1:5000/a", "r.example/a_b/c--d/e.f"])
def test_a_repository_that_registries_take_is_taken(tmp_path: Path, repository: str) -> None:
    assert config.load_policy(written(tmp_path, ""), {"DRYDOCK_REPOSITORY": repository}).image.repository == repository


def test_a_section_that_is_none_is_refused_whatever_the_environment_says(tmp_path: Path) -> None:
    error = refused(written(tmp_path, "image = 3\n"), {"DRYDOCK_REPOSITORY": "ghcr.io/owner/name"})
    assert "pipeline.toml:1: image is 3: " in error.message


@pytest.mark.parametrize("runtime", ["compiled", "sklearn", "pandas"])
def test_each_runtime_has_its_own_lock(runtime: str, tmp_path: Path) -> None:
    policy = config.load_policy(written(tmp_path, f'[build]\nruntime = "{runtime}"\n'), {})
    assert policy.build.lock_paths == [f"requirements/image-{runtime}.txt"]


@pytest.mark.parametrize("train", ["", "  "])
def test_a_model_that_is_trained_already_needs_no_command(train: str, tmp_path: Path) -> None:
    policy = config.load_policy(written(tmp_path, f'[model]\ntrain = "{train}"\npath = "models/mine"\n'), {})
    assert (policy.model.train, policy.model.path) == ("", "models/mine")


def test_a_build_that_may_read_nothing_in_particular_is_refused(tmp_path: Path) -> None:
    assert "pipeline.toml:2: build.context is []" in refused(written(tmp_path, "[build]\ncontext = []\n")).message


def test_an_ignore_may_name_one_package_or_the_place_of_one_secret(tmp_path: Path) -> None:
    named = IGNORE + 'package = "numpy"\n' + IGNORE.replace("CVE-1", "private-key") + 'path = "/a/b.key"\n'
    ignores = config.load_policy(written(tmp_path, named), {}).ignore
    assert [(each.id, each.package, each.path) for each in ignores] == [
        ("CVE-1", "numpy", ""),
        ("private-key", "", "/a/b.key"),
    ]


def test_an_ignore_of_a_package_and_a_path_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, IGNORE + 'package = "numpy"\npath = "/a/b.key"\n')
    assert refused(path).message == (
        f"{path}:1: the ignore of CVE-1 has a package and a path: a secret has a path, a vulnerability a package, and"
        " none has both"
    )
