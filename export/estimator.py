"""What an estimator knows of itself: its task, the names of its columns, and the runtime that it needs."""

from __future__ import annotations

import io
import re
import traceback
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import joblib
import sklearn
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import Pipeline

from export.errors import ContractError
from service.contract import Task
from service.runtimes.sklearn import iter_estimators

# Each estimator's state has it: the name, at most twelve bytes of opcodes and length, the version.
SKLEARN_VERSION = re.compile(rb"_sklearn_version.{1,12}?(\d+\.\d+(?:\.\d+)*(?:(?:rc|\.dev|\.post)\d+)?)", re.DOTALL)


def load_estimator(content: bytes) -> Any:  # noqa: ANN401 - whatever was trained
    """Unpickle a model. Raises ContractError if it needs another version of scikit-learn, or other packages."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            return joblib.load(io.BytesIO(content))
    # A pickle runs code, and that may raise anything.
    except Exception as error:
        _require_same_version(content, error)
        why = "".join(traceback.format_exception_only(error)).partition("\n")[0]
        raise ContractError(
            f"the model cannot be loaded ({why}); save it with joblib.dump, and use only packages of "
            "requirements/image-pandas.txt."
        ) from error


def _require_same_version(content: bytes, error: Exception) -> None:
    """Raise ContractError if another scikit-learn wrote the pickle: what it breaks first is often something else."""
    # joblib may have compressed it.
    with suppress(zlib.error):
        content = zlib.decompress(content)
    written = SKLEARN_VERSION.search(content)
    if written and (version := written[1].decode()) != sklearn.__version__:
        raise ContractError(
            f"the model was saved with scikit-learn {version}, but this is {sklearn.__version__}: a pickle only loads "
            "with the version that wrote it. Train it again with this one, or lock that one in requirements/."
        ) from error


def find_task(estimator: Any) -> Task:  # noqa: ANN401
    """What the model does. Raises ContractError for what cannot be served, by the name of its last step."""
    name = type(last_step(estimator)).__name__
    # Both raise for an object that is not an estimator.
    with suppress(AttributeError, TypeError):
        if is_regressor(estimator):
            return "regression"
        if is_classifier(estimator):
            _require_classes(estimator, name)
            return "classification"
    raise ContractError(f"{name} is neither a classifier nor a regressor of scikit-learn.")


def last_step(estimator: Any) -> Any:  # noqa: ANN401
    """The step of a pipeline that answers, or the estimator itself."""
    return last_step(estimator.steps[-1][1]) if isinstance(estimator, Pipeline) else estimator


def _require_classes(estimator: Any, name: str) -> None:  # noqa: ANN401
    if not hasattr(estimator, "classes_"):
        raise ContractError(f"{name} is not fitted; fit it before it is saved.")
    if isinstance(estimator.classes_, list):
        raise ContractError(f"{name} predicts {len(estimator.classes_)} things; a model predicts one.")
    if getattr(last_step(estimator), "multilabel_", False):
        raise ContractError(
            f"{name} gives several labels to one row; a model gives one. Train one classifier for each label."
        )


def find_feature_names(estimator: Any, columns: Sequence[str]) -> list[str]:  # noqa: ANN401
    """The names that the model was trained with, in its order; empty if nothing in it knows names of `columns`.

    A first step may keep no names, such as a function. Then the first step that knows some has those of its own input,
    which are the model's if all of them are columns of the data.
    """
    for each in (estimator, *_steps(estimator)):
        # A pipeline asks its first step, which may raise anything.
        with suppress(Exception):
            names = [str(name) for name in each.feature_names_in_]
            if each is estimator or (set(names) <= set(columns) and len(names) == _feature_count(estimator, names)):
                return names
    return []


def _feature_count(estimator: Any, names: Sequence[str]) -> int:  # noqa: ANN401
    return int(getattr(estimator, "n_features_in_", len(names)))


def _steps(estimator: Any) -> list[Any]:  # noqa: ANN401
    """The steps of a pipeline in their order, or of the pipelines in a search or another wrapper."""
    if isinstance(estimator, Pipeline):
        return [step for _, step in estimator.steps]
    pipelines = [each for each in iter_estimators(estimator) if isinstance(each, Pipeline)]
    return [each for pipeline in pipelines for each in (pipeline, *_steps(pipeline))]


def find_categories(estimator: Any, columns: Sequence[str]) -> dict[str, list[Any]]:  # noqa: ANN401
    """The values that an encoder of each column was fitted on; columns without an encoder are left out."""
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            if found := find_categories(step, columns):
                return found
            if isinstance(step, ColumnTransformer):
                # What comes behind it has other columns.
                break
        return {}
    if isinstance(estimator, ColumnTransformer):
        found = {}
        # Whatever selected them: names, places, a slice, a mask.
        selected = estimator._transformer_to_input_indices
        for name, step, _ in estimator.transformers_:
            found |= find_categories(step, [columns[place] for place in selected[name]])
        return found
    if hasattr(estimator, "categories_") and len(estimator.categories_) == len(columns):
        return {name: list(known) for name, known in zip(columns, estimator.categories_, strict=True)}
    # A search, a threshold, a calibration: the fitted model is one of these.
    inner = (getattr(estimator, name, None) for name in ("best_estimator_", "estimator_"))
    return next((find_categories(each, columns) for each in inner if each is not None), {})


def needs_pandas(estimator: Any) -> bool:  # noqa: ANN401
    """Whether one of its steps was told to hand on data frames, which no other runtime has."""
    configs = (getattr(each, "_sklearn_output_config", {}) for each in iter_estimators(estimator))
    return any(config.get("transform") == "pandas" for config in configs)
