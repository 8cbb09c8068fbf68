"""What an estimator knows of itself: its task, the names of its columns, and the runtime that it needs."""

from __future__ import annotations

import io
import re
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import joblib
import numpy as np
import sklearn
from sklearn.base import is_classifier, is_clusterer, is_outlier_detector, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.pipeline import FeatureUnion, Pipeline

from export.errors import ContractError
from service.contract import Task
from service.runtimes.sklearn import iter_estimators

# Each estimator's state has it: the name, at most twelve bytes of opcodes and length, the version.
SKLEARN_VERSION = re.compile(rb"_sklearn_version.{1,12}?(\d+\.\d+(?:\.\d+)*(?:(?:rc|\.dev|\.post)\d+)?)", re.DOTALL)


IMPUTERS = "sklearn.impute."
# Where a search, a threshold, a calibration or a vote keeps a fitted model, or a list of them. Boosted trees encode by
# themselves.
INNER = (
    "best_estimator_",
    "estimator_",
    "regressor_",
    "estimators_",
    "calibrated_classifiers_",
    "estimator",
    "_preprocessor",
)


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
    """What the model does. Raises ContractError for what cannot be served, by the name of the step."""
    name = type(last_step(estimator)).__name__
    for each in iter_estimators(estimator):
        if isinstance(each, DictVectorizer | FeatureHasher):
            raise ContractError(
                f"{type(each).__name__} takes dictionaries or lists, and no table. Use a OneHotEncoder in its "
                "place, or a HashingVectorizer for texts."
            )
    # All of these raise for an object that is not an estimator.
    with suppress(AttributeError, TypeError):
        if is_regressor(estimator):
            return "regression"
        if is_classifier(estimator):
            return _find_classification(estimator, name)
        if is_outlier_detector(estimator):
            return _require_methods(estimator, name, "outliers", "predict", "decision_function")
        if is_clusterer(estimator) or (hasattr(last_step(estimator), "n_components") and hasattr(estimator, "predict")):
            return _require_methods(estimator, name, "clustering", "predict")
    raise ContractError(
        f"{name} does not predict: it is no classifier, regressor, outlier detector or clustering of scikit-learn. "
        "Put an estimator that predicts at the end of the pipeline."
    )


def last_step(estimator: Any) -> Any:  # noqa: ANN401
    """The step of a pipeline that answers, or the estimator itself."""
    return last_step(estimator.steps[-1][1]) if isinstance(estimator, Pipeline) else estimator


def _find_classification(estimator: Any, name: str) -> Task:  # noqa: ANN401
    if not hasattr(estimator, "classes_"):
        raise ContractError(f"{name} is not fitted; fit it before it is saved.")
    if isinstance(estimator.classes_, list):
        # One classifier for each label: it says 1 if a row has it, and 0 if not.
        if all(set(np.asarray(classes).tolist()) <= {0, 1} for classes in estimator.classes_):
            return "multilabel"
        raise ContractError(
            f"{name} gives {len(estimator.classes_)} labels to each row, and some have other values than 1 and 0. A "
            "model gives one label, or says of several whether a row has them. Train with 1 and 0, or one classifier "
            "for each."
        )
    last = _unwrap(estimator)
    binarizer = getattr(last, "_label_binarizer", None)
    if getattr(last, "multilabel_", False) or "multilabel" in getattr(binarizer, "y_type_", ""):
        return "multilabel"
    return "classification"


def _require_methods(estimator: Any, name: str, task: Task, *methods: str) -> Task:  # noqa: ANN401
    for method in methods:
        if not hasattr(estimator, method):
            raise ContractError(
                f"{name} has no {method}, so it answers only for the rows that it was fitted on. Choose an estimator "
                f"with {' and '.join(methods)}."
            )
    return task


def count_outputs(estimator: Any, task: Task) -> int:  # noqa: ANN401
    """How many columns of right answers belong to the model."""
    if task == "multilabel":
        return len(estimator.classes_)
    if task != "regression":
        return 1
    last = _unwrap(estimator)
    if isinstance(last, MultiOutputRegressor | RegressorChain):
        return len(last.estimators_)
    # The last step takes numbers, most often. It may raise anything, or warn of what it is asked.
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return int(np.asarray(last.predict(np.zeros((1, last.n_features_in_)))).size)
    return int(getattr(last, "n_outputs_", 1))


def _unwrap(estimator: Any) -> Any:  # noqa: ANN401
    """What answers at the end of pipelines, in a search, or behind a transformed target."""
    last = last_step(estimator)
    inner = getattr(last, "best_estimator_", getattr(last, "regressor_", None))
    return last if inner is None else _unwrap(inner)


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

    def read(step: Any, names: Sequence[str]) -> Found:  # noqa: ANN401
        known = getattr(step, "categories_", ())
        return (
            {name: list(values) for name, values in zip(names, known, strict=True)} if len(known) == len(names) else {}
        )

    return _collect(estimator, columns, read, keeps_values=True)


