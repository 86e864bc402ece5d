"""
The rule by which a clip longer than the model's window is made: window by window, each beginning with known codes.

A window begins with the last frames of the one before it, its overlap, and its positions start at 0. So the model sees
what it was trained on, and neither its memory nor the time of a step grows with the clip.

Source: `MusicGen._generate_tokens` of audiocraft, whose `extend_stride` is the window without the overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

from musicgen_cli.engine.decoding.delay_pattern import DelayPattern


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a clip that is decoded as one sequence; all numbers are of frames."""

    start: int  # the first one's number in the clip
    given: int  # known at its beginning
    frames: int  # known ones included

    @property
    def end(self) -> int:
        """The number of the frame after the last one."""
        return self.start + self.frames

    def pattern(self, codebooks: int, channels: int) -> DelayPattern:
        """Return the delay pattern of its sequence."""
        return DelayPattern(codebooks, channels, self.frames)


def plan_windows(new: int, *, context: int = 0, longest: int, overlap: int) -> list[Window]:
    """
    Divide a clip into windows.

    Args:
        new: Frames to generate, at least one.
        context: Frames that are known before them, fewer than `longest`; the clip is counted from the first of these.
        longest: Frames of the model's window.
        overlap: Frames of each window that are the end of the one before it, fewer than `longest`.
    """
    end = context + new
    windows = [Window(0, context, min(end, longest))]
    while (last := windows[-1]).end < end:
        start = last.end - overlap
        windows.append(Window(start, overlap, min(end - start, longest)))
    return windows


def context_of(source: int, new: int, *, longest: int, overlap: int) -> int:
    """
    Return how many frames at the end of a sound are the context of what goes on from it.

    It is as much as one window holds beside the new frames; where these need several windows, the overlap.

    Args:
        source: Frames of the sound.
        new: Frames to generate.
    """
    return min(source, max(overlap, longest - new))
