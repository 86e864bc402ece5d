"""Runs a program with a terminal around it."""

from __future__ import annotations

import os
import pty
import select
import sys


def on_terminal(*words: str, columns: int = 120) -> tuple[int, str]:
    """Run Python with a terminal for stdin, stdout and stderr; return its exit code and what it showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(columns)}
        os.execv(sys.executable, [sys.executable, *words])
    shown = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()
