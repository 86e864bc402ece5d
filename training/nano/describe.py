"""Describes takes bar by bar, from their codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from training.nano import code_analysis, codes
from training.nano.codes import Name
from training.nano.keys import KEYS, TONICS
from training.nano.pulse import BEATS_A_BAR, FRAME_RATE
from training.nano.recording import RecordingEngine

_KEYS = {key.name: key for key in KEYS}


def describe(checkpoint: Path, prompts: Sequence[str], cache: Path, *, takes: int, seconds: float) -> None:
    """
    Make takes of each prompt, and print key, tempo, and for each bar its chord and what plays how many notes.

    Args:
        cache: A folder for the graphs of the engine.
        takes: Of each prompt.
        seconds: The duration of a take.
    """
    engine = RecordingEngine(find_checkpoint(str(checkpoint), Path("nowhere")), cache_dir=cache / "graphs")
    for prompt in prompts:
        for seed in range(takes):
            print(f"{prompt}, seed {seed}:", "; ".join(lines(engine.record(prompt, seed, seconds)[0])), flush=True)
    engine.close()


def lines(piece: NDArray[np.integer[Any]]) -> Iterator[str]:
    """Yield key and tempo of a piece, then a description of each bar; codes of shape ``(STREAMS, frames)``."""
    analysis = code_analysis.analyze(piece.astype(np.int16))
    yield f"{analysis.key}, {analysis.tempo:.0f} bpm"
    if not analysis.tempo:
        return
    bar = BEATS_A_BAR * round(60 * FRAME_RATE / analysis.tempo)
    for start in range(0, piece.shape[1], bar):
        names = [
            table[code]
            for table, row in zip(codes.names(), piece[:, start : start + bar].tolist(), strict=True)
            for code in row
            if code < len(table)
        ]
        notes = Counter(_part(name) for name in names)
        del notes[""]
        playing = ", ".join(f"{count} {part}" for part, count in notes.items()) or "nothing"
        yield f"{start // bar + 1} {_chord(names)}: {playing}"


def _chord(names: Sequence[Name]) -> str:
    """Return the chord that the harmony of a bar says, such as `Am`."""
    said = Counter(name[1:] for name in names if name[0] == "harmony").most_common(1)
    if not said:
        return "?"
    key, degree = said[0][0]
    root, quality = _KEYS[str(key)].triad(str(degree))
    return TONICS[root] + ("m" if quality == "minor" else "")


def _part(name: Name) -> str:
    """Return what plays a note, `` for a code that is none."""
    match name:
        case ("drum", str(kit), *_):
            return f"{kit} drums"
        case ("bass", str(timbre), *_):
            return f"bass ({timbre})"
        case (("chord" | "broken") as role, str(timbre), *_):
            return f"{timbre} {'chords' if role == 'chord' else 'broken'}"
        case ("lead", str(timbre), *_):
            return f"{timbre} melody"
        case ("rest",):
            return "rest"
        case _:
            return ""
