"""Starts a runner that outlives the process that started it, and tells whether one is just starting."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.actions.jobs.job_files import RUNNER_LOG, RUNNER_STARTING, explained
from musicgen_cli.errors import StoreError

_STARTING_S = 10.0  # a runner that does not hold its lock by then has failed to start
_LOG_BYTES = 1024 * 1024  # a larger log is emptied
_DETACHED = 0
if sys.platform == "win32":
    # A console that is never shown. Without any, the `python.exe` of a virtual environment, which starts the real one,
    # would get that one a window, and whoever closes the window ends the runner.
    _DETACHED = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP


def is_starting(folder: Path) -> bool:
    """Tell whether a runner was started so recently that it may not hold its lock yet."""
    try:
        age_s = time.time() - (folder / RUNNER_STARTING).stat().st_mtime
    except OSError:  # most often FileNotFoundError; whatever else it is, starting one will say it
        return False
    return 0 <= age_s < _STARTING_S


def start_runner(folder: Path, store: Path) -> None:
    """
    Start a runner that outlives this process and its terminal.

    Args:
        folder: Of the jobs.
        store: Where their takes go.

    Raises:
        StoreError: The process can't be started, or the folder can't be written.
    """
    with explained("write to", folder):
        atomic.discard(folder / RUNNER_STARTING)
        os.close(atomic.open_fd(folder / RUNNER_STARTING, os.O_CREAT | os.O_WRONLY))
        log = atomic.open_fd(folder / RUNNER_LOG, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    try:
        if os.fstat(log).st_size > _LOG_BYTES:
            os.ftruncate(log, 0)
        os.lseek(log, 0, os.SEEK_END)  # on Windows, a process that inherits a file doesn't inherit O_APPEND
        runner = subprocess.Popen(  # noqa: S603  # this interpreter, our module
            # Without -P, `-m` looks for modules in the current folder first.
            [sys.executable, "-P", "-m", "musicgen_cli.actions.jobs.runner", os.path.abspath(store)],  # noqa: PTH100
            cwd=os.path.abspath(os.sep),  # noqa: PTH100  # a folder that nobody removes or unmounts
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            creationflags=_DETACHED,
        )
    except OSError as err:
        raise StoreError(f"can't start the process that makes takes in the background: {err.strerror}") from err
    finally:
        os.close(log)
    threading.Thread(target=runner.wait, daemon=True).start()  # reaps it if it ends before this process
