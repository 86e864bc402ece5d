"""
The index file: checked JSON lines, appended under a lock, read without one.

It knows what a good line is, and nothing of what the lines together mean.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from musicgen_cli import atomic
from musicgen_cli.errors import InvalidValueError, NewerStoreError, StoreBusyError, StoreError
from musicgen_cli.limits import LINE_BYTES
from musicgen_cli.store import files
from musicgen_cli.store.digest import is_id, is_sha256

Record = dict[str, Any]  # one line's JSON object

FORMAT = "musicgen-index"
VERSION = 1
LOCK = "lock"
LOCK_S = 30.0
INDEX = "index.jsonl"
OLD = INDEX + ".old"  # as it was before the last rewriting
TEMPORARY = INDEX + atomic.TEMPORARY
FORWARD = 1 << 16  # bytes read at once: several searches of what the nearest cache holds beat one long read
BACKWARD = 1 << 16  # the newest few lines are all that most commands want

_CRC = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
_CRC_BYTES = 18
_FEW = 4000  # lines of a process that the standard library parses
_SHALLOW = 64  # brackets of a line that can't be nested too deep
_parsed = 0
_GEN = re.compile(r"[0-9a-f]{16}")
_EDITS = ("tag", "del")  # their lines start with a TAB, so that one search for one byte finds all of them
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}

_KINDS: dict[str, dict[str, tuple[type, ...]]] = {  # the members that each op needs, and their types
    "head": dict.fromkeys(("format", "gen", "created"), (str,)) | {"version": (int,)},
    "put": dict.fromkeys(("id", "created", "content_hash", "mime", "prompt", "creator"), (str,))
    | dict.fromkeys(("bytes", "sample_rate", "channels", "frames"), (int,))
    | dict.fromkeys(("params", "origin"), (dict,))
    | {"tags": (list,), "duration": (int, float)},
    "tag": {"id": (str,), "at": (int,), "t": (str,), "add": (list,), "rm": (list,)},
    "del": {"id": (str,), "at": (int,), "t": (str,)},
}
_NEEDED = {op: frozenset(kinds) for op, kinds in _KINDS.items()}
_KINDS["put"] |= (  # those it may have
    dict.fromkeys(("parent_id", "variation_set_id", "license", "fingerprint", "client_job_id"), (str, type(None)))
    | dict.fromkeys(("variation_index", "seed"), (int, type(None)))
    | dict.fromkeys(("requested_duration", "elapsed_s"), (int, float, type(None)))
    | {"extra": (dict, type(None))}
)


def timestamp(moment: datetime) -> str:
    """Write an aware moment as in the index: UTC, cut to milliseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def encode(record: Record) -> bytes:
    """
    Write one line, checksum and LF included.

    Raises:
        InvalidValueError: Readers would not accept the line: it is too long, or holds what UTF-8 and JSON cannot.
    """
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        body = ("\t" * (record["op"] in _EDITS) + text[:-1]).encode()
    except (TypeError, ValueError, RecursionError) as err:
        raise InvalidValueError(f"the record can't be written as JSON: {_reason(err)}") from err
    line = body + b',"crc":"%08x"}\n' % zlib.crc32(body)
    if len(line) > LINE_BYTES:
        raise InvalidValueError(
            f"the record takes {len(line)} bytes, at most {LINE_BYTES} can be stored",
            hint="a shorter prompt, or fewer tags and parameters",
        )
    if decode(line[:-1]) is None:
        raise InvalidValueError("the record has members of a wrong type, or is nested too deep")
    return line


