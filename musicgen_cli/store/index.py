"""
The artifacts that an index's lines amount to: by id, or those that pass a filter, newest first.

An edit stands after the line it changes, so who reads backwards has met every edit of an artifact before the artifact
itself. Whatever lists artifacts reads so: it can stop at any limit, and remembers edits but never artifacts. Lines that
can't pass a filter are told by their bytes and not parsed, so a filter that nothing passes costs what a search costs.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from musicgen_cli.store.artifacts import retagged
from musicgen_cli.store.journal import Snapshot
from musicgen_cli.store.lines import Record, decode, lines_holding, refuse_unknown, timestamp

# `op` comes first in a line, then `id`, and the 12 digits are not optional. The pattern begins with the LF before the
# line, which is found many times faster than the start of a line is.
_PUT_ID = re.compile(rb'\n\{"op":"put","id":"artifact_([0-9a-f]{12})')
_EDIT_STARTS = (b'\t{"op":"tag",', b'\t{"op":"del",')
_ADDED = re.compile(rb'"add":\[[^\]].*?"\]')  # no tag holds a quote, so the first `"]` ends it
_IN_EDIT = slice(len('\t{"op":"tag","id":"artifact_'), len('\t{"op":"tag","id":"artifact_') + 12)
_IN_PUT = slice(_IN_EDIT.start - 1, _IN_EDIT.stop - 1)


@dataclass(frozen=True, slots=True)
class Filter:
    """What an artifact must have to be listed; what is not given does not matter."""

    tags: tuple[str, ...] = ()  # all of them
    creator: str | None = None
    variation_set_id: str | None = None
    parent_id: str | None = None
    model: str | None = None
    search: str | None = None  # in the prompt, upper and lower case alike
    since: datetime | None = None  # aware; an artifact made at either end is within
    until: datetime | None = None

    def exact(self) -> dict[str, str]:
        """Name the members that must have one value; `model` is a member of `origin`."""
        wanted = {
            "creator": self.creator,
            "variation_set_id": self.variation_set_id,
            "parent_id": self.parent_id,
            "model": self.model,
        }
        return {name: value for name, value in wanted.items() if value is not None}


_ALL = Filter()


class ArtifactSearch:
    """
    The artifacts with some ids, alive or gone, as the index goes on about them.

    Who edits searches the whole index before the lock is taken, and only what was appended since then under it.

    Args:
        ids: Whole ids.
        start: Instead of them, what the ids start with.
        to_edit: Whoever edits an index must understand all of it.

    Attributes:
        live: What each one's lines amount to, by id.
        gone: The same for the deleted ones, as they were.
        at: Where the `put` of each one stands in the file.
    """

    def __init__(self, ids: Collection[str] = (), *, start: str = "", to_edit: bool = False) -> None:
        self._ids = frozenset(ids)
        self._keys = frozenset(each.encode() for each in ids)
        self._start = start or (f'{next(iter(ids))}"' if len(ids) == 1 else "artifact_")
        self._to_edit = to_edit
        self._gen: str | None = None
        self._end = 0
        self.live: dict[str, Record] = {}
        self.gone: dict[str, Record] = {}
        self.at: dict[str, int] = {}

    def search(self, snapshot: Snapshot) -> None:
        """
        Read the lines that were not read before; all of them if the index was rewritten, or may have been.

        Raises:
            NewerStoreError: A line means something that this version does not know.
        """
        if self._gen is None or snapshot.gen != self._gen or snapshot.size < self._end:
            self._end = 0
            for found in (self.live, self.gone, self.at):
                found.clear()
        needle = f'"id":"{self._start}'.encode()
        at = max(self._end, snapshot.start)
        for block in snapshot.forward(at, snapshot.end):
            if self._to_edit:
                refuse_unknown(block)
            for offset, line in lines_holding(needle, block):
                if self._may_be_wanted(line) and (record := snapshot.decode(line)) is not None:
                    self._apply(record, at + offset)
            at += len(block)
        self._gen, self._end = snapshot.gen, snapshot.end

    def _may_be_wanted(self, line: bytes) -> bool:
        # What several ids have in common stands in nearly every line, and decoding takes far longer than this.
        return len(self._keys) < 2 or line[line.index(b'"id":"') + 6 :].partition(b'"')[0] in self._keys

    def _apply(self, record: Record, at: int) -> None:
        name = record.get("id")
        if not isinstance(name, str) or not (name in self._ids if self._ids else name.startswith(self._start)):
            return  # what was found stands deeper in the line
        match record["op"]:
            case "put":
                self.gone.pop(name, None)
                self.live[name] = record
                self.at[name] = at
            case "tag" if name in self.live:
                self.live[name]["tags"] = retagged(self.live[name]["tags"], record["add"], record["rm"])
            case "del" if name in self.live:
                self.gone[name] = self.live.pop(name)


def by_id(snapshot: Snapshot, start: str, *, whole: bool) -> list[Record]:
    """Find the live artifact whose id is `start`, or all whose id starts so."""
    takes = ArtifactSearch([start]) if whole else ArtifactSearch(start=start)
    takes.search(snapshot)
    return list(takes.live.values())


def last_deleted(snapshot: Snapshot) -> str | None:
    """Name the artifact that was deleted last and is still gone."""
    deleted: dict[str, None] = {}  # the last one first
    for block in snapshot.backward():
        for _, line in reversed([*lines_holding(b'\t{"op":"del",', block)]):
            if (record := decode(line)) is not None:
                deleted[record["id"]] = None
    if not deleted:
        return None
    takes = ArtifactSearch(deleted)
    takes.search(snapshot)
    return next((name for name in deleted if name in takes.gone), None)


def newest(snapshot: Snapshot, where: Filter) -> Iterator[Record]:
    """Yield the live artifacts that pass, the last one of the file first."""
    passes = _test(where)
    is_all = where == _ALL
    edits: dict[bytes, list[bytes]] = {}  # by the 12 digits, the last one first; few are ever parsed
    candidates = _Candidates(where)
    for block in snapshot.backward():
        for line in candidates.of(block):
            if line.startswith(_EDIT_STARTS):
                if is_all and snapshot.decode(line) is None:
                    continue  # and it was counted, as are all bad lines where nothing is searched for
                edits.setdefault(line[_IN_EDIT], []).append(line)
                continue
            record = snapshot.decode(line)
            if record is None or record["op"] != "put":
                continue
            tags = _tags_after(record, edits.get(line[_IN_PUT], ()))
            if tags is None:
                continue
            record["tags"] = tags
            if passes(record):
                yield record


def _tags_after(put: Record, edits: Sequence[bytes]) -> list[str] | None:
    """Return an artifact's tags after its edits, given the last one first; None if it is gone."""
    tags: list[str] = put["tags"]
    for line in reversed(edits):
        edit = decode(line)
        if edit is None or edit["id"] != put["id"]:
            continue
        if edit["op"] == "del":
            return None
        tags = retagged(tags, edit["add"], edit["rm"])
    return tags


