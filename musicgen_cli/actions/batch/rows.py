"""Reads the rows of a batch file, in one of three forms: JSON Lines, CSV with a header, or one prompt a line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import Any, BinaryIO

from pydantic_core import from_json

from musicgen_cli.actions.batch.checked_row import COLUMNS, NOT_TEXT, RowFields, unknown_column
from musicgen_cli.errors import InvalidValueError, UsageError
from musicgen_cli.limits import ROW_BYTES

FORMS = ("jsonl", "csv", "text")
_DELIMITERS = ",;\t"
_SURROGATE = re.compile("[\ud800-\udfff]")

Line = tuple[int, bytes | None]  # number, counted from 1; bytes without line end, None if there are too many


def read_rows(file: BinaryIO, form: str | None = None) -> Iterator[tuple[int, RowFields | InvalidValueError]]:
    """
    Yield the rows with their line numbers; a bad row is yielded as the error that says what is wrong with it.

    Args:
        form: One of FORMS; None: detected from the first line that isn't blank.

    Raises:
        UsageError: Something is wrong for all rows: the header, or the encoding.
    """
    lines = _lines(file)
    blank = []
    for line in lines:
        blank.append(line)
        if line[1] is None or line[1].strip():
            break
    else:
        return
    first = blank[-1][1] or b""
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError("the rows are UTF-16", hint="iconv -f UTF-16 -t UTF-8; PowerShell: Set-Content -Encoding utf8")
    match form or _form(first):
        case "jsonl":
            read = _json_rows
        case "csv":
            read = _csv_rows
        case _:
            read = _text_rows
    yield from read(chain(blank, lines))


def _lines(file: BinaryIO) -> Iterator[Line]:
    for number in count(1):
        line = file.readline(ROW_BYTES + 1)
        if not line:
            return
        is_whole = len(line) <= ROW_BYTES
        while not is_whole and line and not line.endswith(b"\n"):
            line = file.readline(ROW_BYTES)
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield number, line.removesuffix(b"\n").removesuffix(b"\r") if is_whole else None


def _form(first: bytes) -> str:
    text = first.decode(errors="replace").strip()
    if text.startswith("{"):
        return "jsonl"
    if re.fullmatch(r"\[\s*(\{.*)?", text):
        raise UsageError("the rows are one JSON array; JSON Lines has an object a line", hint="jq -c '.[]' FILE")
    names, _ = _header(text)
    columns = [name for name in names if name in COLUMNS]
    return "csv" if len(columns) > 1 or (columns and (len(names) > 1 or columns == ["prompt"])) else "text"


def _json_rows(lines: Iterator[Line]) -> Iterator[tuple[int, RowFields | InvalidValueError]]:
    for number, line in lines:
        if line is None:
            yield number, _too_long()
        elif line.strip():
            yield number, _object(line)


def _object(line: bytes) -> RowFields | InvalidValueError:
    try:
        row = from_json(line.decode(), allow_inf_nan=False)
    except UnicodeDecodeError:
        return InvalidValueError("it is not UTF-8")
    except ValueError as err:
        return InvalidValueError(f"it is not one whole JSON object: {err}".replace(" at line 1 column", " at column"))
    return row if isinstance(row, dict) else InvalidValueError("it is not a JSON object")


def _text_rows(lines: Iterator[Line]) -> Iterator[tuple[int, RowFields | InvalidValueError]]:
    for number, line in lines:
        try:
            prompt = None if line is None else line.decode().strip()
        except UnicodeDecodeError:
            yield number, InvalidValueError("it is not UTF-8")
            continue
        if prompt is None:
            yield number, _too_long()
        elif prompt:
            yield number, {"prompt": prompt}


def _csv_rows(lines: Iterator[Line]) -> Iterator[tuple[int, RowFields | InvalidValueError]]:
    consumed: list[int] = []  # the numbers of the lines that the CSV reader has read for one row
    too_long: list[int] = []

    def decoded() -> Iterator[str]:
        for number, line in lines:
            if line is None:
                too_long.append(number)
            else:
                consumed.append(number)
                yield line.decode(errors="surrogateescape") + "\n"

    source = decoded()
    header = next((line for line in source if line.strip()), "")
    last = consumed[-1] if consumed else 1
    names, delimiter = _header(header.strip("\n"))
    if wrong := [unknown_column(name) for name in names if name not in COLUMNS]:
        raise UsageError(f"line {last}, the header: {'; '.join(wrong)}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"line {last}, the header: {', '.join(sorted(twice))} appears twice")
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        consumed.clear()
        try:
            cells = next(reader, None)
        except csv.Error as err:
            yield consumed[0], InvalidValueError(f"it is not CSV: {err}")
            continue
        while too_long:
            yield too_long.pop(0), _too_long()
        if cells is None:
            return
        if cells:
            yield consumed[0], _from_cells(names, cells)


def _header(text: str) -> tuple[list[str], str]:
    """Split a CSV header at the delimiter that gives the most known names; return the names and the delimiter."""
    names_by_delimiter = {
        delimiter: [name.strip().strip('"').lower() for name in text.split(delimiter)] for delimiter in _DELIMITERS
    }
    best = max(names_by_delimiter, key=lambda delimiter: sum(name in COLUMNS for name in names_by_delimiter[delimiter]))
    return names_by_delimiter[best], best


def _from_cells(names: Sequence[str], cells: Sequence[str]) -> RowFields | InvalidValueError:
    if len(cells) > len(names):
        return InvalidValueError(f"it has {len(cells)} cells, the header {len(names)}")
    if any(_SURROGATE.search(cell) for cell in cells):
        return InvalidValueError("it is not UTF-8")
    return {name: _value(name, cell) for name, cell in zip(names, cells, strict=False) if cell.strip()}


def _value(name: str, cell: str) -> Any:
    if name not in NOT_TEXT:
        return cell
    try:
        return from_json(cell.strip().lower(), allow_inf_nan=False)  # spreadsheets write TRUE
    except ValueError:
        return cell  # the check of the row reports it


def _too_long() -> InvalidValueError:
    return InvalidValueError(f"it is longer than {ROW_BYTES // 1024} KiB")
