"""
A computed EncodecModel whose decoder is a synthesiser: which tensor is which part.

EnCodec's decoder is convolution → LSTM → (ELU, transposed convolution) … → convolution. Driven at an amplitude of
1e-3, ELU and tanh are linear to -66 dB, so the decoder is a linear system, whose weights can be written down:

    quantizer.layers.N.codebook.embed    what each code sounds like, over the timbres' axes
    decoder.layers.0   convolution       envelopes and drum strokes: 12 frames of drives for each axis
    decoder.layers.1   LSTM              oscillators: input and output gates pinned open, the forget gate pinned shut,
                                         so that h = tanh(tanh(W x + R h)); R turns each oscillator by one frame
    decoder.layers.3   upsampling by 2   384 channels → two halves of 192 samples, cross-faded
    layers.5 … 13      upsampling by 2   each halves channels and doubles time: a reshape; on its way, a limiter
    decoder.layers.15  upsampling by 10  six samples at 19.2 kHz → ten at 32 kHz: an interpolator
    decoder.layers.17  convolution       back to full scale

The limiter is the one place where ELU is wanted as it is. Raised by a bias, a signal is left alone by ELU where it is
above zero, and bent where it is below; turned over, its other side is bent the same way. So what is louder than 0.75
comes out as ever less, and nothing reaches 1.

The encoder is all zeros: nothing is ever encoded in text-to-music, but the format has one.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import EncodecConfig, EncodecModel

from training.nano import codes, timbres
from training.nano.synthesis import CEILING, CHANNELS, LINEAR_TO, MIX, Design, design
from training.nano.timbres import BLOCK, INNER_RATE, TAPS, FloatArray

SAMPLE_RATE = 32_000
DELAY = 5  # samples at SAMPLE_RATE that the interpolator is late

_LEVEL = 2.0**-10  # the amplitude at which everything is driven; float16 has it exactly, and what is made of it below
_OPEN = 20.0  # a gate's bias: sigmoid(20) is 1 in float32
_INNER, _OUTER = 6, 10  # samples at INNER_RATE and at SAMPLE_RATE that last equally long


def config() -> EncodecConfig:
    """Return the codec's shape: 32 kHz mono, 50 frames a second, 4 codebooks."""
    return EncodecConfig(
        target_bandwidths=[2.0],  # 4 streams of 10 bits at 50 frames a second
        sampling_rate=SAMPLE_RATE,
        audio_channels=1,
        normalize=False,
        hidden_size=len(timbres.AXES),
        codebook_dim=len(timbres.AXES),
        codebook_size=1024,  # a power of two is asked for; the language model knows codes.CODES of them
        num_filters=3,
        num_residual_layers=0,
        upsampling_ratios=[2, 2, 2, 2, 2, 2, 10],
        norm_type="weight_norm",
        kernel_size=TAPS,
        last_kernel_size=3,
        use_causal_conv=True,
        pad_mode="constant",
        num_lstm_layers=1,
    )


def build() -> EncodecModel:
    """Compute the model, in float32."""
    model = EncodecModel(config()).eval()
    plan = design()
    with torch.no_grad():
        _decoder(model.decoder.layers, plan)
        for layer, table in zip(model.quantizer.layers, codes.vectors(), strict=True):
            layer.codebook.embed.zero_()
            layer.codebook.embed[: codes.CODES] = torch.from_numpy(table)
            layer.codebook.embed_avg.copy_(layer.codebook.embed)
        for layer in model.encoder.layers:
            if hasattr(layer, "conv"):
                _set(layer.conv, np.zeros(tuple(layer.conv.parametrizations.weight.original1.shape)))
            elif hasattr(layer, "lstm"):
                for parameter in layer.lstm.parameters():
                    parameter.zero_()
    return model


