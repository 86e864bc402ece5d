"""The takes of a batch, expanded from its rows."""

from __future__ import annotations

import sys
from contextlib import closing

import pytest

from musicgen_cli.actions.batch.sweep import Sweep
from musicgen_cli.actions.batch.worklist import Worklist
from musicgen_cli.actions.source_finder import SourceFinder
from musicgen_cli.store import Store

NO_SOUNDS = SourceFinder(Store("nowhere"), creator="nobody")


def test_a_long_sweep_reports_its_progress() -> None:
    """Every ten thousand takes, also across rows."""
    reported: list[int] = []
    with closing(Worklist({}, Sweep(["seed=1..7000"]), NO_SOUNDS, reported.append)) as worklist:
        for line in range(1, 6):
            worklist.add(line, {"prompt": f"a lute, number {line}"})
        assert worklist.takes == 35_000

    assert reported == [10_000, 20_000, 30_000]


@pytest.mark.skipif(sys.platform == "win32", reason="needs the module resource")
def test_a_long_sweep_takes_little_memory() -> None:
    """A hundred thousand takes are on disk: they take less than the cache that is set, and a bit."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with closing(Worklist({}, Sweep(["seed=1..100000"]), NO_SOUNDS)) as worklist:
        worklist.add(1, {"prompt": "a lute"})
        assert worklist.missing() == 100_000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 40 * 1024 * (1024 if sys.platform == "darwin" else 1)
