"""Each operation is killed by strace, or made to fail, at each system call that touches the store."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.support.crash import Crash
from tests.support.crash.operations import OPERATIONS

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


def traced(crash: Crash, name: str, how: str) -> dict[str, Any]:
    result = crash("calls", name, how)
    if "no tracing" in result:
        pytest.skip("tracing is not allowed on this machine")
    assert result["flaws"] == []
    return result


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_at_any_system_call_loses_nothing(crash: Crash, name: str) -> None:
    """All takes that were stored are there with the right audio, and another process can finish the operation."""
    result = traced(crash, name, "kill")

    assert result["killed"] == result["calls"] >= 12


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_failing_system_call_is_an_error_or_does_not_matter(crash: Crash, name: str) -> None:
    """Each call fails with a likely error: the operation is completed, or refused with a message."""
    result = traced(crash, name, "fail")

    assert result["refused"] > 0
    assert result["refused"] + result["done all the same"] == result["calls"]


@pytest.mark.grid
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_error_and_no_kill_at_any_system_call_loses_anything(crash: Crash, name: str) -> None:
    """The operation is killed at each call, and each call fails with each of eight errors."""
    result = traced(crash, name, "grid")

    assert result["killed"] == result["calls"]
    assert result["refused"] + result["done all the same"] == 8 * result["calls"]
