"""
Recognises the cache of huggingface_hub, in which other programs keep models that they have downloaded.

    models--OWNER--REPO/refs/main               the commit of the main branch
    models--OWNER--REPO/snapshots/<commit>/…    symbolic links to files in models--OWNER--REPO/blobs
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FOLDER = re.compile(r"models--([\w.-]+?)--([\w.-]+)", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision of a repository in such a cache."""

    directory: Path
    repository: str  # OWNER/REPO
    commit: str


def find_snapshot(folder: Path) -> Snapshot | None:
    """
    Return the snapshot that a folder is, or that is the main branch in it; None if it isn't part of such a cache.

    Args:
        folder: An absolute path.
    """
    if match := _FOLDER.fullmatch(folder.name):
        try:
            commit = (folder / "refs" / "main").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        folder = folder / "snapshots" / commit
    elif folder.parent.name == "snapshots":
        match, commit = _FOLDER.fullmatch(folder.parent.parent.name), folder.name
    if match is None or not _COMMIT.fullmatch(commit) or not folder.is_dir():
        return None
    return Snapshot(folder, f"{match[1]}/{match[2]}", commit)
