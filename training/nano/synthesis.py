"""
The synthesiser, in float64: the codec's weights are derived from it, and the codec is compared with it.

Codes give a vector over axes for each frame. The filter `drive`, of 12 frames, turns these vectors into excitations:
two for each oscillator (the real and the imaginary part), one for each drum coefficient, and one for each damper.
Oscillators are damped rotations that continue from frame to frame. They form three banks: one rings as strings and bars
do, the other two go on for many seconds until a damper scales their states down, frame by frame. The samples of a frame
are a linear map of the oscillators' states and the drum coefficients. A partial that changes at the edge of a frame
would click; so over the first half of each block, what the previous state continues to is faded out and the new state
faded in. At the end, a limiter keeps the signal below full scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.nano import timbres
from training.nano.timbres import BLOCK, INNER_RATE, PARTIALS, SUSTAINED, TAPS, FloatArray, hertz

CHANNELS = BLOCK  # of the codec's decoder at the frame rate; each stage halves them and doubles the rate
LINEAR_TO = 0.75  # the limiter compresses samples above this, and they never reach 1
CEILING = 15 / 16  # the gain after the limiter, since interpolation overshoots a little
MIX = 15.0  # the LSTM layer adds its input to its output: 1 part of an excitation bypasses the LSTM, MIX parts enter it
# The input gates of the LSTM are far down the slope of the sigmoid, where it is exponential: so dampers multiply.
GATE = -4.0
GATE_GAIN = 1 + float(np.exp(-GATE))  # makes up for the gate

_FRAME_S = BLOCK / INNER_RATE
_DETUNE_CENTS = {"ring": 0.0, "held": -2.5, "line": 3.0}
_SHORT = np.array([1, 0.92, 0.83, 0.73, 0.63, 0.53, 0.43, 0.33, 0.24, 0.15, 0.07, 0])
_ATTACKS = {"held": 6, "line": 4}  # frames
# What a release leaves of the states, frame by frame: -30 dB in 7 and in 5 frames.
_RELEASES = {"held": (0.85, 0.75, 0.65, 0.55, 0.5, 0.5, 0.6), "line": (0.6, 0.4, 0.4, 0.5, 0.6)}
_PHASE_SEED = 7  # of the initial phases of the partials


@dataclass(frozen=True, slots=True)
class Design:
    """
    The matrices of the synthesis.

    Channels are two for each oscillator, then one for each damper, then one for each drum coefficient.
    """

    drive: FloatArray  # (CHANNELS, axes, TAPS): how an axis excites a channel, by the number of frames later
    rotation: FloatArray  # (CHANNELS, CHANNELS): advances every oscillator by one frame
    block: FloatArray  # (BLOCK, CHANNELS): from states to the samples of a frame
    oscillator_channels: int
    dampers: dict[int, slice]  # the channel of each damper, and the oscillators that it damps

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


def _ring_s(bank: str, midi: int) -> float:
    """Return the seconds in which a partial decays by 60 dB."""
    if bank != "ring":
        return float(np.clip(40 * 2 ** (-(midi - 60) / 24), 12, 40))
    if midi < 54:
        return float(np.interp(midi, (33, 46, 54), (1.8, 2.2, 4.2)))
    return float(np.clip(4.2 * 2 ** (-max(0, midi - 60) / 30), 1.3, 4.2))


def _envelopes(bank: str) -> dict[str, FloatArray]:
    """Return the gains of the envelopes of a bank, by the number of frames after the onset."""
    if bank == "ring":
        return {"struck": np.ones(TAPS), "short": _SHORT}
    return {bank: np.sin(np.pi / 2 * np.minimum(1, (np.arange(TAPS) + 1) / _ATTACKS[bank]))}


def _excitations(gains: FloatArray, step: FloatArray, phase: float, kept: FloatArray) -> FloatArray:
    """
    Return what excites an oscillator so that it follows an envelope, shape ``(2, TAPS)``.

    Args:
        gains: Of the envelope, by frame.
        step: The rotation by a frame, which includes the decay, shape ``(2, 2)``.
        phase: At the onset.
        kept: What a release that begins with the note leaves of the state in each frame.
    """
    through = MIX / (MIX + 1)
    natural, state = np.array([np.cos(phase), np.sin(phase)]), np.zeros(2)
    excitations = np.zeros((2, TAPS))
    for lag in range(TAPS):
        ringing = kept[lag] * (step @ state)
        excitations[:, lag] = (gains[lag] * natural - ringing) / (kept[lag] * through + 1 - through)
        state = ringing + kept[lag] * through * excitations[:, lag]
        natural = step @ natural
    return excitations


def design() -> Design:
    """Compute the matrices of the synthesis."""
    banks = {"ring": PARTIALS["struck"], **{name: PARTIALS[name] for name in SUSTAINED}}
    phases = np.random.default_rng(_PHASE_SEED).uniform(0, 2 * np.pi, 128)  # by MIDI note number
    rotation, block = np.zeros((CHANNELS, CHANNELS)), np.zeros((BLOCK, CHANNELS))
    drive = np.zeros((CHANNELS, len(timbres.AXES), TAPS))
    time = np.arange(BLOCK) / INNER_RATE
    channel, extent = 0, {}
    for bank, partials in banks.items():
        extent[bank] = slice(channel, channel + 2 * len(partials))
        kept = np.ones(TAPS)
        kept[: len(_RELEASES.get(bank, ()))] = [_damped(-np.log(share)) for share in _RELEASES.get(bank, ())]
        for midi in partials:
            f = hertz(midi) * 2 ** (_DETUNE_CENTS[bank] / 1200)
            damping = np.log(1000) / _ring_s(bank, midi)
            size, angle = np.exp(-damping * _FRAME_S), 2 * np.pi * f * _FRAME_S
            # Rounded as in the checkpoint, so that the drive has exactly the phases that the rotation produces.
            real, imaginary = (
                float(np.float16(GATE_GAIN * size * part(angle))) / GATE_GAIN for part in (np.cos, np.sin)
            )
            step = np.array([[real, -imaginary], [imaginary, real]])
            own = slice(channel, channel + 2)
            rotation[own, own] = step
            decay = np.exp(-damping * time)
            wave = np.stack([decay * np.cos(2 * np.pi * f * time), -decay * np.sin(2 * np.pi * f * time)], axis=1)
            block[:, own] = wave
            for envelope, gains in _envelopes(bank).items():
                if (envelope, midi) in timbres.AXES:
                    drive[own, timbres.AXES[envelope, midi]] = _excitations(gains, step, phases[midi], kept)
            channel += 2
    oscillator_channels, dampers = channel, {}
    for bank in SUSTAINED:
        drive[channel, timbres.AXES["release", bank], : len(_RELEASES[bank])] = -np.log(_RELEASES[bank])
        dampers[channel] = extent[bank]
        channel += 1
    strokes = {name: samples.reshape(TAPS, BLOCK) for name, samples in timbres.STROKES.items()}
    basis, _, _ = np.linalg.svd(np.concatenate(list(strokes.values())).T, full_matrices=False)
    basis = basis[:, : CHANNELS - channel]  # the block shapes that all strokes are composed of
    drums = slice(channel, channel + basis.shape[1])
    block[:, drums] = basis
    for name, frames in strokes.items():
        drive[drums, timbres.AXES["stroke", name], :] = basis.T @ frames.T
    return Design(drive, rotation, block, oscillator_channels, dampers)


def _damped(force: float) -> float:
    """Return what a damper leaves of a state in a frame: the gate, relative to the gate without damper."""
    return float(GATE_GAIN / (1 + np.exp(force - GATE)))


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
        for damper, damped in matrices.dampers.items():
            recurrent[damped] *= _damped(excitations[frame, damper])
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