def find_string_columns(estimator: Any, columns: Sequence[str]) -> set[str]:  # noqa: ANN401
    """Those of the model's `columns` that it reads as texts, or whose encoder was fitted on strings alone, but gaps."""
    categories = find_categories(estimator, columns) if columns else {}
    fitted = {name: {type(value) for value in known if not is_gap(value)} for name, known in categories.items()}
    encoded = {name for name, types in fitted.items() if types and all(issubclass(each, str) for each in types)}
    return encoded | find_texts(estimator, columns)


def find_columns_with_gaps(estimator: Any, columns: Sequence[str]) -> set[str]:  # noqa: ANN401
    """The columns that the model was trained with gaps in, as far as it shows.

    They are those of an imputer, those with a gap among the values of an encoder, and those of which a tree asks
    whether they are missing.
    """

    def read(step: Any, names: Sequence[str]) -> Found:  # noqa: ANN401
        if type(step).__module__.startswith(IMPUTERS):
            return {name: [None] for name in names}
        splits = [
            *((each.tree_.feature, each.tree_.threshold) for each in iter_estimators(step) if hasattr(each, "tree_")),
            *(
                (predictor.nodes["feature_idx"], predictor.nodes["num_threshold"])
                for stage in getattr(step, "_predictors", ())
                for predictor in stage
            ),
        ]
        places = {int(place) for feature, threshold in splits for place in feature[np.isinf(threshold)]}
        return {names[place]: [None] for place in places if place < len(names)}

    encoded = {name for name, values in find_categories(estimator, columns).items() if any(map(is_gap, values))}
    return encoded | set(_collect(estimator, columns, read))


def find_texts(estimator: Any, columns: Sequence[str]) -> set[str]:  # noqa: ANN401
    """The columns that are read as texts, whatever their cells look like."""

    def read(step: Any, names: Sequence[str]) -> Found:  # noqa: ANN401
        # A transformer of counts is in the same module.
        is_reader = type(step).__module__ == "sklearn.feature_extraction.text" and hasattr(step, "build_analyzer")
        return {name: [None] for name in names} if is_reader and len(names) == 1 else {}

    return set(_collect(estimator, columns, read))


def count_features(estimator: Any) -> int | None:  # noqa: ANN401
    """How many columns the model takes: one if it reads texts. None if it does not say."""
    count: int | None = getattr(estimator, "n_features_in_", None)
    return 1 if count is None and find_texts(estimator, ["text"]) else count


def is_gap(value: Any) -> bool:  # noqa: ANN401
    """Whether a value is a missing one: None, NaN, or what pandas has in its place."""
    return not isinstance(value, str) and str(value) in ("None", "nan", "NaT", "<NA>")


# What a step says of columns, by their names.
Found = dict[str, list[Any]]


def _collect(
    estimator: Any,  # noqa: ANN401
    columns: Sequence[str],
    read: Callable[[Any, Sequence[str]], Found],
    *,
    keeps_values: bool = False,
) -> Found:
    """What the first steps that know these columns say of them.

    With `keeps_values` no step is asked that gets other values than the model: only an imputer may come before it.
    """

    def collect(inner: Any, names: Sequence[str]) -> Found:  # noqa: ANN401
        return _collect(inner, names, read, keeps_values=keeps_values)

    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            if found := collect(step, columns):
                return found
            # What comes behind them has other columns.
            if isinstance(step, ColumnTransformer | FeatureUnion):
                break
            if keeps_values and step != "passthrough" and not type(step).__module__.startswith(IMPUTERS):
                break
        return {}
    if isinstance(estimator, ColumnTransformer):
        if getattr(estimator, "n_features_in_", None) != len(columns):
            return {}
        # Whatever selected them: names, places, a slice, a mask.
        selected = estimator._transformer_to_input_indices
        return _merge(
            collect(step, [columns[place] for place in selected[name]]) for name, step, _ in estimator.transformers_
        )
    if isinstance(estimator, FeatureUnion):
        return _merge(collect(step, columns) for _, step in estimator.transformer_list)
    if found := read(estimator, columns):
        return found
    # Members of a bag have other columns.
    if not hasattr(estimator, "__dict__") or hasattr(estimator, "estimators_features_"):
        return {}
    inner = [vars(estimator).get(name) for name in INNER]
    return _merge(collect(each, columns) for one in inner for each in (one if isinstance(one, list) else [one]))


def _merge(parts: Iterable[Found]) -> Found:
    """All that is known of each column, in the order in which it was found."""
    merged: Found = {}
    for part in parts:
        for name, values in part.items():
            known = merged.setdefault(name, [])
            seen = set(known)
            known += [value for value in values if value not in seen]
    return merged


def needs_pandas(estimator: Any) -> bool:  # noqa: ANN401
    """Whether one of its steps was told to hand on data frames, which no other runtime has."""
    configs = (getattr(each, "_sklearn_output_config", {}) for each in iter_estimators(estimator))
    return any(config.get("transform") == "pandas" for config in configs)
