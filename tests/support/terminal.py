"""Runs a Python program in a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time

_TIMEOUT_S = 120.0


def on_terminal(*words: str, columns: int = 120, interrupt_after: bytes = b"") -> tuple[int, str]:
    """
    Run Python with a terminal for stdin, stdout and stderr.

    Args:
        words: Python's arguments.
        columns: The width of the terminal.
        interrupt_after: Press Ctrl-C once this has been printed.

    Returns:
        The exit code, and all output.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(columns)}
        os.execv(sys.executable, [sys.executable, *words])
    try:
        output = _read_to_end(terminal, interrupt_after)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(terminal)
        status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), output.decode()


def _read_to_end(terminal: int, interrupt_after: bytes) -> bytes:
    output = b""
    interrupted = not interrupt_after
    deadline = time.monotonic() + _TIMEOUT_S
    while (left_s := deadline - time.monotonic()) > 0 and select.select([terminal], [], [], left_s)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            return output
        if not data:
            return output
        output += data
        if not interrupted and interrupt_after in output:
            os.write(terminal, b"\x03")
            interrupted = True
    raise AssertionError(f"the program ran for more than {_TIMEOUT_S:g} s, with the output {output!r}")
