"""
The takes that a batch asks for: checked, multiplied and numbered, on disk.

They are kept in a temporary SQLite file, so a million of them take no memory; the system removes it when the process
ends, however that happens.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from musicgen_cli.actions.batch.rows import FIELDS, Row, unknown_field
from musicgen_cli.actions.batch.sweep import Sweep
from musicgen_cli.actions.library.export import target
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError, MusicgenError, UsageError
from musicgen_cli.limits import BATCH_TAKES, CREATOR, SEED, TAGS, TAGS_EACH, VARIATIONS
from musicgen_cli.settings import label
from musicgen_cli.store import check_tag

_DEFAULT = GenerateRequest()
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # `json.dumps` would make one for each row
_WHOLE = ("variation_index", "occurrence")
_CACHE_KIB = 16 * 1024  # of SQLite's own
_TABLES = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE row(
        id INTEGER PRIMARY KEY, line INTEGER, parent TEXT, variation_set TEXT, has_output INTEGER, said TEXT
    );
    CREATE TABLE take(
        id INTEGER PRIMARY KEY, row INTEGER, combination INTEGER, variation INTEGER,
        request BLOB, occurrence INTEGER, is_there INTEGER DEFAULT 0
    );
    CREATE UNIQUE INDEX same ON take(request, occurrence);
    CREATE TABLE file(path TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID;
    BEGIN;
"""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """
    One take to be made.

    `occurrence` numbers the takes with the same request from 0; together with the request it tells them apart from one
    run to the next, wherever in the file their rows stand.
    """

    number: int
    line: int
    request: GenerateRequest  # without a seed unless one was given
    key: bytes  # of the request
    occurrence: int
    tags: tuple[str, ...]
    creator: str
    parent: str | None
    variation_set_id: str | None
    variation_index: int | None
    siblings: tuple[bytes, int] | None  # key and occurrence of the first variation of a row that asks for several
    variation: int
    output: str | None

    def as_row(self) -> Row:
        """Return a row that asks for just this take, with all defaults of its own."""
        said = {
            "prompt": self.request.prompt,
            **self.request.params,
            "client_job_id": self.request.client_job_id,
            "tags": [tag for tag in self.tags if tag not in TAGS] or None,
            "creator": self.creator,
            "parent_id": self.parent,
            "variation_set_id": self.variation_set_id,
            "variation_index": self.variation_index,
            "output": self.output,
            "occurrence": self.occurrence or None,
        }
        return {name: value for name, value in said.items() if value is not None}


