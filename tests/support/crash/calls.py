"""
Kill an operation at each system call that touches the store, or let each such call fail once, by strace.

A program of its own, since it forks and lets itself be traced:
`python -m tests.support.crash.calls PLACE OPERATION HOW` prints JSON; HOW is
kill, fail or grid (all of it, and seven more errors).

strace hits the n-th call of a kind in any process, with one n for all processes. So that one strace does for all
points, each child first makes calls of that kind that lead nowhere, as many as bring its point to n.
"""

# What counts here is which call of `os` is made.
# ruff: noqa: PTH101, PTH102, PTH105, PTH108, PTH116

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock  # noqa: F401  # so that no child has to
import pydantic_core  # noqa: F401

from musicgen_cli.errors import MusicgenError
from tests.support.crash.operations import Expected, quiet, temporaries

_NO_FD = 9999
_LIBC = ctypes.CDLL(None)
# Each call that may touch a store: how to make it lead nowhere, and the failure that is likely in real life.
_CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "openat": (lambda: os.open("", os.O_RDONLY), "EMFILE"),
    "newfstatat": (lambda: os.stat(""), "EIO"),
    "read": (lambda: os.read(_NO_FD, 1), "EIO"),
    "getdents64": (lambda: _LIBC.getdents64(_NO_FD, None, 0), "EIO"),
    "lseek": (lambda: os.lseek(_NO_FD, 0, os.SEEK_SET), "EIO"),
    "write": (lambda: os.write(_NO_FD, b""), "ENOSPC"),
    "fsync": (lambda: os.fsync(_NO_FD), "EIO"),
    "ftruncate": (lambda: os.ftruncate(_NO_FD, 0), "EIO"),
    "close": (lambda: os.close(_NO_FD), "EIO"),
    "flock": (lambda: fcntl.flock(_NO_FD, fcntl.LOCK_UN), "ENOLCK"),
    "fchmod": (lambda: os.fchmod(_NO_FD, 0), "EPERM"),
    **dict.fromkeys(("chmod", "fchmodat"), (lambda: os.chmod("", 0), "EPERM")),
    **dict.fromkeys(("mkdir", "mkdirat"), (lambda: os.mkdir(""), "ENOSPC")),
    **dict.fromkeys(("rename", "renameat", "renameat2"), (lambda: os.replace("", ""), "EACCES")),
    **dict.fromkeys(("link", "linkat"), (lambda: os.link("", ""), "EPERM")),
    **dict.fromkeys(("unlink", "unlinkat"), (lambda: os.unlink(""), "EACCES")),
}
GRID = ("EIO", "ENOSPC", "EROFS", "EMFILE", "EACCES", "ENOLCK", "EINTR", "EPERM")
_ANYONE = -1
_PR_SET_PTRACER = 0x59616D61
_MORE = 40  # calls that a failure may lead to, of one kind
_DONE, _REFUSED, _BROKE = range(3)
_HAPPENED = re.compile(r"\(INJECTED\)$|killed by SIGKILL")


@dataclass(frozen=True)
class Point:
    """The n-th call of a kind since a child was forked."""

    call: str
    n: int


class RefusedError(Exception):
    """Nobody may trace on this machine."""


@contextmanager
def traced(log: Path, *words: str) -> Iterator[None]:
    """Let strace watch this process, and the children that it forks from now on."""
    # Where Yama keeps watch, a process must name who may trace it.
    _LIBC.prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANYONE), 0, 0, 0)
    traces = "trace=" + ",".join("?" + call for call in _CALLS)
    strace = [shutil.which("strace") or "strace", "-f", "-y", "-qq", "-o", str(log), "-e", traces]
    strace += [*words, "-p", str(os.getpid())]
    # Its complaints, if it came between a call's two halves in this very process, are of no interest.
    no_stderr = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
    pid = os.posix_spawn(strace[0], strace, os.environ, file_actions=[no_stderr])
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise RefusedError
        time.sleep(0.002)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def child(expected: Expected, root: Path, waste: Callable[[], object] = int, times: int = 0) -> tuple[int, int]:
    """
    Run the operation in a child, after wasting some calls; nothing that is traced is called here.

    Returns:
        Its process id, and how it ended: `_DONE`, `_REFUSED`, `_BROKE` or the signal that killed it, negative.
    """
    if not (pid := os.fork()):
        code = _BROKE
        try:
            for _ in range(times):
                with suppress(OSError):
                    waste()
            expected.operation.run(quiet(root))
            code = _DONE
        except MusicgenError:
            code = _REFUSED
        except BaseException:  # noqa: BLE001  # whatever it is, it is no answer
            os.writev(2, [traceback.format_exc().encode()])
        finally:
            os._exit(code)
    return pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def points(expected: Expected, place: Path) -> tuple[list[Point], Counter[str]]:
    """List the calls that touch the store, in order, and count all calls of each kind."""
    root, log = place / "listed", place / "log"
    expected.copy_to(root)
    with traced(log):
        pid, code = child(expected, root)
    assert code == _DONE
    made: Counter[str] = Counter()
    found = []
    for line in log.read_text(errors="replace").splitlines():
        caller, call = line.split("(")[0].split()[:2]
        if caller != str(pid) or call not in _CALLS:
            continue
        made[call] += 1
        if str(root) in line:
            found.append(Point(call, made[call]))
    return found, made


