"""Creates the contract of a trained model: `python -m export.contract model.pkl data.csv --out artifacts`.

The data are rows that the model has not seen, with their right answers. They score the model, and some of them become
the golden rows that every image must answer as the model does now.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import joblib
import msgspec
import numpy as np

from export.compiled import TRAINING_ROWS, check_features, flatten_trees
from export.dataset import Table, create_dataset, list_names, refuse_types, require_unique_names
from export.errors import ContractError, ContractWarning, ConversionError
from export.estimator import (
    find_categories,
    find_columns_with_gaps,
    find_feature_names,
    find_string_columns,
    find_task,
    is_gap,
    load_estimator,
    needs_pandas,
)
from export.evaluation import TOLERANCE, evaluate, find_label_names
from export.golden import create_golden_rows, create_synthetic_rows, find_free_text
from export.scores import NO_SCORES, CustomScores, describe_scores
from export.stability import find_first_difference, predict_rows, require_stable_answers
from export.table import read_table
from service.contract import (
    MAX_FLOAT32,
    MAX_INTEGER,
    Artifact,
    Contract,
    Feature,
    GoldenSource,
    Interface,
    Label,
    ReferenceRows,
    Row,
    write_contract,
)
from service.runtimes import Answers
from service.runtimes.sklearn import SklearnPredictor

MODEL_FILE = "model.pkl"
REFERENCE_FILE = "reference.jsonl"
MAX_REFERENCE_ROWS = 1_000
MAX_REFERENCE_BYTES = 20_000_000
# How many values a message lists.
SHOWN = 5
# How many features the summary lists.
SHOWN_FEATURES = 10
# A category of more values is a string: a contract and a page are no place to list them.
MAX_VALUES = 1_000
# On so many rows an estimator is asked with and without names.
COMPARED_ROWS = 200
GOLDEN_WORDS = {
    "holdout": "golden rows are rows of your data, and everybody who may pull the image can read them; "
    "--golden synthetic makes up others",
    "synthetic": "golden rows are made up: each column draws by itself from its values, and free text from its words",
}
LIBRARIES = ("joblib", "numpy", "scikit-learn", "scipy")


def create_contract(
    estimator: Any,  # noqa: ANN401 - whatever was trained
    held_out: Table,
    targets: Mapping[str, Sequence[Any]] | Sequence[Any] | np.ndarray | None,
    directory: Path,
    *,
    name: str,
    labels: Sequence[Label] = (),
    comparison_rows: Sequence[Row] = (),
    pickle_bytes: bytes = b"",
    scores: CustomScores = NO_SCORES,
    golden: GoldenSource | Literal[""] = "",
    private: Sequence[str] = (),
) -> Contract:
    """Write model.pkl and model.json of a fitted `estimator` into `directory`; the same model gives the same bytes.

    `held_out` are rows that it has not seen, and `targets` their right answers: one for each row, or columns of them by
    name if the model gives several. A detector of outliers and a clustering need none. `labels` names the classes, in
    their order, if they do not name themselves. `comparison_rows`, by default the held-out ones, become training.npy: a
    conversion is compared on each of them. `pickle_bytes` is the file of a model that was saved before. `scores` are
    functions of the right answers and of the model's. `golden` says whether golden rows are held-out ones or made up;
    by default they are made up if a column is free text. The values of `private` columns are shown nowhere.
    Raises ContractError.
    """
    content = pickle_bytes or _pickle(estimator)
    task = find_task(estimator)
    require_unique_names(_names(held_out))
    held_out = _order_columns(estimator, held_out)
    _require_json_numbers(held_out)
    columns = _name_targets(targets)
    _check_categories(estimator, held_out, private)
    names = find_label_names(estimator, task, labels, columns)
    has_probabilities = task in ("classification", "multilabel", "clustering") and hasattr(estimator, "predict_proba")
    interface = Interface(
        task,
        held_out.features,
        labels=names,
        outputs=list(columns) if len(columns) > 1 and task == "regression" else [],
        has_probabilities=has_probabilities,
    )
    asked = _ask(estimator, content, interface, held_out.rows)
    runtime, predictor, interface, rows, answers = asked
    evaluation = evaluate(estimator, interface, answers, columns, scores)
    tolerances = np.array([output.tolerance for output in evaluation.outputs])
    require_stable_answers(predictor, rows, answers, tolerances if len(tolerances) else evaluation.tolerance)
    interface = _complete_features(estimator, interface, predictor, rows, private)
    predictor = predictor.with_interface(interface)
    table = Table(interface.features, rows)
    source: GoldenSource = golden or ("synthetic" if find_free_text(table) else "holdout")
    golden_rows, golden_answers = rows, answers
    if source == "synthetic":
        golden_rows = create_synthetic_rows(table)
        golden_answers = predict_rows(predictor, golden_rows)
    directory.mkdir(parents=True, exist_ok=True)
    contract = Contract(
        name=name,
        task=task,
        artifact=Artifact(file=MODEL_FILE, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)),
        features=interface.features,
        labels=interface.labels,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        libraries={
            library: metadata.version(library) for library in (*LIBRARIES, *(["pandas"] if runtime == "pandas" else []))
        },
        holdout=evaluation.holdout,
        golden=create_golden_rows(interface, golden_rows, golden_answers),
        tolerance=evaluation.tolerance,
        outputs=evaluation.outputs,
        input=interface.input,
        golden_source=source,
        reference=_write_reference(rows, directory),
        runtime=runtime,
    )
    if runtime == "sklearn" and interface.input == "table":
        np.save(
            directory / TRAINING_ROWS,
            np.asarray(comparison_rows if len(comparison_rows) else rows, float),
            allow_pickle=False,
        )
    (directory / MODEL_FILE).write_bytes(content)
    # Last, so that a contract never lies beside a model that it does not describe.
    write_contract(contract, directory)
    return contract


def _names(table: Table) -> list[str]:
    return [feature.name for feature in table.features]


def _order_columns(estimator: Any, table: Table) -> Table:  # noqa: ANN401
    """The columns that the model was trained with, in its order, if it knows their names."""
    given = _names(table)
    names = find_feature_names(estimator, given)
    if names == given or not names or not set(names) <= set(given):
        return table
    place_of = {name: place for place, name in enumerate(given)}
    places = [place_of[name] for name in names]
    return Table([table.features[place] for place in places], [[row[place] for place in places] for row in table.rows])


def _require_json_numbers(table: Table) -> None:
    """Raise ContractError for a number that a server does not take."""
    for place, feature in enumerate(table.features):
        if feature.base_type not in ("number", "integer"):
            continue
        limit = MAX_FLOAT32 if feature.base_type == "number" else MAX_INTEGER
        for number, row in enumerate(table.rows, start=1):
            value = row[place]
            # Not `>`: a NaN would pass.
            if value is not None and not abs(value) <= limit:  # type: ignore[arg-type]
                raise ContractError(
                    f"row {number} of the data has a number in {feature.name} that no server takes: the limit is "
                    f"{limit:.4g}. Convert the column before the model is trained, or leave it out."
                )


def _name_targets(targets: Mapping[str, Sequence[Any]] | Sequence[Any] | np.ndarray | None) -> dict[str, Sequence[Any]]:
    """The right answers as columns by name; those without names have numbers."""
    if targets is None:
        return {}
    # A data frame has columns by name, too.
    if isinstance(targets, Mapping) or hasattr(targets, "columns"):
        columns: Any = targets
        return {str(name): list(columns[name]) for name in columns}
    if np.ndim(targets) == 2:
        return {str(place): list(column) for place, column in enumerate(np.asarray(targets).T)}
    return {"": list(targets)}


def _write_reference(rows: Sequence[Row], directory: Path) -> ReferenceRows:
    """Write held-out rows as a list of JSON for each line: a later image is asked them, and the one before."""
    places = np.linspace(0, len(rows) - 1, min(MAX_REFERENCE_ROWS, len(rows)))
    lines: list[bytes] = []
    size_bytes = 0
    for place in places:
        line = msgspec.json.encode(list(rows[int(place)])) + b"\n"
        size_bytes += len(line)
        if size_bytes > MAX_REFERENCE_BYTES:
            break
        lines.append(line)
    content = b"".join(lines)
    (directory / REFERENCE_FILE).write_bytes(content)
    return ReferenceRows(REFERENCE_FILE, hashlib.sha256(content).hexdigest(), len(content), len(lines))


class _Asked(NamedTuple):
    """A model that has answered the held-out rows: how it was asked, and what it said."""

    runtime: str
    predictor: SklearnPredictor
    interface: Interface
    rows: list[Row]
    answers: Answers


def _ask(estimator: Any, content: bytes, interface: Interface, rows: list[Row]) -> _Asked:  # noqa: ANN401
    """Ask the model as it was trained, with the smallest runtime that gives the same answers. Raises ContractError."""
    runtime, predictor = _choose_runtime(estimator, content, interface, rows)
    interface = predictor.interface
    try:
        return _Asked(runtime, predictor, interface, rows, predict_rows(predictor, rows))
    except ContractError:
        gaps = [(row, place) for row, values in enumerate(rows) for place, value in enumerate(values) if value is None]
        if not gaps:
            raise
        # In a file an empty cell among texts may be an empty text.
        strings = {place for place, feature in enumerate(interface.features) if feature.base_type == "string"}
        filled: list[Row] = [
            ["" if value is None and place in strings else value for place, value in enumerate(row)] for row in rows
        ]
        features = [
            msgspec.structs.replace(feature, missing=False) if place in strings else feature
            for place, feature in enumerate(interface.features)
        ]
        interface = interface._replace(features=features)
        predictor = predictor.with_interface(interface)
        with suppress(ContractError):
            return _Asked(runtime, predictor, interface, filled, predict_rows(predictor, filled))
        row, place = gaps[0]
        whole = [values for values in rows if None not in values]
        if whole:
            # Another reason than a gap has its own sentence.
            predict_rows(predictor, whole)
        raise ContractError(
            f"row {row + 1} of the data has no {interface.features[place].name}, and the model takes no missing "
            "values. Fill it in, remove the row, or put an imputer into the model's pipeline."
        ) from None


def _choose_runtime(
    estimator: Any,  # noqa: ANN401
    content: bytes,
    interface: Interface,
    rows: Sequence[Row],
) -> tuple[str, SklearnPredictor]:
    """The smallest runtime that answers as the estimator does with the names and types that it was trained with."""
    takes_numbers = all(feature.base_type != "string" for feature in interface.features)
    plain = SklearnPredictor(content, interface)
    some = list(rows[:COMPARED_ROWS])
    # Two rows at least: what takes a list of texts would take the name of the column for its only row.
    some = some if len(some) > 1 else some * 2
    names = find_feature_names(estimator, [feature.name for feature in interface.features])
    plain_answers: Answers | None = None
    if takes_numbers and not needs_pandas(estimator):
        # Any code may be in a model.
        with suppress(Exception):
            plain_answers = plain.predict(some)
            if not names:
                return "sklearn", plain
    if not names and [feature.type for feature in interface.features] == ["string"]:
        texts = plain.with_interface(interface._replace(input="texts"))
        with suppress(Exception):
            if texts.predict([[text or ""] for (text,) in some]).row_count == len(some):
                return "sklearn", texts
    try:
        # Imported here, because a training of plain numbers does not need it.
        from service.runtimes.pandas import DataFramePredictor
    except ModuleNotFoundError as error:
        if plain_answers is not None:
            return "sklearn", plain
        raise ContractError(
            "the model takes named columns or strings, which need pandas; install requirements/image-pandas.txt."
        ) from error
    framed = DataFramePredictor(content, interface)
    try:
        answers = framed.predict(some)
        is_framed = answers.row_count == len(some)
    except Exception:
        is_framed = False
    if plain_answers is not None and (
        not is_framed or find_first_difference(plain_answers, answers, _tolerance(answers)) is None
    ):
        return "sklearn", plain
    return "pandas", framed


def _tolerance(answers: Answers) -> np.ndarray:
    return np.asarray(TOLERANCE * np.abs(np.array(answers.numbers)).max(axis=0, initial=0))


def _complete_features(
    estimator: Any,  # noqa: ANN401
    interface: Interface,
    predictor: SklearnPredictor,
    rows: Sequence[Row],
    private: Sequence[str],
) -> Interface:
    """The features with what the estimator knows of them: the values of categories, and where gaps may be."""
    names = [feature.name for feature in interface.features]
    for name in private:
        if name not in names:
            raise ContractError(f"the model has no feature {name}; it has {list_names(names)}.")
    categories, with_gaps = find_categories(estimator, names), find_columns_with_gaps(estimator, names)
    features = []
    for place, feature in enumerate(interface.features):
        changed = msgspec.structs.replace(feature, private=feature.name in private)
        present = [row[place] for row in rows if row[place] is not None]
        values = _find_values(changed, categories.get(feature.name, []), present)
        if values and not changed.private:
            changed = msgspec.structs.replace(changed, type="category", values=values)
        if feature.name in with_gaps and not feature.missing:
            gap = msgspec.structs.replace(changed, missing=True)
            row = [None if at == place else value for at, value in enumerate(rows[0])]
            asked = interface._replace(features=[*interface.features[:place], gap, *interface.features[place + 1 :]])
            # Whatever an imputer does, the steps behind it may take no gap.
            with suppress(ContractError):
                predict_rows(predictor.with_interface(asked), [row])
                changed = gap
        features.append(changed)
    return interface._replace(features=features)


def _find_values(feature: Feature, known: Sequence[Any], present: Sequence[Any]) -> list[Label]:
    """The values of a category in JSON; empty if it is none, or has too many. `present` are those of the rows."""
    values = [_plain(value) for value in known if not is_gap(value)]
    if feature.type == "boolean" or not 0 < len(values) <= MAX_VALUES:
        return []
    if feature.type == "string":
        return values if all(isinstance(value, str) for value in values) else []
    if any(isinstance(value, str | bool) for value in values):
        return []
    is_integer = all(float(value).is_integer() for value in (*values, *present))
    return [int(value) if is_integer else float(value) for value in values]


def _plain(value: Any) -> Any:  # noqa: ANN401
    return value.item() if isinstance(value, np.generic) else value


def _check_categories(estimator: Any, table: Table, private: Sequence[str]) -> None:  # noqa: ANN401
    """Warn of values that an encoder of the model does not know, and refuse a column that has no other ones.

    An encoder may ignore what it does not know: the model then answers as if the column were not there. The values of
    `private` columns are in no message.
    """
    names = _names(table)
    categories = find_categories(estimator, names)
    for place, name in enumerate(names):
        if name not in categories:
            continue
        fitted = dict.fromkeys(map(_plain, (each for each in categories[name] if not is_gap(each))))
        if other_types := {type(each) for each in fitted} - {str, bool, int, float}:
            raise refuse_types(name, other_types)
        values = dict.fromkeys(row[place] for row in table.rows if row[place] is not None)
        unknown = [value for value in values if value not in fitted]
        if not unknown:
            continue
        known, given = (
            "private values" if name in private else ", ".join(map(repr, each[:SHOWN]))
            for each in (list(fitted), unknown)
        )
        if len(unknown) == len(values):
            raise ContractError(
                f"the model knows none of the values of {name}. The data have {given}; the model was trained with "
                f"{known}. Write them as they were when it was trained."
            )
        warnings.warn(
            f"{name} has values that the model was not trained with: {given}. It knows {known}, and may ignore others.",
            ContractWarning,
            stacklevel=3,
        )


def _pickle(estimator: Any) -> bytes:  # noqa: ANN401
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def summary(contract: Contract, conversion_error: str, warned: Sequence[str] = ()) -> str:
    """The contract in a few lines, and what `warned` says.

    `conversion_error` says why the model cannot be compiled; it is empty if it can.
    """
    lines = [
        f"model      {contract.task}: {_describe_features(contract)} → {_describe_answers(contract)}",
        f"features   {_list_features(contract)}",
        f"scores     {describe_scores(contract.holdout)}",
        f"contract   {len(contract.golden)} golden rows, tolerance {contract.tolerance:g}, "
        f"sha256 {contract.artifact.sha256[:12]}",
        f"data       {GOLDEN_WORDS[contract.golden_source]}",
    ]
    lines += [f"warning    {sentence}" for sentence in warned]
    if conversion_error:
        lines += [f"note       {conversion_error}", f'next       set runtime = "{contract.runtime}" under [build]']
    else:
        lines += ['next       runtime = "compiled" serves it, and "sklearn" as well']
    return "".join(f"{line}\n" for line in lines)


def _describe_features(contract: Contract) -> str:
    if contract.input == "texts":
        return "a text"
    types = Counter(feature.type for feature in contract.features)
    plurals = {"category": "categories"}
    words = [f"{count} {plurals.get(name, f'{name}s') if count > 1 else name}" for name, count in types.items()]
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _list_features(contract: Contract) -> str:
    """The first features with their types, to be compared with one's own."""
    words = [
        f"{feature.name}: {feature.type}{' or null' if feature.missing else ''}"
        for feature in contract.features[:SHOWN_FEATURES]
    ]
    more = len(contract.features) - SHOWN_FEATURES
    return f"{', '.join(words)}{f' and {more:,} more' if more > 0 else ''}"


