"""Run the crash programs, and leave the full grid to who asks for it: `pytest -m grid`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.figures import FIGURES
from tests.support.programs import environment


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "grid: each store call with each error, in minutes; run by `-m grid` alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "grid" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("grid")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def crash(tmp_path: Path, record_property: Callable[[str, object], None]) -> Callable[..., dict[str, Any]]:
    """Run one of the programs beside this file in a directory of its own; its figures are shown in the end."""
    if sys.platform != "linux":
        pytest.skip("the programs fork, and know Linux's calls")

    def run(program: str, *words: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", f"tests.support.crash.{program}", str(tmp_path), *words],
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
