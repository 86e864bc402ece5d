"""Run a program, and say how long it took and how much memory it had at most."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 300_000_000  # of memory, for a command that refuses a file; numpy and ONNX Runtime alone take 100 MB
TIMEOUT_S = 90.0  # for a command that takes a second on an idle machine

# Starts the program and measures it. Linux counts what a process had before it became another program, so the large
# process of the tests can't start it itself.
_LAUNCHER = """
import json, os, sys
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), usage.ru_maxrss], file)
"""
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


@dataclass(frozen=True)
class Bounded:
    """How a program ended."""

    code: int
    out: str
    err: str
    seconds: float
    peak_bytes: int


def run_bounded(words: Sequence[str], *, timeout_s: float = TIMEOUT_S, env: Mapping[str, str] | None = None) -> Bounded:
    """Run a program without an input; one that doesn't end in time is killed, which fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        usage = Path(folder) / "usage"
        started = time.monotonic()
        with (Path(folder) / "out").open("wb") as out, (Path(folder) / "err").open("wb") as err:
            launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(usage), *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=env,
                start_new_session=True,
            )
            try:
                launcher.wait(timeout_s)
            except subprocess.TimeoutExpired as late:
                os.killpg(launcher.pid, signal.SIGKILL)
                launcher.wait()
                raise AssertionError(f"{words[:6]} did not end within {timeout_s:g} s") from late
        code, peak = json.loads(usage.read_text())
        return Bounded(
            code,
            (Path(folder) / "out").read_text(errors="replace"),
            (Path(folder) / "err").read_text(errors="replace"),
            time.monotonic() - started,
            peak * _MAXRSS_UNIT,
        )
