from __future__ import annotations

import pytest

WRITING = ["first put", "later put", "put over rot", "tag", "rm", "restore", "repair --adopt"]


@pytest.mark.parametrize("name", WRITING)
def test_a_kill_within_a_write_costs_only_that_write(crash, name):
    """Of each write there is one byte, half, or all but one: the next writer seals it, a repair takes it out."""
    result = crash("torn", name)

    assert result["flaws"] == []
    assert result["torn"] >= 3
    assert result["sealed"] >= 1