class _Candidates:
    """
    Tells by their bytes which lines are edits or may pass a filter: a value has only one spelling in the index.

    Finding a few bytes in a whole block takes far less time than looking at each of its lines, so that is done first.
    """

    def __init__(self, where: Filter) -> None:
        self._members = [f'"{name}":'.encode() + _quoted(value) for name, value in where.exact().items()]
        self._tags = [_quoted(tag) for tag in {unicodedata.normalize("NFC", tag) for tag in where.tags}]
        text = (where.search or "").casefold()
        self._text = text.encode() if text.isascii() else b""
        self._retagged: set[bytes] = set()  # the 12 digits of those that an edit may have given a tag

    def of(self, block: bytes) -> list[bytes]:
        """Return those lines of a block, the last one first; blocks must come in the same order."""
        found = dict(lines_holding(b"\t", block))
        for edit in found.values():
            if any(tag in added for tag in self._tags if tag in edit for added in _ADDED.findall(edit)):
                self._retagged.add(edit[_IN_EDIT])
        needles = self._members + self._tags
        if self._may_say(block) and all(needle in block for needle in needles):
            rarest = min(needles, key=block.count) if len(needles) > 1 else needles[0] if needles else b"\n"
            found.update(
                (at, line)
                for at, line in lines_holding(rarest, block)
                if self._may_say(line) and (len(needles) < 2 or all(needle in line for needle in needles))
            )
        if self._retagged:
            for put in _PUT_ID.finditer(b"\n" + block):
                if put[1] in self._retagged:
                    at = put.start()
                    line = block[at : block.index(b"\n", at)]
                    if all(member in line for member in self._members):
                        found[at] = line
        return [found[at] for at in sorted(found, reverse=True)]

    def _may_say(self, lines: bytes) -> bool:
        """Tell whether a prompt in these lines may hold the text that is searched, in upper or lower case."""
        if not self._text:
            return True
        # Escapes have other spellings, and some letters beyond ASCII (such as the Kelvin sign) fold into it.
        return not lines.isascii() or b"\\" in lines or self._text in lines.lower()


def _test(where: Filter) -> Callable[[Record], bool]:
    tags = {unicodedata.normalize("NFC", tag) for tag in where.tags}
    exact = where.exact()
    model = exact.pop("model", None)
    text = (where.search or "").casefold()
    since = timestamp(where.since) if where.since else ""
    until = timestamp(where.until) if where.until else "~"

    def passes(record: Record) -> bool:
        return (
            tags.issubset(record["tags"])
            and all(record.get(name) == value for name, value in exact.items())
            and (model is None or record["origin"].get("model") == model)
            and since <= record["created"] <= until
            and text in record["prompt"].casefold()
        )

    return passes


def _quoted(value: str) -> bytes:
    # As `encode` writes it; a lone surrogate, which no line holds, becomes bytes that no line holds.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
