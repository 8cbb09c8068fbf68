"""Reads a table as people have it: a CSV file in one of many notations, or a Parquet file."""

from __future__ import annotations

import codecs
import csv
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from export.errors import ContractError
from export.parquet import MAGIC, Cell, read_parquet

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
UNNAMED = "Unnamed: {}"
# As pandas reads a gap among numbers, in lower case.
MISSING = {"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a", "-nan"}
LINES = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
# What a file begins with that is no table of text, and what it is then.
OTHER_FILES = {b"PK\x03\x04": "an Excel workbook or another zip archive", b"\x1f\x8b": "compressed by gzip"}
# Between thousands: each kind of space, both apostrophes, and the mark that is not the decimal one.
GROUPS = r"[1-9][0-9]{0,2}(?P<mark>[ \u00a0\u2009\u202f'\u2019%s])[0-9]{3}(?:(?P=mark)[0-9]{3})*"
# Numbers with each decimal mark.
NUMBERS = {
    decimal: re.compile(
        rf"[+-]?(?:(?:[0-9]+|{GROUPS % other})(?:[{decimal}][0-9]*)?|[{decimal}][0-9]+)(?:[eE][+-]?[0-9]+)?"
    )
    for decimal, other in (".,", ",.")
}
# The letters that are the same bytes in Western and Central European encodings.
LATIN = ("cp1252", "cp1250", "iso8859-15")
CERTAIN_BYTES = bytes(
    byte for byte in range(0xA0, 0x100) if len({bytes([byte]).decode(encoding) for encoding in LATIN}) == 1
)
# In a word of another alphabet such letters follow each other.
UNCERTAIN = re.compile(b"[^\\x00-\\x7f" + re.escape(CERTAIN_BYTES) + b"]|(?<![A-Za-z])[\\xc0-\\xff](?![A-Za-z])")


class RawTable(NamedTuple):
    """All columns of a file in its order, the target included.

    A cell of a CSV file is a string. If its column has numbers, it is written as in Python, or it is a gap.
    """

    columns: dict[str, list[Cell]]
    # Of a Parquet file: a string that looks like a number is a string.
    has_types: bool = False


def read_table(
    path: Path,
    *,
    decimal: str = "",
    encoding: str = "",
    find_strings: Callable[[Sequence[str]], Collection[str]] = lambda _: (),
) -> RawTable:
    """The table in a CSV file with a header, or in a Parquet file.

    Separator, encoding and decimal mark are found, or the file is refused. `decimal` is the mark, "." or ",".
    `find_strings` says of all columns which ones have strings, whatever these look like. Raises ContractError.
    """
    content = path.read_bytes()
    if content.startswith(MAGIC):
        names, columns = read_parquet(path.name, content)
        return RawTable(dict(zip(_name_columns(path.name, names), columns, strict=True)), has_types=True)
    separator, head, rows = _split_rows(path.name, _decode(path.name, content, encoding))
    texts = dict(zip(_name_columns(path.name, head), map(list, zip(*rows, strict=True)), strict=True))
    # A wide table takes twenty times the memory of its file.
    del content, rows
    strings = set(find_strings(list(texts)))
    others = {name: cells for name, cells in texts.items() if name not in strings}
    numbers = _rewrite_numbers(path.name, others, decimal, separator)
    return RawTable({name: [*numbers.pop(name, cells)] for name, cells in texts.items()})


def _name_columns(file: str, head: Sequence[str]) -> list[str]:
    """The names of the header, which differ; pandas reads a column without a name so, most often its own index."""
    names = [name or UNNAMED.format(place) for place, name in enumerate(head)]
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ContractError(f"two columns of {file} are called {twice[0]}; give each its own name.")
    return names


