"""What a Python program that a test starts needs in order to import `tests.support`."""

from __future__ import annotations

import os
from pathlib import Path

TOP = Path(__file__).parents[2]  # of the repository


def environment() -> dict[str, str]:
    """Return this process's environment with the repository on the module path; no bytecode is written."""
    return {**os.environ, "PYTHONPATH": str(TOP), "PYTHONDONTWRITEBYTECODE": "1"}