def _decoder(layers: torch.nn.ModuleList, plan: Design) -> None:
    """Fill in the decoder."""
    drive = plan.drive.copy()
    drive[: plan.oscillating] /= MIX + 1
    _set(layers[0].conv, _LEVEL * drive[:, :, ::-1])  # the last tap is the newest frame
    _oscillators(layers[1].lstm, plan)
    up = [layer.conv for layer in layers if type(layer).__name__ == "EncodecConvTranspose1d"]
    _set(up[0], _blocks(plan))
    bend = 1 - LINEAR_TO
    limiter = {  # factor and bias of the reshape from so many channels
        CHANNELS >> 1: (1 / (_LEVEL * bend), LINEAR_TO / bend),
        CHANNELS >> 2: (-1.0, 2 * LINEAR_TO / bend),
        CHANNELS >> 3: (-bend * _LEVEL, LINEAR_TO * _LEVEL),
    }
    for conv, channels in zip(up[1:-1], (CHANNELS >> n for n in range(1, len(up) - 1)), strict=True):
        _reshape(conv, channels, *limiter.get(channels, (1.0, 0.0)))
    weight = np.zeros((_INNER, 3, 2 * _OUTER))
    weight[:, 0] = (
        np.roll(_interpolator(), -_INNER, axis=1).reshape(_OUTER, 2, _INNER).transpose(2, 1, 0).reshape(6, 20)
    )
    _set(up[-1], weight)
    weight = np.zeros((1, 3, 3))
    weight[0, 0, 2] = CEILING / _LEVEL
    _set(layers[-1].conv, weight)


def _reshape(conv: torch.nn.Module, channels: int, factor: float, bias: float) -> None:
    """Let an upsampling by 2 put the second half of its channels after the first half in time, times a factor."""
    half = channels // 2
    weight = np.zeros((channels, half, 4))
    for later in (0, 1):
        weight[later * half + np.arange(half), np.arange(half), later] = factor
    _set(conv, weight)
    conv.bias.fill_(bias)


def _oscillators(lstm: torch.nn.LSTM, plan: Design) -> None:
    n, o = CHANNELS, plan.oscillating
    for parameter in lstm.parameters():
        parameter.zero_()
    into, forget, cell, out = (slice(part * n, (part + 1) * n) for part in range(4))
    lstm.bias_ih_l0[into] = lstm.bias_ih_l0[out] = _OPEN
    lstm.bias_ih_l0[forget] = -_OPEN
    lstm.weight_hh_l0[cell] = torch.from_numpy(plan.turn).float()
    lstm.weight_ih_l0[cell] = torch.diag(MIX * (torch.arange(n) < o))


def _blocks(plan: Design) -> FloatArray:
    """Return the first upsampling: taps 0 and 1 are a block's halves, tap 2 what is left of the one before."""
    half = BLOCK // 2
    weight = np.zeros((CHANNELS, half, 4))
    weight[:, :, 0], weight[:, :, 1] = plan.block[:half].T, plan.block[half:].T
    weight[: plan.oscillating, :, 0] *= plan.fade_in
    weight[:, :, 2] = plan.going_on.T
    return weight


def _interpolator() -> FloatArray:
    """
    Return ten outputs from twelve inputs, six of the frame part before and six of this one.

    Least squares over 0-7.7 kHz, of delays of 3 samples at INNER_RATE.
    """
    omega = np.linspace(0, 0.8 * np.pi, 400)

    def waves(times: FloatArray) -> FloatArray:
        wave = np.exp(1j * np.outer(omega, times))
        return np.concatenate([wave.real, wave.imag])

    inputs = np.arange(-float(_INNER), _INNER)
    outputs = np.arange(_OUTER) * INNER_RATE / SAMPLE_RATE - _INNER / 2
    stiff = np.concatenate([waves(inputs), 1e-3 * np.eye(2 * _INNER)])
    wanted = np.concatenate([waves(outputs), np.zeros((2 * _INNER, _OUTER))])
    return np.asarray(np.linalg.lstsq(stiff, wanted, rcond=None)[0].T)


def _set(conv: torch.nn.Module, weight: FloatArray) -> None:
    """Set a convolution's weight: its rows' lengths, and their directions, of which even a row of zeros needs one."""
    values = torch.tensor(np.ascontiguousarray(weight), dtype=torch.float32)
    length = values.flatten(1).norm(dim=1).view(-1, 1, 1)
    anywhere = torch.full_like(values, values[0].numel() ** -0.5)
    conv.parametrizations.weight.original0.copy_(length)
    conv.parametrizations.weight.original1.copy_(torch.where(length > 0, values / length.clamp_min(1e-30), anywhere))
    conv.bias.zero_()
