"""
Kill an operation at each system call that touches the store, or make each such call fail once, with strace.

`python -m tests.support.crash.calls PLACE OPERATION HOW` prints JSON. HOW is kill, fail (with a likely error) or grid
(kill, and fail with each of eight errors). This is a program of its own because it forks and is traced.

strace injects into the n-th call of a kind in any process, with the same n for all processes. So that one strace is
enough for all points, each child first makes as many calls of that kind without effect as bring its point to n.
"""

# Here it matters which function of `os` is called.
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
from typing import TYPE_CHECKING

import filelock  # noqa: F401  # imported before the fork, so that no child has to
import pydantic_core  # noqa: F401

from musicgen_cli.errors import MusicgenError
from tests.support.crash.operations import Expected, quiet, temporaries

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_NO_FD = 9999
_LIBC = ctypes.CDLL(None)
# Each system call that may touch a store: how to make it without effect, and a likely error.
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
_MARGIN = 40  # calls of one kind that a failure may lead to
_DONE, _REFUSED, _BROKE = range(3)  # exit codes of a child
_ATTACH_S = 30.0  # for strace to attach to this process
_INJECTED = re.compile(r"\(INJECTED\)$|killed by SIGKILL")


@dataclass(frozen=True)
class Point:
    """The n-th call of a kind in a child."""

    call: str
    n: int


class RefusedError(Exception):
    """Tracing is not allowed on this machine."""


@contextmanager
def traced(log: Path, *arguments: str) -> Iterator[None]:
    """Let strace trace this process and the children that it forks from now on."""
    # With Yama, a process must say which other process may trace it.
    _LIBC.prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANYONE), 0, 0, 0)
    traces = "trace=" + ",".join("?" + call for call in _CALLS)
    strace = [shutil.which("strace") or "strace", "-f", "-y", "-qq", "-o", str(log), "-e", traces]
    strace += [*arguments, "-p", str(os.getpid())]
    # When it attaches in the middle of a system call, strace writes to stderr, which doesn't matter.
    no_stderr = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
    pid = os.posix_spawn(strace[0], strace, os.environ, file_actions=[no_stderr])
    give_up = time.monotonic() + _ATTACH_S
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise RefusedError
        if time.monotonic() > give_up:
            os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"strace did not attach within {_ATTACH_S:g} s")
        time.sleep(0.002)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def child(expected: Expected, root: Path, waste: Callable[[], object] = int, times: int = 0) -> tuple[int, int]:
    """
    Run the operation in a child. This process makes none of the traced calls meanwhile.

    Args:
        expected: The operation.
        root: The store.
        waste: Makes a system call without effect.
        times: How often the child calls `waste` first.

    Returns:
        The child's process id, and how it ended: `_DONE`, `_REFUSED`, `_BROKE`, or the negative number of a signal.
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
        except BaseException:  # noqa: BLE001  # anything else is a flaw
            os.writev(2, [traceback.format_exc().encode()])
        finally:
            os._exit(code)
    return pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def points_of(expected: Expected, place: Path) -> tuple[list[Point], Counter[str]]:
    """Return the calls that touch the store, in order, and the number of all calls of each kind."""
    root, log = place / "listed", place / "log"
    expected.copy_to(root)
    with traced(log):
        pid, code = child(expected, root)
    assert code == _DONE
    calls: Counter[str] = Counter()
    touching = []
    for line in log.read_text(errors="replace").splitlines():
        caller, call = line.split("(")[0].split()[:2]
        if caller != str(pid) or call not in _CALLS:
            continue
        calls[call] += 1
        if str(root) in line:
            touching.append(Point(call, calls[call]))
    return touching, calls


def inject(
    expected: Expected, place: Path, points: list[Point], calls: Counter[str], injection: dict[str, str]
) -> list[tuple[Path, int]]:
    """
    Run the operation once for each point, with an injection there.

    Args:
        expected: The operation.
        place: A new directory for the stores.
        points: The points.
        calls: How many calls of each kind the operation makes without an injection.
        injection: What to inject, by call, in strace's words.

    Returns:
        For each point the store, and how the child ended.
    """
    place.mkdir()
    roots = [place / f"{point.call} {point.n}" for point in points]
    for root in roots:
        expected.copy_to(root)
    last = {call: calls[call] + _MARGIN for call in calls}
    arguments = [f"--inject={call}:{injection[call]}:when={last[call]}" for call in calls]
    ends = []
    with traced(place / "log", *arguments):
        for point, root in zip(points, roots, strict=True):
            waste, _ = _CALLS[point.call]
            ends.append(child(expected, root, waste, last[point.call] - point.n)[1])
    injected = [line for line in (place / "log").read_text(errors="replace").splitlines() if _INJECTED.search(line)]
    assert len(injected) == len(points), f"{len(injected)} injections at {len(points)} points"
    return [*zip(roots, ends, strict=True)]


def flaws(expected: Expected, ends: list[tuple[Path, int]], allowed: set[int]) -> Iterator[str]:
    """Check each store, finish the operation as another process would, and yield what goes wrong."""
    for root, end in ends:
        try:
            problem = None if end in allowed else f"ended with {end}"
            if end >= 0 and not root.name.startswith("unlink") and temporaries(root) > temporaries(expected.start):
                problem = "an unfinished write was left behind"
            problem = problem or expected.flaw(root, done=end == _DONE) or expected.flaw_of_rest(root)
        except Exception as err:  # noqa: BLE001  # any error of the store is a flaw here
            problem = repr(err)
        if problem:
            yield f"{root.parent.name}, {root.name}: {problem}"


def _no_fsync(fd: FileDescriptorLike) -> None:
    pass


def main(place: Path, operation: str, how: str) -> None:
    expected = Expected(operation, place)
    try:
        points, calls = points_of(expected, place)
    except RefusedError:
        print(json.dumps({"no tracing": True}))  # noqa: T201
        return
    if how == "kill":
        injections = {"KILL": dict.fromkeys(_CALLS, "signal=KILL")}
    elif how == "fail":
        injections = {"fail": {call: f"error={error}" for call, (_, error) in _CALLS.items()}}
    else:
        injections = {error: dict.fromkeys(_CALLS, f"error={error}") for error in GRID}
        injections["KILL"] = dict.fromkeys(_CALLS, "signal=KILL")
    ends = {name: inject(expected, place / name, points, calls, each) for name, each in injections.items()}
    os.fsync = _no_fsync  # saves time: the power is not lost here
    problems = [
        flaw
        for name, each in ends.items()
        for flaw in flaws(expected, each, {-signal.SIGKILL} if name == "KILL" else {_DONE, _REFUSED})
    ]
    codes = Counter(end for each in ends.values() for _, end in each)
    figures = {"killed": codes[-signal.SIGKILL], "refused": codes[_REFUSED], "done all the same": codes[_DONE]}
    print(json.dumps({"calls": len(points), **figures, "flaws": problems}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