def decode(line: bytes) -> Record | None:
    """
    Read one line, given without its LF; None if it is bad.

    Raises:
        NewerStoreError: The line is good, and its meaning unknown.
    """
    if len(line) >= LINE_BYTES:
        return None
    crc = _CRC.fullmatch(line, len(line) - _CRC_BYTES) if len(line) > _CRC_BYTES else None
    if crc is None or int(crc[1], 16) != zlib.crc32(memoryview(line)[:-_CRC_BYTES]):
        return None
    try:
        record = _parse(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(op := record.get("op"), str):
        return None
    if op.startswith("x-"):
        return record
    if op not in _KINDS or (op == "head" and _is_newer(record)):
        raise NewerStoreError(
            "the store was made by a newer version of musicgen", hint="update musicgen, or name another with --store"
        )
    is_edit = line.startswith(b"\t")
    return record if is_edit == (op in _EDITS) and _has_members(op, record) else None


def is_head(record: Record | None) -> bool:
    """Tell whether a line read is a good first line."""
    return record is not None and record["op"] == "head"


def lines_holding(needle: bytes, block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield those lines of a block that hold `needle` (an LF: all), with their offsets and without their LF."""
    at = block.find(needle)
    while at >= 0:
        start, stop = block.rfind(b"\n", 0, at) + 1, block.find(b"\n", at)
        if stop < 0:
            stop = len(block)
        yield start, block[start:stop]
        at = block.find(needle, stop + 1)


class Snapshot:
    """
    The index as far as it went when it was opened; what others append later stays unseen.

    Attributes:
        size: All bytes there were.
        end: Where whole lines end; what follows is a write that is under way, or was torn.
        start: Where the lines after the first one start, if that is a head, good or not.
        gen: Changes when the file is rewritten; None if unknown.
        bad: How many bad lines were read so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self.end = self._after_last_lf()
        self.start = 0
        self.gen: str | None = None
        self.bad = 0
        if self.end:
            file.seek(0)
            first = file.readline(self.end)
            record = self.decode(first[:-1])
            if is_head(record):
                assert record is not None
                self.gen = record["gen"]
            if record is None or is_head(record):
                self.start = len(first)

    def decode(self, line: bytes) -> Record | None:
        """Read one line as `decode` does, and count it if it is bad."""
        record = decode(line)
        self.bad += record is None
        return record

    def forward(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to `stop` in blocks that are cut after an LF, except maybe the last."""
        self._file.seek(start)
        while start < stop:
            block = self._file.read(min(FORWARD, stop - start))
            block += self._file.readline(stop - start - len(block))
            if not block:  # the file was cut behind our back
                return
            start += len(block)
            yield block

    def before(self, stop: int, count: int) -> bytes:
        """Return at most `count` bytes of whole lines that end at `stop`; fewer where there are none."""
        start = max(0, stop - count)
        self._file.seek(start)
        return self._file.read(min(stop, self.end) - start) if start < self.end else b""

    def backward(self) -> Iterator[bytes]:
        """Yield the lines after the head in blocks of whole lines, the last block first."""
        stop = self.end
        rest = b""  # the end of a line whose start is not read yet
        while stop > self.start:
            start = max(self.start, stop - BACKWARD)
            self._file.seek(start)
            block = self._file.read(stop - start) + rest
            stop = start
            cut = block.find(b"\n") + 1 if start > self.start else 0
            # A line that is too long is bad however it goes on, so no more of it is kept than shows that.
            rest = block[:cut][-LINE_BYTES - 1 :]
            yield block[cut:]

    def _after_last_lf(self) -> int:
        stop = self.size
        while stop:
            start = max(0, stop - BACKWARD)
            self._file.seek(start)
            at = self._file.read(stop - start).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            stop = start
        return 0


class Appender:
    """The index, opened under the lock: nobody else appends while this is in use."""

    def __init__(self, fd: int, snapshot: Snapshot, root: Path, warn: Callable[[str, str], None]) -> None:
        self._fd = fd
        self._root = root
        self._warn = warn
        self.snapshot = snapshot

    def append(self, lines: Sequence[bytes]) -> None:
        """
        Write whole lines at the end, in one go; they are on the disk when this returns.

        No lines are fine, too: what was found to be so already may still be on its way to the disk.
        """
        if not lines:
            atomic.sync(self._fd)
            return
        buffer = b"".join(lines)
        old_size = self.snapshot.size
        if not old_size:
            atomic.sync_directory(self._root, follow=True)
            buffer = new_head() + buffer
        written = 0
        try:
            written = os.write(self._fd, buffer)
            landed_at = os.lseek(self._fd, 0, os.SEEK_CUR) - written
            if written == len(buffer):
                atomic.sync(self._fd)
        except OSError:
            self._take_back(written)
            raise
        if written < len(buffer):
            self._take_back(written)
            raise StoreError(
                f"only {written} of {len(buffer)} bytes could be written to {str(self._root)!r}",
                hint="the disk or a quota seems to be full; " + files.OTHER_STORE,
            )
        if landed_at != old_size:
            self._warn("lock", f"another process wrote to {str(self._root)!r} in spite of its lock: is it on NFS?")

    def _take_back(self, written: int) -> None:
        # Our own bytes, that is, and never those of a writer who got past the lock.
        old_size = self.snapshot.size
        if os.fstat(self._fd).st_size <= old_size + written:
            os.ftruncate(self._fd, old_size)


class Journal:
    """
    The file `index.jsonl` of a store.

    Args:
        root: The store's directory.
        warn: Called with a kind and a line when something is wrong that stops nobody.
    """

    def __init__(self, root: Path, warn: Callable[[str, str], None]) -> None:
        self._root = root
        self._path = root / INDEX
        self._warn = warn

    @contextmanager
    def reading(self) -> Iterator[Snapshot]:
        """Open the index as it is now; one that is absent is empty."""
        try:
            file: BinaryIO = files.open_to_read(self._path)
        except FileNotFoundError:
            file = io.BytesIO()
        with file:
            snapshot = Snapshot(file)
            try:
                yield snapshot
            finally:
                self._tell_bad(snapshot)

    @contextmanager
    def appending(self) -> Iterator[Appender]:
        """
        Take the lock, then open the index: a compaction may have put another file there while we waited.

        Raises:
            StoreBusyError: Another process held the lock for 30 s.
            StoreError: The file system has no locks.
        """
        with locked(self._root):
            fd = atomic.open_fd(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            with os.fdopen(fd, "rb") as file:
                snapshot = Snapshot(file)
                if snapshot.end != snapshot.size:
                    # Nobody is writing, so the last line was torn. Nothing of it is cut away, it may not be ours; and
                    # it may lack nothing but its LF, and come true by it, before anybody decides what to append.
                    _seal(fd)
                    snapshot = Snapshot(file)
                yield Appender(fd, snapshot, self._root, self._warn)
            self._tell_bad(snapshot)

    def rewrite(self, lines: Callable[[Snapshot], Iterable[bytes]], *, keep_old: bool) -> tuple[int, int]:
        """
        Put another index in the place of this one, in one step; the caller holds the lock.

        Who reads keeps the file that it opened; who waits to write opens the new one, which has a `gen` of its own.

        Args:
            lines: Makes the lines after the head from the present ones.
            keep_old: Keep the present file as `index.jsonl.old`; else neither it nor what a rewriting that was cut off
                left behind stays.

        Returns:
            How many lines and how many bytes were written.
        """
        count = size = 0
        with atomic.replacing(self._path, prefix=TEMPORARY) as new:
            with atomic.new_file(new) as file, self.reading() as snapshot:
                for line in chain([new_head()], lines(snapshot)):
                    file.write(line)
                    count, size = count + 1, size + len(line)
            if keep_old:
                self._keep_old()
        if not keep_old:
            for name in files.names(self._root):
                if name == OLD or name.startswith(TEMPORARY):
                    atomic.remove(self._root / name)
        atomic.sync_directory(self._root, follow=True)
        return count, size

    def _keep_old(self) -> None:
        # First under another name, so that there is never a moment without any `index.jsonl.old`.
        with atomic.replacing(self._root / OLD, prefix=TEMPORARY) as temporary:
            atomic.link_or_copy(self._path, temporary)
        atomic.discard(temporary)  # it is still there if both were names of the same file: then a rename does nothing

    def _tell_bad(self, snapshot: Snapshot) -> None:
        if snapshot.bad:
            lines = "1 damaged line" if snapshot.bad == 1 else f"{snapshot.bad} damaged lines"
            self._warn("bad", f"skipped {lines} in {str(self._path)!r}")


def _seal(fd: int) -> None:
    os.write(fd, b"\n")


@contextmanager
def locked(root: Path, name: str = LOCK, wait_s: float | None = None) -> Iterator[None]:
    """
    Hold the lock of the store at `root`, or another one in its directory, which is gone afterwards.

    Raises:
        StoreBusyError: Another process held it for `wait_s`, else 30 s.
        StoreError: The file system has no locks.
    """
    from filelock import FileLock, Timeout  # here, since importing it takes longer than listing

    lock = FileLock(
        root / name,
        mode=0o600,
        timeout=LOCK_S if wait_s is None else wait_s,
        poll_interval=0.01,
        fallback_to_soft=False,
        preserve_lock_file=True,
        on_acquired=_refuse_removed,
    )
    try:
        lock.acquire()
    except Timeout as err:
        raise StoreBusyError(
            f"another process kept the store locked for {lock.timeout:g} s: {str(root)!r}", hint="try again later"
        ) from err
    except OSError as err:
        if err.errno not in _NO_LOCKS:
            raise
        raise StoreError(f"the file system of {str(root)!r} has no locks", hint=files.OTHER_STORE) from err
    try:
        yield
    finally:
        if name != LOCK:
            atomic.discard(root / name)  # while it is held; who has opened it already finds out in `_refuse_removed`
        lock.release()


def _refuse_removed(fd: int) -> None:
    if os.fstat(fd).st_nlink == 0:
        from filelock import Timeout

        raise Timeout("the file was removed by who held it before")


def new_head() -> bytes:
    """Make the first line of an index, with a `gen` that no other has."""
    gen = os.urandom(8).hex()
    now = timestamp(datetime.now(UTC))
    return encode({"op": "head", "format": FORMAT, "version": VERSION, "gen": gen, "created": now})


def _is_newer(head: Record) -> bool:
    version = head.get("version")
    return head.get("format") == FORMAT and type(version) is int and version > VERSION


def _has_members(op: str, record: Record) -> bool:
    if not _has_shape(op, tuple(record), tuple(map(type, record.values()))):
        return False
    if op == "head":
        return record["format"] == FORMAT and record["version"] == VERSION and bool(_GEN.fullmatch(record["gen"]))
    if not is_id(record["id"]):
        return False
    if op == "put":
        return is_sha256(record["content_hash"]) and _are_strings(record["tags"])
    return op == "del" or (_are_strings(record["add"]) and _are_strings(record["rm"]))


@lru_cache(maxsize=256)  # nearly all lines of an index have one of a few shapes
def _has_shape(op: str, names: tuple[str, ...], types: tuple[type, ...]) -> bool:
    kinds = _KINDS[op]
    is_whole = _NEEDED[op].issubset(names)
    return is_whole and all(  # a bool is no int here
        kind in kinds[name] for name, kind in zip(names, types, strict=True) if name in kinds
    )


def _are_strings(values: list[Any]) -> bool:
    return all(type(value) is str for value in values)


def _reason(err: Exception) -> str:
    if isinstance(err, UnicodeEncodeError):
        return f"{err.object[err.start : err.end]!r} is not text"
    return "it is nested too deep" if isinstance(err, RecursionError) else str(err).lower()


def _parse(line: bytes) -> Any:
    """
    Parse JSON, as strictly by either of two readers.

    pydantic_core is nearly twice as fast as the standard library, but importing it takes as long as many thousand
    lines: who lists a screenful shouldn't pay for it. It also refuses lone surrogates and deep nesting, so lines that
    could hold either are always its own.
    """
    global _parsed
    _parsed += 1
    if _parsed <= _FEW and b"\\u" not in line and line.count(b"{") + line.count(b"[") < _SHALLOW:
        return json.loads(line.decode(), parse_constant=_refuse)
    from pydantic_core import from_json

    return from_json(line, allow_inf_nan=False, cache_strings="keys")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
