"""
Tempi and metre. All time is counted in frames of 20 ms.

A tempo is a whole number of frames for a beat, so that the language model can count it: the clock code of each frame
gives the tempo and the position in the beat, which determine the next one. Any tempo from 60 to 180 beats a minute is
within 4.5 % of a tempo of this grid.
"""

from __future__ import annotations

FRAME_RATE = 50  # frames a second
BEATS_A_BAR = 4
STEPS_A_BAR = 16  # sixteenths

BEAT_FRAMES = (50, 47, 44, 41, 38, 36, 34, 32, 30, 28, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17)


def bpm(beat_frames: int) -> float:
    """Return the beats a minute of a tempo."""
    return 60 * FRAME_RATE / beat_frames


def nearest(beats_a_minute: float) -> int:
    """Return the tempo of the grid, in frames a beat, whose ratio to another tempo is closest to 1."""

    def ratio(frames: int) -> float:
        return max(bpm(frames) / beats_a_minute, beats_a_minute / bpm(frames))

    return min(BEAT_FRAMES, key=ratio)


def between(low: float, high: float) -> list[int]:
    """Return the tempi of the grid from `low` to `high` beats a minute, the slowest first."""
    return [frames for frames in BEAT_FRAMES if low <= bpm(frames) <= high]


def frame_of(bar: int, step: int, beat_frames: int, swing: float = 0.0) -> int:
    """
    Return the frame at which a sixteenth begins.

    Args:
        step: The sixteenth in the bar, 0-15.
        swing: The delay of the second and fourth sixteenth of a beat, in sixteenths.
    """
    late = swing if step % 2 else 0.0
    within = int((step % 4 + late) * beat_frames / 4 + 0.5)
    return (bar * BEATS_A_BAR + step // 4) * beat_frames + min(within, beat_frames - 1)
