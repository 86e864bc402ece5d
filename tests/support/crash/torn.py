"""
Kill an operation in the middle of each of its writes: `python -m tests.support.crash.torn PLACE OPERATION` prints JSON.

A program of its own, since it forks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from itertools import count
from pathlib import Path

from musicgen_cli.store import maintenance
from tests.support.crash.operations import Expected, quiet, takes


def cut_off(expected: Expected, root: Path, nth: int, part: str) -> bool:
    """Write only a part the n-th time, and die; tell whether there was such a write."""
    write = os.write
    writes = count(1)

    def write_or_die(fd: int, data: bytes | memoryview) -> int:
        if next(writes) == nth:
            size = len(data)
            write(fd, data[: {"first byte": 1, "half": size // 2, "all but one": size - 1}[part]])
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
    """Look at what was left, let somebody else finish, and repair."""
    if wrong := expected.flaw(root, done=False, torn=0) or expected.flaw_of_rest(root, torn=1):
        return wrong
    kept = takes(root)
    maintenance.repair(root)
    if (bad := quiet(root).stats().bad_lines) or takes(root) != kept:
        return f"after a repair, {bad} bad lines and {takes(root)}"
    return None


def main(place: Path, name: str) -> None:
    expected = Expected(name, place)
    found = []
    torn = sealed = 0
    for nth in count(1):
        for part in ("first byte", "half", "all but one"):
            root = place / f"{nth} {part}"
            expected.copy_to(root)
            if not cut_off(expected, root, nth, part):
                print(json.dumps({"torn": torn, "sealed": sealed, "flaws": found}))  # noqa: T201
                return
            torn += 1
            index = root / "index.jsonl"
            sealed += index.exists() and index.read_bytes()[-1:] not in {b"", b"\n"}
            try:
                wrong = flaw(expected, root)
            except Exception as err:  # noqa: BLE001  # whatever a store says no to is a flaw here
                wrong = repr(err)
            if wrong:
                found.append(f"{root.name}: {wrong}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
