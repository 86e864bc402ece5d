"""
Find artifacts in an index: by id, or all that match a filter, newest first.

An edit comes after the line it changes, so a backward reader meets all edits of an artifact before the artifact itself.
Listing reads backwards: it can stop at any limit, and keeps edits in memory but no artifacts. Lines that can't match a
filter are recognized by a search for bytes and not parsed, so a filter that nothing matches costs no more than that
search.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from musicgen_cli.store.journal import Snapshot
from musicgen_cli.store.lines import Record, decode, lines_holding, refuse_unknown, timestamp
from musicgen_cli.store.names import MARK, name_in
from musicgen_cli.store.tags import edit_tags

# `op` comes first in a line, then `id`, and the 12 digits are not optional. The pattern begins with the LF before the
# line, which is found many times faster than the start of a line is.
_PUT_ID = re.compile(rb'\n\{"op":"put","id":"artifact_([0-9a-f]{12})')
_EDIT_STARTS = (b'\t{"op":"tag",', b'\t{"op":"del",')
_ADDED = re.compile(rb'"add":\[[^\]].*?"\]')  # no tag contains a quote, so the first `"]` ends the list
# Where the 12 digits are in a line.
_DIGITS_OF_EDIT = slice(len('\t{"op":"tag","id":"artifact_'), len('\t{"op":"tag","id":"artifact_') + 12)
_DIGITS_OF_PUT = slice(_DIGITS_OF_EDIT.start - 1, _DIGITS_OF_EDIT.stop - 1)


@dataclass(frozen=True, slots=True)
class Filter:
    """The conditions that a listed artifact meets; a member that is None or empty matches everything."""

    tags: tuple[str, ...] = ()  # all of them
    creator: str | None = None
    variation_set_id: str | None = None
    parent_id: str | None = None
    model: str | None = None
    search: str | None = None  # occurs in the prompt or in the name, ignoring case
    since: datetime | None = None  # aware; inclusive, to the millisecond
    until: datetime | None = None  # likewise

    def __post_init__(self) -> None:
        if isinstance(tag := self.tags, str):  # one tag, not its letters
            object.__setattr__(self, "tags", (tag,))

    def exact(self) -> dict[str, str]:
        """Return the members that must have a certain value; `model` is a member of `origin`."""
        values = {
            "creator": self.creator,
            "variation_set_id": self.variation_set_id,
            "parent_id": self.parent_id,
            "model": self.model,
        }
        return {name: value for name, value in values.items() if value is not None}


_ALL = Filter()


class ArtifactSearch:
    """
    A search for artifacts by id, live or removed, that can be continued when the index has grown.

    An edit searches the whole index before it takes the lock, and only what was appended since then under the lock.

    Args:
        ids: Complete ids.
        prefix: Instead of `ids`, what the ids start with.
        to_edit: Also check that this version understands all lines, as an edit requires.

    Attributes:
        live: The records of live artifacts, by id, with all edits applied.
        removed: The records of removed artifacts, by id, as they were.
        offsets: The offset of each artifact's `put` line in the file.
    """

    def __init__(self, ids: Collection[str] = (), *, prefix: str = "", to_edit: bool = False) -> None:
        self._ids = frozenset(ids)
        self._encoded_ids = frozenset(id_.encode() for id_ in ids)
        self._prefix = prefix
        start = prefix or (f'{next(iter(ids))}"' if len(ids) == 1 else "artifact_")
        self._needle = f'"id":"{start}'.encode()
        self._to_edit = to_edit
        self._gen: str | None = None
        self._end = 0
        self.live: dict[str, Record] = {}
        self.removed: dict[str, Record] = {}
        self.offsets: dict[str, int] = {}

    @classmethod
    def matching(cls, prefix: str, *, complete: bool, to_edit: bool = False) -> ArtifactSearch:
        """Search for the id `prefix` if it is `complete`, otherwise for all ids that start with it."""
        return cls([prefix], to_edit=to_edit) if complete else cls(prefix=prefix, to_edit=to_edit)

    def update(self, snapshot: Snapshot) -> None:
        """
        Read the lines that were appended since the last update, or all lines if the index may have been rewritten.

        Raises:
            NewerStoreError: Only a newer version knows what a line means.
        """
        if self._gen is None or snapshot.gen != self._gen or snapshot.size < self._end:
            self._end = 0
            for results in (self.live, self.removed, self.offsets):
                results.clear()
        block_start = max(self._end, snapshot.start)
        for block in snapshot.forward(block_start, snapshot.end):
            if self._to_edit:
                refuse_unknown(block)
            for offset, line in lines_holding(self._needle, block):
                if self._may_match(line) and (record := snapshot.decode(line)) is not None:
                    self._apply(record, block_start + offset)
            block_start += len(block)
        self._gen, self._end = snapshot.gen, snapshot.end

    def _may_match(self, line: bytes) -> bool:
        # The common start of several ids occurs in nearly every line, and decoding takes far longer than this.
        return len(self._encoded_ids) < 2 or line[line.index(b'"id":"') + 6 :].partition(b'"')[0] in self._encoded_ids

    def _apply(self, record: Record, offset: int) -> None:
        id_ = record.get("id")
        if not isinstance(id_, str) or not (id_ in self._ids if self._ids else id_.startswith(self._prefix)):
            return  # the match is deeper in the line
        match record["op"]:
            case "put":
                self.removed.pop(id_, None)
                self.live[id_] = record
                self.offsets[id_] = offset
            case "tag" if id_ in self.live:
                self.live[id_]["tags"] = edit_tags(self.live[id_]["tags"], record["add"], record["rm"])
            case "del" if id_ in self.live:
                self.removed[id_] = self.live.pop(id_)


def by_id(snapshot: Snapshot, prefix: str, *, complete: bool) -> list[Record]:
    """Return the live artifact with the id `prefix` if it is `complete`, otherwise all whose id starts with it."""
    search = ArtifactSearch.matching(prefix, complete=complete)
    search.update(snapshot)
    return list(search.live.values())


def removed(snapshot: Snapshot) -> list[Record]:
    """Return the artifacts that were removed and not restored, the one that was removed last first."""
    deleted: dict[str, None] = {}  # ids, the last one first
    for block in snapshot.backward():
        for _, line in reversed([*lines_holding(b'\t{"op":"del",', block)]):
            if (record := decode(line)) is not None:
                deleted[record["id"]] = None
    if not deleted:
        return []
    search = ArtifactSearch(deleted)
    search.update(snapshot)
    return [search.removed[id_] for id_ in deleted if id_ in search.removed]


def newest(snapshot: Snapshot, filter_: Filter) -> Iterator[Record]:
    """Yield the live artifacts that match a filter, the last one in the file first."""
    matches = _predicate(filter_)
    is_all = filter_ == _ALL
    edits: dict[bytes, list[bytes]] = {}  # by the 12 digits, the last one first; parsed only where needed
    candidates = _Candidates(filter_)
    for block in snapshot.backward():
        for line in candidates.select(block):
            if line.startswith(_EDIT_STARTS):
                if is_all and snapshot.decode(line) is None:
                    continue  # it has been counted: listing everything counts all bad lines
                edits.setdefault(line[_DIGITS_OF_EDIT], []).append(line)
                continue
            record = snapshot.decode(line)
            if record is None or record["op"] != "put":
                continue
            tags = _tags_after(record, edits.get(line[_DIGITS_OF_PUT], ()))
            if tags is None:
                continue
            record["tags"] = tags
            if matches(record):
                yield record


def _tags_after(put: Record, edits: Sequence[bytes]) -> list[str] | None:
    """Return an artifact's tags after its edits, which come last one first; None if it was removed."""
    tags: list[str] = put["tags"]
    for line in reversed(edits):
        edit = decode(line)
        if edit is None or edit["id"] != put["id"]:
            continue
        if edit["op"] == "del":
            return None
        tags = edit_tags(tags, edit["add"], edit["rm"])
    return tags


