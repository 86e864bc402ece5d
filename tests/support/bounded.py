"""Run a program, and say how long it took and how much memory it had at most."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_BYTES = 300_000_000  # of memory, for a command that refuses a file; numpy and ONNX Runtime alone take 100 MB
TIMEOUT_S = 60.0  # for a command that takes a second on an idle machine


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
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        program = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)
        try:
            while True:
                pid, status, usage = os.wait4(program.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() - started > timeout_s:
                    program.kill()
                    program.wait()
                    raise AssertionError(f"{words[:6]} did not end within {timeout_s:g} s")
                time.sleep(0.01)
        finally:
            program.returncode = program.returncode or 0  # it was waited for here
        out.seek(0)
        err.seek(0)
        return Bounded(
            os.waitstatus_to_exitcode(status),
            out.read().decode(errors="replace"),
            err.read().decode(errors="replace"),
            time.monotonic() - started,
            usage.ru_maxrss * 1024,
        )
