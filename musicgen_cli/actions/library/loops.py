"""Loops of stored takes: whole bars at the tempo of the prompt, at a given one, or at the one that was measured."""

from __future__ import annotations

import re
from dataclasses import dataclass

from musicgen_cli.audio.loop import MIN_FADE_S, make_loop
from musicgen_cli.audio.wav import WavInfo, inspect
from musicgen_cli.errors import InvalidValueError, MissingExtraError
from musicgen_cli.extras import needs
from musicgen_cli.limits import BARS, BPM
from musicgen_cli.text import number, plural

BEATS_PER_BAR = 4
_PROMPT_TEMPO = re.compile(r"(?<![\d.])(\d{2,3}(?:\.\d+)?)\s*-?\s*bpm\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How a take is cut into a loop."""

    bpm: float | None = None  # beats per minute; None: that of the prompt, else the measured one
    bars: int | None = None  # of four beats; None: as many as fit

    def __post_init__(self) -> None:
        """
        Check the values.

        Raises:
            InvalidValueError: One is out of its range.
        """
        if self.bpm is not None and (isinstance(self.bpm, bool) or self.bpm not in BPM):
            shown = number(self.bpm) if isinstance(self.bpm, float) else f"{self.bpm!r:.40}"
            raise InvalidValueError(f"bpm must be {BPM}, got {shown}")
        if self.bars is not None and (type(self.bars) is not int or self.bars not in BARS):
            raise InvalidValueError(f"bars must be a whole number, {BARS}, got {self.bars!r:.40}")


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop, and how it was cut."""

    wav: bytes
    bars: int | None  # None: without a beat, the whole clip was cross-faded
    description: str  # one line for the user


def cut_loop(wav: bytes, prompt: str, options: LoopOptions) -> Loop:
    """
    Cut a clip into a loop of whole bars, or cross-fade all of it where it has no steady beat.

    Args:
        wav: The clip.
        prompt: The prompt of the take, which may name a tempo.

    Raises:
        InvalidWavError: The clip is not a WAV.
        InvalidValueError: The bars don't fit into the clip, or there is no tempo for them.
    """
    info = inspect(wav)
    bpm, source = _tempo(wav, prompt, options)
    if bpm is None:
        if options.bars is not None:
            raise InvalidValueError(f"{plural(options.bars, 'bar')} need a tempo, and {source}; bpm gives one")
        return Loop(make_loop(wav), None, f"cross-faded without a beat: {source}")
    bar = BEATS_PER_BAR * 60 / bpm * info.sample_rate  # in frames
    bars = options.bars or _bars_that_fit(info, bar)
    if not bars:
        return Loop(make_loop(wav), None, f"cross-faded without a beat: it is shorter than a bar at {bpm:.1f} bpm")
    frames = round(bars * bar)
    length = f"{plural(bars, 'bar')} at {bpm:.1f} bpm"
    if frames > info.frames:
        raise InvalidValueError(f"{length} take {frames / info.sample_rate:.2f} s, the take has {info.duration:.2f} s")
    return Loop(make_loop(wav, frames), bars, f"{length} ({source})")


def prompt_tempo(prompt: str) -> float | None:
    """Return the tempo that a prompt names, as in `house, 124 bpm`; None if it names none or several."""
    tempi = {float(match) for match in _PROMPT_TEMPO.findall(prompt)}
    return tempi.pop() if len(tempi) == 1 and min(tempi) in BPM else None


def _bars_that_fit(info: WavInfo, bar: float) -> int:
    return int((info.frames - MIN_FADE_S * info.sample_rate) // bar)


def _tempo(wav: bytes, prompt: str, options: LoopOptions) -> tuple[float | None, str]:
    """Return the tempo in beats per minute, and where it comes from; without a tempo, why there is none."""
    if options.bpm is not None:
        return options.bpm, "as given"
    named = prompt_tempo(prompt)
    reason = "no steady beat was found"
    try:
        with needs("local"):
            from musicgen_cli.audio.tempo import CLEAR, measure_tempo

        measured = measure_tempo(wav, near=named)
        if measured is not None and measured.confidence >= CLEAR:
            near = f", near the prompt's {number(named)}" if named else ""
            return measured.bpm, f"measured, {measured.confidence:.0%} sure{near}"
    except MissingExtraError as err:
        reason = f"the tempo can't be measured, {err}"
    return (named, "from the prompt") if named is not None else (None, reason)
