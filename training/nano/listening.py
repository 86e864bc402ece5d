"""
Asks what listeners minded, and prints a table of the answers.

Do chords sustain, do takes of one prompt agree in level and differ in rhythm, are prompts told apart, do drums stay
away from hymns, do solos fill their bars, is the sound bright? The same questions are asked about the composer's own
pieces, played by the codec (the upper bound of what a model can reach) and by a General MIDI soundfont (what listeners
compare with), and about takes of checkpoints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.nano import code_analysis, measures, prompts
from training.nano.audio_analysis import FloatArray
from training.nano.code_analysis import CodeAnalysis
from training.nano.composer import Codes

ROLES = {"pad": "ambient pads", "strings": "slow strings", "choir": "a choir", "organ": "organ", "brass": "brass"}
_HELD_MS = 800.0  # that a sustained chord stays within 6 dB
_GAP_DB = -12.0
_QUIET_DB = -30.0  # relative to the loudest tenth of a clip
_LEVEL_LU = 4.0  # by which takes of one prompt may differ
_RHYTHM = 0.9  # the highest correlation of the envelopes of two takes
_FIRST_S = 2.0  # within which a named instrument begins


class Player(Protocol):
    """Whatever makes takes from prompts."""

    name: str

    def take(self, prompt: str, seed: int, seconds: float) -> tuple[Codes | None, FloatArray]:
        """Return the codes, if they mean what `codes` says, and the samples of a take."""

    def chord(self, timbre: str) -> FloatArray | None:
        """Return one chord that nothing follows, 4 s long; None if it can't be played alone."""

    def unknown_words(self) -> str | None:
        """Return the share of words in `free_prompts.txt` that aren't understood, as text; None if all prompts are."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What is measured in one take."""

    digest: str  # of its samples, as 16 bits
    loudness: float  # LUFS
    f99: float  # Hz, below which 99 % of the energy lies
    presence: float  # dB, the share of 2-5 kHz
    gap: float  # dB
    quiet: float  # the share of half seconds that are nearly silent
    rhythm: FloatArray
    codes: NDArray[np.int16]  # shape (STREAMS, 0) if they mean something else

    @classmethod
    def of(cls, piece: Codes | None, samples: FloatArray) -> Heard:
        """Measure a take."""
        f99, presence = measures.brightness(samples)
        level = measures.envelope(samples, 0.5)[:: measures.ENVELOPE_RATE // 4]
        return cls(
            digest=hashlib.sha256(np.rint(samples * 32767).astype("<i2").tobytes()).hexdigest(),
            loudness=measures.loudness(samples),
            f99=f99,
            presence=presence,
            gap=measures.deepest_gap_db(samples),
            quiet=float((level < np.quantile(level, 0.9) + _QUIET_DB).mean()),
            rhythm=measures.rhythm(samples),
            codes=np.zeros((4, 0), np.int16) if piece is None else piece.astype(np.int16),
        )


class Listener:
    """Listens to the takes of one player; what was measured is kept in a folder."""

    def __init__(self, player: Player, folder: Path, *, takes: int) -> None:
        """Listen to some takes of each prompt."""
        self.player, self.takes = player, takes
        self._folder = folder / player.name
        self._folder.mkdir(parents=True, exist_ok=True)

    def hear(self, prompt: str, seed: int, seconds: float = 10.0) -> Heard:
        """Return what is measured in a take, which is made if it isn't in the folder."""
        name = hashlib.sha256(f"{prompt}\0{seed}\0{seconds}".encode()).hexdigest()[:24]
        path = self._folder / f"{name}.npz"
        if not path.exists():
            heard = Heard.of(*self.player.take(prompt, seed, seconds))
            partial = path.with_suffix(".new.npz")
            np.savez(partial, **{field.name: getattr(heard, field.name) for field in fields(Heard)})
            partial.replace(path)
        arrays = np.load(path)
        return Heard(**{name: arrays[name] if arrays[name].ndim else arrays[name].item() for name in arrays})

    def all(self, listed: Sequence[str], seconds: float = 10.0) -> list[list[Heard]]:
        """Return the takes of each prompt."""
        return [[self.hear(prompt, seed, seconds) for seed in range(self.takes)] for prompt in listed]


def _share(answers: Sequence[bool]) -> str:
    return f"{sum(answers)} of {len(answers)}" if answers else "–"


def _analyses(groups: list[list[Heard]]) -> list[CodeAnalysis]:
    return [code_analysis.analyze(heard.codes) for group in groups for heard in group if heard.codes.size]


def _held(listener: Listener) -> str:
    chords = {timbre: listener.player.chord(timbre) for timbre in ROLES}
    times = [f"{timbre} {measures.held_ms(chord):.0f}" for timbre, chord in chords.items() if chord is not None]
    return ", ".join(times) or "–"


def _gaps(listener: Listener) -> str:
    gaps = [heard.gap for group in listener.all(list(ROLES.values())[:4]) for heard in group]
    return f"{_share([gap >= _GAP_DB for gap in gaps])}; median {np.median(gaps):.1f}"


def _levels(listener: Listener) -> str:
    groups = listener.all(prompts.CALM)
    ranges = [float(np.ptp([heard.loudness for heard in group])) for group in groups]
    return f"{_share([r <= _LEVEL_LU for r in ranges])}; {', '.join(f'{r:.1f}' for r in ranges)}"


def _first(listener: Listener) -> str:
    takes = [
        listener.hear("calm ambient piano", seed)
        for seed in range(max(listener.takes, 60 if listener.takes >= 8 else 0))
    ]
    onsets = [code_analysis.first_onset(heard.codes, "piano") for heard in takes if heard.codes.size]
    return _share([onset is not None and onset <= _FIRST_S for onset in onsets])


def _quiet(listener: Listener, listed: Sequence[str]) -> str:
    shares = [heard.quiet for group in listener.all(listed) for heard in group]
    return f"{np.mean(shares):.0%}"


def _drums(listener: Listener) -> str:
    analyses = _analyses(listener.all(prompts.WITHOUT_DRUMS))
    return _share([not analysis.has("drums") for analysis in analyses])


def _drum_solo(listener: Listener) -> str:
    groups = listener.all(["drum solo"])
    alone = [
        analysis.has("drums") and {role for role, _ in analysis.voices} == {"kit"} for analysis in _analyses(groups)
    ]
    return f"{_share(alone)}; {np.mean([heard.loudness for heard in groups[0]]):.1f} LUFS"


def _rhythms(listener: Listener) -> str:
    groups = listener.all(prompts.RHYTHMIC)
    nearest = np.concatenate([measures.nearest_rhythms([heard.rhythm for heard in group]) for group in groups])
    return f"{_share([bool(n < _RHYTHM) for n in nearest])}; median {np.median(nearest):.2f}"


def _brightness(listener: Listener) -> str:
    groups = listener.all([case.prompt for case in prompts.GENRES[::2]])
    f99 = np.median([heard.f99 for group in groups for heard in group])
    presence = np.median([heard.presence for group in groups for heard in group])
    return f"{f99:.0f} Hz; {presence:.1f} dB"


def _prompts_apart(listener: Listener, seconds: float) -> str:
    takes = [listener.hear(prompt, 0, seconds) for prompt in prompts.ALIKE]
    return f"{len({heard.digest for heard in takes})} of {len(takes)}"


def _seeds_apart(listener: Listener) -> str:
    count = 25 * listener.takes
    takes = [listener.hear("calm ambient piano", seed, 2.0) for seed in range(count)]
    return f"{len({heard.digest for heard in takes})} of {count}"


def _endings(listener: Listener) -> str:
    takes = [heard for group in listener.all(prompts.JINGLES) for heard in group if heard.codes.size]
    return _share([code_analysis.has_ending(heard.codes) for heard in takes])


QUESTIONS: dict[str, Callable[[Listener], str]] = {
    "a chord is within 6 dB for … ms (800)": _held,
    "no gap below -12 dB in pads, strings, choir, organ": _gaps,
    "takes of a calm prompt agree within 4 LU": _levels,
    "`calm ambient piano`: piano within 2 s": _first,
    "calm prompts: silent half seconds": lambda listener: _quiet(listener, prompts.CALM),
    "solos: silent half seconds": lambda listener: _quiet(listener, prompts.SOLOS),
    "a drum solo is drums alone; loudness": _drum_solo,
    "hymns, chimes, rain, solos: no drums": _drums,
    "rhythm differs from the nearest take: below 0.9": _rhythms,
    "99 % of the energy below (3000 Hz); 2-5 kHz (-18 dB)": _brightness,
    "jingles come to an end": _endings,
    "prompts alike: different bytes, 10 s": lambda listener: _prompts_apart(listener, 10.0),
    "prompts alike: different bytes, 2 s": lambda listener: _prompts_apart(listener, 2.0),
    "seeds: different bytes, 2 s": _seeds_apart,
    "unknown words in free prompts": lambda listener: listener.player.unknown_words() or "–",
}


def table(listeners: Sequence[Listener]) -> Iterator[str]:
    """Yield the lines of a table with a row for each question and a column for each player."""
    yield "| what listeners minded | " + " | ".join(listener.player.name for listener in listeners) + " |"
    yield "| --- |" + " --- |" * len(listeners)
    for question, answer in QUESTIONS.items():
        yield f"| {question} | " + " | ".join(answer(listener) for listener in listeners) + " |"
