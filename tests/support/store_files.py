"""What is in a store's directory, and how old it looks."""

from __future__ import annotations

import os
import time
from pathlib import Path

TWO_HOURS_S = 7200.0  # more than the hour for which `gc` leaves unused files alone


def contents(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return mode, time of modification in ns, and bytes of each path in a directory, itself included."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [root, *root.rglob("*")]
    }


def make_old(root: Path, seconds: float = TWO_HOURS_S) -> None:
    """Make all files of a directory look as if they had been written some time ago."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - seconds,) * 2)


def names_starting(root: Path, prefix: str) -> list[str]:
    """Return the names in a directory that start with a prefix."""
    return [path.name for path in root.iterdir() if path.name.startswith(prefix)]
