"""
The takes of a batch, expanded from its rows and numbered, on disk.

They are kept in a temporary SQLite file, so that a million of them take no memory. The system removes the file when the
process ends, however that happens.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from musicgen_cli.actions.bars import overridden
from musicgen_cli.actions.batch.checked_row import CheckedRow, RowFields, listed_tags
from musicgen_cli.actions.batch.outputs import absolute, below
from musicgen_cli.actions.batch.sweep import Sweep
from musicgen_cli.actions.library.loops import LoopOptions
from musicgen_cli.actions.source_finder import SourceFinder
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError, MusicgenError, UsageError
from musicgen_cli.limits import BATCH_TAKES, TAGS

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # `json.dumps` would make one for each row
_OF_LOOPS = {"loop", "bars", "bpm"}
_REPORTED = 10_000  # takes: after so many, the progress is reported again
_CACHE_KIB = 16 * 1024  # SQLite's page cache
_TABLES = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE row(
        id INTEGER PRIMARY KEY, line INTEGER, parent TEXT, variation_set TEXT, has_output INTEGER, checked TEXT
    );
    CREATE TABLE take(
        id INTEGER PRIMARY KEY, row INTEGER, combination INTEGER, variation INTEGER,
        request BLOB, occurrence INTEGER, is_stored INTEGER DEFAULT 0
    );
    CREATE UNIQUE INDEX same ON take(request, occurrence);
    CREATE TABLE file(path TEXT PRIMARY KEY, line INTEGER, output TEXT) WITHOUT ROWID;
    BEGIN;
"""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """
    One take of a batch.

    `occurrence` numbers the takes with the same request from 0. Together with the request it identifies the take from
    one run to the next, wherever in the file its row stands.
    """

    number: int
    line: int
    request: GenerateRequest  # without a seed unless one was given
    key: bytes  # of the request
    occurrence: int
    row: CheckedRow
    siblings: tuple[bytes, int] | None  # key and occurrence of the first variation of a row that asks for several
    variation: int

    def as_row(self) -> RowFields:
        """Return a row that asks for just this take and needs no defaults."""
        row = {
            "prompt": self.request.prompt,
            **self.request.params,
            "client_job_id": self.request.client_job_id,
            "tags": [tag for tag in self.row.tags if tag not in TAGS] or None,
            "creator": self.row.creator,
            "parent_id": self.row.parent_id,
            "variation_set_id": self.row.variation_set_id,
            "variation_index": self.row.variation_index,
            **({} if self.row.sounds.source is None else {"continue": self.row.sounds.source.name}),
            **({} if self.row.sounds.melody is None else {"melody": self.row.sounds.melody.name}),
            "overlap": self.row.sounds.overlap,
            "output": None if self.row.output is None else absolute(self.row.output),
            **({} if self.row.loop is None else {"loop": True, **asdict(self.row.loop)}),
            "occurrence": self.occurrence or None,
        }
        return {name: value for name, value in row.items() if value is not None}


