"""Runs the crash programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.crash import Crash
from tests.support.figures import FIGURES
from tests.support.programs import environment


@pytest.fixture
def crash(tmp_path: Path, record_property: Callable[[str, object], None]) -> Crash:
    """Run one of the programs of `tests.support.crash`; the figures it returns are shown at the end of the test run."""
    if sys.platform != "linux":
        pytest.skip("the programs fork, and use Linux's system calls")

    def run(program: str, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", f"tests.support.crash.{program}", str(tmp_path), *arguments],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert done.returncode == 0
        result: dict[str, Any] = json.loads(done.stdout)
        figures = {name: value for name, value in result.items() if isinstance(value, int | float)}
        record_property(FIGURES, figures)
        return result

    return run
