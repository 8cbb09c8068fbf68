"""A small model of each task, and one that takes a feature of every type, as fixtures for the tests of the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from export.contract import create_contract
from export.dataset import Table, frame_table, number_table
from service.contract import Feature
from service.model import Model, load_model

MEASURES, GENRES = make_multilabel_classification(n_samples=80, n_features=4, n_classes=3, random_state=1)
MEASURES = MEASURES.astype(float)
NUMBERS = number_table(["a", "b", "c", "d"], MEASURES.tolist())
TICKETS = [
    "printer is broken",
    "invoice is wrong",
    "password is lost",
    "the printer has no paper",
    "pay the invoice",
    "reset my password",
] * 4
TASKS = ("multilabel", "labels_alone", "values", "outliers", "clustering", "mixture", "texts", "every_type")


def create(name: str, directory: Path) -> Model:
    """Train the model of that name, and load it from `directory`."""
    estimator, table, targets, labels = _train(name)
    create_contract(estimator, table, targets, directory, name=name, labels=labels)
    return load_model(directory)


def _train(name: str) -> tuple[Any, Table, Mapping[str, Sequence[Any]] | Sequence[Any] | None, Sequence[str]]:
    match name:
        case "multilabel":
            genres = ["jazz", "pop", "rock"]
            return OneVsRestClassifier(LogisticRegression()).fit(MEASURES, GENRES), NUMBERS, GENRES, genres
        case "labels_alone":
            return OneVsRestClassifier(RidgeClassifier()).fit(MEASURES, GENRES), NUMBERS, GENRES, []
        case "values":
            values = MEASURES[:, :2] * 2
            columns = {"price": values[:, 0].tolist(), "days": values[:, 1].tolist()}
            return LinearRegression().fit(MEASURES, values), NUMBERS, columns, []
        case "outliers":
            return IsolationForest(n_estimators=10, random_state=1).fit(MEASURES), NUMBERS, None, []
        case "clustering":
            return KMeans(3, n_init=1, random_state=1).fit(MEASURES), NUMBERS, None, []
        case "mixture":
            return GaussianMixture(2, random_state=1).fit(MEASURES), NUMBERS, None, []
        case "texts":
            teams = ["hardware", "billing", "account"] * 8
            estimator = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TICKETS, teams)
            return estimator, Table([Feature("text", "string")], [[text] for text in TICKETS]), teams, []
    frame = flats()
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["size"]),
            ("others", "passthrough", ["rooms", "balcony"]),
            ("city", make_pipeline(SimpleImputer(strategy="most_frequent"), ignoring_encoder()), ["city"]),
            ("floor", ignoring_encoder(), ["floor"]),
            ("text", TfidfVectorizer(), "note"),
        ]
    )
    prices = np.where(frame.rooms > 3, "dear", "cheap").tolist()
    return make_pipeline(columns, LogisticRegression()).fit(frame, prices), frame_table(frame), prices, []


def ignoring_encoder() -> OneHotEncoder:
    """An encoder that takes any value."""
    return OneHotEncoder(handle_unknown="ignore")


def flats() -> pandas.DataFrame:
    """A column of each type; a number and a category have gaps."""
    generator = np.random.default_rng(3)
    count = 60
    frame = pandas.DataFrame(
        {
            "size": generator.normal(size=count).round(3),
            "rooms": generator.integers(1, 6, count),
            "balcony": generator.random(count) > 0.5,
            "city": generator.choice(["Basel", "Bern"], count),
            "floor": generator.integers(0, 3, count),
            "note": generator.choice(["old house", "new flat", "loud street", "calm place"], count),
        }
    )
    frame.loc[3, "size"] = np.nan
    frame.loc[4, "city"] = np.nan
    return frame


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """Each of TASKS, to be read only."""
    return {name: create(name, tmp_path_factory.mktemp(name)) for name in TASKS}
