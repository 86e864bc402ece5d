"""
Facts that cost seconds to find out and are asked for at each start: the digest of a folder's weights, a fidelity.

    <cache_dir>/<kind>/<SHA-256 of the key>     the fact, as text

They can be found out again at any time, so whatever goes wrong here is as if nothing had been remembered.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from musicgen_cli import atomic

_SETTLED_S = 2.0  # a file system's clock may be as coarse as this (FAT): a younger file can change unseen


def read_cached(cache_dir: Path, kind: str, key: str) -> str | None:
    """Return what was remembered under a key."""
    try:
        return _path(cache_dir, kind, key).read_text("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def write_cached(cache_dir: Path, kind: str, key: str, fact: str) -> None:
    """Keep a fact, which is ASCII and not empty."""
    path = _path(cache_dir, kind, key)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, f"{fact}\n".encode("ascii"), mode=atomic.SHARED, durable=False)


def fingerprint(files: Sequence[Path]) -> str | None:
    """
    Return a key that changes when any of the files does: path, size, time of change and inode of each.

    None if one of them was changed just now, for then another change could go unseen.

    Raises:
        OSError: One of them can't be looked at.
    """
    states = [(str(path.resolve()), path.stat()) for path in files]
    if any(abs(time.time() - stat.st_mtime) < _SETTLED_S for _, stat in states):
        return None
    return repr([(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in states])


def _path(cache_dir: Path, kind: str, key: str) -> Path:
    return cache_dir / kind / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
