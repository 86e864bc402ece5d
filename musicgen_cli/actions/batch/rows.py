"""The lines of a batch file, in three forms: JSON Lines, CSV with a header, one prompt a line."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import Any, BinaryIO

from pydantic_core import from_json

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError, UsageError
from musicgen_cli.limits import ROW_BYTES

FORMS = ("jsonl", "csv", "text")
FIELDS = (
    *GenerateRequest.model_fields,
    *("tags", "creator", "parent_id", "variation_set_id", "variation_index", "variations", "output", "occurrence"),
)

_NOT_TEXT = frozenset(  # what a CSV cell must be turned into
    {name for name, field in GenerateRequest.model_fields.items() if field.annotation in {int, float, bool, int | None}}
    | {"variation_index", "variations", "occurrence"}
)
_DELIMITERS = ",;\t"
_SURROGATE = re.compile("[\ud800-\udfff]")

Row = dict[str, Any]  # field → value as it was given
Line = tuple[int, bytes | None]  # number, counted from 1; bytes without line end, None if there are too many


def read_rows(file: BinaryIO, form: str | None = None) -> Iterator[tuple[int, Row | InvalidValueError]]:
    """
    Yield the rows with their line numbers; a bad one is yielded as what is wrong with it.

    Args:
        form: Of FORMS; None finds out from the first line that isn't blank.

    Raises:
        UsageError: What holds for all rows is wrong: the header, or the encoding.
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


def unknown_field(name: str) -> str:
    """Say that there is no such field, and which one may be meant."""
    nearest = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0)[0]
    return f"unknown field {name[:40]!r}, the nearest known one is {nearest!r}"


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
    known = [name for name in names if name in FIELDS]
    return "csv" if len(known) > 1 or (known and (len(names) > 1 or known == ["prompt"])) else "text"


def _json_rows(lines: Iterator[Line]) -> Iterator[tuple[int, Row | InvalidValueError]]:
    for number, line in lines:
        if line is None:
            yield number, _too_long()
        elif line.strip():
            yield number, _object(line)


def _object(line: bytes) -> Row | InvalidValueError:
    try:
        row = from_json(line.decode(), allow_inf_nan=False)
    except UnicodeDecodeError:
        return InvalidValueError("it is not UTF-8")
    except ValueError as err:
        return InvalidValueError(f"it is not one whole JSON object: {err}".replace(" at line 1 column", " at column"))
    return row if isinstance(row, dict) else InvalidValueError("it is not a JSON object")


def _text_rows(lines: Iterator[Line]) -> Iterator[tuple[int, Row | InvalidValueError]]:
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


def _csv_rows(lines: Iterator[Line]) -> Iterator[tuple[int, Row | InvalidValueError]]:
    eaten: list[int] = []  # the numbers of the lines that the reader took for one row
    too_long: list[int] = []

    def fed() -> Iterator[str]:
        for number, line in lines:
            if line is None:
                too_long.append(number)
            else:
                eaten.append(number)
                yield line.decode(errors="surrogateescape") + "\n"

    feed = fed()
    header = next((line for line in feed if line.strip()), "")
    last = eaten[-1] if eaten else 1
    names, delimiter = _header(header.strip("\n"))
    if wrong := [unknown_field(name) for name in names if name not in FIELDS]:
        raise UsageError(f"line {last}, the header: {'; '.join(wrong)}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"line {last}, the header: {', '.join(sorted(twice))} stands there twice")
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        eaten.clear()
        try:
            cells = next(reader, None)
        except csv.Error as err:
            yield eaten[0], InvalidValueError(f"it is not CSV: {err}")
            continue
        while too_long:
            yield too_long.pop(0), _too_long()
        if cells is None:
            return
        if cells:
            yield eaten[0], _from_cells(names, cells)


def _header(text: str) -> tuple[list[str], str]:
    """Split a CSV header at the delimiter that makes most sense; return the names and the delimiter."""
    split = {each: [name.strip().strip('"').lower() for name in text.split(each)] for each in _DELIMITERS}
    delimiter = max(split, key=lambda each: sum(name in FIELDS for name in split[each]))
    return split[delimiter], delimiter


def _from_cells(names: Sequence[str], cells: Sequence[str]) -> Row | InvalidValueError:
    if len(cells) > len(names):
        return InvalidValueError(f"it has {len(cells)} cells, the header {len(names)}")
    if any(_SURROGATE.search(cell) for cell in cells):
        return InvalidValueError("it is not UTF-8")
    return {name: _value(name, cell) for name, cell in zip(names, cells, strict=False) if cell.strip()}


def _value(name: str, cell: str) -> Any:
    if name not in _NOT_TEXT:
        return cell
    try:
        return from_json(cell.strip().lower(), allow_inf_nan=False)  # spreadsheets write TRUE
    except ValueError:
        return cell  # whoever checks the field says what it must be


def _too_long() -> InvalidValueError:
    return InvalidValueError(f"it is longer than {ROW_BYTES // 1024} KiB")
