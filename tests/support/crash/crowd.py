"""
Let many processes use one store at once: `python -m tests.support.crash.crowd PLACE HOW` prints JSON.

HOW is together (all come to their end), killed (half of them don't) or unlocked (the lock does silently nothing).
A program of its own, since it forks.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import filelock  # noqa: F401  # so that no child has to
import pydantic_core  # noqa: F401

from musicgen_cli.store import Store, maintenance
from tests.support.crash.operations import LONG_AGO, quiet, takes
from tests.support.index_lines import draft, sound


def start(work: Callable[[], object]) -> int:
    """Do something in a child."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001  # the parent has to know
        traceback.print_exc()
    finally:
        os._exit(code)


def end(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Diary:
    """What a process was told, one JSON line each, written as soon as it was told."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, op: str, text: str) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps([op, text]) + "\n")

    def read(self) -> list[tuple[str, str]]:
        text = self._path.read_text() if self._path.exists() else ""
        return [tuple(json.loads(line)) for line in text.splitlines()]


def work(root: Path, diary: Diary, writer: int, rounds: int | None) -> None:
    """Put takes, every other one with audio that all others put too; tag some of one's own and remove some."""
    store = Store(root, warn=lambda line: diary.add("warned", line))
    mine: list[str] = []
    for round_ in range(rounds) if rounds else count():
        seed = round_ if round_ % 2 else 1000 * (writer + 1) + round_
        mine.append(store.put(sound(seed), draft(f"{writer} {round_}")).id)
        diary.add("put", mine[-1])
        if round_ % 5 == 4:
            store.tag([mine[-1]], add=[f"by {writer}"])
            diary.add("tag", mine[-1])
        if round_ % 7 == 6:
            gone = mine.pop(-2)
            store.remove([gone])
            diary.add("rm", gone)
        if writer == 0 and round_ == 12 and rounds:
            maintenance.compact(root)
            diary.add("compact", "")


def flaws(root: Path, diaries: list[Diary], unsaid: int) -> list[str]:
    """Compare the store with what everybody was told; `unsaid` edits may have been done with nobody left to tell."""
    told = Counter(entry for diary in diaries for entry in diary.read())
    found = takes(root)
    there = {name: told["put", name] - told["rm", name] for op, name in told if op == "put"}
    wrong = [f"{name} was given to {times} that live" for name, times in there.items() if times not in (0, 1)]
    expected = {name for name, times in there.items() if times}
    lost, extra = expected - found.keys(), found.keys() - expected
    if len(lost) + len(extra) > unsaid:
        wrong.append(f"lost {lost}, nobody put {extra}")
    for op, name in told:
        # An id may be given again once a compaction forgot that it was removed, and the new one has tags of its own.
        if op == "tag" and name in found and told["put", name] == 1 and len(found[name][1]) != 2:
            wrong.append(f"{name} is not tagged")
    wrong += [f"the audio of {name} is wrong" for name, take in found.items() if not take[3]]
    return wrong


def together(root: Path, diaries: list[Diary]) -> list[str]:
    pids = [start(lambda writer=writer: work(root, diaries[writer], writer, 25)) for writer in range(16)]
    wrong = [f"ended with {code}" for pid in pids if (code := end(pid))]
    return [*wrong, *flaws(root, diaries, 0)]


def killed(root: Path, diaries: list[Diary]) -> list[str]:
    quiet(root).put(sound(0), draft("first"))
    diaries[0].add("put", quiet(root).get("last").id)
    pids = [start(lambda writer=writer: work(root, diaries[writer], writer, None)) for writer in range(4)]
    survivors = [start(lambda writer=writer: work(root, diaries[writer], writer, 25)) for writer in range(4, 8)]
    for pid in pids:
        time.sleep(random.uniform(0.05, 0.3))
        os.kill(pid, signal.SIGKILL)
    wrong = [f"ended with {code}" for pid in pids if (code := end(pid)) != -signal.SIGKILL]
    wrong += [f"ended with {code}" for pid in survivors if (code := end(pid))]
    wrong += flaws(root, diaries, len(pids))
    if (stats := quiet(root).stats()).temporaries > len(pids):
        wrong.append(f"{stats.temporaries} temporaries")
    for path in root.rglob(".tmp-*"):
        os.utime(path, (time.time() - LONG_AGO,) * 2)
    if not stats.bad_lines:
        maintenance.gc(root, yes=True)
        if quiet(root).stats().temporaries:
            wrong.append("a clean-up left temporaries")
    return wrong


def unlocked(root: Path, diaries: list[Diary]) -> list[str]:
    write = os.write

    def write_slowly(fd: int, data: bytes) -> int:
        time.sleep(0.001)  # so that the others come in between
        return write(fd, data)

    def work_alone(writer: int) -> None:
        store = Store(root, warn=lambda line: diaries[writer].add("warned", line))
        for round_ in range(10):  # audio of its own: that ids differ does rest on the lock
            diaries[writer].add("put", store.put(sound(1000 * (writer + 1) + round_), draft()).id)

    fcntl.flock = lambda fd, how: None
    os.write = write_slowly
    pids = [start(lambda writer=writer: work_alone(writer)) for writer in range(8)]
    wrong = []
    while pids:
        takes(root)  # raises nothing, whatever is going on
        wrong += [f"ended with {os.waitstatus_to_exitcode(status)}" for pid, status in ended(pids) if status]
    return [*wrong, *flaws(root, diaries, 0)]


def ended(pids: list[int]) -> list[tuple[int, int]]:
    """Forget those children that came to their end, and return them."""
    ends = [(pid, status) for pid in pids for gone, status in [os.waitpid(pid, os.WNOHANG)] if gone]
    for pid, _ in ends:
        pids.remove(pid)
    return ends


def main(place: Path, how: str) -> None:
    root = place / "store"
    diaries = [Diary(place / f"diary {number}") for number in range(16)]
    began = time.monotonic()
    wrong = {"together": together, "killed": killed, "unlocked": unlocked}[how](root, diaries)
    took = time.monotonic() - began
    told = [op for diary in diaries for op, _ in diary.read()]
    figures = {f"{op} told": told.count(op) for op in ("put", "tag", "rm", "compact", "warned")}
    bad = quiet(root).stats().bad_lines
    print(json.dumps({**figures, "bad lines": bad, "seconds": round(took, 1), "flaws": wrong}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
