from __future__ import annotations

import re

import pytest

from service.http.bodies import FREE_BODY_BYTES
from service.http.server import SOCKET_BUFFER_BYTES, WRITE_BUFFER_BYTES
from service.settings import Settings, SettingsError, iter_settings, read_settings, redact_uri
from tests.support.models import REPOSITORY_ROOT

SERVER_PAGE = REPOSITORY_ROOT / "docs" / "server.md"


def test_without_a_variable_everything_is_as_by_default() -> None:
    assert read_settings({"PATH": "/bin", "DRYDOCK_MAX_ROWS": " "}) == Settings()


def test_every_setting_is_read_from_its_variable() -> None:
    environment = {
        "DRYDOCK_MAX_BODY_BYTES": "1",
        "DRYDOCK_MAX_ROWS": "2",
        "DRYDOCK_MAX_CONCURRENCY": "3",
        "DRYDOCK_MAX_CONNECTIONS": "7",
        "DRYDOCK_MAX_BUFFER_BYTES": "8",
        "DRYDOCK_REQUEST_TIMEOUT_SECONDS": "0.5",
        "DRYDOCK_SHUTDOWN_GRACE_SECONDS": "4",
        "DRYDOCK_LOG_REQUESTS": "all",
        "DRYDOCK_UNKNOWN_CATEGORIES": "reject",
        "DRYDOCK_LISTEN_PORT": "5",
        "MODEL_URI": "s3://models/iris/model.json",
        "MODEL_SHA256": f"{'0' * 64}\n",
        "DRYDOCK_CACHE_DIR": "/cache",
        "DRYDOCK_DOWNLOAD_STALL_SECONDS": "6",
    }
    assert read_settings(environment) == Settings(
        1, 2, 3, 7, 8, 0.5, 4.0, "all", "reject", 5, "s3://models/iris/model.json", "0" * 64, "/cache", 6.0
    )
    assert set(environment) == {variable for _, variable, _, _ in iter_settings()}


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DRYDOCK_MAX_ROWS", "many", "DRYDOCK_MAX_ROWS cannot be 'many': expected `int`, got `str`."),
        ("DRYDOCK_MAX_ROWS", "0", "DRYDOCK_MAX_ROWS cannot be '0': expected `int` >= 1."),
        (
            "DRYDOCK_REQUEST_TIMEOUT_SECONDS",
            "0",
            "DRYDOCK_REQUEST_TIMEOUT_SECONDS cannot be '0': expected `float` > 0.0.",
        ),
        (
            "DRYDOCK_SHUTDOWN_GRACE_SECONDS",
            "1",
            "DRYDOCK_SHUTDOWN_GRACE_SECONDS cannot be '1': expected `float` >= 2.0.",
        ),
        ("DRYDOCK_LOG_REQUESTS", "some", "DRYDOCK_LOG_REQUESTS cannot be 'some': invalid enum value 'some'."),
        (
            "DRYDOCK_UNKNOWN_CATEGORIES",
            "refuse",
            "DRYDOCK_UNKNOWN_CATEGORIES cannot be 'refuse': invalid enum value 'refuse'.",
        ),
        ("DRYDOCK_LISTEN_PORT", "65536", "DRYDOCK_LISTEN_PORT cannot be '65536': expected `int` <= 65535."),
        (
            "MODEL_SHA256",
            "A" * 64,
            f"MODEL_SHA256 cannot be '{'A' * 64}': expected `str` matching regex '^[0-9a-f]{{64}}$'.",
        ),
        ("MODEL_SHA256", "0" * 64, "MODEL_SHA256 is set, but MODEL_URI is not: set both, or neither."),
        (
            "MODEL_URI",
            "https://ana:geheim@models.example/model.json?sig=geheim",
            "MODEL_URI is https://models.example/model.json, but MODEL_SHA256 is not set. It is required, because "
            "unpickling runs code: set it to the sha256sum of the file that MODEL_URI names.",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_variable(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({variable: value})
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "uri", ["model.json", "gs://models/model.json", "models/iris", "ftp://models.example/model.json"]
)
def test_a_place_that_nothing_here_reads_is_refused(uri: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({"MODEL_URI": uri, "MODEL_SHA256": "0" * 64})
    assert str(refused.value) == (
        f"MODEL_URI cannot be {uri}: it must be a path, or begin with file: or http: or https: or s3: or mlflow:."
    )


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://ana:geheim@models.example:8443/a/model.json", "https://models.example:8443/a/model.json"),
        ("https://models.example/model.json?X-Amz-Signature=geheim#geheim", "https://models.example/model.json"),
        ("s3://models/iris/model.json", "s3://models/iris/model.json"),
        ("mlflow:models:/iris@champion", "mlflow:models:/iris@champion"),
        ("/models/model.json", "/models/model.json"),
        ("http://[geheim", "a malformed URI"),
    ],
)
def test_what_lets_somebody_in_is_not_shown(uri: str, shown: str) -> None:
    assert redact_uri(uri) == shown


def test_no_variable_is_one_that_kubernetes_sets_by_itself() -> None:
    # For a Service called `drydock`: https://kubernetes.io/docs/concepts/services-networking/service/
    theirs = {"DRYDOCK_PORT", "DRYDOCK_SERVICE_HOST", "DRYDOCK_SERVICE_PORT", "DRYDOCK_PORT_8000_TCP"}
    assert not theirs & {variable for _, variable, _, _ in iter_settings()}


def test_the_docs_list_every_setting_with_its_default() -> None:
    rows = [f"| `{variable}` | {default} | {meaning} |\n" for _, variable, default, meaning in iter_settings()]
    table = "| variable | default | meaning |\n|---|---|---|\n" + "".join(rows)
    assert table in SERVER_PAGE.read_text(encoding="utf-8")


# What `pandas` with training/tickets.py takes, as RSS.
LARGEST_RUNTIME_BYTES = 174_000_000


def test_all_that_a_server_bears_fits_into_the_memory_that_it_is_given() -> None:
    limits = Settings()
    # The kernel doubles what it is told, and a connection has a buffer for each direction.
    bounds = [
        limits.max_buffer_bytes,
        limits.max_connections * (FREE_BODY_BYTES + 2 * SOCKET_BUFFER_BYTES),
        80 * limits.max_body_bytes,
        limits.max_buffer_bytes + limits.max_connections * WRITE_BUFFER_BYTES,
        limits.max_connections * 2 * 2 * SOCKET_BUFFER_BYTES,
    ]
    assert sum(bounds) + LARGEST_RUNTIME_BYTES < 512_000_000
    page = SERVER_PAGE.read_text(encoding="utf-8")
    table = page.partition("| bounded by | at most | by default |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert re.findall(r"\| (\d+) MB \|$", table, re.MULTILINE) == [f"{each / 1e6:.0f}" for each in bounds]
    assert f"These are {sum(bounds) / 1e6:.0f} MB." in page
    assert f"takes {LARGEST_RUNTIME_BYTES / 1e6:.0f} MB when it is idle." in page


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("docker-compose.yml", "mem_limit: 512m"),
        ("deploy/deployment.yaml", "memory: 512Mi"),
        ("deploy/kserve/inference-service.yaml", "memory: 512Mi"),
    ],
)
def test_a_server_is_given_as_much_memory_as_the_docs_say(file: str, line: str) -> None:
    assert line in (REPOSITORY_ROOT / file).read_text(encoding="utf-8")
