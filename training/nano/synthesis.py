"""
The synthesiser, in float64: the codec's weights are derived from it, and the codec is compared with it.

Codes give a vector over axes for each frame. The filter `drive`, of 12 frames, turns these vectors into excitations:
two for each oscillator (the real and the imaginary part), and one for each drum coefficient. Oscillators are damped
rotations that continue from frame to frame. The samples of a frame are a linear map of the oscillators' states and the
drum coefficients. A partial that changes at the edge of a frame would click; so over the first half of each block, what
the previous state continues to is faded out and the new state faded in. At the end, a limiter keeps the signal below
full scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.nano import timbres
from training.nano.timbres import BLOCK, HIGHEST, INNER_RATE, LOWEST, PAIRED, TAPS, FloatArray, hertz

CHANNELS = BLOCK  # of the codec's decoder at the frame rate; each stage halves them and doubles the rate
LINEAR_TO = 0.75  # the limiter compresses samples above this, and they never reach 1
CEILING = 15 / 16  # the gain after the limiter, since interpolation overshoots a little
MIX = 15.0  # the LSTM layer adds its input to its output: 1 part of an excitation bypasses the LSTM, MIX parts enter it

_FRAME_S = BLOCK / INNER_RATE
_DETUNE_CENTS = (-3.0, 3.5)  # of the two oscillators of a pair
_PAIR_GAIN = 0.6  # of each of the two
_SHORT = np.array([1, 0.92, 0.83, 0.73, 0.63, 0.53, 0.43, 0.33, 0.24, 0.15, 0.07, 0])
_SWELLING = np.sin(np.pi / 2 * (np.arange(TAPS) + 1) / TAPS) ** 2
_PHASE_SEED = 7  # of the initial phases of the partials


@dataclass(frozen=True, slots=True)
class Design:
    """The matrices of the synthesis. Channels are two for each oscillator, then one for each drum coefficient."""

    drive: FloatArray  # (CHANNELS, axes, TAPS): how an axis excites a channel, by the number of frames later
    rotation: FloatArray  # (CHANNELS, CHANNELS): advances every oscillator by one frame
    block: FloatArray  # (BLOCK, CHANNELS): from states to the samples of a frame
    oscillator_channels: int

    @property
    def fade_in(self) -> FloatArray:
        """The window over the first half of a block, shape ``(BLOCK // 2,)``."""
        half = BLOCK // 2
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * (np.arange(half) + 0.5) / half))

    @property
    def fade_out(self) -> FloatArray:
        """From the previous state to its faded continuation, shape ``(BLOCK // 2, CHANNELS)``."""
        samples = (self.block[: BLOCK // 2] @ self.rotation) * (1 - self.fade_in)[:, None]
        samples[:, self.oscillator_channels :] = 0
        return samples


def _ring_s(midi: int) -> float:
    """Return the seconds in which a partial decays by 60 dB."""
    if midi < 48:
        return 1.1
    if midi < 54:
        return 1.1 + (midi - 48) * 0.2
    return float(np.clip(2.3 * 2 ** (-max(0, midi - 60) / 30), 0.75, 2.3))


def design() -> Design:
    """Compute the matrices of the synthesis."""
    pairs = [(midi, 0) for midi in range(LOWEST, HIGHEST + 1)] + [(midi, 1) for midi in PAIRED]
    phases = dict(
        zip(
            range(LOWEST, HIGHEST + 1),
            np.random.default_rng(_PHASE_SEED).uniform(0, 2 * np.pi, HIGHEST - LOWEST + 1),
            strict=True,
        )
    )
    rotation, block = np.zeros((CHANNELS, CHANNELS)), np.zeros((BLOCK, CHANNELS))
    drive = np.zeros((CHANNELS, len(timbres.AXES), TAPS))
    time = np.arange(BLOCK) / INNER_RATE
    oscillator_channels = 2 * len(pairs)
    for number, (midi, second) in enumerate(pairs):
        f = hertz(midi) * 2 ** ((_DETUNE_CENTS[second] if midi in PAIRED else 0) / 1200)
        damping = np.log(1000) / (_ring_s(midi) * (1.5 if second else 1))
        size, angle = np.exp(-damping * _FRAME_S), 2 * np.pi * f * _FRAME_S
        # Rounded as in the checkpoint, so that the drive has exactly the phases that the rotation produces.
        real, imaginary = (float(np.float16(size * part(angle))) for part in (np.cos, np.sin))
        step = np.array([[real, -imaginary], [imaginary, real]])
        own = slice(2 * number, 2 * number + 2)
        rotation[own, own] = step
        decay = np.exp(-damping * time)
        block[:, own] = np.stack([decay * np.cos(2 * np.pi * f * time), -decay * np.sin(2 * np.pi * f * time)], axis=1)
        for envelope, gains in (("struck", np.ones(TAPS)), ("short", _SHORT), ("swelling", _SWELLING)):
            if (envelope, midi) not in timbres.AXES or (second and envelope != "swelling"):
                continue
            gain = _PAIR_GAIN if envelope == "swelling" else 1.0
            changes = gain * np.diff(gains, prepend=0)
            state = np.array([np.cos(phases[midi]), np.sin(phases[midi])])
            for lag in range(TAPS):  # each change of the envelope excites in the phase that the partial has by then
                drive[own, timbres.AXES[envelope, midi], lag] = changes[lag] * state
                state = step @ state
    strokes = {name: samples.reshape(TAPS, BLOCK) for name, samples in timbres.STROKES.items()}
    basis, _, _ = np.linalg.svd(np.concatenate(list(strokes.values())).T, full_matrices=False)
    basis = basis[:, : CHANNELS - oscillator_channels]  # the block shapes that all strokes are composed of
    block[:, oscillator_channels : oscillator_channels + basis.shape[1]] = basis
    for name, frames in strokes.items():
        axis = timbres.AXES["stroke", name]
        drive[oscillator_channels : oscillator_channels + basis.shape[1], axis, :] = basis.T @ frames.T
    return Design(drive, rotation, block, oscillator_channels)


def synthesize(matrices: Design, vectors: FloatArray) -> FloatArray:
    """
    Synthesize a clip in float64, as the codec would without rounding.

    Args:
        vectors: Over axes, shape ``(frames, axes)``.

    Returns:
        Samples at INNER_RATE, shape ``(frames * BLOCK,)``.
    """
    frames, n = len(vectors), matrices.oscillator_channels
    excitations = np.zeros((frames, CHANNELS))
    for lag in range(min(TAPS, frames)):
        excitations[lag:] += vectors[: frames - lag] @ matrices.drive[:, :, lag].T
    recurrent, states = np.zeros(CHANNELS), np.zeros((frames, CHANNELS))
    through = MIX / (MIX + 1)
    for frame in range(frames):
        recurrent = matrices.rotation @ recurrent
        recurrent[:n] += through * excitations[frame, :n]
        states[frame] = recurrent
        states[frame, :n] += (1 - through) * excitations[frame, :n]
        states[frame, n:] = excitations[frame, n:]
    window = np.concatenate([matrices.fade_in, np.ones(BLOCK // 2)])
    tones, drums = states[:, :n] @ matrices.block[:, :n].T, states[:, n:] @ matrices.block[:, n:].T
    blocks = tones * window + drums
    blocks[1:, : BLOCK // 2] += states[:-1] @ matrices.fade_out.T
    return CEILING * limit(blocks.reshape(-1))


def limit(samples: FloatArray) -> FloatArray:
    """Compress samples above LINEAR_TO so that none exceeds 1; the curve and its slope are continuous."""
    knee = 1 - LINEAR_TO
    excess = np.maximum(np.abs(samples) - LINEAR_TO, 0)
    return np.asarray(np.sign(samples) * (np.minimum(np.abs(samples), LINEAR_TO) - knee * np.expm1(-excess / knee)))