class Worklist:
    """
    Every take of every row.

    Args:
        defaults: For fields that a row doesn't give; `tags` are for each row, beside its own.
        sweep: Multiplies each row; its values go before the row's.

    Raises:
        InvalidValueError: Something is wrong with the defaults.
    """

    def __init__(self, defaults: Row, sweep: Sweep) -> None:
        self._defaults = defaults
        self._sweep = sweep
        self._db = sqlite3.connect("")  # a file without a name
        self._db.executescript(f"PRAGMA cache_size = -{_CACHE_KIB};{_TABLES}")
        self._digest = blake2b(digest_size=16)
        self.takes = 0
        self.audio_s = 0.0  # all that is wanted, whether or not it is there
        _Checked(defaults, sweep)

    def add(self, line: int, row: Row) -> None:
        """
        Check one row and keep it.

        Raises:
            InvalidValueError: Something is wrong with it, and nothing of it is kept; the message names all of that.
            UsageError: There are too many takes.
            MusicgenError: The disk with the temporary files is full.
        """
        said = {name: value for name, value in row.items() if value is not None}
        checked = _Checked(self._whole(said), self._sweep)
        count = self._sweep.size * checked.variations
        if self.takes + count > BATCH_TAKES:
            raise UsageError(f"a batch has at most {BATCH_TAKES:,} takes, with line {line} there would be more")
        with _explained():
            self._refuse_double(checked)
            if checked.file is not None:
                self._db.execute("INSERT INTO file VALUES (?, ?)", (checked.file, line))
            found = self._db.execute(
                "INSERT INTO row(line, parent, variation_set, has_output, said) VALUES (?, ?, ?, ?, ?)",
                (line, checked.parent, checked.variation_set_id, checked.output is not None, _CANONICAL.encode(said)),
            )
            for combination in range(self._sweep.size):
                for variation in range(checked.variations):
                    key = _key(checked.request(combination, variation))
                    occurrence = self._next(key) if checked.occurrence is None else checked.occurrence
                    self._db.execute(
                        "INSERT INTO take(row, combination, variation, request, occurrence) VALUES (?, ?, ?, ?, ?)",
                        (found.lastrowid, combination, variation, key, occurrence),
                    )
                    self._digest.update(key + b"%d\n" % occurrence)
        self.takes += count
        self.audio_s += count * checked.request(0, 0).duration

    @property
    def digest(self) -> bytes:
        """What all the takes together are."""
        return self._digest.digest()

    def parents(self) -> set[str]:
        """Return the takes that rows name as their parents, as they name them."""
        found = self._db.execute("SELECT DISTINCT parent FROM row WHERE parent IS NOT NULL")
        return {parent for (parent,) in found}

    def sets(self) -> set[str]:
        """Return the variation sets that rows name."""
        found = self._db.execute("SELECT DISTINCT variation_set FROM row WHERE variation_set IS NOT NULL")
        return {variation_set for (variation_set,) in found}

    def drop(self, parent: str) -> list[int]:
        """Forget the rows with a parent; return their lines."""
        with _explained():
            found = self._db.execute("SELECT line FROM row WHERE parent = ? ORDER BY id", (parent,))
            lines = [line for (line,) in found]
            gone = self._db.execute("DELETE FROM take WHERE row IN (SELECT id FROM row WHERE parent = ?)", (parent,))
            self._db.execute("DELETE FROM row WHERE parent = ?", (parent,))
        self.takes -= gone.rowcount
        return lines

    def found(self, key: bytes, occurrence: int) -> BatchItem | None:
        """Note that a take is there; return it if its row names an output, for that may still be missing."""
        with _explained():
            changed = self._db.execute(
                "UPDATE take SET is_there = 1 WHERE request = ? AND occurrence = ? AND NOT is_there", (key, occurrence)
            )
            if not changed.rowcount:
                return None
            where = "request = ? AND occurrence = ? AND has_output"
            return next(self._select(where, (key, occurrence)), None)

    def missing(self) -> int:
        """Count the takes that are not there."""
        ((count,),) = self._db.execute("SELECT count(*) FROM take WHERE NOT is_there")
        return int(count)

    def __iter__(self) -> Iterator[BatchItem]:
        """Yield the takes that are not there, in the order of their rows."""
        return self._select("NOT is_there")

    def close(self) -> None:
        """Remove the temporary file."""
        self._db.close()

    def _select(self, where: str, values: tuple[Any, ...] = ()) -> Iterator[BatchItem]:
        found = self._db.execute(
            "SELECT take.id, line, said, combination, variation, request, occurrence"  # noqa: S608  # ours alone
            f" FROM take JOIN row ON row.id = take.row WHERE {where} ORDER BY take.id",
            values,
        )
        for number, line, said, combination, variation, key, occurrence in found:
            checked = _Checked(self._whole(json.loads(said)), self._sweep)
            siblings = None
            if checked.variations > 1:
                first = "SELECT request, occurrence FROM take WHERE id = ?"
                (siblings,) = self._db.execute(first, (number - variation,))
            yield BatchItem(
                number=number,
                line=line,
                request=checked.request(combination, variation),
                key=key,
                occurrence=occurrence,
                tags=checked.tags,
                creator=checked.creator,
                parent=checked.parent,
                variation_set_id=checked.variation_set_id,
                variation_index=checked.variation_index,
                siblings=siblings,
                variation=variation,
                output=checked.output,
            )

    def _whole(self, said: Row) -> Row:
        whole = self._defaults | said
        if "tags" in said and self._defaults.get("tags"):
            whole["tags"] = [*self._defaults["tags"], *_listed(said["tags"])]
        return whole

    def _next(self, key: bytes) -> int:
        ((last,),) = self._db.execute("SELECT max(occurrence) FROM take WHERE request = ?", (key,))
        return 0 if last is None else int(last) + 1

    def _refuse_double(self, checked: _Checked) -> None:
        if checked.file is not None:
            for (line,) in self._db.execute("SELECT line FROM file WHERE path = ?", (checked.file,)):
                raise InvalidValueError(f"output {checked.output!r} is that of line {line}, too")
        if checked.occurrence is not None:
            same = (_key(checked.request(0, 0)), checked.occurrence)
            where = "JOIN row ON row.id = take.row WHERE request = ? AND occurrence = ?"
            for (line,) in self._db.execute(f"SELECT line FROM take {where}", same):  # noqa: S608  # ours alone
                raise InvalidValueError(f"line {line} has the same request and the same occurrence")


