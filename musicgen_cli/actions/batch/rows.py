"""Reads the rows of a batch file, in one of three forms: JSON Lines, CSV with a header, or one prompt a line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import from_json

from musicgen_cli.actions.batch.checked_row import BOOLEANS, COLUMNS, NOT_TEXT, SOUNDS, RowFields, unknown_column
from musicgen_cli.errors import InvalidValueError, UsageError
from musicgen_cli.limits import ROW_BYTES
from musicgen_cli.settings import truth

FORMS = ("jsonl", "csv", "text")
_FORMS_OF_ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv"}
_OTHER_ENDINGS = {".yaml", ".yml", ".toml", ".ini", ".xml", ".html", ".md", ".py", ".sh"}  # text, but no rows
_DELIMITERS = ",;\t|"
_SURROGATE = re.compile("[\ud800-\udfff]")
_SEPARATOR_LINE = re.compile('"?sep=(.)"?', re.IGNORECASE)  # Excel's first line of a CSV file
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_FORMATS = (
    "rows are JSON Lines, CSV with a header, or one prompt a line; `--input-format text` takes each line as a prompt"
)
_BEGINNING_BYTES = 512  # that tell text from anything else
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_CONTROLS_IN_TEXT = 2  # at most, in the beginning of a text

Line = tuple[int, bytes | None]  # number, counted from 1; bytes without line end, None if there are too many


def read_rows(
    file: BinaryIO, form: str | None = None, *, name: str = ""
) -> Iterator[tuple[int, RowFields | InvalidValueError]]:
    """
    Yield the rows with their line numbers; a bad row is yielded as the error that says what is wrong with it.

    Args:
        form: One of FORMS; None: that of the file's ending, else detected from the first line that is neither empty nor
            a comment.
        name: The file's name.

    Raises:
        UsageError: Something is wrong for all rows: the header, or the encoding.
    """
    shown = "the batch file" if name in {"", "-"} else repr(name)
    lines = _lines(file, shown)
    beginning: list[Line] = []
    first = None  # the first line that says something
    size = 0
    for number, line in lines:
        beginning.append((number, line))
        if first is None and (line is None or (line.strip() and not line.lstrip().startswith(b"#"))):
            first = line or b""
        size += len(line or b"") + 1
        if first is not None and size > _BEGINNING_BYTES:
            break
    _check_text(b"\n".join(line or b"" for _, line in beginning), shown)
    if first is None:
        return
    text = first.decode(errors="replace")
    if form is None and (ending := Path(name).suffix.lower()) in _OTHER_ENDINGS:
        raise UsageError(f"{name!r} has the ending {ending!r}, which is no format of rows", hint=_FORMATS)
    if form is None:
        form = _FORMS_OF_ENDINGS.get(Path(name).suffix.lower()) or _form(text)
    if form == "jsonl" and re.fullmatch(r"\s*\[\s*(\{.*)?", text):
        raise UsageError("the rows are one JSON array; JSON Lines has an object a line", hint="jq -c '.[]' FILE")
    if form == "jsonl" and _goes_on(first, [line or b"" for _, line in beginning]):
        raise UsageError("an object goes over several lines; JSON Lines has an object a line", hint="jq -c . FILE")
    read = {"jsonl": _json_rows, "csv": _csv_rows}.get(form, _text_rows)
    yield from read(chain(beginning, lines))


def _check_text(beginning: bytes, name: str) -> None:
    """
    Tell text from anything else.

    Raises:
        UsageError: It is UTF-16, or no text at all.
    """
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError("the rows are UTF-16", hint="iconv -f UTF-16 -t UTF-8; PowerShell: Set-Content -Encoding utf8")
    beginning = beginning[:_BEGINNING_BYTES]
    controls = len(beginning) - len(beginning.translate(None, _CONTROLS))
    if controls > _CONTROLS_IN_TEXT or beginning.startswith(b"%PDF-"):
        raise UsageError(f"{name} is not text", hint="rows are JSON Lines, CSV with a header, or one prompt a line")


def _lines(file: BinaryIO, name: str) -> Iterator[Line]:
    """
    Yield the lines; of one that is too long only that it is.

    Raises:
        UsageError: A line that is too long is no text: it may be as long as a disk.
    """
    for number in count(1):
        line = file.readline(ROW_BYTES + 1)
        if not line:
            return
        is_whole = len(line) <= ROW_BYTES
        if not is_whole:
            _check_text(line, name)
        while not is_whole and line and not line.endswith(b"\n"):
            line = file.readline(ROW_BYTES)
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield number, line.removesuffix(b"\n").removesuffix(b"\r") if is_whole else None


def _form(first: str) -> str:
    """Guess the form by the first line."""
    text = first.strip()
    if text.startswith("{") or re.fullmatch(r"\[\s*(\{.*)?", text):
        return "jsonl"
    if _SEPARATOR_LINE.fullmatch(first):
        return "csv"
    names, _ = _header(text)
    columns = [name for name in names if name in COLUMNS]
    if len(columns) == 1 and columns[0] in SOUNDS:  # `melody, soft piano` is a prompt
        return "text"
    return "csv" if len(columns) > 1 or (columns and (len(names) > 1 or columns == ["prompt"])) else "text"


def _goes_on(first: bytes, beginning: Sequence[bytes]) -> bool:
    """Tell whether the first line is the beginning of an object that goes on in the next one."""
    following = [line.lstrip() for line in beginning[beginning.index(first) + 1 :] if line.strip()]
    if not first.lstrip().startswith(b"{") or not following or following[0].startswith(b"{"):
        return False
    try:
        from_json(first)
    except ValueError:
        with suppress(ValueError):
            return isinstance(from_json(first, allow_partial=True), dict)
    return False


def _json_rows(lines: Iterator[Line]) -> Iterator[tuple[int, RowFields | InvalidValueError]]:
    for number, line in lines:
        if line is None:
            yield number, _too_long()
        elif line.strip() and not line.lstrip().startswith((b"#", b"//")):  # no JSON begins so
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
        elif prompt and not prompt.startswith("#"):
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
    head = (line.strip("\n") for line in source if line.strip() and not line.lstrip().startswith("#"))
    header = next(head, "")
    separator = None
    if is_separator := _SEPARATOR_LINE.fullmatch(header):
        separator, header = is_separator[1], next(head, "")
    names, delimiter = _header(header, separator)
    _check_header(names, delimiter, consumed[-1] if consumed else 1)
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
        if any(cell.strip() for cell in cells):  # spreadsheets write rows without any value
            yield consumed[0], _from_cells(names, cells, delimiter)


def _header(text: str, separator: str | None = None) -> tuple[list[str], str]:
    """Split a CSV header at the delimiter that gives the most known names; return the names and the delimiter."""
    names_by_delimiter = {
        delimiter: [name.strip().strip('"').lower() for name in text.split(delimiter)]
        for delimiter in separator or _DELIMITERS
    }
    best = max(
        names_by_delimiter,
        key=lambda delimiter: (
            sum(name in COLUMNS for name in names_by_delimiter[delimiter]),
            len(names_by_delimiter[delimiter]),
        ),
    )
    return names_by_delimiter[best], best


def _check_header(names: Sequence[str], delimiter: str, line: int) -> None:
    where = f"line {line}, the header" + (f", split at {delimiter!r}" if len(names) > 1 else "")
    unknown = [name for name in names if name not in COLUMNS]
    if len(unknown) == len(names):
        raise UsageError(
            f"{where}: there is no known field in it, got {', '.join(names)[:200]!r}",
            hint=f"the fields are {', '.join(COLUMNS)}; `--input-format text` takes each line as a prompt",
        )
    if unknown:
        raise UsageError(f"{where}: {'; '.join(map(unknown_column, unknown))}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"{where}: {', '.join(sorted(twice))} appears twice")


def _from_cells(names: Sequence[str], cells: Sequence[str], delimiter: str) -> RowFields | InvalidValueError:
    if len(cells) > len(names):
        return InvalidValueError(f"it has {len(cells)} cells, the header {len(names)}")
    if any(_SURROGATE.search(cell) for cell in cells):
        return InvalidValueError("it is not UTF-8")
    return {name: _value(name, cell, delimiter) for name, cell in zip(names, cells, strict=False) if cell.strip()}


def _value(name: str, cell: str, delimiter: str) -> Any:
    if name not in NOT_TEXT:
        return cell
    if name in BOOLEANS:
        return cell if (answer := truth(cell)) is None else answer
    if delimiter != "," and _DECIMAL_COMMA.fullmatch(cell.strip()):  # as spreadsheets of many countries write both
        cell = cell.replace(",", ".")
    try:
        return from_json(cell.strip().lower(), allow_inf_nan=False)  # spreadsheets write TRUE
    except ValueError:
        return cell  # the check of the row reports it


def _too_long() -> InvalidValueError:
    return InvalidValueError(f"it is longer than {ROW_BYTES // 1024} KiB")
