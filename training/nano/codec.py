"""
A computed EncodecModel whose decoder is the synthesiser of `synthesis`; this says which tensor is which part.

EnCodec's decoder is convolution → LSTM → (ELU, transposed convolution) … → convolution. At an amplitude of 1e-3, ELU
and tanh are linear to -66 dB, so the decoder is nearly a linear system, whose weights can be written down:

    quantizer.layers.N.codebook.embed    the vector of each code, over the axes of the timbres
    decoder.layers.0   convolution       envelopes and drum strokes: the drive, 12 frames for each axis
    decoder.layers.1   LSTM              oscillators: biases hold the output gate open and the forget gate closed, so
                                         that h = tanh(i tanh(W x + R h)); R rotates each oscillator by a frame, and
                                         the input gates i are constant but for the dampers, which close them
    decoder.layers.3   upsampling by 2   512 channels → two halves of 256 samples, cross-faded
    layers.5 … 13      upsampling by 2   each halves the channels and doubles the time, as a reshape; the first three
                                         are also the limiter
    decoder.layers.15  upsampling by 10  eight samples at 25.6 kHz → ten at 32 kHz: an interpolator
    decoder.layers.17  convolution       back to full scale

A damper is an input gate far down the slope of its sigmoid, where it is exponential: the forces of two releases add up,
and so their gates multiply. It lets a chord sound until the next one, or a rest, takes it away.

The limiter uses ELU's nonlinearity. A bias shifts the signal so that ELU leaves it unchanged above a threshold and
compresses it below; after a change of sign, the next ELU does the same on the other side. So samples above 0.75 are
compressed, and none reaches 1.

The encoder is all zeros: text-to-music never encodes audio, but the format requires an encoder.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import EncodecConfig, EncodecModel

from training.nano import codes, timbres
from training.nano.synthesis import CEILING, CHANNELS, GATE, GATE_GAIN, LINEAR_TO, MIX, Design, design
from training.nano.timbres import BLOCK, INNER_RATE, TAPS, FloatArray

SAMPLE_RATE = 32_000
DELAY = 5  # of the interpolator, in samples at SAMPLE_RATE

_LEVEL = 2.0**-10  # the amplitude of the signal in the decoder; a power of two is exact in float16
_OPEN = 20.0  # the bias of an open gate: sigmoid(20) is 1 in float32
_INNER, _OUTER = 8, 10  # as many samples at INNER_RATE last as long as these at SAMPLE_RATE


def config() -> EncodecConfig:
    """Return the config of the codec: 32 kHz mono, 50 frames a second, 4 codebooks."""
    return EncodecConfig(
        target_bandwidths=[2.0],  # 4 streams of 10 bits at 50 frames a second
        sampling_rate=SAMPLE_RATE,
        audio_channels=1,
        normalize=False,
        hidden_size=len(timbres.AXES),
        codebook_dim=len(timbres.AXES),
        codebook_size=1024,  # has to be a power of two; the language model uses codes.CODES of them
        num_filters=CHANNELS >> 7,
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
    """Compute the codec, in float32."""
    model = EncodecModel(config()).eval()
    with torch.no_grad():
        _set_decoder(model.decoder.layers, design())
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


def _set_decoder(layers: torch.nn.ModuleList, matrices: Design) -> None:
    drive = matrices.drive.copy()
    drive[: matrices.oscillator_channels] /= MIX + 1
    _set(layers[0].conv, _LEVEL * drive[:, :, ::-1])  # the last tap is the newest frame
    _set_oscillators(layers[1].lstm, matrices)
    upsampling = [layer.conv for layer in layers if type(layer).__name__ == "EncodecConvTranspose1d"]
    _set(upsampling[0], _block_weight(matrices))
    knee = 1 - LINEAR_TO
    limiter = {  # channels before the reshape → its factor and bias
        CHANNELS >> 1: (1 / (_LEVEL * knee), LINEAR_TO / knee),
        CHANNELS >> 2: (-1.0, 2 * LINEAR_TO / knee),
        CHANNELS >> 3: (-knee * _LEVEL, LINEAR_TO * _LEVEL),
    }
    sizes = (CHANNELS >> n for n in range(1, len(upsampling) - 1))
    for conv, channels in zip(upsampling[1:-1], sizes, strict=True):
        _set_reshape(conv, channels, *limiter.get(channels, (1.0, 0.0)))
    filters = CHANNELS >> 7
    weight = np.zeros((_INNER, filters, 2 * _OUTER))
    taps = np.roll(_interpolator(), -_INNER, axis=1).reshape(_OUTER, 2, _INNER)
    weight[:, 0] = taps.transpose(2, 1, 0).reshape(_INNER, 2 * _OUTER)
    _set(upsampling[-1], weight)
    weight = np.zeros((1, filters, 3))
    weight[0, 0, 2] = CEILING / _LEVEL
    _set(layers[-1].conv, weight)


def _set_reshape(conv: torch.nn.Module, channels: int, factor: float, bias: float) -> None:
    """Let an upsampling by 2 move the second half of its channels behind the first in time, and scale by a factor."""
    half = channels // 2
    weight = np.zeros((channels, half, 4))
    for later in (0, 1):
        weight[later * half + np.arange(half), np.arange(half), later] = factor
    _set(conv, weight)
    conv.bias.fill_(bias)


def _set_oscillators(lstm: torch.nn.LSTM, matrices: Design) -> None:
    n = CHANNELS
    for parameter in lstm.parameters():
        parameter.zero_()
    input_gate, forget_gate, cell, output_gate = (slice(part * n, (part + 1) * n) for part in range(4))
    lstm.bias_ih_l0[input_gate] = GATE
    lstm.bias_ih_l0[output_gate] = _OPEN
    lstm.bias_ih_l0[forget_gate] = -_OPEN
    lstm.weight_hh_l0[cell] = GATE_GAIN * torch.from_numpy(matrices.rotation).float()
    lstm.weight_ih_l0[cell] = torch.diag(MIX * GATE_GAIN * (torch.arange(n) < matrices.oscillator_channels))
    for damper, damped in matrices.dampers.items():
        lstm.weight_ih_l0[input_gate][damped, damper] = -1 / _LEVEL


def _block_weight(matrices: Design) -> FloatArray:
    """Return the weight of the first upsampling: taps 0 and 1 are the halves of a block, tap 2 the fade-out."""
    half = BLOCK // 2
    weight = np.zeros((CHANNELS, half, 4))
    weight[:, :, 0], weight[:, :, 1] = matrices.block[:half].T, matrices.block[half:].T
    weight[: matrices.oscillator_channels, :, 0] *= matrices.fade_in
    weight[:, :, 2] = matrices.fade_out.T
    return weight


def _interpolator() -> FloatArray:
    """
    Return the matrix from sixteen input samples, the previous eight and these eight, to ten output samples.

    It is the least squares fit, over 0-10.9 kHz, of a resampling that delays by 4 samples at INNER_RATE.
    """
    omega = np.linspace(0, 0.85 * np.pi, 400)

    def waves(times: FloatArray) -> FloatArray:
        wave = np.exp(1j * np.outer(omega, times))
        return np.concatenate([wave.real, wave.imag])

    inputs = np.arange(-float(_INNER), _INNER)
    outputs = np.arange(_OUTER) * INNER_RATE / SAMPLE_RATE - _INNER / 2
    regularized = np.concatenate([waves(inputs), 1e-3 * np.eye(2 * _INNER)])
    target = np.concatenate([waves(outputs), np.zeros((2 * _INNER, _OUTER))])
    return np.asarray(np.linalg.lstsq(regularized, target, rcond=None)[0].T)


def _set(conv: torch.nn.Module, weight: FloatArray) -> None:
    """Set the weight of a convolution with weight norm, which stores the length and the direction of each row."""
    values = torch.tensor(np.ascontiguousarray(weight), dtype=torch.float32)
    length = values.flatten(1).norm(dim=1).view(-1, 1, 1)
    arbitrary = torch.full_like(values, values[0].numel() ** -0.5)  # a row of zeros needs a direction, too
    conv.parametrizations.weight.original0.copy_(length)
    conv.parametrizations.weight.original1.copy_(torch.where(length > 0, values / length.clamp_min(1e-30), arbitrary))
    conv.bias.zero_()
