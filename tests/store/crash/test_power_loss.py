from __future__ import annotations

import pytest

from tests.support.crash.bugs import BUGS
from tests.support.crash.operations import OPERATIONS

SHOWN_BY = {  # where a later put doesn't show a mistake
    "existing blob trusted": "put over rot",
    "directory fsync after first line": "first put",
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_power_lost_at_any_moment_loses_nothing_that_was_told(crash, name):
    """Whatever a disk may have forgotten, also when another process went on where the first one had died."""
    result = crash("power", name)

    assert result["flaws"] == []
    assert result["deaths"] >= 3
    assert result["states"] >= 5


@pytest.mark.parametrize("bug", BUGS)
def test_a_mistake_put_into_the_store_is_found(crash, bug):
    """The test of the test above: it would not pass with any of these."""
    assert len(crash("power", SHOWN_BY.get(bug, "later put"), bug)["flaws"]) == 1
