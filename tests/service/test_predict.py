from __future__ import annotations

from pathlib import Path

import pytest

from service.model import Model
from service.predict import random_row
from tests.service.conftest import run


def test_a_given_row_is_predicted(breakable: Path) -> None:
    done = run("-m", "service.predict", "--features", "5.1", "3.5", "1.4", "0.2", folder=breakable.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5.1, 3.5, 1.4, 0.2 → setosa (100%)\n", "")


def test_one_seed_gives_one_answer(breakable: Path) -> None:
    first, second = (run("-m", "service.predict", "--seed", "1", folder=breakable.parent) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout == "4.7, 3.6, 4.7, 0.7 → setosa (56%)\n"


def test_a_random_row_lies_between_the_golden_ones_and_differs_by_its_seed(model: Model) -> None:
    columns = list(zip(*(row.features for row in model.contract.golden), strict=True))
    rows = [random_row(model.contract, seed) for seed in range(100)]
    for row in rows:
        assert all(min(column) <= value <= max(column) for value, column in zip(row, columns, strict=True)), row
    assert len({tuple(row) for row in rows}) == 100


def test_a_row_without_a_seed_is_another_one_each_time(model: Model) -> None:
    # Ten times the same row by chance: less likely than one in 10^20.
    assert len({tuple(random_row(model.contract, None)) for _ in range(10)}) > 1


@pytest.mark.parametrize("features", [("1", "2", "3"), ("1", "2", "3", "4", "5")])
def test_a_row_of_another_length_is_a_usage_error(features: tuple[str, ...], breakable: Path) -> None:
    done = run("-m", "service.predict", "--features", *features, folder=breakable.parent)
    assert (done.returncode, done.stdout) == (2, "")
    *_, last = done.stderr.splitlines()
    assert last.startswith("python -m service.predict: error: ")
    assert "row has 4 numbers: sepal length (cm), sepal width (cm), petal length (cm), petal width (cm)" in last


def test_without_a_model_there_is_one_sentence(tmp_path: Path) -> None:
    done = run("-m", "service.predict", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("artifacts/model.json cannot be read (No such file or directory); train the model first.\n")