class Worklist:
    """
    Every take of every row.

    Args:
        defaults: For columns that a row doesn't have; `tags` are added to the row's own, and a row's own `output` is
            below that of the defaults.
        sweep: Multiplies each row; its values take precedence over the row's.
        finder: Finds the sounds that rows name.
        on_added: Called with the number of takes so far, every 10,000 of them: a sweep may have millions.

    Raises:
        UsageError: The defaults are invalid.
    """

    def __init__(
        self,
        defaults: RowFields,
        sweep: Sweep,
        finder: SourceFinder,
        on_added: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.finder = finder
        self._defaults = defaults
        self._sweep = sweep
        self._on_added = on_added
        self._digest = blake2b(digest_size=16)
        self.takes = 0
        self.audio_s = 0.0  # of all takes, whether or not they are stored
        _check_defaults(defaults, sweep, finder)
        self._db = sqlite3.connect("")  # a file without a name
        self._db.executescript(f"PRAGMA cache_size = -{_CACHE_KIB};{_TABLES}")

    def add(self, line: int, row: RowFields) -> None:
        """
        Check one row and add its takes.

        Raises:
            InvalidValueError: The row is invalid, and none of its takes is added; the message lists all that is wrong.
            UsageError: There are too many takes.
            MusicgenError: The disk with the temporary files is full.
        """
        complete = self._with_defaults(row)
        rows = [CheckedRow.check(complete | sounds, self._sweep, self.finder) for sounds in self._sweep.sounds]
        if self.takes + (count := self._sweep.requests * sum(each.variations for each in rows)) > BATCH_TAKES:
            raise UsageError(f"a batch has at most {BATCH_TAKES:,} takes, with line {line} there would be more")
        with _explained():
            self._refuse_duplicate(rows[0])
            for checked in rows:
                self._add(line, checked)
        self.audio_s += count * rows[0].request(self._sweep, 0, 0).duration

    def _add(self, line: int, checked: CheckedRow) -> None:
        if checked.file is not None:
            self._db.execute("INSERT INTO file VALUES (?, ?, ?)", (checked.file, line, checked.output))
        inserted = self._db.execute(
            "INSERT INTO row(line, parent, variation_set, has_output, checked) VALUES (?, ?, ?, ?, ?)",
            (line, checked.parent_id, checked.variation_set_id, checked.output is not None, checked.to_json()),
        )
        for combination in range(self._sweep.requests):
            for variation in range(checked.variations):
                key = _key(checked, checked.request(self._sweep, combination, variation))
                occurrence = self._next(key) if checked.occurrence is None else checked.occurrence
                self._db.execute(
                    "INSERT INTO take(row, combination, variation, request, occurrence) VALUES (?, ?, ?, ?, ?)",
                    (inserted.lastrowid, combination, variation, key, occurrence),
                )
                self._digest.update(key + b"%d\n" % occurrence)
                self.takes += 1
                if self.takes % _REPORTED == 0:
                    self._on_added(self.takes)

    @property
    def digest(self) -> bytes:
        """Identifies all the takes together."""
        return self._digest.digest()

    def parents(self) -> set[str]:
        """Return the takes that rows name as their parents, as they name them."""
        rows = self._db.execute("SELECT DISTINCT parent FROM row WHERE parent IS NOT NULL")
        return {parent for (parent,) in rows}

    def sets(self) -> set[str]:
        """Return the variation sets that rows name."""
        rows = self._db.execute("SELECT DISTINCT variation_set FROM row WHERE variation_set IS NOT NULL")
        return {variation_set for (variation_set,) in rows}

    def drop(self, parent: str) -> list[int]:
        """Remove the rows with a parent; return their lines."""
        with _explained():
            rows = self._db.execute("SELECT line FROM row WHERE parent = ? ORDER BY id", (parent,))
            lines = [line for (line,) in rows]
            removed = self._db.execute("DELETE FROM take WHERE row IN (SELECT id FROM row WHERE parent = ?)", (parent,))
            self._db.execute("DELETE FROM row WHERE parent = ?", (parent,))
        self.takes -= removed.rowcount
        return lines

    def mark_stored(self, key: bytes, occurrence: int) -> BatchItem | None:
        """Mark a take as stored; return it if its row has an output, as the export may still be missing."""
        with _explained():
            changed = self._db.execute(
                "UPDATE take SET is_stored = 1 WHERE request = ? AND occurrence = ? AND NOT is_stored",
                (key, occurrence),
            )
            if not changed.rowcount:
                return None
            condition = "request = ? AND occurrence = ? AND has_output"
            return next(self._select(condition, (key, occurrence)), None)

    def missing(self) -> int:
        """Count the takes that are not stored."""
        ((count,),) = self._db.execute("SELECT count(*) FROM take WHERE NOT is_stored")
        return int(count)

    def __iter__(self) -> Iterator[BatchItem]:
        """Yield the takes that are not stored, in the order of their rows."""
        return self._select("NOT is_stored")

    def close(self) -> None:
        """Remove the temporary file."""
        self._db.close()

    def _select(self, condition: str, values: tuple[Any, ...] = ()) -> Iterator[BatchItem]:
        takes = self._db.execute(
            "SELECT take.id, row.id, line, checked, combination, variation, request, occurrence"  # noqa: S608  # the condition is a constant
            f" FROM take JOIN row ON row.id = take.row WHERE {condition} ORDER BY take.id",
            values,
        )
        last_row_id, row = None, None
        for number, row_id, line, checked, combination, variation, key, occurrence in takes:
            if row is None or row_id != last_row_id:  # takes of one row come one after the other
                last_row_id, row = row_id, CheckedRow.from_json(checked)
            siblings = None
            if row.variations > 1:
                first = "SELECT request, occurrence FROM take WHERE id = ?"
                (siblings,) = self._db.execute(first, (number - variation,))
            yield BatchItem(
                number=number,
                line=line,
                request=row.request(self._sweep, combination, variation),
                key=key,
                occurrence=occurrence,
                row=row,
                siblings=siblings,
                variation=variation,
            )

    def _with_defaults(self, row: RowFields) -> RowFields:
        values = {name: value for name, value in row.items() if value is not None}
        complete = overridden(self._defaults, values, loop=bool(values.get("loop", self._defaults.get("loop"))))
        if "continue" in values and "parent_id" not in values:
            complete.pop("parent_id", None)  # the row says itself where its takes come from
        for name, other in (("continue", "melody"), ("melody", "continue")):
            if name in values and other not in values:
                complete.pop(other, None)
        if isinstance(values.get("output"), str) and self._defaults.get("output"):
            complete["output"] = below(self._defaults["output"], values["output"])
        if "tags" in values and self._defaults.get("tags"):
            complete["tags"] = [*self._defaults["tags"], *listed_tags(values["tags"])]
        return complete

    def _next(self, key: bytes) -> int:
        ((last,),) = self._db.execute("SELECT max(occurrence) FROM take WHERE request = ?", (key,))
        return 0 if last is None else int(last) + 1

    def _refuse_duplicate(self, checked: CheckedRow) -> None:
        if checked.file is not None:
            for line, output in self._db.execute("SELECT line, output FROM file WHERE path = ?", (checked.file,)):
                is_other_case = output != checked.output and output.casefold() == str(checked.output).casefold()
                where = f", {output!r}, on a disk that ignores case" if is_other_case else ""
                raise InvalidValueError(f"output {checked.output!r} is also that of line {line}{where}")
        if checked.occurrence is not None:
            same = (_key(checked, checked.request(self._sweep, 0, 0)), checked.occurrence)
            query = "SELECT line FROM take JOIN row ON row.id = take.row WHERE request = ? AND occurrence = ?"
            for (line,) in self._db.execute(query, same):
                raise InvalidValueError(f"line {line} has the same request and the same occurrence")


def _check_defaults(defaults: RowFields, sweep: Sweep, finder: SourceFinder) -> None:
    """
    Check the defaults of rows; a tempo for `bars` and an output for `loop` may come from the rows.

    Raises:
        UsageError: They are invalid.
    """
    plain = {name: value for name, value in defaults.items() if name not in _OF_LOOPS}
    for sounds in sweep.sounds:
        CheckedRow.check(plain | sounds, sweep, finder)
    LoopOptions(defaults.get("bpm"), defaults.get("bars"))
    if not defaults.get("loop") and {"bars", "duration"} <= defaults.keys():
        raise UsageError("bars and duration contradict each other: both are the length")


def _key(row: CheckedRow, request: GenerateRequest) -> bytes:
    canonical = _CANONICAL.encode({"prompt": request.prompt, **request.params, **row.sounds.hashes})
    return blake2b(canonical.encode(), digest_size=16).digest()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as err:
        raise MusicgenError(f"can't keep the rows: {err}", hint="SQLITE_TMPDIR names another folder for them") from err
