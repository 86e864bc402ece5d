"""
Lose the power at any moment of an operation, and at any moment of another that goes on where the first one died.

A program of its own, since it forks and changes `os`:
`python -m tests.support.crash.power PLACE OPERATION [BUG]` prints JSON; with a bug only the first flaw.
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

import filelock  # noqa: F401  # so that no child has to
import pydantic_core  # noqa: F401

from musicgen_cli.errors import NotFoundError
from tests.support.crash.bugs import BUGS
from tests.support.crash.disk import Image, Recorder, Told, after_power_loss
from tests.support.crash.operations import Expected, quiet


def flaws(expected: Expected, place: Path, figures: dict[str, int]) -> Iterator[str]:
    """Yield what is wrong with a store after any power loss; `figures` counts the states looked at."""
    recorder = _recorder(expected, place / "alone")
    with recorder.watching():
        expected.operation.run(quiet(place / "alone" / "store"))
    recorder.events.append(Told())
    seen: set[tuple[object, ...]] = set()
    yield from _judge(expected, after_power_loss(recorder, seen), place, figures, "power loss")
    known = -1
    for call in count(1):
        recorder = _recorder(expected, place / f"died {call}")
        root = place / f"died {call}" / "store"
        died = _die_before(call, expected, root, recorder)
        if died is None:
            return
        if len(died.events) == known:
            continue  # as far as the disk is concerned, it died there before
        known = len(died.events)
        figures["deaths"] += 1
        with died.watching(), suppress(NotFoundError):
            expected.operation.again(quiet(root))
            died.events.append(Told())
        why = f"death before call {call}, another finishes, power loss"
        yield from _judge(expected, after_power_loss(died, seen, known), place, figures, why)
        shutil.rmtree(place / f"died {call}")


def _recorder(expected: Expected, disk: Path) -> Recorder:
    disk.mkdir()
    expected.copy_to(disk / "store")
    return Recorder(disk)


def _die_before(call: int, expected: Expected, root: Path, recorder: Recorder) -> Recorder | None:
    """Run the operation in a child that dies before one of its calls; return its record, None if it came to its end."""
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
        record = file.read()
    os.wait()
    return pickle.loads(record) if record else None


def _judge(
    expected: Expected, states: Iterator[tuple[Image, bool]], place: Path, figures: dict[str, int], why: str
) -> Iterator[str]:
    for image, told in states:
        figures["states"] += 1
        disk = place / "disk"
        image.write_to(disk)
        try:
            wrong = expected.flaw(disk / "store", done=told, torn=1) or expected.flaw_of_rest(disk / "store", torn=1)
        except Exception as err:  # noqa: BLE001  # whatever a store says no to is a flaw here
            wrong = repr(err)
        if wrong:
            yield f"{why}: {wrong}; there was {sorted(image.names)}"
        shutil.rmtree(disk)


def main(place: Path, name: str, bug: str = "") -> None:
    os.fsync = lambda fd: None  # the disk is a model; what it has is up to the record
    expected = Expected(name, place)
    if bug:
        BUGS[bug]()
    figures = {"states": 0, "deaths": 0}
    found = list(islice(flaws(expected, place, figures), 1 if bug else None))
    print(json.dumps({**figures, "flaws": found}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
