"""What tests of `musicgen batch` share: a store, a service, and a way to run rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.batches import RunRows, good, serving
from tests.support.command_line import Result, Run


@pytest.fixture(autouse=True)
def _own_store(store_path: Path) -> None:
    """Give every test a store of its own."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a service, named by MUSICGEN_URL, that answers every request."""
    with serving(good) as url:
        monkeypatch.setenv("MUSICGEN_URL", url)
        yield url


@pytest.fixture
def batch(musicgen: Run, tmp_path: Path) -> RunRows:
    """Run rows as a batch."""

    def run(lines: str | bytes, *words: object, name: str = "rows") -> Result:
        file = tmp_path / name
        file.write_bytes(lines.encode() if isinstance(lines, str) else lines)
        return musicgen("batch", file, "-d", "0.5", *words)

    return run