def _decode(file: str, content: bytes, encoding: str) -> str:
    """The text of a file. Latin-1 and its like have no mark, so only what is the same in all of them is read."""
    for magic, kind in OTHER_FILES.items():
        if content.startswith(magic):
            raise ContractError(f"{file} is {kind}. Save the table as CSV or Parquet.")
    has_mark = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    is_certain = bool(encoding) or has_mark
    encoding = encoding or ("UTF-16" if has_mark else "UTF-8")
    no_zeros = _refuse_encoding(file, encoding, "it has zero bytes, as UTF-16 does", "utf-16-le")
    if b"\0" in content and not is_certain:
        raise no_zeros
    try:
        text = content.decode(encoding)
    except LookupError as error:
        raise ContractError(f"{encoding} is not an encoding of Python, such as cp1252 or utf-16-le.") from error
    except UnicodeError as error:
        if is_certain or UNCERTAIN.search(content):
            line = content.count(b"\n", 0, getattr(error, "start", 0)) + 1
            raise _refuse_encoding(file, encoding, f"line {line} has a byte that does not fit", "cp1252") from error
        text = content.decode("cp1252")
    if "\0" in text:
        raise no_zeros
    return text.removeprefix("\ufeff")


def _refuse_encoding(file: str, encoding: str, reason: str, example: str) -> ContractError:
    return ContractError(
        f"{file} is not in {encoding}: {reason}. Save it as UTF-8, or name its encoding, such as --encoding {example}."
    )


def _split_rows(file: str, text: str) -> tuple[str, list[str], list[list[str]]]:
    """Separator, header and rows: at the separator that gives each row as many cells as the header, and most of them.

    pandas would fill up a short row, and take the first cell of longer ones for an index.
    """
    tables, broken = _try_separators(text)
    if not tables and not broken:
        # Texts or numbers for a clustering need no other column.
        tables, broken = _try_separators(text, min_width=1)
        tables = {
            mark: rows for mark, rows in tables.items() if mark == "," and SEPARATORS.keys().isdisjoint(rows[0][0])
        }
    even = {mark: rows for mark, rows in tables.items() if all(len(row) == len(rows[0]) for row in rows)}
    # A separator that the header does not have may well break a quote.
    if broken and not even and (max(broken) > 1 or not tables):
        raise _refuse_quote(file, max(broken), broken[max(broken)])
    widths = {mark: len(rows[0]) for mark, rows in (even or tables).items()}
    if not widths:
        raise ContractError(f"{file} needs a line of column names, and rows of features and a target below it.")
    separator, *others = [mark for mark, width in widths.items() if width == max(widths.values())]
    head, *rows = tables[separator]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(head):
            raise ContractError(f"row {number} of {file} has {len(row)} cells, its header {len(head)}.")
    if others:
        raise ContractError(
            f"the cells of {file} may end at each {SEPARATORS[separator]} or at each {SEPARATORS[others[0]]}. "
            "Rename the column that has one of them in its name."
        )
    return separator, head, rows


def _try_separators(text: str, min_width: int = 2) -> tuple[dict[str, list[list[str]]], dict[int, csv.Error]]:
    """Header and rows for each separator that the header has; and errors, by the row at which each ended a try."""
    tables: dict[str, list[list[str]]] = {}
    broken: dict[int, csv.Error] = {}
    for separator in SEPARATORS:
        rows: list[list[str]] = []
        try:
            for row in csv.reader(_iter_lines(text), delimiter=separator, strict=True):
                if row:
                    rows.append(row)
                if len(rows) == 1 and len(rows[0]) < min_width:
                    break
        except csv.Error as error:
            broken[len(rows) + 1] = error
            continue
        rows = _cut_empty_cells(rows)
        if len(rows) > 1 and len(rows[0]) >= min_width:
            tables[separator] = rows
    return tables, broken


def _iter_lines(text: str) -> Iterator[str]:
    """The lines with their ends, as Python reads a file; io.StringIO would need four bytes for each character."""
    return (line[0] for line in LINES.finditer(text))


def _refuse_quote(file: str, row: int, error: csv.Error) -> ContractError:
    if "limit" in str(error):
        return ContractError(f"{file} is not a CSV file: {error}.")
    return ContractError(
        f"row {row} of {file} has a quote that does not end, or text behind its end. Write a quote within a cell "
        'twice, and the cell between quotes: "5"" pipe".'
    )


