"""The environment of Python programs that tests start."""

from __future__ import annotations

import os
from pathlib import Path

TOP = Path(__file__).parents[2]  # the repository


def environment() -> dict[str, str]:
    """Return this process's environment with the repository on the module path, and no writing of bytecode."""
    return {**os.environ, "PYTHONPATH": str(TOP), "PYTHONDONTWRITEBYTECODE": "1"}
