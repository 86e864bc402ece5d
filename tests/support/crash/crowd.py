"""
Let many processes use one store at the same time: `python -m tests.support.crash.crowd PLACE HOW` prints JSON.

HOW is together (all processes run to their end), killed (half of them are killed) or unlocked (the lock has no effect).
This is a program of its own because it forks.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import filelock  # noqa: F401  # imported before the fork, so that no child has to
import pydantic_core  # noqa: F401

from musicgen_cli.store import Store, maintenance
from tests.support.crash.operations import LONG_AGO, quiet, takes
from tests.support.index_lines import draft, sound

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike, ReadableBuffer

UNLOCKED_WRITERS = 8
BARRIER_S = 60  # for all writers to come to their first write, which takes less than a second on an idle machine


def start(action: Callable[[], object]) -> int:
    """Run an action in a child, and return its process id."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        action()
        code = 0
    except BaseException:  # noqa: BLE001  # the parent sees it on stderr and by the exit code
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(pid: int) -> int:
    """Wait for a child's end."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class AckLog:
    """The operations that returned in one process, one JSON line each, written as soon as the operation returned."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, op: str, text: str) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps([op, text]) + "\n")

    def read(self) -> list[tuple[str, str]]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [(op, text) for op, text in map(json.loads, lines)]


def write_takes(root: Path, log: AckLog, writer: int, rounds: int | None) -> None:
    """Put takes, every other one with the same audio as those of all writers; tag some of them and remove some."""
    store = Store(root, warn=partial(log.add, "warning"))
    ids: list[str] = []
    for round_ in range(rounds) if rounds else count():
        seed = round_ if round_ % 2 else 1000 * (writer + 1) + round_
        ids.append(store.put(sound(seed), draft(f"{writer} {round_}")).id)
        log.add("put", ids[-1])
        if round_ % 5 == 4:
            store.tag([ids[-1]], add=[f"by {writer}"])
            log.add("tag", ids[-1])
        if round_ % 7 == 6:
            removed = ids.pop(-2)
            store.remove([removed])
            log.add("rm", removed)
        if writer == 0 and round_ == 12 and rounds:
            maintenance.compact(root)
            log.add("compact", "")


def flaws(root: Path, logs: list[AckLog], unacknowledged: int) -> list[str]:
    """
    Compare the store with the logs.

    Args:
        root: The store.
        logs: Of all writers.
        unacknowledged: How many edits may have been done without an entry in a log, as their process was killed.
    """
    entries = Counter(entry for log in logs for entry in log.read())
    stored = takes(root)
    live_times = {name: entries["put", name] - entries["rm", name] for op, name in entries if op == "put"}
    problems = [f"{name} was given to {times} live takes" for name, times in live_times.items() if times not in (0, 1)]
    expected = {name for name, times in live_times.items() if times}
    lost, extra = expected - stored.keys(), stored.keys() - expected
    if len(lost) + len(extra) > unacknowledged:
        problems.append(f"lost {lost}, never put {extra}")
    for op, name in entries:
        # After a compaction, the id of a removed take may be used again, and the new take has tags of its own.
        if op == "tag" and name in stored and entries["put", name] == 1 and len(stored[name].tags) != 2:
            problems.append(f"{name} is not tagged")
    problems += [f"the audio of {name} is wrong" for name, take in stored.items() if not take.is_intact]
    return problems


def together(root: Path, logs: list[AckLog]) -> list[str]:
    pids = [start(partial(write_takes, root, logs[writer], writer, 25)) for writer in range(16)]
    problems = [f"ended with {code}" for pid in pids if (code := exit_code(pid))]
    return [*problems, *flaws(root, logs, 0)]


def killed(root: Path, logs: list[AckLog]) -> list[str]:
    quiet(root).put(sound(0), draft("first"))
    logs[0].add("put", quiet(root).get("last").id)
    pids = [start(partial(write_takes, root, logs[writer], writer, None)) for writer in range(4)]
    survivors = [start(partial(write_takes, root, logs[writer], writer, 25)) for writer in range(4, 8)]
    for pid in pids:
        time.sleep(random.uniform(0.05, 0.3))
        os.kill(pid, signal.SIGKILL)
    problems = [f"ended with {code}" for pid in pids if (code := exit_code(pid)) != -signal.SIGKILL]
    problems += [f"ended with {code}" for pid in survivors if (code := exit_code(pid))]
    problems += flaws(root, logs, len(pids))
    if (stats := quiet(root).stats()).temporaries > len(pids):
        problems.append(f"{stats.temporaries} temporaries")
    for path in root.rglob(".tmp-*"):
        os.utime(path, (time.time() - LONG_AGO,) * 2)
    if not stats.bad_lines:
        maintenance.gc(root, yes=True)
        if quiet(root).stats().temporaries:
            problems.append("a garbage collection left temporaries")
    return problems


def unlocked(root: Path, logs: list[AckLog]) -> list[str]:
    """
    Let writers append to an index whose lock has no effect.

    No writer writes to the index before all of them have opened it for their first append. So all but one of these
    appends land at another offset than expected, which is what a writer warns of.
    """
    write = os.write
    barrier = multiprocessing.get_context("fork").Barrier(UNLOCKED_WRITERS)
    barriers = [barrier]  # each child empties its own copy of this list

    def write_slowly(fd: int, data: ReadableBuffer, /) -> int:
        if barriers and Path(f"/proc/self/fd/{fd}").readlink().name == "index.jsonl":
            barriers.pop().wait(BARRIER_S)
        time.sleep(0.001)  # gives the others time to write in between
        return write(fd, data)

    def lock_nothing(fd: FileDescriptorLike, operation: int, /) -> None:
        pass

    def put_takes(writer: int) -> None:
        store = Store(root, warn=partial(logs[writer].add, "warning"))
        for round_ in range(10):  # each writer with other audio, because only the lock keeps equal audio from one id
            logs[writer].add("put", store.put(sound(1000 * (writer + 1) + round_), draft()).id)

    fcntl.flock = lock_nothing
    os.write = write_slowly
    pids = [start(partial(put_takes, writer)) for writer in range(UNLOCKED_WRITERS)]
    problems = []
    while pids:
        takes(root)  # raises nothing, whatever is being written
        problems += [f"ended with {code}" for code in reap(pids) if code]
    return [*problems, *flaws(root, logs, 0)]


def reap(pids: list[int]) -> list[int]:
    """Remove the children that have ended from the list, and return their exit codes."""
    ends = [(pid, status) for pid in pids for ended, status in [os.waitpid(pid, os.WNOHANG)] if ended]
    for pid, _ in ends:
        pids.remove(pid)
    return [os.waitstatus_to_exitcode(status) for _, status in ends]


def main(place: Path, how: str) -> None:
    root = place / "store"
    logs = [AckLog(place / f"log {number}") for number in range(16)]
    began = time.monotonic()
    problems = {"together": together, "killed": killed, "unlocked": unlocked}[how](root, logs)
    took = time.monotonic() - began
    ops = [op for log in logs for op, _ in log.read()]
    figures = {f"{op} entries": ops.count(op) for op in ("put", "tag", "rm", "compact", "warning")}
    bad = quiet(root).stats().bad_lines
    print(json.dumps({**figures, "bad lines": bad, "seconds": round(took, 1), "flaws": problems}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
