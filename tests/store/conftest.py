"""A new store for each test, the warnings it gives, and a way to write its index."""

from __future__ import annotations

from pathlib import Path

import pytest

from musicgen_cli.store import Store
from tests.support.index_lines import WriteIndex


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the path, with a blank and an accent, of a store that does not exist yet."""
    return tmp_path / "mein Störe"


@pytest.fixture
def warnings() -> list[str]:
    """Return the list to which the fixture `store` appends its warnings."""
    return []


@pytest.fixture
def store(root: Path, warnings: list[str]) -> Store:
    return Store(root, warn=warnings.append)


@pytest.fixture
def index(root: Path) -> WriteIndex:
    """Write an index from lines, beside an empty directory `blobs`."""

    def write(*lines: bytes) -> Path:
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        path = root / "index.jsonl"
        path.write_bytes(b"".join(lines))
        return path

    return write
