"""Waiting for another thread or process, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_s: float = 30.0) -> T:
    """Wait until `condition` returns something true, and return that; fail if it doesn't in time."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not true within {timeout_s:g} s"
        time.sleep(0.002)
    return result
