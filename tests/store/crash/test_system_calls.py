"""Each operation is killed, or fails, at each system call that touches the store: strace sees to it."""

from __future__ import annotations

import shutil

import pytest

from tests.support.crash.operations import OPERATIONS

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not on this machine")


def traced(crash, name: str, how: str):
    result = crash("calls", name, how)
    if "no tracing" in result:
        pytest.skip("this machine lets nobody trace")
    assert result["flaws"] == []
    return result


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_at_any_system_call_loses_nothing(crash, name):
    """All that was there, or was told, is there and sounds right; somebody else can finish and go on."""
    result = traced(crash, name, "kill")

    assert result["killed"] == result["calls"] >= 12


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_system_call_that_fails_is_told_or_does_not_matter(crash, name):
    """Each call fails with the error that is likely there: the operation is done, or refused in words, never a mix."""
    result = traced(crash, name, "fail")

    assert result["refused"] > 0
    assert result["refused"] + result["done all the same"] == result["calls"]


@pytest.mark.grid
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_error_and_no_kill_at_any_call_loses_anything(crash, name):
    """The full grid: each call killed, and failing with each of eight errors."""
    result = traced(crash, name, "grid")

    assert result["killed"] == result["calls"]
    assert result["refused"] + result["done all the same"] == 8 * result["calls"]
