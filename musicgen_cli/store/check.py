"""Compare index, audio and files with what the format promises, and tell each difference; nothing is changed."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from musicgen_cli.errors import StoreError
from musicgen_cli.limits import LINE_BYTES
from musicgen_cli.store import files
from musicgen_cli.store.artifacts import edit_tags
from musicgen_cli.store.blobs import Blobs, Entry
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.journal import INDEX, OLD, Journal, Snapshot
from musicgen_cli.store.lines import Record, decode, encode, is_head
from musicgen_cli.store.lock import locked

_TAIL = re.compile(rb',"crc":"[0-9a-f]{8}"\}')
_START = re.compile(rb'(?=\t?\{"op":")')  # with a TAB, and without: it may not be the line's own
# Run by a second process, which must not get the lock that this one holds; the path is its one argument.
_TRY_LOCK = """
import sys, filelock
try:
    filelock.FileLock(sys.argv[1], mode=0o600, timeout=0, fallback_to_soft=False, preserve_lock_file=True).acquire()
except filelock.Timeout:
    sys.exit(9)
"""
_REFUSED = 9
QUARANTINE = "quarantine"
_TRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Problem:
    """One difference between a store and what it should be."""

    kind: str  # lock, link, type, owner, mode, head, line, tail, duplicate, missing, size or audio
    where: str  # a path in the store, or an artifact's id
    message: str  # a sentence


class Fold:
    """
    All lines of an index, read forward and checked one by one, and what they amount to.

    It remembers the live artifacts' ids and the edits of their tags, so a million takes need some 200 MB; neither
    prompts nor audio are ever held.

    Args:
        salvage: Also use what is whole in a bad line: lines that were glued together when the LF between them was lost.

    Attributes:
        lines: How many there are, a torn one at the end included.
        bad: How many of them are bad.
        salvaged: How many good lines were found in bad ones.
        live: Where the `put` of each live artifact stands, by id.
        superseded: Where a `put` stands whose id was put again while it was live.
    """

    def __init__(self, *, salvage: bool = False) -> None:
        self._salvage = salvage
        self._edits: dict[str, list[tuple[list[str], list[str]]]] = {}
        self.lines = self.bad = self.salvaged = 0
        self.live: dict[str, int] = {}
        self.superseded: set[int] = set()

    def read(self, snapshot: Snapshot) -> Iterator[Problem]:
        """
        Read everything, and yield what is wrong with the lines.

        Raises:
            NewerStoreError: A line means something that this version does not know.
        """
        whole_until = -1  # where the bad line ends whose parts are being read
        for at, line, record in self._records(snapshot):
            is_part = at < whole_until
            self.lines += not is_part
            where = f"{INDEX}:{self.lines}"
            if record is None:
                self.bad += 1
                whole_until = at + len(line)
                if at < snapshot.end:
                    yield Problem("line", where, f"line {self.lines} is damaged")
            elif is_part:
                self.salvaged += 1
            if at >= snapshot.end and not is_part:
                yield Problem("tail", where, "the last line is not finished: a write was cut off")
            if at == 0 and record is not None and not is_head(record):
                yield Problem("head", where, "the index does not start with its head")
            if record is not None:
                yield from self._apply(at, record, where)

    def artifacts(self, snapshot: Snapshot, *, dead: bool = False) -> Iterator[Record]:
        """Yield the `put` lines of what is live, or also of what is `dead`; everything must have been read before."""
        for at, _, record in self._records(snapshot):
            if record is not None and record["op"] == "put" and (dead or self._is_live(at, record)):
                yield record

    def kept(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Yield the lines that say the same with nothing dead among them, without a head."""
        for at, line, record in self._records(snapshot):
            if record is None:
                continue
            if record["op"].startswith("x-"):
                yield line + b"\n"
            elif self._is_live(at, record):
                edits = self._edits.get(record["id"])
                yield _retagged(record, edits) if edits else line + b"\n"

    def rejected(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Yield the bad lines, as they are, and the superseded ones."""
        for at, line, record in self._records(snapshot):
            if record is None or at in self.superseded:
                yield line + b"\n"

    def _apply(self, at: int, record: Record, where: str) -> Iterator[Problem]:
        name = record.get("id", "")
        match record["op"]:
            case "head" if at:
                yield Problem("head", where, f"line {self.lines} is a head, which only the first line may be")
            case "put":
                if name in self.live:
                    self.superseded.add(self.live[name])
                    yield Problem("duplicate", name, f"{name} is stored again in line {self.lines} while it is there")
                self.live[name] = at
                self._edits.pop(name, None)
            case "tag" if name in self.live:
                self._edits.setdefault(name, []).append((record["add"], record["rm"]))
            case "del" if name in self.live:
                del self.live[name]
                self._edits.pop(name, None)

    def _is_live(self, at: int, record: Record) -> bool:
        return bool(record["op"] == "put" and self.live.get(record["id"]) == at)

    def _records(self, snapshot: Snapshot) -> Iterator[tuple[int, bytes, Record | None]]:
        """Yield each line with its offset and what it says; None if it is bad, and then what is whole in it."""
        for at, line in _lines(snapshot):
            record = decode(line)
            yield at, line, record
            if record is None and self._salvage:
                for start, part in _parts(line):
                    if (record := decode(part)) is not None:
                        yield at + start, part, record


def check(root: Path, *, full: bool = False) -> Iterator[Problem]:
    """
    Look at a store and yield what is wrong with it; a store that isn't there yet is right.

    Args:
        root: Its directory.
        full: Hash all audio again; else only its presence and size are looked at.

    Raises:
        StoreError: It can't be read.
        NewerStoreError: It holds what only a later version understands.
        StoreBusyError: Another process kept it locked.
    """
    with files.explained("read", root), ExitStack() as stack:
        yield from shape(root)
        snapshot, problem = _open(root, stack)
        if problem is not None:
            yield problem
        fold = Fold()
        yield from fold.read(snapshot)
        blobs = Blobs(root)
        for record in fold.artifacts(snapshot):
            why = _misses(blobs.path(Digest(record["content_hash"])), None if full else record["bytes"])
            if why is not None:
                yield Problem(why[0], record["id"], f"the audio of {record['id']} {why[1]}")
        for entry in blobs.entries() if full else ():
            if (flaw := damage(blobs, entry)) is not None:
                where = _inside(root, entry.path)
                yield Problem("audio", where, f"{where} {flaw}")


def shape(root: Path) -> Iterator[Problem]:
    """Yield what is wrong with the store's files and directories themselves: their kind, owner and mode."""
    try:
        top = root.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(top.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(root))
    for path, is_directory, mode in layout(root):
        try:
            status = top if path == root else path.lstat()
        except FileNotFoundError:
            continue
        where = _inside(root, path)
        if stat.S_ISLNK(status.st_mode):
            yield Problem("link", where, f"{where} is a symbolic link, which is not followed")
        elif not (stat.S_ISDIR if is_directory else stat.S_ISREG)(status.st_mode):
            yield Problem("type", where, f"{where} is not a {'directory' if is_directory else 'file'}")
        elif hasattr(os, "geteuid"):  # not on Windows, where neither means anything
            owner = os.geteuid() if path == root else top.st_uid
            if status.st_uid != owner:
                yield Problem("owner", where, f"{where} belongs to user {status.st_uid}, not to {owner}")
            if (is_mode := stat.S_IMODE(status.st_mode) & 0o777) != mode:
                yield Problem("mode", where, f"{where} has mode {is_mode:04o} instead of {mode:04o}")


def layout(root: Path) -> Iterator[tuple[Path, bool, int]]:
    """Yield all that a store may have, from the top down: path, whether it is a directory, mode."""
    yield root, True, 0o700
    for name in ("lock", INDEX, OLD):
        yield root / name, False, 0o600
    for name in (QUARANTINE, "blobs"):
        yield root / name, True, 0o700
    blobs = Blobs(root)
    for folder in blobs.folders():
        yield folder, True, 0o700
    for entry in blobs.entries():
        if entry.digest is not None:
            yield entry.path, False, 0o400


def damage(blobs: Blobs, entry: Entry) -> str | None:
    """Tell what is wrong with a blob's bytes; None if nothing is, if it is gone by now, or if it is no file at all."""
    if entry.digest is None or not entry.is_file:
        return None
    try:
        if blobs.is_intact(entry.digest) or not blobs.holds(entry.digest):
            return None
    except OSError as err:  # a sector that can't be read, say: the others still can
        return f"can't be read: {(err.strerror or str(err)).lower()}"
    return "is not what was stored"


def ignore(kind: str, line: str) -> None:
    """Take a journal's warning: whoever reads all lines tells more than it."""


def _open(root: Path, stack: ExitStack) -> tuple[Snapshot, Problem | None]:
    """
    Open the index for as long as `stack` is, and try the lock.

    Both under the lock, so that what is unfinished at the end is not just another process's write; without it where
    none is to be had, as on a medium that is read-only.
    """
    lock = root / "lock"
    problem = None
    has_lock = not lock.is_symlink() and lock.is_file() and os.access(lock, os.W_OK)
    journal = Journal(root, ignore)
    try:
        with locked(root) if has_lock else nullcontext():
            if has_lock:
                problem = _try(lock)
            return stack.enter_context(journal.reading()), problem
    except StoreError as err:
        return stack.enter_context(journal.reading()), Problem("lock", "lock", str(err))


def _try(lock: Path) -> Problem | None:
    # -P, as a folder that is worked in may hold a `filelock.py` of its own.
    words = [sys.executable, "-P", "-c", _TRY_LOCK, str(lock)]
    try:
        code = subprocess.run(words, capture_output=True, timeout=_TRY_S, check=False).returncode  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        code = None
    if code == _REFUSED:
        return None
    if code == 0:
        return Problem("lock", "lock", "a second process got the lock while it was held: is the store on NFS?")
    return Problem("lock", "lock", "the lock could not be tried by a second process")


def _misses(path: Path, size: int | None) -> tuple[str, str] | None:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing", "is missing"
    if size is not None and stat.S_ISREG(status.st_mode) and status.st_size != size:
        return "size", f"has {status.st_size} bytes instead of {size}"
    return None  # another kind of file was told of already


def _lines(snapshot: Snapshot) -> Iterator[tuple[int, bytes]]:
    """Yield each line without its LF, and where it starts; the last one may be torn."""
    at = 0
    for block in snapshot.forward(0, snapshot.size):
        *lines, rest = block.split(b"\n")
        for line in [*lines, rest] if rest else lines:
            yield at, line
            at += len(line) + 1


def _parts(line: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Yield what may be whole lines within a bad one: what ends with a checksum, from where it may start.

    A record may hold a `{"op":"` deep inside, so a later start counts only if no earlier one was good.
    """
    start = 0
    for tail in _TAIL.finditer(line):
        for may_start in _START.finditer(line, max(start, tail.end() - LINE_BYTES), tail.end()):
            part = line[may_start.start() : tail.end()]
            yield may_start.start(), part
            if decode(part) is not None:
                break
        start = tail.end()


def _retagged(put: Record, edits: list[tuple[list[str], list[str]]]) -> bytes:
    for add, rm in edits:
        put["tags"] = edit_tags(put["tags"], add, rm)
    del put["crc"]
    return encode(put)


def _inside(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
