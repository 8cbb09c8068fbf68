"""Every gate turns red for its own reason, in a real run, and nothing is in the registry afterwards."""

from __future__ import annotations

import pytest

from tests.engine.project import Project

ANSWERS = "answers /predict as trained"
MALFORMED = "refuses a malformed request"
NON_ROOT = "runs as non-root"


def test_a_good_image_in_miniature_is_published(tiny: Project) -> None:
    """Without this one, the rest of this file could be red for any reason."""
    finished = tiny.run()
    assert finished.exit_code == 0, finished.output
    assert tiny.tags() == ["test"]


@pytest.mark.parametrize(
    ("user", "measured"),
    [
        ("USER root", "USER root, uid 0"),
        ("", "USER not set, uid 0"),
        ("RUN echo toor:x:0:0::/:/bin/sh >>/etc/passwd\nUSER toor", "USER toor, uid 0"),
    ],
)
def test_an_image_that_runs_as_root_is_rejected(tiny: Project, user: str, measured: str) -> None:
    tiny.edit("Dockerfile", "USER 10001:10001", user)
    finished = tiny.run()
    tiny.assert_rejected(finished, NON_ROOT)
    assert finished.row(NON_ROOT)["measured"] == measured


def test_a_vulnerable_package_is_rejected_with_its_cure(tiny: Project) -> None:
    package = tiny.root / "service" / "packages" / "python_multipart-0.0.6.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: python-multipart\nVersion: 0.0.6\n")
    finished = tiny.run()
    tiny.assert_rejected(finished, "HIGH or CRITICAL")
    details = finished.row("HIGH or CRITICAL")["details"]
    assert "CVE-2024-24762 HIGH python-multipart 0.0.6, fixed in 0.0.7" in details


def test_a_layer_over_200_mb_is_rejected_and_named(tiny: Project) -> None:
    tiny.edit("Dockerfile", "USER 10001", "RUN mkdir /data && truncate -s 200000001 /data/big\nUSER 10001")
    finished = tiny.run()
    tiny.assert_rejected(finished, "largest layer")
    row = finished.row("largest layer")
    assert (row["measured"], row["limit"]) == ("200,000,001 bytes", "200 MB")
    instruction = "RUN mkdir /data && truncate -s 200000001 /data/big"
    assert row["details"] == [f"{instruction}: /data 200 MB. Split the layer, or drop some of it."]


def test_a_layer_that_was_split_is_two_at_once(tiny: Project) -> None:
    """The files are the same, and so is the revision: Dagger alone would hand out the archive of the first build."""
    tiny.edit("Dockerfile", "USER 10001", "RUN truncate -s 120MB /a && truncate -s 120MB /b\nUSER 10001")
    tiny.assert_rejected(tiny.run(), "largest layer")
    tiny.edit("Dockerfile", "/a && truncate", "/a\nRUN truncate")
    finished = tiny.run()
    assert finished.exit_code == 0, finished.output
    assert finished.row("largest layer")["measured"] == "120 MB"


def test_an_image_over_its_limit_is_rejected_even_where_a_later_layer_removes_the_file(tiny: Project) -> None:
    tiny.edit("Dockerfile", "USER 10001", "RUN truncate -s 100000000 /big\nRUN rm /big\nUSER 10001")
    tiny.edit("pipeline.toml", "[limits]", "[limits]\nimage_size_mb = 200")
    finished = tiny.run()
    tiny.assert_rejected(finished, "image size")


def test_a_wrong_golden_label_is_rejected_with_expected_beside_got(tiny: Project) -> None:
    tiny.edit("service/server.py", '"label": row["label"]', '"label": "large"')
    finished = tiny.run()
    tiny.assert_rejected(finished, ANSWERS)
    assert finished.row(ANSWERS)["measured"] == "1 of 2 rows"
    assert finished.row(ANSWERS)["details"] == ["row [1.0]: expected small, got large"]


def test_probabilities_that_are_off_are_rejected(tiny: Project) -> None:
    tiny.edit("service/server.py", '"probabilities": row["probabilities"]', '"probabilities": {"small": 1, "large": 0}')
    finished = tiny.run()
    tiny.assert_rejected(finished, ANSWERS)
    assert finished.row(ANSWERS)["details"][0] == (
        "row [1.0]: expected probabilities {'small': 0.75, 'large': 0.25}, got {'small': 1.0, 'large': 0.0}"
    )


def test_a_server_that_takes_a_malformed_request_is_rejected(tiny: Project) -> None:
    tiny.edit("service/server.py", "self.answer(400,", "self.answer(200,")
    tiny.assert_rejected(tiny.run(), MALFORMED)


def impatient(project: Project) -> Project:
    project.edit("pipeline.toml", "start_seconds = 60", "start_seconds = 10")
    return project


def test_a_container_that_dies_at_its_start_is_rejected_with_its_last_words(tiny: Project) -> None:
    tiny.edit("service/server.py", "import json\n", 'import json\nraise SystemExit("no licence for this model")\n')
    finished = impatient(tiny).run()
    tiny.assert_rejected(finished, ANSWERS, MALFORMED)
    details = finished.row(ANSWERS)["details"]
    assert "it ended with exit code 1" in details[0]
    assert details[-1] == "no licence for this model"


def test_a_container_that_never_gets_ready_is_rejected_after_a_bounded_wait(tiny: Project) -> None:
    tiny.edit("service/server.py", "http.server.Threading", 'print("loading", flush=True)\nwhile True: pass\nhttp.')
    finished = impatient(tiny).run()
    tiny.assert_rejected(finished, ANSWERS, MALFORMED)
    details = finished.row(ANSWERS)["details"]
    assert "it was running after 5 s" in details[0]
    assert details[-1] == "loading"


def test_a_server_that_only_its_own_container_reaches_is_rejected(tiny: Project) -> None:
    tiny.edit("service/server.py", 'HOST = "0.0.0.0"', 'HOST = "127.0.0.1"')
    finished = impatient(tiny).run()
    tiny.assert_rejected(finished, ANSWERS, MALFORMED)
    assert finished.row(ANSWERS)["measured"] == "not ready"


@pytest.mark.parametrize(
    "instruction",
    [
        "ENV GITHUB_TOKEN={token}",
        "RUN echo 'GITHUB_TOKEN={token}' >/srv/config.env\nRUN rm /srv/config.env",
    ],
)
def test_a_token_in_the_image_is_rejected_and_never_shown(tiny: Project, instruction: str) -> None:
    token = "ghp_" + "A1b2C3d4E5f6" * 3
    tiny.edit("Dockerfile", "USER 10001", f"{instruction.format(token=token)}\nUSER 10001")
    finished = tiny.run()
    tiny.assert_rejected(finished, "secrets in the image")
    assert "github-pat in " in finished.row("secrets in the image")["details"][0]
    assert token not in finished.output
