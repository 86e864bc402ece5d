"""
Kill an operation in the middle of each of its writes: `python -m tests.support.crash.torn PLACE OPERATION` prints JSON.

This is a program of its own because it forks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from musicgen_cli.store import maintenance
from tests.support.crash.operations import Expected, quiet, takes

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def kill_within_write(expected: Expected, root: Path, nth: int, part: str) -> bool:
    """Run the operation in a child that dies after a part of its n-th write; return whether there was such a write."""
    write = os.write
    writes = count(1)

    def write_or_die(fd: int, data: ReadableBuffer, /) -> int:
        if next(writes) == nth:
            view = memoryview(data)
            size = len(view)
            write(fd, view[: {"first byte": 1, "half": size // 2, "all but one": size - 1}[part]])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(fd, data)

    if not (pid := os.fork()):
        os.write = write_or_die
        try:
            expected.operation.run(quiet(root))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def flaw(expected: Expected, root: Path) -> str | None:
    """Check what the operation left, finish it as another process would, repair; return what goes wrong, or None."""
    if problem := expected.flaw(root, done=False, torn=0) or expected.flaw_of_rest(root, torn=1):
        return problem
    before = takes(root)
    maintenance.repair(root)
    if (bad := quiet(root).stats().bad_lines) or takes(root) != before:
        return f"after a repair, {bad} bad lines and {takes(root)}"
    return None


def main(place: Path, name: str) -> None:
    expected = Expected(name, place)
    flaws: list[str] = []
    torn = sealed = 0
    for nth in count(1):
        for part in ("first byte", "half", "all but one"):
            root = place / f"{nth} {part}"
            expected.copy_to(root)
            if not kill_within_write(expected, root, nth, part):
                print(json.dumps({"torn": torn, "sealed": sealed, "flaws": flaws}))  # noqa: T201
                return
            torn += 1
            index = root / "index.jsonl"
            sealed += index.exists() and index.read_bytes()[-1:] not in {b"", b"\n"}
            try:
                problem = flaw(expected, root)
            except Exception as err:  # noqa: BLE001  # any error of the store is a flaw here
                problem = repr(err)
            if problem:
                flaws.append(f"{root.name}: {problem}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
