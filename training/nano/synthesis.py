"""
The synthesis that the codec stands for: what its weights are derived from, and, in float64, what they are checked with.

For each frame, codes give a vector over axes. A filter of 12 frames, `drive`, turns vectors into drives: of each
oscillator its push (its real and imaginary part), and of each drum coefficient its value. Oscillators are damped
rotations that go on from frame to frame; a frame's block of samples is a linear map of their states and of the drum
coefficients. Partials that come and go at a frame's edge would click: the state before fades out over the block's first
half while the new one fades in. At the end a limiter keeps what is loud below full scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.nano import timbres
from training.nano.timbres import BLOCK, HIGHEST, INNER_RATE, LOWEST, PAIRED, TAPS, FloatArray, hertz

CHANNELS = BLOCK  # of the codec's decoder at frame rate; each stage of it halves them and doubles the rate
LINEAR_TO = 0.75  # what is louder is bent, and never reaches 1
CEILING = 15 / 16  # of full scale, that 1 becomes: interpolation goes a little beyond the samples it has
MIX = 15.0  # the recurrent layer adds its input to its output: of each push, 1 part goes round it, MIX parts through it

_FRAME_S = BLOCK / INNER_RATE
_DETUNE_CENTS = (-3.0, 3.5)  # of a pair's two oscillators
_PAIR_SHARE = 0.6  # amplitude of each of two
_SHORT = np.array([1, 0.92, 0.83, 0.73, 0.63, 0.53, 0.43, 0.33, 0.24, 0.15, 0.07, 0])
_SWELLING = np.sin(np.pi / 2 * (np.arange(TAPS) + 1) / TAPS) ** 2
_AMONG_PHASES = 7  # seeds the phases in which partials begin


@dataclass(frozen=True, slots=True)
class Design:
    """All matrices of the synthesis; channels are first two for each oscillator, then the drum coefficients."""

    drive: FloatArray  # (CHANNELS, axes, TAPS): what an axis does to a channel so many frames later
    turn: FloatArray  # (CHANNELS, CHANNELS): one frame of every oscillator
    block: FloatArray  # (BLOCK, CHANNELS): the samples of a frame
    oscillating: int  # channels that are oscillators

    @property
    def fade_in(self) -> FloatArray:
        """The window over the first half of a block, shape ``(BLOCK // 2,)``."""
        half = BLOCK // 2
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * (np.arange(half) + 0.5) / half))

    @property
    def going_on(self) -> FloatArray:
        """What the state before would have gone on to in the first half, shape ``(BLOCK // 2, CHANNELS)``."""
        samples = (self.block[: BLOCK // 2] @ self.turn) * (1 - self.fade_in)[:, None]
        samples[:, self.oscillating :] = 0
        return samples


def _ring_s(midi: int) -> float:
    """Return in how many seconds a partial falls by 60 dB."""
    if midi < 48:
        return 1.1
    if midi < 54:
        return 1.1 + (midi - 48) * 0.2
    return float(np.clip(2.3 * 2 ** (-max(0, midi - 60) / 30), 0.75, 2.3))


def design() -> Design:
    """Compute the matrices."""
    pairs = [(midi, 0) for midi in range(LOWEST, HIGHEST + 1)] + [(midi, 1) for midi in PAIRED]
    phases = dict(
        zip(
            range(LOWEST, HIGHEST + 1),
            np.random.default_rng(_AMONG_PHASES).uniform(0, 2 * np.pi, HIGHEST - LOWEST + 1),
            strict=True,
        )
    )
    turn, block = np.zeros((CHANNELS, CHANNELS)), np.zeros((BLOCK, CHANNELS))
    drive = np.zeros((CHANNELS, len(timbres.AXES), TAPS))
    time = np.arange(BLOCK) / INNER_RATE
    oscillating = 2 * len(pairs)
    for number, (midi, second) in enumerate(pairs):
        f = hertz(midi) * 2 ** ((_DETUNE_CENTS[second] if midi in PAIRED else 0) / 1200)
        damping = np.log(1000) / (_ring_s(midi) * (1.5 if second else 1))
        size, angle = np.exp(-damping * _FRAME_S), 2 * np.pi * f * _FRAME_S
        # Rounded as the checkpoint keeps it, so that a rotation over 30 s stays what it was designed to be.
        real, imaginary = (float(np.float16(size * part(angle))) for part in (np.cos, np.sin))
        once = np.array([[real, -imaginary], [imaginary, real]])
        mine = slice(2 * number, 2 * number + 2)
        turn[mine, mine] = once
        decay = np.exp(-damping * time)
        block[:, mine] = np.stack([decay * np.cos(2 * np.pi * f * time), -decay * np.sin(2 * np.pi * f * time)], axis=1)
        for envelope, gains in (("struck", np.ones(TAPS)), ("short", _SHORT), ("swelling", _SWELLING)):
            if (envelope, midi) not in timbres.AXES or (second and envelope != "swelling"):
                continue
            share = _PAIR_SHARE if envelope == "swelling" else 1.0
            pushes = share * np.diff(gains, prepend=0)
            state = np.array([np.cos(phases[midi]), np.sin(phases[midi])])
            for lag in range(TAPS):  # a push in the phase that the partial has by then
                drive[mine, timbres.AXES[envelope, midi], lag] = pushes[lag] * state
                state = once @ state
    strokes = {name: samples.reshape(TAPS, BLOCK) for name, samples in timbres.STROKES.items()}
    basis, _, _ = np.linalg.svd(np.concatenate(list(strokes.values())).T, full_matrices=False)
    basis = basis[:, : CHANNELS - oscillating]  # all strokes are made of so many block shapes
    block[:, oscillating : oscillating + basis.shape[1]] = basis
    for name, frames in strokes.items():
        axis = timbres.AXES["stroke", name]
        drive[oscillating : oscillating + basis.shape[1], axis, :] = basis.T @ frames.T
    return Design(drive, turn, block, oscillating)


def ideal(plan: Design, vectors: FloatArray) -> FloatArray:
    """
    Synthesise in float64.

    Args:
        vectors: Over axes, shape ``(frames, axes)``.

    Returns:
        Samples at INNER_RATE, shape ``(frames * BLOCK,)``.
    """
    frames, o = len(vectors), plan.oscillating
    pushes = np.zeros((frames, CHANNELS))
    for lag in range(min(TAPS, frames)):
        pushes[lag:] += vectors[: frames - lag] @ plan.drive[:, :, lag].T
    rounds, states = np.zeros(CHANNELS), np.zeros((frames, CHANNELS))
    through = MIX / (MIX + 1)
    for frame in range(frames):
        rounds = plan.turn @ rounds
        rounds[:o] += through * pushes[frame, :o]
        states[frame] = rounds
        states[frame, :o] += (1 - through) * pushes[frame, :o]
        states[frame, o:] = pushes[frame, o:]
    window = np.concatenate([plan.fade_in, np.ones(BLOCK // 2)])
    osc, rest = states[:, :o] @ plan.block[:, :o].T, states[:, o:] @ plan.block[:, o:].T
    blocks = osc * window + rest
    blocks[1:, : BLOCK // 2] += states[:-1] @ plan.going_on.T
    return CEILING * limited(blocks.reshape(-1))


def limited(sound: FloatArray) -> FloatArray:
    """Bend what is louder than LINEAR_TO, so that nothing is louder than 1."""
    bend = 1 - LINEAR_TO
    over = np.maximum(np.abs(sound) - LINEAR_TO, 0)
    return np.asarray(np.sign(sound) * (np.minimum(np.abs(sound), LINEAR_TO) - bend * np.expm1(-over / bend)))
