"""Other processes that use a store: real ones, and one that is simulated just before a lock is taken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import filelock
import pytest

from tests.support.programs import environment

TIMEOUT_S = 60  # for a program that ends within seconds, on a slow machine

# Puts the sounds whose seeds are its arguments, after the store's path, and prints their ids.
PUT_SOUNDS = """
import sys
from pathlib import Path
from tests.support.index_lines import draft, sound
from musicgen_cli.store import Store
store = Store(Path(sys.argv[1]))
for seed in sys.argv[2:]:
    print(store.put(sound(int(seed)), draft(seed)).id, flush=True)
"""


def start_python(code: str, *arguments: object, stdin: int | None = None) -> subprocess.Popen[str]:
    """Start a Python program that can import what the tests import."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(program: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a program's end, and return its exit code, stdout and stderr."""
    try:
        out, err = program.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        program.kill()
        raise
    return program.returncode, out, err


def before_next_lock(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Call `action` once, just before this process takes its next lock, as if another process had been first."""
    acquire, actions = filelock.FileLock.acquire, [action]

    def act_and_acquire(lock: filelock.FileLock, *args: Any, **kwargs: Any) -> Any:
        if actions:
            actions.pop()()
        return acquire(lock, *args, **kwargs)

    monkeypatch.setattr(filelock.FileLock, "acquire", act_and_acquire)
