"""Lengths in bars: the duration of a request from bars of four beats and a tempo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from musicgen_cli.actions.library.loops import BEATS_PER_BAR, LoopOptions, prompt_tempo
from musicgen_cli.audio.loop import FADE_S
from musicgen_cli.errors import InvalidValueError, UsageError
from musicgen_cli.limits import CONTEXT_S
from musicgen_cli.text import as_whole, number, plural

_DIGITS = 6  # of a duration in seconds: finer than a sample


def overridden(defaults: Mapping[str, Any], given: Mapping[str, Any], *, loop: bool = False) -> dict[str, Any]:
    """
    Return fields with defaults, where a length in bars replaces one in seconds and the other way round.

    Args:
        loop: The bars are those of a loop, which is cut from a take of a length of its own.
    """
    fields = {**defaults, **given}
    if given.get("bars") is not None and given.get("duration") is None:
        fields.pop("duration", None)
    if given.get("duration") is not None and given.get("bars") is None and not loop:
        fields.pop("bars", None)
        fields.pop("bpm", None)
    return fields


def with_duration(fields: Mapping[str, Any], *, loop: bool = False) -> tuple[dict[str, Any], str]:
    """
    Replace `bars` and `bpm` by the duration that they give.

    Args:
        fields: Of a request, and perhaps `bars` and `bpm`; without `bpm`, the tempo is that of the prompt.
        loop: A loop of these bars is cut from the take, which gets a second more that fades out over the loop's start.

    Returns:
        The fields of a request, and a line that says what the duration is; "" if there are no bars.

    Raises:
        InvalidValueError: A value is out of its range, or there is no tempo.
        UsageError: There is a tempo without bars, or a duration as well.
    """
    rest = {name: value for name, value in fields.items() if name not in {"bars", "bpm"}}
    options = LoopOptions(fields.get("bpm"), as_whole(fields.get("bars")))
    if options.bars is None:
        if options.bpm is not None and not loop:
            raise UsageError("bpm needs bars: it is the tempo of a length in bars", hint="a prompt may name a tempo")
        return rest, ""
    prompt = rest.get("prompt")
    named = prompt_tempo(prompt) if isinstance(prompt, str) else None
    tempo = named if options.bpm is None else options.bpm
    has_duration = rest.get("duration") is not None
    if has_duration and not loop:
        raise UsageError("bars and duration contradict each other: both are the length")
    if tempo is None:
        if has_duration:  # the tempo of the take is measured once it is made
            return rest, ""
        bars = plural(options.bars, "bar")
        hint = "bpm gives one, or a prompt such as `house beat, 128 bpm`"
        raise InvalidValueError(f"{bars} need a tempo, and the prompt doesn't name one", hint=hint)
    seconds = options.bars * BEATS_PER_BAR * 60 / tempo
    length = f"{plural(options.bars, 'bar')} at {number(tempo)} bpm"
    if has_duration:
        if rest["duration"] < seconds:
            raise InvalidValueError(f"{length} take {_s(seconds)}, and duration is {_s(rest['duration'])}")
        return rest, ""
    rest["duration"] = round(seconds + (_tail(seconds) if loop else 0.0), _DIGITS)
    return rest, f"{length}: {_s(seconds)}{_unnamed(options.bpm, named)}"


def _tail(seconds: float) -> float:
    """Return how much longer the take of a loop is; one that fits into one window of the model still does."""
    return min(FADE_S, CONTEXT_S - seconds) if seconds <= CONTEXT_S else FADE_S


def _unnamed(bpm: float | None, named: float | None) -> str:
    """Say that a model can't know of a tempo which the prompt doesn't name."""
    if bpm is None or bpm == named:
        return ""
    return ", but the prompt doesn't name that tempo, and a model goes by the prompt alone"


def _s(seconds: float) -> str:
    return f"{number(round(seconds, 3))} s"