def _describe_answers(contract: Contract) -> str:
    match contract.task:
        case "regression":
            return f"{len(contract.outputs)} values" if contract.outputs else "a value"
        case "multilabel":
            return f"any of {len(contract.labels)} labels"
        case "outliers":
            return "1, or -1 for an outlier, and a score"
        case "clustering":
            return f"one of {len(contract.labels)} clusters"
        case _:
            return f"{len(contract.labels)} labels"


def main() -> None:
    """Create the contract, and print its summary."""
    parser = argparse.ArgumentParser(
        prog="python -m export.contract",
        description="Create a trained model's contract.",
        # A file of one option a line.
        fromfile_prefix_chars="@",
    )
    parser.add_argument("model", type=Path, help="a fitted estimator or pipeline, saved with joblib")
    parser.add_argument("data", type=Path, help="rows that it has not seen, with their right answers: CSV or Parquet")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="the folder for model.pkl and model.json")
    parser.add_argument("--name", default="model", help="the model's name")
    parser.add_argument("--target", default="", help="the columns of the right answers; by default the last one: A,B")
    parser.add_argument("--string-columns", default="", help="columns that only look like numbers: A,B")
    parser.add_argument("--number-columns", default="", help="columns of whole numbers that take 1.5 as well: A,B")
    parser.add_argument("--decimal", default="", choices=["", ".", ","], help="the decimal mark of a CSV file")
    parser.add_argument("--encoding", default="", help="the encoding of a CSV file, such as cp1252")
    parser.add_argument("--private-columns", default="", help="columns whose values are shown nowhere: A,B")
    parser.add_argument(
        "--golden",
        default="",
        choices=["", "holdout", "synthetic"],
        help="golden rows are held-out rows, or made up; by default made up if a column is free text",
    )
    args = parser.parse_args()
    try:
        content = args.model.read_bytes()
        estimator = load_estimator(content)
        string_columns = _split(args.string_columns)
        raw = read_table(
            args.data,
            decimal=args.decimal,
            encoding=args.encoding,
            find_strings=lambda columns: {
                *string_columns,
                *find_string_columns(estimator, find_feature_names(estimator, columns)),
            },
        )
        table, targets = create_dataset(
            args.data, raw, estimator, _split(args.target), string_columns, _split(args.number_columns)
        )
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", ContractWarning)
            contract = create_contract(
                estimator,
                table,
                targets,
                args.out,
                name=args.name,
                pickle_bytes=content,
                golden=args.golden,
                private=_split(args.private_columns),
            )
    except OSError as error:
        sys.exit(f"{error.filename} cannot be read: {error.strerror}")
    except ContractError as error:
        sys.exit(str(error))
    conversion_error = ""
    try:
        check_features(contract)
        flatten_trees(estimator)
    except ConversionError as error:
        conversion_error = str(error)
    warned = [str(each.message) for each in seen if issubclass(each.category, ContractWarning)]
    print(summary(contract, conversion_error, warned), end="")


def _split(names: str) -> list[str]:
    return [name for name in names.split(",") if name]


if __name__ == "__main__":
    main()
