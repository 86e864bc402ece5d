"""The folder of a store's jobs and the form of their ids; loads little, so that shell completion is quick."""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from pathlib import Path

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def job_folder(store: Path, state_dir: Path) -> Path:
    """Return the folder of a store's jobs, which need not exist."""
    return state_dir / "jobs" / blake2b(os.fsencode(os.path.realpath(store)), digest_size=8).hexdigest()


def is_job_id(text: str) -> bool:
    """Tell whether `text` has the form of a job's id."""
    return _UUID.fullmatch(text) is not None