def hit(
    expected: Expected, place: Path, where: list[Point], made: Counter[str], what: dict[str, str]
) -> list[tuple[Path, int]]:
    """
    Run the operation once for each point, and let something happen there.

    Args:
        expected: Names the operation.
        place: For the stores.
        where: The points.
        made: How many calls of each kind are made when nothing happens.
        what: Happens, by call, as strace puts it.

    Returns:
        For each point the store, and how the child ended.
    """
    place.mkdir()
    roots = [place / f"{point.call} {point.n}" for point in where]
    for root in roots:
        expected.copy_to(root)
    last = {call: made[call] + _MORE for call in made}
    words = [f"--inject={call}:{what[call]}:when={last[call]}" for call in made]
    ends = []
    with traced(place / "log", *words):
        for point, root in zip(where, roots, strict=True):
            waste, _ = _CALLS[point.call]
            ends.append(child(expected, root, waste, last[point.call] - point.n)[1])
    happened = [line for line in (place / "log").read_text(errors="replace").splitlines() if _HAPPENED.search(line)]
    assert len(happened) == len(where), f"{len(happened)} of {len(where)} points were hit"
    return [*zip(roots, ends, strict=True)]


def flaws(expected: Expected, ends: list[tuple[Path, int]], allowed: set[int]) -> Iterator[str]:
    """Look at each store, and let somebody else finish."""
    for root, end in ends:
        try:
            wrong = None if end in allowed else f"ended with {end}"
            if end >= 0 and not root.name.startswith("unlink") and temporaries(root) > temporaries(expected.start):
                wrong = "an unfinished write was left behind"
            wrong = wrong or expected.flaw(root, done=end == _DONE) or expected.flaw_of_rest(root)
        except Exception as err:  # noqa: BLE001  # whatever a store says no to is a flaw here
            wrong = repr(err)
        if wrong:
            yield f"{root.parent.name}, {root.name}: {wrong}"


def main(place: Path, name: str, how: str) -> None:
    expected = Expected(name, place)
    try:
        where, made = points(expected, place)
    except RefusedError:
        print(json.dumps({"no tracing": True}))  # noqa: T201
        return
    if how == "kill":
        happens = {"KILL": dict.fromkeys(_CALLS, "signal=KILL")}
    elif how == "fail":
        happens = {"fail": {call: f"error={error}" for call, (_, error) in _CALLS.items()}}
    else:
        happens = {error: dict.fromkeys(_CALLS, f"error={error}") for error in GRID}
        happens["KILL"] = dict.fromkeys(_CALLS, "signal=KILL")
    ends = {what: hit(expected, place / what, where, made, each) for what, each in happens.items()}
    os.fsync = lambda fd: None  # nothing is lost from here on
    wrong = [
        flaw
        for what, each in ends.items()
        for flaw in flaws(expected, each, {-signal.SIGKILL} if what == "KILL" else {_DONE, _REFUSED})
    ]
    codes = Counter(end for each in ends.values() for _, end in each)
    figures = {"killed": codes[-signal.SIGKILL], "refused": codes[_REFUSED], "done all the same": codes[_DONE]}
    print(json.dumps({"calls": len(where), **figures, "flaws": wrong}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
