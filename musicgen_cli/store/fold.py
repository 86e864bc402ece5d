"""Read a whole index line by line: find what is wrong with the lines, and which artifacts are live in the end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from musicgen_cli.limits import LINE_BYTES
from musicgen_cli.store.journal import INDEX, Snapshot
from musicgen_cli.store.lines import Record, decode, encode, is_head
from musicgen_cli.store.tags import edit_tags

_CHECKSUM = re.compile(rb',"crc":"[0-9a-f]{8}"\}')
_START = re.compile(rb'(?=\t?\{"op":")')  # matches with and without the TAB, which may belong to other bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """One difference between a store and the format."""

    kind: str  # lock, link, type, owner, mode, head, line, tail, duplicate, missing, size or audio
    where: str  # a path in the store, or an artifact's id
    message: str  # one sentence


class Fold:
    """
    The state that all lines of an index describe, and the problems in them.

    It holds the ids of the live artifacts and the edits of their tags, but no records, so a million takes need some
    200 MB. The methods that return lines or records read the snapshot once more.

    Args:
        salvage: Also use good lines inside a bad one, which are there when the LF between two lines was lost.

    Attributes:
        lines: The number of lines, including a torn one at the end.
        bad: How many of them are bad.
        salvaged: How many good lines were found inside bad ones.
        live: The offset of each live artifact's `put` line, by id.
        superseded: The offsets of `put` lines whose id was put again while it was live.
    """

    def __init__(self, *, salvage: bool = False) -> None:
        self._salvage = salvage
        self._edits: dict[str, list[tuple[list[str], list[str]]]] = {}
        self.lines = self.bad = self.salvaged = 0
        self.live: dict[str, int] = {}
        self.superseded: set[int] = set()

    def read(self, snapshot: Snapshot) -> Iterator[Problem]:
        """
        Read all lines, and yield their problems.

        Raises:
            NewerStoreError: Only a newer version knows what a line means.
        """
        bad_until = -1  # the end of the last bad line; records before it were salvaged from it
        for offset, line, record in self._records(snapshot):
            is_salvaged = offset < bad_until
            self.lines += not is_salvaged
            location = f"{INDEX}:{self.lines}"
            if record is None:
                self.bad += 1
                bad_until = offset + len(line)
                if offset < snapshot.end:
                    yield Problem("line", location, f"line {self.lines} is damaged")
            elif is_salvaged:
                self.salvaged += 1
            if offset >= snapshot.end and not is_salvaged:
                yield Problem("tail", location, "the last line is incomplete: a write was interrupted")
            if offset == 0 and record is not None and not is_head(record):
                yield Problem("head", location, "the index does not start with a head line")
            if record is not None:
                yield from self._apply(offset, record, location)

    def put_records(self, snapshot: Snapshot, *, removed: bool = False) -> Iterator[Record]:
        """Yield the `put` records of the live artifacts, or also of `removed` ones; exhaust `read` first."""
        for offset, _, record in self._records(snapshot):
            if record is not None and record["op"] == "put" and (removed or self._is_live(offset, record)):
                yield record

    def live_lines(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Yield the fewest lines, without a head, that give the same state; exhaust `read` first."""
        for offset, line, record in self._records(snapshot):
            if record is None:
                continue
            if record["op"].startswith("x-"):
                yield line + b"\n"
            elif self._is_live(offset, record):
                edits = self._edits.get(record["id"])
                yield _with_edits(record, edits) if edits else line + b"\n"

    def rejected_lines(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Yield the bad lines as they are, and the superseded ones; exhaust `read` first."""
        for offset, line, record in self._records(snapshot):
            if record is None or offset in self.superseded:
                yield line + b"\n"

    def _apply(self, offset: int, record: Record, location: str) -> Iterator[Problem]:
        id_ = record.get("id", "")
        match record["op"]:
            case "head" if offset:
                yield Problem("head", location, f"line {self.lines} is a head line, which only the first line may be")
            case "put":
                if id_ in self.live:
                    self.superseded.add(self.live[id_])
                    yield Problem("duplicate", id_, f"line {self.lines} stores {id_}, which is already there")
                self.live[id_] = offset
                self._edits.pop(id_, None)
            case "tag" if id_ in self.live:
                self._edits.setdefault(id_, []).append((record["add"], record["rm"]))
            case "del" if id_ in self.live:
                del self.live[id_]
                self._edits.pop(id_, None)

    def _is_live(self, offset: int, record: Record) -> bool:
        return bool(record["op"] == "put" and self.live.get(record["id"]) == offset)

    def _records(self, snapshot: Snapshot) -> Iterator[tuple[int, bytes, Record | None]]:
        """Yield offset, bytes and record of each line: None for a bad line, after which its salvaged parts follow."""
        for offset, line in _lines(snapshot):
            record = decode(line)
            yield offset, line, record
            if record is None and self._salvage:
                for start, part in _parts(line):
                    if (record := decode(part)) is not None:
                        yield offset + start, part, record


def _lines(snapshot: Snapshot) -> Iterator[tuple[int, bytes]]:
    """Yield the offset of each line and the line without its LF; the last one may be torn."""
    offset = 0
    for block in snapshot.forward(0, snapshot.size):
        *lines, rest = block.split(b"\n")
        for line in [*lines, rest] if rest else lines:
            yield offset, line
            offset += len(line) + 1


def _parts(line: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Yield the parts of a bad line that may be good lines: from a possible start to a checksum.

    A record may contain `{"op":"` in one of its values, so a later start is used only if no earlier one was good.
    """
    start = 0
    for checksum in _CHECKSUM.finditer(line):
        for candidate in _START.finditer(line, max(start, checksum.end() - LINE_BYTES), checksum.end()):
            part = line[candidate.start() : checksum.end()]
            yield candidate.start(), part
            if decode(part) is not None:
                break
        start = checksum.end()


def _with_edits(put: Record, edits: list[tuple[list[str], list[str]]]) -> bytes:
    for add, rm in edits:
        put["tags"] = edit_tags(put["tags"], add, rm)
    del put["crc"]
    return encode(put)
