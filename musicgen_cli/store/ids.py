"""Find an id for a new artifact that nothing in the index uses yet."""

from __future__ import annotations

import re
from itertools import count
from threading import Lock

from musicgen_cli.store.digest import make_id
from musicgen_cli.store.journal import Snapshot
from musicgen_cli.store.lines import refuse_unknown

_PREFIX_DIGITS = 6  # of the 12: sixteen times a million takes
_PREFIX = re.compile(rb'"id":"artifact_([0-9a-f]{%d})' % _PREFIX_DIGITS)
_BITMAP_FROM_PUT = 4
_LAST_BYTES = 64  # enough to include the checksum of the last line


class IdCache:
    """
    What earlier puts of this process read from an index, so that each put reads only what was appended since.

    The index up to `end` contains no line that only a newer version knows. From the fourth put on, a bitmap also says
    which prefixes of ids occur there, so that a put can skip the search for an id whose prefix is new; a process that
    puts once doesn't need it.

    Attributes:
        lock: Held by the caller of any other method, and while `end` is used.
        end: Offset up to which the index is known.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.end = 0
        self._gen: str | None = None
        self._last = b""  # the bytes before `end`
        self._puts = 0
        self._prefixes: bytearray | None = None  # one bit per prefix: whether an id starts with it

    def count_put(self) -> None:
        """Count one more put."""
        self._puts += 1
        if self._puts == _BITMAP_FROM_PUT:
            self._clear()

    def validate(self, snapshot: Snapshot) -> None:
        """Clear the cache if the index was rewritten or truncated since, not only appended to."""
        is_same = self._gen is not None and snapshot.gen == self._gen
        if not is_same or snapshot.before(self.end, len(self._last)) != self._last:
            self._clear()

    def add(self, block: bytes) -> None:
        """
        Take in lines, at least some of which are after `end`.

        Raises:
            NewerStoreError: Only a newer version knows what a line means.
        """
        refuse_unknown(block)
        if self._prefixes is not None:
            for digits in _PREFIX.findall(block):
                prefix = int(digits, 16)
                self._prefixes[prefix >> 3] |= 1 << (prefix & 7)

    def advance(self, snapshot: Snapshot) -> None:
        """Set `end` after all lines of the snapshot were added."""
        self._gen, self.end = snapshot.gen, snapshot.end
        self._last = snapshot.before(self.end, _LAST_BYTES)

    def excludes(self, short: str) -> bool:
        """Tell whether it is certain that no id before `end` has these 12 digits."""
        prefix = int(short[:_PREFIX_DIGITS], 16)
        return self._prefixes is not None and not self._prefixes[prefix >> 3] & 1 << (prefix & 7)

    def _clear(self) -> None:
        self.end, self._last = 0, b""
        if self._puts >= _BITMAP_FROM_PUT:
            self._prefixes = bytearray(16**_PREFIX_DIGITS // 8)


class UsedIds:
    """
    The ids with the same 12 digits that occur in an index, whether or not their artifacts are live.

    A put searches the whole index before it takes the lock, and only what was appended since then under the lock.

    Args:
        short: The 12 digits.
        cache: The store's cache, which this updates.
    """

    def __init__(self, short: str, cache: IdCache) -> None:
        with cache.lock:
            cache.count_put()
        self._cache = cache
        self._short = short
        self._id = re.compile(rb'"id":"artifact_%s(?:-([1-9][0-9]{0,8}))?"' % short.encode())
        self._id_start = self._id.pattern[: self._id.pattern.index(b"(")]
        self._numbers: set[int] = set()
        self._gen: str | None = None
        self._end = 0

    def update(self, snapshot: Snapshot) -> None:
        """
        Search for the ids in the part of the index that was not searched before, in good lines and bad ones.

        Raises:
            NewerStoreError: Only a newer version knows what a line means.
        """
        cache = self._cache
        with cache.lock:
            cache.validate(snapshot)
            if self._gen is not None and snapshot.gen == self._gen and snapshot.size >= self._end:
                offset = min(self._end, cache.end)
            else:
                offset = cache.end if cache.excludes(self._short) else 0
            for block in snapshot.forward(offset, snapshot.size):
                offset += len(block)
                if offset > cache.end:
                    cache.add(block)
                start = block.find(self._id_start)
                while start >= 0:
                    if match := self._id.match(block, start):
                        self._numbers.add(int(match[1] or 1))
                    start = block.find(self._id_start, start + 1)
            self._gen, self._end = snapshot.gen, snapshot.end
            cache.advance(snapshot)

    def unused(self) -> str:
        """Return the id with the smallest number that does not occur."""
        return make_id(self._short, next(number for number in count(1) if number not in self._numbers))
