"""A store of its own for each test, what it warned of, and an index written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from musicgen_cli.store import Store


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
