from __future__ import annotations


def test_sixteen_processes_lose_nothing_of_each_other(crash):
    """They put, tag and remove, half of the audio is the same, and the index is compacted in the middle."""
    result = crash("crowd", "together")

    assert result["flaws"] == []
    assert (result["put told"], result["tag told"], result["rm told"]) == (16 * 25, 16 * 5, 16 * 3)
    assert (result["compact told"], result["warned told"], result["bad lines"]) == (1, 0, 0)


def test_writers_that_are_killed_harm_only_themselves(crash):
    """Four of eight are killed at random times: what they were told is there, and the others don't notice."""
    result = crash("crowd", "killed")

    assert result["flaws"] == []
    assert result["put told"] > 4 * 25
    assert result["bad lines"] <= 1


def test_a_lock_that_does_nothing_is_noticed_and_harms_no_audio(crash):
    """As on some network file systems: who writes is warned, who reads never fails, and the audio is right."""
    result = crash("crowd", "unlocked")

    assert result["flaws"] == []
    assert result["put told"] == 8 * 10
    assert result["warned told"] >= 1
    assert result["bad lines"] == 0
