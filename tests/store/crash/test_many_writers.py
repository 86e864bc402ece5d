from __future__ import annotations

from tests.support.crash import Crash


def test_sixteen_writers_lose_nothing(crash: Crash) -> None:
    """They put, tag and remove takes, half of them with the same audio, and one compacts the index meanwhile."""
    result = crash("crowd", "together")

    assert result["flaws"] == []
    assert (result["put entries"], result["tag entries"], result["rm entries"]) == (16 * 25, 16 * 5, 16 * 3)
    assert (result["compact entries"], result["warning entries"], result["bad lines"]) == (1, 0, 0)


def test_killed_writers_harm_no_other_writer(crash: Crash) -> None:
    """Four of eight are killed at random times; the takes whose ids they were given are stored."""
    result = crash("crowd", "killed")

    assert result["flaws"] == []
    assert result["put entries"] > 4 * 25
    assert result["bad lines"] <= 1


def test_a_lock_without_effect_is_noticed_and_harms_no_audio(crash: Crash) -> None:
    """On some network file systems locks do nothing: writers warn, readers never fail, and the audio is right."""
    result = crash("crowd", "unlocked")

    assert result["flaws"] == []
    assert result["put entries"] == 8 * 10
    assert result["warning entries"] >= 8 - 1  # see `crowd.unlocked`
    assert result["bad lines"] == 0
