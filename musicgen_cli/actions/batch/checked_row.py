"""
The columns that a row of a batch can have, and the check of a row.

The columns are the fields of a request, members of the record of its takes, and where these are exported to.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from musicgen_cli.actions.bars import overridden, with_duration
from musicgen_cli.actions.batch.sweep import Sweep
from musicgen_cli.actions.generate import all_tags
from musicgen_cli.actions.library.export import resolve_target
from musicgen_cli.actions.library.loops import LoopOptions
from musicgen_cli.actions.source_finder import Sounds, Source, SourceFinder, sound_options
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError, MusicgenError, UsageError
from musicgen_cli.limits import CREATOR, SEED, VARIATIONS
from musicgen_cli.request_fields import FIELDS, LENGTH_FIELDS, SOUND_FIELDS
from musicgen_cli.settings import label
from musicgen_cli.store.store import LAST
from musicgen_cli.text import as_whole, nearest

RowFields = dict[str, Any]  # column → value as it was given

SOUNDS = tuple(field.name for field in SOUND_FIELDS)
_SOURCES = tuple(field.name for field in SOUND_FIELDS if field.type is str)
_TEXTS = ("creator", "parent_id", "variation_set_id", "output", *_SOURCES)
_NUMBERS = ("variation_index", "occurrence")  # they concern a row of one take
COLUMNS = (
    *(field.name for field in (*FIELDS, *LENGTH_FIELDS)),
    *SOUNDS,
    "tags",
    *_TEXTS[:3],
    "variation_index",
    "variations",
    "output",
    "loop",
    "occurrence",
)
NOT_TEXT = frozenset(  # columns whose cells in a CSV file are numbers or booleans
    {field.name for field in (*FIELDS, *LENGTH_FIELDS, *SOUND_FIELDS) if field.type is not str}
    | {*_NUMBERS, "variations", "loop"}
)
BOOLEANS = frozenset({field.name for field in FIELDS if field.type is bool} | {"loop"})


def unknown_column(name: str) -> str:
    """Say that there is no such column, and which one may be meant."""
    return f"unknown field {name[:40]!r}, {nearest(name[:40], COLUMNS)}"


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row that was checked, with the defaults of its batch."""

    first: GenerateRequest  # of its first combination and variation; without a seed unless one was given
    tags: tuple[str, ...]  # all of them
    creator: str
    parent_id: str | None
    variation_set_id: str | None
    variation_index: int | None
    variations: int
    output: str | None
    loop: LoopOptions | None  # how its file is cut; None: it holds the whole take
    occurrence: int | None
    sounds: Sounds  # that its takes are made from

    @classmethod
    def check(cls, row: RowFields, sweep: Sweep, finder: SourceFinder) -> CheckedRow:
        """
        Check a row.

        Args:
            sweep: Whose parameters multiply it.
            finder: Finds the sounds that it names.

        Raises:
            InvalidValueError: The row is invalid; the message lists everything that is wrong.
        """
        wrong = [unknown_column(name) for name in row if name not in COLUMNS]
        sounds = Sounds()
        try:
            sounds = _sounds(row, finder)
        except MusicgenError as err:
            wrong.append(str(err))
        if sounds.source is not None:
            row = overridden(sounds.source.fields, row)
        row = row | {name: as_whole(row[name]) for name in (*_NUMBERS, "variations") if name in row}
        fields = {field.name: row[field.name] for field in (*FIELDS, *LENGTH_FIELDS) if field.name in row} | sweep[0]
        loop: LoopOptions | None = None
        try:
            loop = _loop(row)
            fields, _ = with_duration(fields, loop=loop is not None)
        except UsageError as err:
            wrong.append(str(err))
        first = GenerateRequest()
        try:
            first = GenerateRequest.checked(fields)
        except InvalidValueError:
            wrong += _field_errors(fields)
        else:
            wrong += _context_errors(sounds, first)
        for name in _NUMBERS:
            value = row.get(name)
            if value is not None and (type(value) is not int or value not in SEED):
                wrong.append(f"{name} must be a whole number, 0 or more, got {value!r:.40}")
        variations = row.get("variations", 1)
        if type(variations) is not int or variations not in VARIATIONS:
            wrong.append(f"variations must be a whole number, {VARIATIONS}, got {variations!r:.40}")
            variations = 1
        has_several = variations * sweep.size > 1
        if has_several:
            wrong += [f"{name} is for a row of one take" for name in _NUMBERS if row.get(name) is not None]
        if first.seed is not None and first.seed + variations - 1 not in SEED:
            wrong.append(f"seed must be {SEED} for every variation, got {first.seed}")
        for name in _TEXTS:
            if not isinstance(row.get(name, ""), str):
                wrong.append(f"{name} must be text, got {row[name]!r:.40}")
        tags: tuple[str, ...] = ()
        if not wrong:
            try:
                tags = _checked_texts(row, has_several=has_several)
            except MusicgenError as err:
                wrong.append(str(err))
        if wrong:
            raise InvalidValueError("; ".join(wrong))
        return cls(
            first=first,
            tags=tags,
            creator=row.get("creator", CREATOR),
            parent_id=row.get("parent_id"),
            variation_set_id=row.get("variation_set_id"),
            variation_index=row.get("variation_index"),
            variations=variations,
            output=row.get("output"),
            loop=loop,
            occurrence=row.get("occurrence"),
            sounds=sounds,
        )

    @property
    def file(self) -> str | None:
        """
        What identifies the file that its take is exported to; None if it has none, or a folder.

        It is the path without linked folders, in one of the spellings that are one file to macOS and Windows.
        """
        if self.output is None or resolve_target(self.output, force=True).is_folder:
            return None
        folder, name = os.path.split(self.output)
        path = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118  # a link of that name would be replaced
        return unicodedata.normalize("NFC", path.casefold())

    def request(self, sweep: Sweep, combination: int, variation: int) -> GenerateRequest:
        """Return the request of one of its takes."""
        changes = sweep[combination]
        seed = changes.get("seed", self.first.seed)
        if seed is not None and variation:
            changes["seed"] = seed + variation
        return self.first.model_copy(update=changes) if changes else self.first

    def to_json(self) -> str:
        """Return the row as a JSON text."""
        return json.dumps(asdict(self) | {"first": self.first.model_dump()})

    @classmethod
    def from_json(cls, text: str) -> CheckedRow:
        """Return the row of a JSON text that `to_json` made; it isn't checked again."""
        values = json.loads(text)
        values["first"] = GenerateRequest.model_construct(**values["first"])
        values["tags"] = tuple(values["tags"])
        values["loop"] = values["loop"] and LoopOptions(**values["loop"])
        sources = {name: value and Source(**value) for name, value in values["sounds"].items() if name != "overlap"}
        values["sounds"] = Sounds(overlap=values["sounds"]["overlap"], **sources)
        return cls(**values)


