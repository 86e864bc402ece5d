"""A store of its own for each test, what it warned of, an index written by hand; and in the end what was tried."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from store.figures import FIGURES

from musicgen_cli.store import Store


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Add up the figures of each test's cases, and Hypothesis's examples."""
    totals: dict[str, Counter[str]] = {}
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if not getattr(report, "nodeid", "").startswith("tests/store/"):
            continue
        test = report.nodeid.split("::")[1].partition("[")[0]
        for name, figures in getattr(report, "user_properties", ()):
            if name == FIGURES and report.when == "call":
                totals.setdefault(test, Counter()).update({"cases": 1} | figures)
        # Where Hypothesis leaves for its own summary what `--hypothesis-show-statistics` prints.
        examples = re.findall(r"(\d+) passing", getattr(report, "_hypothesis_stats", ""))
        if examples:
            totals.setdefault(test, Counter())["examples"] += sum(map(int, examples))
    if totals:
        terminalreporter.section("what the store's tests tried")
    for test, total in sorted(totals.items()):
        shown = ", ".join(f"{name} {value:g}" for name, value in total.items() if value)
        terminalreporter.write_line(f"{test.removeprefix('test_').replace('_', ' ')}: {shown}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Name a store that isn't there yet, on a path with a blank and an accent."""
    return tmp_path / "mein Störe"


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(root: Path, warnings: list[str]) -> Store:
    return Store(root, warn=warnings.append)


@pytest.fixture
def index(root: Path) -> Callable[..., Path]:
    """Write an index from lines, beside empty `blobs`."""

    def write(*lines: bytes) -> Path:
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        path = root / "index.jsonl"
        path.write_bytes(b"".join(lines))
        return path

    return write