class _Checked:
    """A row found to be good."""

    def __init__(self, row: Row, sweep: Sweep) -> None:
        wrong = [unknown_field(name) for name in row if name not in FIELDS]
        values = {name: row[name] for name in GenerateRequest.model_fields if name in row}
        self._sweep = sweep
        self._first = _DEFAULT
        try:
            self._first = GenerateRequest.checked(values | sweep[0])
        except InvalidValueError:
            wrong += _each_wrong(values | sweep[0])
        self.tags: tuple[str, ...] = ()
        self.creator = str(row.get("creator", CREATOR))
        self.parent: str | None = row.get("parent_id")
        self.variation_set_id: str | None = row.get("variation_set_id")
        self.output: str | None = row.get("output")
        numbers: dict[str, int | None] = {}
        for name in _WHOLE:
            value = numbers[name] = row.get(name)
            if value is not None and (type(value) is not int or value not in SEED):
                wrong.append(f"{name} must be a whole number, 0 or more, got {value!r:.40}")
        self.variation_index, self.occurrence = numbers["variation_index"], numbers["occurrence"]
        self.variations = row.get("variations", 1)
        if type(self.variations) is not int or self.variations not in VARIATIONS:
            wrong.append(f"variations must be a whole number, {VARIATIONS}, got {self.variations!r:.40}")
            self.variations = 1
        many = self.variations * sweep.size > 1
        if many:
            wrong += [f"{name} is for a row of one take" for name in _WHOLE if numbers[name] is not None]
        if self._first.seed is not None and self._first.seed + self.variations - 1 not in SEED:
            wrong.append(f"seed must be {SEED} for every variation, got {self._first.seed}")
        for name in ("creator", "parent_id", "variation_set_id", "output"):
            if not isinstance(row.get(name, ""), str):
                wrong.append(f"{name} must be text, got {row[name]!r:.40}")
        self.file: str | None = None
        if not wrong:
            try:
                self._check_words(row, many=many)
            except MusicgenError as err:
                wrong.append(str(err))
        if wrong:
            raise InvalidValueError("; ".join(wrong))

    def request(self, combination: int, variation: int) -> GenerateRequest:
        """Return the request of one take."""
        changes = self._sweep[combination]
        seed = changes.get("seed", self._first.seed)
        if seed is not None and variation:
            changes["seed"] = seed + variation
        return self._first.model_copy(update=changes) if changes else self._first

    def _check_words(self, row: Row, *, many: bool) -> None:
        self.tags = tuple(dict.fromkeys((*TAGS, *(check_tag(tag) for tag in _listed(row.get("tags", ()))))))
        if len(self.tags) > TAGS_EACH:
            raise InvalidValueError(f"a take can have {TAGS_EACH} tags, got {len(self.tags)}")
        label("creator", self.creator)
        if self.variation_set_id is not None:
            label("variation_set_id", self.variation_set_id)
        if self.output is not None:
            where = target(self.output, many=many, force=True)
            self.file = None if where.is_folder else os.path.abspath(self.output)  # noqa: PTH100  # follows no link


def _listed(tags: Any) -> list[str]:
    """Return tags as a list; a text has commas between them, which no tag can hold."""
    if isinstance(tags, str):
        return [tag for piece in tags.split(",") if (tag := piece.strip())]
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidValueError(f"tags must be a list of texts, got {tags!r:.40}")
    return [*tags]


def _each_wrong(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        try:
            GenerateRequest.checked({name: value})
        except InvalidValueError as err:
            yield str(err)


def _key(request: GenerateRequest) -> bytes:
    said = _CANONICAL.encode({"prompt": request.prompt, **request.params})
    return blake2b(said.encode(), digest_size=16).digest()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as err:
        raise MusicgenError(f"can't keep the rows: {err}", hint="SQLITE_TMPDIR names another folder for them") from err
