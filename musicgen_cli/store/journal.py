"""
The index file: lines are appended under a lock and read without one.

This module reads and writes complete lines; `lines` encodes and decodes them, `index` and `fold` compute the state.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from musicgen_cli import atomic
from musicgen_cli.errors import StoreError
from musicgen_cli.limits import LINE_BYTES
from musicgen_cli.store import files
from musicgen_cli.store.lines import Record, decode, is_head, new_head
from musicgen_cli.store.lock import locked
from musicgen_cli.text import plural

INDEX = "index.jsonl"
OLD = INDEX + ".old"  # the index before it was last rewritten
TEMPORARY = INDEX + atomic.TEMPORARY
FORWARD = 1 << 16  # bytes per block: searching a block several times is fast while it is in the CPU's cache
BACKWARD = 1 << 16  # bytes per block: most commands need only the newest few lines
_GLUED_BYTES = 1 << 24  # of a line that is read whole: a repair finds the good lines in one whose LFs were damaged


class Snapshot:
    """
    The index as it was when it was opened; lines that are appended later are not read.

    Attributes:
        size: The size in bytes.
        end: Offset after the last LF; any bytes after it are a write that is in progress or was interrupted.
        start: Offset of the first line that is not a head: after the first line if that is a head or bad, else 0.
        gen: The generation in the head, which changes when the file is rewritten; None if unknown.
        bad: The number of bad lines that `decode` met so far.
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
            first = file.readline(min(self.end, LINE_BYTES + 1))  # of a longer line this is not the whole
            record = self.decode(first[:-1])
            if record is None or is_head(record):
                self.start = len(first) if first.endswith(b"\n") else self._after_next_lf(len(first))
                self.gen = record["gen"] if record else None

    def decode(self, line: bytes) -> Record | None:
        """Decode one line, and count it if it is bad."""
        record = decode(line)
        self.bad += record is None
        return record

    def forward(self, start: int, stop: int) -> Iterator[bytes]:
        """
        Yield the bytes from `start` to `stop` in blocks of complete lines; the last block may end within a line.

        So may any block with a line of more than 16 MiB, which is bad, and which memory may not hold.
        """
        self._file.seek(start)
        while start < stop:
            block = self._file.read(min(FORWARD, stop - start))
            block += self._file.readline(min(stop - start - len(block), _GLUED_BYTES))
            if not block:  # another process truncated the file
                return
            start += len(block)
            yield block

    def before(self, stop: int, count: int) -> bytes:
        """Return the last `count` bytes before offset `stop`, or those of them that are before `end`."""
        start = max(0, stop - count)
        self._file.seek(start)
        return self._file.read(min(stop, self.end) - start) if start < self.end else b""

    def backward(self) -> Iterator[bytes]:
        """Yield the lines after the head in blocks of complete lines, the last block first."""
        stop = self.end
        rest = b""  # the end of a line whose start is in the next block
        while stop > self.start:
            start = max(self.start, stop - BACKWARD)
            self._file.seek(start)
            block = self._file.read(stop - start) + rest
            stop = start
            cut = block.find(b"\n") + 1 if start > self.start else 0
            # A line that is too long is bad whatever it contains; keep just enough of it to stay too long.
            rest = block[:cut][-LINE_BYTES - 1 :]
            yield block[cut:]

    def _after_next_lf(self, offset: int) -> int:
        """Return the offset after the first LF from `offset` on; there is one before `end`."""
        self._file.seek(offset)
        while block := self._file.read(FORWARD):
            if (index := block.find(b"\n")) >= 0:
                return offset + index + 1
            offset += len(block)
        return self.end

    def _after_last_lf(self) -> int:
        stop = self.size
        while stop:
            start = max(0, stop - BACKWARD)
            self._file.seek(start)
            index = self._file.read(stop - start).rfind(b"\n")
            if index >= 0:
                return start + index + 1
            stop = start
        return 0


