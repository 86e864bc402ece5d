"""Runs the crash programs; the full grid of system calls and errors is run by `pytest -m grid` alone."""

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


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "grid: each system call with each error, which takes minutes; run by `-m grid` alone"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "grid" in config.option.markexpr:
        return
    deselected = [item for item in items if item.get_closest_marker("grid")]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in deselected]


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
