from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.actions.generate import GenerateOptions, make_all, plan
from musicgen_cli.actions.pool import as_done
from musicgen_cli.engine.base import NullListener, ProgressListener
from musicgen_cli.errors import EngineError
from musicgen_cli.store import Store
from tests.support.together import Together


def make_all_of(store: Store, engine: Together, count: int) -> tuple[list[int | None], str]:
    """Make takes with the seeds 0, 1, …; return the seeds of those that were yielded, and the error's message."""
    planned_takes = plan(GenerateOptions({"duration": 0.5, "seed": 0}, variations=count), store)
    seeds = []
    try:
        for take in make_all(planned_takes, engine, store, lambda *_: _Quiet(), jobs=engine.slots):
            seeds.append(take.artifact.seed)  # noqa: PERF401  # those before a failure, too
    except EngineError as err:
        return seeds, str(err)
    return seeds, ""


class _Quiet:
    """Listens to one take and says nothing; releases a semaphore when that is made."""

    def __init__(self, made: threading.Semaphore | None = None) -> None:
        self._made = made

    def __enter__(self) -> ProgressListener:
        return NullListener()

    def __exit__(self, *_: Any) -> None:
        if self._made is not None:
            self._made.release()


def test_variations_share_the_engine_and_keep_their_order(tmp_path: Path) -> None:
    """Four are made at once, and finish in reverse order."""
    store = Store(tmp_path / "store")

    assert make_all_of(store, Together(4), 8) == ([*range(8)], "")
    assert [take.variation_index for take in store.newest(None)] == [*range(7, -1, -1)]


def test_ctrl_c_loses_no_variation_that_was_made(tmp_path: Path) -> None:
    """Those that wait for an earlier one to be stored are stored when the caller leaves."""
    store = Store(tmp_path / "store")
    planned_takes = plan(GenerateOptions({"duration": 0.5, "seed": 0}, variations=4), store)
    made = threading.Semaphore(0)
    takes = make_all(planned_takes, Together(4), store, lambda *_: _Quiet(made), jobs=4)
    first = next(takes)
    for _ in planned_takes:
        assert made.acquire(timeout=20)
    takes.close()

    assert first.artifact.seed == 0
    assert [take.seed for take in store.newest(None)] == [3, 2, 1, 0]


def test_a_failure_loses_no_other_take(tmp_path: Path) -> None:
    """Takes that were made beside it are yielded before it is raised."""
    store = Store(tmp_path / "store")

    assert make_all_of(store, Together(4, failing=1), 4) == ([0, 2, 3], "no luck")
    assert len(list(store.newest(None))) == 3


def test_an_unexpected_exception_in_a_task_is_raised() -> None:
    """It is a bug, and not a failure of that task alone."""
    with pytest.raises(ZeroDivisionError):
        list(as_done([1, 0, 1], lambda task: 1 // task, jobs=2))
