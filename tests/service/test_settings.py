from __future__ import annotations

import pytest

from service.settings import Settings, SettingsRefused, described, from_environment


def test_without_a_variable_everything_is_as_by_default() -> None:
    assert from_environment({"PATH": "/bin", "DRYDOCK_ROWS_LIMIT": " "}) == Settings()


def test_every_setting_is_read_from_its_variable() -> None:
    environment = {
        "DRYDOCK_BODY_LIMIT_BYTES": "1",
        "DRYDOCK_ROWS_LIMIT": "2",
        "DRYDOCK_CONCURRENCY_LIMIT": "3",
        "DRYDOCK_BODY_SECONDS": "0.5",
        "DRYDOCK_GRACE_SECONDS": "4",
        "DRYDOCK_LOG_REQUESTS": "all",
        "DRYDOCK_LISTEN_PORT": "5",
    }
    assert from_environment(environment) == Settings(1, 2, 3, 0.5, 4.0, "all", 5)
    assert set(environment) == {variable for _, variable, _, _ in described()}


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DRYDOCK_ROWS_LIMIT", "many", "DRYDOCK_ROWS_LIMIT cannot be 'many': expected `int`, got `str`."),
        ("DRYDOCK_ROWS_LIMIT", "0", "DRYDOCK_ROWS_LIMIT cannot be '0': expected `int` >= 1."),
        ("DRYDOCK_BODY_SECONDS", "0", "DRYDOCK_BODY_SECONDS cannot be '0': expected `float` > 0.0."),
        ("DRYDOCK_GRACE_SECONDS", "1", "DRYDOCK_GRACE_SECONDS cannot be '1': expected `float` >= 2.0."),
        ("DRYDOCK_LOG_REQUESTS", "some", "DRYDOCK_LOG_REQUESTS cannot be 'some': invalid enum value 'some'."),
        ("DRYDOCK_LISTEN_PORT", "65536", "DRYDOCK_LISTEN_PORT cannot be '65536': expected `int` <= 65535."),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_variable(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        from_environment({variable: value})
    assert str(refused.value) == sentence


def test_no_variable_is_one_that_kubernetes_sets_by_itself() -> None:
    # For a Service called `drydock`: https://kubernetes.io/docs/concepts/services-networking/service/
    theirs = {"DRYDOCK_PORT", "DRYDOCK_SERVICE_HOST", "DRYDOCK_SERVICE_PORT", "DRYDOCK_PORT_8000_TCP"}
    assert not theirs & {variable for _, variable, _, _ in described()}