class _Candidates:
    """
    Selects, by a search for bytes, the lines that are edits or may match a filter.

    This is possible because a value has only one spelling in the index. Searching a whole block for a few bytes takes
    far less time than examining each of its lines, so it comes first.
    """

    def __init__(self, filter_: Filter) -> None:
        self._members = [f'"{name}":'.encode() + _quoted(value) for name, value in filter_.exact().items()]
        self._tags = [_quoted(tag) for tag in {unicodedata.normalize("NFC", tag) for tag in filter_.tags}]
        text = (filter_.search or "").casefold()
        self._text = text.encode() if text.isascii() else b""
        self._mark = f'"{MARK}'.encode() if text else None  # of a name in an edit
        self._retagged: set[bytes] = set()  # the 12 digits of artifacts to which an edit may have added what is sought

    def select(self, block: bytes) -> list[bytes]:
        """Return those lines of a block, the last one first; call it with the last block first, too."""
        selected = dict(lines_holding(b"\t", block))
        for edit in selected.values():
            is_name = self._mark is not None and self._mark in edit
            if is_name or any(tag in added for tag in self._tags if tag in edit for added in _ADDED.findall(edit)):
                self._retagged.add(edit[_DIGITS_OF_EDIT])
        needles = self._members + self._tags
        if self._may_contain_text(block) and all(needle in block for needle in needles):
            rarest = min(needles, key=block.count) if len(needles) > 1 else needles[0] if needles else b"\n"
            selected.update(
                (offset, line)
                for offset, line in lines_holding(rarest, block)
                if self._may_contain_text(line) and (len(needles) < 2 or all(needle in line for needle in needles))
            )
        if self._retagged:
            for put in _PUT_ID.finditer(b"\n" + block):
                if put[1] in self._retagged:
                    offset = put.start()
                    line = block[offset : block.index(b"\n", offset)]
                    if all(member in line for member in self._members):
                        selected[offset] = line
        return [selected[offset] for offset in sorted(selected, reverse=True)]

    def _may_contain_text(self, lines: bytes) -> bool:
        """Tell whether a prompt or a name in these lines may contain the text of `Filter.search`."""
        if not self._text:
            return True
        # Escaped characters are spelled differently, and some letters beyond ASCII, such as the Kelvin sign, casefold
        # to ASCII: such lines have to be parsed.
        return not lines.isascii() or b"\\" in lines or self._text in lines.lower()


def _predicate(filter_: Filter) -> Callable[[Record], bool]:
    tags = {unicodedata.normalize("NFC", tag) for tag in filter_.tags}
    exact = filter_.exact()
    model = exact.pop("model", None)
    text = (filter_.search or "").casefold()
    since = timestamp(filter_.since) if filter_.since else ""
    until = timestamp(filter_.until) if filter_.until else "~"

    def matches(record: Record) -> bool:
        return (
            tags.issubset(record["tags"])
            and all(record.get(name) == value for name, value in exact.items())
            and (model is None or record["origin"].get("model") == model)
            and since <= record["created"] <= until
            and (text in record["prompt"].casefold() or text in (name_in(record["tags"]) or "").casefold())
        )

    return matches


def _quoted(value: str) -> bytes:
    # As `encode` writes it. A lone surrogate, which no line contains, becomes bytes that no line contains.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
