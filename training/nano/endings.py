"""
Jingles, which come to an end: a phrase, a final chord on the tonic that rings, a rest; then the next one begins.

A jingle of eight bars has its final chord on the fifth, one of four bars on the third. Other pieces go on, with
cadences at the end of their sections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from training.nano import codes
from training.nano.codes import ACCENT, LOUD, Name
from training.nano.keys import pitch_classes
from training.nano.plan import Plan

_CHORDS, _MELODY = 2, 3  # streams


def harmony(period: int, first: Sequence[str], tonic: str) -> tuple[str, ...]:
    """Return the degrees of eight bars of jingles, given the usual first four."""
    if period == codes.BARS:
        return (tonic, *first[1:3], "V", *(tonic,) * 4)
    return (first[0], "V", tonic, tonic) * 2


def close(plan: Plan, stream: int, events: Iterator[tuple[int, int, Name]]) -> Iterator[tuple[int, int, Name]]:
    """Yield the events of one voice with a final note in each phrase and silence after it."""
    final = plan.jingle // 2
    quiet = final + final // 2  # the bar in which sustained notes end
    closed = -1
    latest: Name = ("rest",)
    for bar, step, name in events:
        place = bar % plan.jingle
        latest = name if name[0] != "rest" else latest
        if place < final:
            yield bar, step, name
        elif bar - place > closed:
            closed = bar - place
            if last := _final(plan, latest):
                yield closed + final, 0, last
            if stream in {_CHORDS, _MELODY}:
                yield closed + quiet, 0, ("rest",)


def _final(plan: Plan, name: Name) -> Name | None:
    """Return the final note of a voice in place of another event."""
    triad = plan.key.triad("I" if plan.key.mode == "major" else "i")
    match name:
        case ("drum", kit, _, _):
            return ("drum", kit, "KC", LOUD)
        case ("bass", instrument, _, _):
            start = codes.BASS_PITCHES.start
            return ("bass", instrument, start + (triad[0] - start) % 12, ACCENT)
        case ("chord", instrument, _, None, _):
            return ("chord", instrument, triad[0], None, LOUD)
        case ("chord", instrument, *_):
            return ("chord", instrument, *triad, LOUD)
        case ("broken", instrument, int(pitch), _):
            notes = [other for other in codes.BROKEN_PITCHES if other % 12 == triad[0]]
            return ("broken", instrument, min(notes, key=lambda other: abs(other - pitch)), LOUD)
        case ("lead", str(instrument), int(pitch), _):
            lowest = codes.LEADS[instrument]
            span = range(lowest, lowest + codes.LEAD_SPAN)
            notes = [other for other in span if other % 12 in pitch_classes(triad)[:1]]
            return ("lead", instrument, min(notes, key=lambda other: abs(other - pitch)), ACCENT)
        case _:
            return None