def _cut_empty_cells(rows: list[list[str]]) -> list[list[str]]:
    """Without the empty rows and columns at the end, as a spreadsheet writes them for cells that were used once."""
    while rows and not any(map(str.strip, rows[-1])):
        rows.pop()
    width = len(rows[0]) if rows else 0
    if any(len(row) != width for row in rows):
        return rows
    while width and not any(row[width - 1].strip() for row in rows):
        width -= 1
    return [row[:width] for row in rows]


def _rewrite_numbers(file: str, columns: Mapping[str, list[str]], decimal: str, separator: str) -> dict[str, list[str]]:
    """The columns of numbers, as Python writes numbers. One decimal mark must fit all of them."""
    readings = {
        name: {mark: numbers for mark in NUMBERS if (numbers := _read_numbers(cells, mark))}
        for name, cells in columns.items()
    }
    decimal = decimal or _find_decimal(file, columns, readings, separator)
    for name, found in readings.items():
        if found and decimal not in found:
            raise ContractError(
                f"{_describe_cell(file, name, columns)}, which does not fit --decimal {decimal}. Write it so, or name "
                f"the column with --string-columns {shlex.quote(name)} if it is text."
            )
    return {name: found[decimal] for name, found in readings.items() if found}


def _find_decimal(
    file: str, columns: Mapping[str, list[str]], readings: Mapping[str, Mapping[str, list[str]]], separator: str
) -> str:
    """The decimal mark of the numbers that fit one mark only; "1,659" fits both."""
    point, comma = ([name for name, found in readings.items() if list(found) == [mark]] for mark in NUMBERS)
    twofold = [name for name, found in readings.items() if len(found) == 2 and found["."] != found[","]]
    doubtful = [] if comma else twofold
    if separator == ",":
        # A program that puts commas between cells writes numbers with a point, and a comma may mean anything.
        point += [name for name in twofold if not any("," in cell for cell in columns[name])]
        doubtful = comma + twofold
    if point and comma:
        raise ContractError(
            f"{_describe_cell(file, comma[0], columns)}, but {_describe_cell(file, point[0], columns)}. Say with "
            "--decimal which is the decimal mark, and with --string-columns which column is text."
        )
    if doubtful and not point:
        name = doubtful[0]
        cell = columns[name][_find_cell(columns[name])]
        choices = [
            f"--decimal {mark} if it is {found[0]}" for mark in NUMBERS if (found := _read_numbers([cell], mark))
        ]
        raise ContractError(
            f"{_describe_cell(file, name, columns)}. Say {', '.join(choices)}, or --string-columns {shlex.quote(name)} "
            "if it is text."
        )
    return "," if comma else "."


def _read_numbers(cells: Sequence[str], decimal: str) -> list[str] | None:
    """The cells as Python writes numbers, gaps as they are; None if one is no number with this decimal mark."""
    numbers, marks = [], set()
    for cell in cells:
        text = cell.strip()
        if match := NUMBERS[decimal].fullmatch(text):
            if mark := match["mark"]:
                marks.add(mark)
                text = text.replace(mark, "")
            numbers.append(text if decimal == "." else text.replace(decimal, "."))
        elif text.lower() in MISSING:
            numbers.append(cell)
        else:
            return None
    return numbers if len(marks) < 2 else None


def _find_cell(cells: Sequence[str]) -> int:
    """The row of the cell that says most of the decimal mark: it fits one only, or is two numbers."""
    numbers = [[_read_numbers([cell], mark) for mark in NUMBERS] for cell in cells]
    return min(range(len(cells)), key=lambda row: (None not in numbers[row], numbers[row][0] == numbers[row][1]))


def _describe_cell(file: str, name: str, columns: Mapping[str, list[str]]) -> str:
    row = _find_cell(columns[name])
    return f"row {row + 2} of {file} has {columns[name][row].strip()} in {name}"
