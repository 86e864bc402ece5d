"""
Simulate a power loss at any moment of an operation, or of another process that finishes it after the first one died.

`python -m tests.support.crash.power PLACE OPERATION [BUG]` prints JSON; with a bug, only the first flaw.
This is a program of its own because it forks and replaces functions of `os`.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import filelock  # noqa: F401  # imported before the fork, so that no child has to
import pydantic_core  # noqa: F401

from musicgen_cli.errors import NotFoundError
from tests.support.crash.bugs import BUGS
from tests.support.crash.disk import Acknowledged, Image, Recorder, after_power_loss
from tests.support.crash.operations import Expected, quiet

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


def flaws(expected: Expected, place: Path, figures: dict[str, int]) -> Iterator[str]:
    """Yield what is wrong with the store after any power loss; `figures` counts the states that were checked."""
    recorder = _recorder(expected, place / "alone")
    with recorder.watching():
        expected.operation.run(quiet(place / "alone" / "store"))
    recorder.events.append(Acknowledged())
    seen: set[tuple[object, ...]] = set()
    yield from _check(expected, after_power_loss(recorder, seen), place, figures, "power loss")
    events = -1
    for call in count(1):
        recorder = _recorder(expected, place / f"died {call}")
        root = place / f"died {call}" / "store"
        died = _die_before(call, expected, root, recorder)
        if died is None:
            return
        if len(died.events) == events:
            continue  # for the disk, this death is the same as the one before
        events = len(died.events)
        figures["deaths"] += 1
        with died.watching(), suppress(NotFoundError):
            expected.operation.finish(quiet(root))
            died.events.append(Acknowledged())
        history = f"death before call {call}, finished by another process, power loss"
        yield from _check(expected, after_power_loss(died, seen, events), place, figures, history)
        shutil.rmtree(place / f"died {call}")


def _recorder(expected: Expected, disk: Path) -> Recorder:
    disk.mkdir()
    expected.copy_to(disk / "store")
    return Recorder(disk)


def _die_before(call: int, expected: Expected, root: Path, recorder: Recorder) -> Recorder | None:
    """Run the operation in a child that dies before its n-th call; return its record, or None if it ended before."""
    into, out = os.pipe()
    if not os.fork():
        calls = count(1)

        def die() -> None:
            if next(calls) == call:
                with open(out, "wb", closefd=False) as file:
                    pickle.dump(recorder, file)
                os._exit(0)

        try:
            with recorder.watching(die):
                expected.operation.run(quiet(root))
        finally:
            os._exit(0)
    os.close(out)
    with os.fdopen(into, "rb") as file:
        pickled = file.read()
    os.wait()
    record: Recorder | None = pickle.loads(pickled) if pickled else None
    return record


def _check(
    expected: Expected, states: Iterator[tuple[Image, bool]], place: Path, figures: dict[str, int], history: str
) -> Iterator[str]:
    for image, acknowledged in states:
        figures["states"] += 1
        disk = place / "disk"
        image.write_to(disk)
        try:
            root = disk / "store"
            problem = expected.flaw(root, done=acknowledged, torn=1) or expected.flaw_of_rest(root, torn=1)
        except Exception as err:  # noqa: BLE001  # any error of the store is a flaw here
            problem = repr(err)
        if problem:
            yield f"{history}: {problem}; the disk had {sorted(image.names)}"
        shutil.rmtree(disk)


def _no_fsync(fd: FileDescriptorLike) -> None:
    pass


def main(place: Path, name: str, bug: str = "") -> None:
    os.fsync = _no_fsync  # the disk is a model
    expected = Expected(name, place)
    if bug:
        BUGS[bug]()
    figures = {"states": 0, "deaths": 0}
    problems = list(islice(flaws(expected, place, figures), 1 if bug else None))
    print(json.dumps({**figures, "flaws": problems}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