def _sounds(row: RowFields, finder: SourceFinder) -> Sounds:
    """Find the sounds that a row names; what is wrong in their types is said elsewhere."""
    given = {name: row[name] for name in SOUNDS if row.get(name) is not None}
    if LAST in given.values():
        raise InvalidValueError("'last' is another take whenever a batch runs: a row names its sounds by id or path")
    if any(not isinstance(given.get(name, ""), str) for name in _SOURCES):
        return Sounds()
    return finder.find(sound_options(given))


def _context_errors(sounds: Sounds, request: GenerateRequest) -> Iterator[str]:
    try:
        sounds.check(request.duration)
    except InvalidValueError as err:
        yield str(err)


def listed_tags(tags: Any) -> list[str]:
    """
    Return the tags of a row as a list; a text is split at commas, which no tag can contain.

    Raises:
        InvalidValueError: They are neither a list of texts nor a text.
    """
    if isinstance(tags, str):
        return [tag for piece in tags.split(",") if (tag := piece.strip())]
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidValueError(f"tags must be a list of texts, got {tags!r:.40}")
    return [*tags]


def _loop(row: RowFields) -> LoopOptions | None:
    """
    Return how the files of a row are cut into loops; None if they aren't.

    Raises:
        InvalidValueError: A value is invalid, or there is no file.
    """
    loop = row.get("loop", False)
    if not isinstance(loop, bool):
        raise InvalidValueError(f"loop must be true or false, got {loop!r:.40}")
    if not loop:
        return None
    if row.get("output") is None:
        raise InvalidValueError("loop is about a file, and the row has no output")
    if row.get("continue") is not None and row.get("bars") is not None:
        raise InvalidValueError(
            "loop and bars contradict continue: the first bars of the take are the sound that it goes on from"
        )
    return LoopOptions(row.get("bpm"), as_whole(row.get("bars")))


def _checked_texts(row: RowFields, *, has_several: bool) -> tuple[str, ...]:
    """Check the columns that are texts; return all tags."""
    tags = all_tags(listed_tags(row.get("tags", ())))
    label("creator", row.get("creator", CREATOR))
    if row.get("variation_set_id") is not None:
        label("variation_set_id", row["variation_set_id"])
    if row.get("output") is not None:
        resolve_target(row["output"], many=has_several, force=True)
    return tags


def _field_errors(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        try:
            GenerateRequest.checked({name: value})
        except InvalidValueError as err:
            yield str(err)
