"""Start programs in processes of their own, measure them, and run servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MUSICGEN = (sys.executable, "-m", "musicgen_cli")

_LAUNCHER = """
import os, sys, time
started = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, 1, 0)])
_, status, usage = os.wait4(pid, 0)
print(time.perf_counter() - started, usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process needed."""

    seconds: float
    peak_bytes: int  # the largest resident set size


def run_measured(command: Sequence[str], env: Mapping[str, str]) -> Usage:
    """
    Run a program to its end, discarding its standard output.

    It is started by a small process, because a child's peak memory is at least what its parent had when it forked.

    Args:
        env: Variables to set in addition to those of this process.

    Raises:
        SystemExit: The program failed.
    """
    launcher = (sys.executable, "-S", "-E", "-c", _LAUNCHER, *command)
    process = subprocess.run(launcher, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {process.stderr}")
    seconds, peak_kib = process.stderr.split()[-2:]
    return Usage(float(seconds), 1024 * int(peak_kib))


def processor_seconds(pid: int) -> float:
    """Return the time for which a process has computed."""
    times = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A server in a process of its own."""

    url: str
    pid: int

    def resident_bytes(self) -> int:
        """Return the memory it uses now."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        return 1024 * int(status.split("VmRSS:")[1].split()[0])


@contextmanager
def running_server(*arguments: str) -> Iterator[Server]:
    """
    Run a Python program that prints `serving on URL` to standard error once it is ready.

    Args:
        arguments: Of the Python interpreter.

    Raises:
        SystemExit: The program ended without printing its address.
    """
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        for line in process.stderr:
            if address := re.search(r"serving on (http://\S+)", line):
                break
        else:
            raise SystemExit(f"{' '.join(arguments)} didn't start")
        threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would block the server
        yield Server(address[1], process.pid)
    finally:
        process.terminate()
        process.wait()
