from __future__ import annotations

import pytest

from tests.support.crash import Crash

WRITING = ["first put", "later put", "put over zeros", "tag", "rm", "restore", "repair --adopt"]


@pytest.mark.parametrize("name", WRITING)
def test_a_kill_within_a_write_costs_only_that_write(crash: Crash, name: str) -> None:
    """One byte, half, or all but one byte was written: the next writer seals the line, a repair moves it away."""
    result = crash("torn", name)

    assert result["flaws"] == []
    assert result["torn"] >= 3
    assert result["sealed"] >= 1
