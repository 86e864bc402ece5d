"""Lengths in bars."""

from __future__ import annotations

from typing import Any

import pytest

from musicgen_cli.actions.bars import overridden, with_duration
from musicgen_cli.errors import UsageError
from musicgen_cli.limits import DURATION

HOUSE = "house beat 128 bpm"


@pytest.mark.parametrize(
    ("fields", "duration", "said"),
    [
        ({"prompt": HOUSE, "bars": 4}, 7.5, "4 bars at 128 bpm: 7.5 s"),
        ({"prompt": HOUSE, "bars": 1.0, "duration": None}, 1.875, "1 bar at 128 bpm: 1.875 s"),
        ({"prompt": HOUSE, "bars": 4, "bpm": 128}, 7.5, "4 bars at 128 bpm: 7.5 s"),
        ({"prompt": "x 124 bpm", "bars": 2}, 3.870968, "2 bars at 124 bpm: 3.871 s"),
        ({"prompt": "x 120 bpm", "bars": 15}, 30.0, "15 bars at 120 bpm: 30 s"),
        (
            {"prompt": HOUSE, "bars": 4, "bpm": 120.0},
            8.0,
            "4 bars at 120 bpm: 8 s, but the prompt doesn't name that tempo, and a model goes by the prompt alone",
        ),
    ],
)
def test_bars_become_a_duration_and_say_so(fields: dict[str, Any], duration: float, said: str) -> None:
    """Four beats each, at the tempo that is given or that the prompt names."""
    assert with_duration(fields) == ({"prompt": fields["prompt"], "duration": duration}, said)


def test_a_loop_gets_a_second_more_for_its_seam() -> None:
    """As far as one window of the model allows, if it fits into that; a duration of its own stays."""
    assert with_duration({"prompt": HOUSE, "bars": 4}, loop=True)[0]["duration"] == 8.5
    assert with_duration({"prompt": "x 120 bpm", "bars": 15}, loop=True)[0]["duration"] == 30
    assert with_duration({"prompt": "x 120 bpm", "bars": 16}, loop=True)[0]["duration"] == 33
    assert with_duration({"prompt": HOUSE, "bars": 4, "duration": 10}, loop=True)[0]["duration"] == 10
    assert with_duration({"prompt": "x", "bars": 4, "duration": 10}, loop=True)[0]["duration"] == 10
    assert with_duration({"prompt": "x", "bpm": 120}, loop=True)[0] == {"prompt": "x"}
    with pytest.raises(UsageError, match=r"4 bars at 128 bpm take 7\.5 s, and duration is 5 s"):
        with_duration({"prompt": HOUSE, "bars": 4, "duration": 5}, loop=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "house", "bars": 4}, "4 bars need a tempo, and the prompt doesn't name one"),
        ({"prompt": "from 90 bpm to 120 bpm", "bars": 4}, "4 bars need a tempo"),
        ({"prompt": None, "bars": 4}, "4 bars need a tempo"),
        ({"prompt": HOUSE, "bars": 4, "duration": 8}, "bars and duration contradict each other"),
        ({"prompt": HOUSE, "bpm": 128}, "bpm needs bars"),
        ({"prompt": HOUSE, "bars": 0}, "bars must be a whole number, 1-64, got 0"),
        ({"prompt": HOUSE, "bars": 1.5}, "bars must be a whole number, 1-64, got 1.5"),
        ({"prompt": HOUSE, "bars": "4"}, "bars must be a whole number, 1-64, got '4'"),
        ({"prompt": HOUSE, "bars": True}, "bars must be a whole number, 1-64, got True"),
        ({"prompt": HOUSE, "bars": 4, "bpm": 10}, "bpm must be 30-300 beats per minute, got 10"),
        ({"prompt": HOUSE, "bars": 4, "bpm": "fast"}, "bpm must be 30-300 beats per minute, got 'fast'"),
        ({"prompt": HOUSE, "bars": 4, "bpm": float("nan")}, "bpm must be 30-300 beats per minute, got nan"),
    ],
)
def test_what_gives_no_duration_is_a_sentence(fields: dict[str, Any], message: str) -> None:
    """Wrong usage, before anything is made."""
    with pytest.raises(UsageError, match=message) as caught:
        with_duration(fields)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("bars", "bpm"), [(1, 300), (64, 30)])
def test_all_lengths_in_bars_are_durations(bars: int, bpm: float) -> None:
    """The shortest and the longest one, with the tail of a loop."""
    for loop in (False, True):
        assert with_duration({"prompt": "x", "bars": bars, "bpm": bpm}, loop=loop)[0]["duration"] in DURATION


def test_a_length_replaces_one_of_the_other_kind() -> None:
    """Of a take that another one is made from, or of a batch's options by those of a row."""
    assert overridden({"duration": 9, "seed": 1}, {"bars": 2}) == {"seed": 1, "bars": 2}
    assert overridden({"bars": 2, "bpm": 99}, {"duration": 9}) == {"duration": 9}
    assert overridden({"bars": 2, "bpm": 99}, {"duration": 9}, loop=True) == {"bars": 2, "bpm": 99, "duration": 9}
    assert overridden({"duration": 9}, {"duration": 8, "bars": 2}) == {"duration": 8, "bars": 2}
    assert overridden({"bars": 2}, {"bars": 3, "bpm": 90}) == {"bars": 3, "bpm": 90}