class Appender:
    """The index, opened under the lock, so that no other process appends while this is in use."""

    def __init__(self, fd: int, snapshot: Snapshot, root: Path, warn: Callable[[str, str], None]) -> None:
        self._fd = fd
        self._root = root
        self._warn = warn
        self.snapshot = snapshot

    def append(self, lines: Sequence[bytes]) -> None:
        """
        Append complete lines with one write; they are durable when this returns.

        Without lines this only syncs the file: another process may have written, but not yet synced, what the caller
        relies on.

        Raises:
            OSError, StoreError: The lines could not be written; they have been removed again.
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
            self._remove(written)
            raise
        if written < len(buffer):
            self._remove(written)
            raise StoreError(
                f"only {written} of {len(buffer)} bytes could be written to {str(self._root)!r}",
                hint="the disk or a quota seems to be full; " + files.OTHER_STORE,
            )
        if landed_at != old_size:
            self._warn("lock", f"another process wrote to {str(self._root)!r} in spite of its lock: is it on NFS?")

    def _remove(self, written: int) -> None:
        """Truncate the file to its old size, unless a writer that ignores the lock has appended as well."""
        old_size = self.snapshot.size
        if os.fstat(self._fd).st_size <= old_size + written:
            os.ftruncate(self._fd, old_size)


class Journal:
    """
    The file `index.jsonl` of a store.

    Args:
        root: The store's directory.
        warn: Called with a kind and a message for a problem that doesn't make the operation fail.
    """

    def __init__(self, root: Path, warn: Callable[[str, str], None]) -> None:
        self._root = root
        self._path = root / INDEX
        self._warn = warn

    @contextmanager
    def reading(self) -> Iterator[Snapshot]:
        """Open the index as it is now; a missing index reads as an empty one."""
        try:
            file: BinaryIO = files.open_to_read(self._path)
        except FileNotFoundError:
            file = io.BytesIO()
        with file:
            snapshot = Snapshot(file)
            try:
                yield snapshot
            finally:
                self._warn_of_bad_lines(snapshot)

    @contextmanager
    def appending(self) -> Iterator[Appender]:
        """
        Take the lock, then open the index, in this order: it may be replaced while this process waits for the lock.

        Raises:
            StoreBusyError: Another process held the lock for 30 s.
            StoreError: The file system has no locks.
        """
        with locked(self._root):
            fd = atomic.open_fd(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            with os.fdopen(fd, "rb") as file:
                snapshot = Snapshot(file)
                if snapshot.end != snapshot.size:
                    # No process is writing, so the last line is torn. It is never cut away, as another process wrote
                    # it. If only its LF is missing, sealing makes it good: so seal, and read again, before the caller
                    # decides what to append.
                    seal(fd)
                    snapshot = Snapshot(file)
                yield Appender(fd, snapshot, self._root, self._warn)
            self._warn_of_bad_lines(snapshot)

    def rewrite(self, lines: Callable[[Snapshot], Iterable[bytes]], *, keep_old: bool) -> tuple[int, int]:
        """
        Replace the index by another one, in one step. The caller holds the lock.

        A reader keeps the file that it has opened; a writer that waits for the lock opens the new one, whose `gen` is
        another.

        Args:
            lines: Makes the new lines, without a head, from the present index.
            keep_old: Keep the present file as `index.jsonl.old`; otherwise leave neither it nor an older one, nor the
                temporary files of interrupted rewritings.

        Returns:
            The number of lines and of bytes in the new index, including the head.
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
        # Linked under another name first, so that there is an `index.jsonl.old` at any moment.
        with atomic.replacing(self._root / OLD, prefix=TEMPORARY) as temporary:
            atomic.link_or_copy(self._path, temporary)
        # If `index.jsonl.old` was a link to the same file already, the rename did nothing, and the temporary is left.
        atomic.discard(temporary)

    def _warn_of_bad_lines(self, snapshot: Snapshot) -> None:
        if snapshot.bad:
            self._warn("bad", f"skipped {plural(snapshot.bad, 'damaged line')} in {str(self._path)!r}")


def seal(fd: int) -> None:
    """End a torn last line with an LF."""
    os.write(fd, b"\n")
