"""
Caches values that take seconds to compute and are needed at each start: digests of weights, fidelities.

    <cache_dir>/<kind>/<SHA-256 of the key>     the value, as text

They can be computed again at any time, so every failure here counts as a cache miss, and so does a file that another
user could have written.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from musicgen_cli import atomic, foreign

_VALUE_BYTES = 1024
_SETTLED_S = 2.0  # the coarsest file time (FAT): a file modified this recently can change without a new time


def read_cached(cache_dir: Path, kind: str, key: str) -> str | None:
    """Return the value that is cached under a key; None if there is none."""
    try:
        with foreign.open_file(_path(cache_dir, kind, key), follow=False) as file:
            if foreign.who_else(os.fstat(file.fileno()), trusted=(foreign.ROOT,)) is not None:
                return None
            return foreign.read_all(file, _VALUE_BYTES).decode("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def write_cached(cache_dir: Path, kind: str, key: str, value: str) -> None:
    """Cache a value, which is ASCII and not empty; a failure is ignored."""
    path = _path(cache_dir, kind, key)
    with suppress(OSError):
        atomic.make_private_folder(path.parent)
        atomic.write(path, f"{value}\n".encode("ascii"), durable=False)


def fingerprint(files: Sequence[Path]) -> str | None:
    """
    Return a key that changes when one of the files does: path, size, modification time and inode of each.

    Returns:
        None if one of them was modified just now, for a further modification might then not change the key.

    Raises:
        OSError: One of them can't be examined.
    """
    stats = [(str(path.resolve()), path.stat()) for path in files]
    if any(abs(time.time() - stat.st_mtime) < _SETTLED_S for _, stat in stats):
        return None
    return repr([(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in stats])


def _path(cache_dir: Path, kind: str, key: str) -> Path:
    return cache_dir / kind / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
