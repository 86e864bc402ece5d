from __future__ import annotations

import pytest

from tests.support.crash import Crash
from tests.support.crash.bugs import BUGS
from tests.support.crash.operations import OPERATIONS

SHOWN_BY = {  # the operation that shows a bug, where "later put" doesn't
    "existing blob trusted": "put over zeros",
    "directory fsync after first line": "first put",
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_power_loss_at_any_moment_loses_no_acknowledged_operation(crash: Crash, name: str) -> None:
    """The disk may have lost anything that was not synced, also after another process finished the operation."""
    result = crash("power", name)

    assert result["flaws"] == []
    assert result["deaths"] >= 3
    assert result["states"] >= 5


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_the_store_is_found(crash: Crash, bug: str) -> None:
    """The test above would fail with any of these bugs."""
    assert len(crash("power", SHOWN_BY.get(bug, "later put"), bug)["flaws"]) == 1
