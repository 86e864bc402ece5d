"""
Instruments as sums of partials and drum strokes, all of them computed.

A sound is a vector over *axes*. An axis is a drum stroke, a release, or a partial of one pitch with one envelope:

    struck      starts at once and decays slowly
    short       starts at once and is damped within a quarter of a second
    held        fades in within a tenth of a second and sounds until the axis ("release", "held") is struck
    line        the same with oscillators of its own, for melodies

Partials lie on the semitone grid. The vector of a code is the sum of its notes; the codec plays the sum of the vectors
of all codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

INNER_RATE = 25_600  # Hz, of the synthesis in the codec
BLOCK = INNER_RATE // 50  # samples in a frame: 512, also the channels of the codec's decoder
TAPS = 12  # frames that an envelope or a stroke lasts: 240 ms

# Partials, as MIDI note numbers, by envelope.
PARTIALS = {"struck": range(33, 117), "short": range(33, 117), "held": range(45, 109), "line": range(52, 115)}
SUSTAINED = ("held", "line")  # envelopes that sound until they are released

_STROKE_CUTOFF = 10_500  # Hz
_NOISE_SEED = 7  # of the noise in drum strokes
_TILT = 0.003  # powers of ten for each semitone above MIDI 88: high partials are softer


def hertz(midi: float) -> float:
    """Return the frequency of a MIDI note number."""
    return float(440.0 * 2 ** ((midi - 69) / 12))


@dataclass(frozen=True, slots=True)
class Timbre:
    """
    An instrument: the amplitudes of its harmonics, by envelope.

    `sustained` harmonics have the envelope `held` in a chord and `line` in a melody. `lead` and `chord` are the
    amplitudes of one note in a melody and in a chord; `noise` is a stroke that sounds at each onset, and its share of
    the amplitude.
    """

    struck: Mapping[int, float] = field(default_factory=dict)
    short: Mapping[int, float] = field(default_factory=dict)
    sustained: Mapping[int, float] = field(default_factory=dict)
    noise: tuple[str, float] | None = None
    lead: float = 0.21
    chord: float = 0.12


def _series(harmonics: str) -> dict[int, float]:
    """Parse amplitudes by harmonic, such as `1:1 2:.5`."""
    return {int(n): float(a) for n, a in (pair.split(":") for pair in harmonics.split())}


def _timbre(
    struck: str = "",
    short: str = "",
    sustained: str = "",
    noise: tuple[str, float] | None = None,
    lead: float = 0.21,
    chord: float = 0.12,
) -> Timbre:
    return Timbre(_series(struck), _series(short), _series(sustained), noise, lead, chord)


TIMBRES: dict[str, Timbre] = {
    "piano": _timbre(
        "1:1 2:.6 3:.36 4:.28 5:.18 6:.14 8:.09 10:.06 12:.04",
        "1:.2 2:.28 3:.3 4:.28 5:.24 6:.21 8:.17 10:.13 12:.1 16:.08",
        noise=("tick", 0.3),
        lead=0.42,
        chord=0.17,
    ),
    "epiano": _timbre(
        "1:1 2:.3 3:.1 4:.08 8:.03", "1:.2 4:.22 8:.22 12:.16 16:.1", noise=("click", 0.12), lead=0.33, chord=0.22
    ),
    "vibes": _timbre("1:1 4:.36 10:.12", "4:.2 10:.2 16:.12", noise=("click", 0.15), lead=0.4),
    "mbox": _timbre("1:.7 2:.5 6:.22 8:.1", "4:.25 8:.2 12:.16", noise=("click", 0.15), lead=0.4, chord=0.23),
    "flute": _timbre("", "2:.2 3:.15 4:.1", "1:1 2:.4 3:.22 4:.12 5:.06 6:.04", noise=("air", 0.16), lead=0.28),
    "violin": _timbre(
        "",
        "2:.2 4:.2 6:.16 8:.12",
        "1:.8 2:.6 3:.5 4:.42 5:.36 6:.3 8:.22 9:.18 10:.16 12:.12 16:.08",
        noise=("air", 0.06),
        lead=0.28,
    ),
    "guitar": _timbre(
        "1:1 2:.6 3:.46 4:.28 5:.18 6:.12 8:.06 10:.04",
        "1:.2 2:.35 3:.4 4:.36 5:.32 6:.28 8:.22 10:.18 12:.14 16:.1",
        noise=("click", 0.35),
        lead=0.36,
        chord=0.15,
    ),
    "dist": _timbre(
        "1:.35 2:.45 3:.45 4:.42 5:.36 6:.36 8:.3 9:.26 10:.24 12:.22 16:.18 18:.14 20:.12",
        "1:.3 2:.4 3:.4 4:.4 5:.4 6:.4 8:.35 9:.3 10:.3 12:.26 16:.22 20:.18",
        noise=("click", 0.3),
        lead=0.34,
        chord=0.1,
    ),
    "saw": _timbre(
        "1:.35 2:.2 3:.14 4:.12 5:.1 6:.08 8:.06",
        "1:.8 2:.5 3:.4 4:.32 5:.28 6:.25 8:.22 10:.18 12:.16 16:.13 18:.1 20:.1 24:.08",
        lead=0.36,
        chord=0.21,
    ),
    "pluck": _timbre(
        "1:.25 2:.1 3:.06", "1:.9 2:.5 3:.4 4:.3 5:.28 6:.26 8:.2 10:.16 12:.12 16:.08", lead=0.46, chord=0.21
    ),
    "chip": _timbre("", "1:1 3:.34 5:.2 9:.13 15:.08 16:.05", lead=0.55, chord=0.28),
    "brass": _timbre(
        "",
        "2:.2 3:.25 4:.25 5:.25 6:.2 8:.15 10:.1",
        "1:.45 2:.52 3:.55 4:.5 5:.44 6:.38 8:.28 9:.24 10:.2 12:.16 16:.1",
        lead=0.28,
        chord=0.125,
    ),
    "sax": _timbre(
        "",
        "2:.3 4:.35 5:.3 6:.26 8:.2 9:.16 10:.12",
        "1:.8 2:.5 3:.5 4:.34 5:.3 6:.18 8:.16 9:.1 10:.1 12:.06",
        noise=("air", 0.12),
        lead=0.3,
    ),
    "choir": _timbre(
        "", "", "1:1 2:.5 3:.34 4:.2 5:.14 6:.12 8:.16 9:.16 10:.15 12:.12 16:.06", ("breath", 0.5), 0.28, 0.14
    ),
    "marimba": _timbre("1:.3", "1:1 4:.4 10:.2 16:.08", noise=("tick", 0.4), lead=0.41),
    "organ": _timbre(
        "", "1:.3 2:.4 3:.3 4:.3 8:.2", "1:.6 2:.55 3:.4 4:.4 6:.3 8:.3 10:.16 12:.2 16:.18", lead=0.29, chord=0.16
    ),
    "pad": _timbre("", "", "1:.9 2:.55 3:.4 4:.32 5:.26 6:.24 8:.2 9:.17 10:.16 12:.14 16:.12", chord=0.14),
    "strings": _timbre(
        "", "", "1:.7 2:.6 3:.52 4:.44 5:.38 6:.36 8:.3 9:.26 10:.24 12:.22 16:.18", noise=("air", 0.1), chord=0.12
    ),
    "harp": _timbre(
        "1:1 2:.36 3:.18 4:.12 5:.07 6:.05", "2:.2 3:.22 4:.2 5:.16 6:.14 8:.1", noise=("click", 0.2), chord=0.16
    ),
    "ubass": _timbre("1:.7 2:.3 3:.1", "1:.6 2:.5 3:.3 4:.2 5:.1", noise=("tick", 0.25), lead=0.27),
    "ebass": _timbre(
        "1:.55 2:.35 3:.15 4:.08", "1:.6 2:.6 3:.45 4:.4 5:.3 6:.22 8:.1", noise=("click", 0.2), lead=0.27
    ),
    "sbass": _timbre("1:.25 2:.1", "1:1 2:.7 3:.55 4:.5 5:.42 6:.38 8:.3 10:.24 12:.18 16:.12", lead=0.34),
    "sub": _timbre("1:.9 2:.08", "1:.35 2:.15 3:.05", lead=0.34),
    "cbass": _timbre("", "1:1 3:.5 5:.3 9:.15", lead=0.34),
    "pbass": _timbre("1:1 2:.7 3:.45 4:.3 5:.2 6:.12", "2:.3 3:.3 4:.25 5:.2 6:.15", noise=("tick", 0.2), lead=0.26),
}
# Whose chords and melodies sound until the next one.
HELD = frozenset(name for name, timbre in TIMBRES.items() if timbre.sustained)

# Semitones from a fundamental to its harmonics. The 7th, 11th and others lie between semitones and are left out.
_SEMITONES = {1: 0, 2: 12, 3: 19, 4: 24, 5: 28, 6: 31, 8: 36, 9: 38, 10: 40, 12: 43, 15: 47, 16: 48}
_SEMITONES |= {18: 50, 20: 52, 24: 55}


_STROKE_SIZE = TAPS * BLOCK  # samples
_TIME = np.arange(_STROKE_SIZE) / INNER_RATE  # s


def _band(samples: FloatArray, low: float, high: float) -> FloatArray:
    """Apply a band-pass filter; `low` and `high` are in Hz."""
    spectrum, f = np.fft.rfft(samples), np.fft.rfftfreq(_STROKE_SIZE, 1 / INNER_RATE)
    gain = 1 / (1 + (low / np.maximum(f, 1)) ** 6) / (1 + (f / high) ** 6)
    return np.fft.irfft(spectrum * gain, _STROKE_SIZE)


def _decay(frames: int, decay_s: float, attack_s: float = 0.001) -> FloatArray:
    """Return an exponential decay with a linear attack, which ends after some frames."""
    rise, fall = np.minimum(1, _TIME / attack_s), np.clip((frames / 50 - _TIME) / 0.012, 0, 1)
    return np.asarray(np.exp(-_TIME / decay_s) * rise * fall)


def _sweep(start: float, end: float, fall_s: float, decay_s: float, frames: int) -> FloatArray:
    """Return a decaying tone whose pitch falls from `start` to `end`, in Hz."""
    pitch = end + (start - end) * np.exp(-_TIME / fall_s)
    return np.asarray(np.sin(2 * np.pi * np.cumsum(pitch) / INNER_RATE) * _decay(frames, decay_s))


def _tone(hz: float, phase: float = 0.0) -> FloatArray:
    return np.asarray(np.sin(2 * np.pi * hz * _TIME + phase))


def _claps() -> FloatArray:
    """Return the envelope of a hand clap: three short bursts and a longer one."""
    bursts = sum((np.where(t <= _TIME, np.exp(-(_TIME - t) / 0.006), 0) for t in (0, 0.011, 0.021)), 0 * _TIME)
    return np.asarray(bursts + 1.4 * np.where(_TIME >= 0.03, np.exp(-(_TIME - 0.03) / 0.05), 0))


@dataclass(frozen=True, slots=True)
class _Noises:
    """Noises that several strokes share, shape ``(TAPS * BLOCK,)``."""

    white: FloatArray
    metal: FloatArray  # of cymbals
    bell: FloatArray
    steps: FloatArray  # +1 and -1, as of a game console
    dust: FloatArray  # a few clicks


def _noises() -> _Noises:
    """Draw the noises. The order of the draws is part of the result."""
    rng = np.random.default_rng(_NOISE_SEED)
    white = rng.standard_normal(_STROKE_SIZE)
    white *= 2 / np.abs(white).max()
    metal = _band(rng.standard_normal(_STROKE_SIZE), 4500, 11_000)
    metal *= 2 / np.abs(metal).max()
    bell = sum(
        (_tone(f, p) for f, p in zip((3150, 4210, 5330, 6620, 7490), rng.uniform(0, 6, 5), strict=True)), 0 * _TIME
    )
    steps = np.repeat(rng.choice([-1.0, 1.0], _STROKE_SIZE // 4 + 1), 4)[:_STROKE_SIZE]
    dust = np.zeros(_STROKE_SIZE)
    dust[rng.integers(0, 3 * BLOCK, 5)] = rng.uniform(-1, 1, 5)
    return _Noises(white, metal, np.asarray(bell), steps, dust)


def _strokes() -> dict[str, FloatArray]:
    """Return each drum stroke, shape ``(TAPS * BLOCK,)`` at INNER_RATE."""
    noises = _noises()
    white, metal, steps = noises.white, noises.metal, noises.steps
    chip_pitch = np.cumsum(60 + 240 * np.exp(-_TIME / 0.015)) / INNER_RATE
    strokes = {
        "kick electronic": _sweep(210, 47, 0.028, 0.13, 11) + 0.12 * _band(white, 1500, 6000) * _decay(1, 0.003),
        "kick acoustic": 0.95 * _sweep(150, 62, 0.018, 0.1, 11) + 0.15 * _band(white, 900, 5000) * _decay(1, 0.004),
        "snare electronic": 0.45 * _tone(190) * _decay(5, 0.035) + 0.5 * _band(white, 900, 8500) * _decay(8, 0.06),
        "snare acoustic": 0.5 * _tone(215, 1) * _decay(5, 0.04) + 0.45 * _band(white, 1400, 7000) * _decay(12, 0.1),
        "clap": 0.33 * _band(white, 900, 3200) * _claps() * _decay(8, 9),
        "hat closed": 0.30 * metal * _decay(3, 0.018),
        "hat open": 0.26 * metal * _decay(12, 0.10),
        "ride": 0.07 * noises.bell * _decay(12, 0.12) + 0.10 * metal * _decay(12, 0.09),
        "shaker": 0.16 * _band(white, 3500, 9500) * _decay(4, 0.05, 0.018),
        "rim": 0.5 * _tone(1700) * _decay(2, 0.006) + 0.2 * _band(white, 2500, 7000) * _decay(1, 0.004),
        "tom high": 0.7 * _sweep(240, 165, 0.03, 0.11, 11),
        "tom low": 0.8 * _sweep(150, 95, 0.035, 0.13, 12),
        "taiko": 0.95 * _sweep(105, 58, 0.03, 0.16, 12) + 0.22 * _band(white, 300, 1800) * _decay(4, 0.02),
        "crash": 0.34 * _band(white, 2500, 11_000) * _decay(12, 0.2),
        "kick chip": 0.5 * np.sign(np.sin(2 * np.pi * chip_pitch)) * _decay(5, 0.04),
        "snare chip": 0.28 * steps * _decay(6, 0.05),
        "hat chip": 0.12 * steps[::-1] * _decay(2, 0.012),
        "tick": 0.16 * _band(white, 600, 4000) * _decay(1, 0.004),
        "brush": 0.16 * _band(white, 2000, 7500) * _decay(7, 0.07, 0.02),
        "dust": 0.8 * _band(noises.dust, 1200, 8000),
        "click": 0.2 * _band(white, 1500, 5000) * _decay(1, 0.002),
        "thump": 0.5 * _sweep(110, 70, 0.02, 0.05, 6),
        "air": 0.05 * _band(white, 2000, 7000) * np.sin(np.pi * np.clip(_TIME * 50 / TAPS, 0, 1)) ** 2,
        "breath": 0.05 * _band(white, 500, 2500) * np.sin(np.pi * np.clip(_TIME * 50 / TAPS, 0, 1)) ** 2,
    }
    # Frequencies near half of INNER_RATE would be mirrored when the codec interpolates to its sample rate.
    lowpass = 1 / (1 + (np.fft.rfftfreq(_STROKE_SIZE, 1 / INNER_RATE) / _STROKE_CUTOFF) ** 32)
    return {name: np.fft.irfft(np.fft.rfft(samples) * lowpass, _STROKE_SIZE) for name, samples in strokes.items()}


STROKES = _strokes()

# A kit: the strokes and gains of each drum. K kick, S snare, H closed hi-hat, h the same played softly, O open hi-hat,
# R ride, C crash, T and t high and low tom, P rim click or hand clap.
Kit = Mapping[str, tuple[tuple[str, float], ...]]
KITS: dict[str, Kit] = {
    "electronic": {
        "K": (("kick electronic", 0.5),),
        "S": (("snare electronic", 0.3), ("clap", 0.35)),
        "H": (("hat closed", 0.42),),
        "h": (("hat closed", 0.2),),
        "O": (("hat open", 0.4),),
        "R": (("ride", 0.3),),
        "C": (("crash", 0.4),),
        "T": (("tom high", 0.4),),
        "t": (("tom low", 0.4),),
        "P": (("clap", 0.4),),
    },
    "acoustic": {
        "K": (("kick acoustic", 0.5),),
        "S": (("snare acoustic", 0.5),),
        "H": (("hat closed", 0.38),),
        "h": (("hat closed", 0.18),),
        "O": (("hat open", 0.36),),
        "R": (("ride", 0.42),),
        "C": (("crash", 0.5),),
        "T": (("tom high", 0.5),),
        "t": (("tom low", 0.5),),
        "P": (("rim", 0.3),),
    },
    "soft": {
        "K": (("kick acoustic", 0.35), ("thump", 0.35)),
        "S": (("rim", 0.2), ("snare acoustic", 0.25)),
        "H": (("shaker", 0.4),),
        "h": (("shaker", 0.2),),
        "O": (("brush", 0.4),),
        "R": (("ride", 0.16),),
        "C": (("dust", 0.5),),
        "T": (("brush", 0.6),),
        "t": (("thump", 0.4),),
        "P": (("rim", 0.22),),
    },
    "taiko": {
        "K": (("taiko", 0.5),),
        "S": (("taiko", 0.4), ("tom low", 0.3)),
        "H": (("shaker", 0.25),),
        "h": (("shaker", 0.12),),
        "O": (("crash", 0.18),),
        "R": (("tom high", 0.3),),
        "C": (("crash", 0.55), ("taiko", 0.4)),
        "T": (("tom high", 0.5),),
        "t": (("tom low", 0.5),),
        "P": (("rim", 0.2),),
    },
    "chip": {
        "K": (("kick chip", 0.45),),
        "S": (("snare chip", 0.45),),
        "H": (("hat chip", 0.5),),
        "h": (("hat chip", 0.25),),
        "O": (("snare chip", 0.18),),
        "R": (("hat chip", 0.4),),
        "C": (("snare chip", 0.5),),
        "T": (("kick chip", 0.3),),
        "t": (("kick chip", 0.35),),
        "P": (("snare chip", 0.25),),
    },
}

# The gain of each kit, measured so that pieces of all genres have about the same level.
_KIT_GAINS = {"electronic": 1.4, "acoustic": 1.8, "soft": 2.5, "taiko": 1.25, "chip": 2.4}

Axis = tuple[str, int | str]  # an envelope and a MIDI number; "release" and an envelope; or "stroke" and its name
AXES: dict[Axis, int] = {
    axis: index
    for index, axis in enumerate(
        [(envelope, midi) for envelope, range_ in PARTIALS.items() for midi in range_]
        + [("release", envelope) for envelope in SUSTAINED]
        + [("stroke", name) for name in STROKES]
    )
}


def silence() -> FloatArray:
    """Return the vector of silence, shape ``(len(AXES),)``."""
    return np.zeros(len(AXES))


def note(name: str, pitch: int, amplitude: float, *, sustained: str = "held") -> FloatArray:
    """
    Return the vector of one note, whose partials together have the given amplitude.

    Args:
        sustained: The envelope of sustained partials.
    """
    timbre, vector = TIMBRES[name], silence()
    parts = (("struck", timbre.struck), ("short", timbre.short), (sustained, timbre.sustained))
    norm = np.sqrt(sum(a * a for _, part in parts for a in part.values()))
    for envelope, part in parts:
        for harmonic, share in part.items():
            midi = pitch + _SEMITONES[harmonic]
            gain = amplitude * share / norm * 10 ** (-max(0, midi - 88) * _TILT)
            if (envelope, midi) in AXES:
                vector[AXES[envelope, midi]] += gain
    if timbre.noise:
        stroke, share = timbre.noise
        vector[AXES["stroke", stroke]] += 2 * amplitude * share
    return vector


def release(sustained: str) -> FloatArray:
    """Return the vector that ends all sustained notes of an envelope; a note that begins with it isn't affected."""
    vector = silence()
    vector[AXES["release", sustained]] = 1.0
    return vector


def stroke(kit: str, drums: str) -> FloatArray:
    """Return the vector of some drums of a kit struck together."""
    vector = silence()
    for drum in drums:
        for name, gain in KITS[kit][drum]:
            vector[AXES["stroke", name]] += gain * _KIT_GAINS[kit]
    return vector
