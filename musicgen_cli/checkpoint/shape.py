"""
What a config.json says, as checked numbers.

A member that is absent has the value that transformers gives it (configuration_musicgen.py, configuration_t5.py,
configuration_encodec.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from musicgen_cli.errors import CheckpointError

ACTIVATIONS = ("gelu", "gelu_new", "relu")  # of feed forward layers: exact, by tanh, rectified
PAD_MODES = ("constant", "reflect", "replicate")

_HEAD_MULTIPLE = 8  # GroupQueryAttention of ONNX Runtime takes no other head widths


@dataclass(frozen=True, slots=True)
class TextShape:
    """The T5 encoder."""

    vocab: int
    width: int
    layers: int
    heads: int
    head_width: int
    ffn: int
    gated: bool
    activation: str  # of ACTIVATIONS
    buckets: int  # of relative positions
    max_distance: int  # in tokens, from which on all are in the last bucket
    epsilon: float


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The language model over codes."""

    vocab: int  # codes of a codebook; the code `vocab` itself is start and padding
    width: int
    layers: int
    heads: int
    ffn: int
    activation: str  # of ACTIVATIONS
    codebooks: int  # of all channels together
    channels: int

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


@dataclass(frozen=True, slots=True)
class CodecShape:
    """EnCodec's decoder."""

    rate: int  # Hz
    codes: int  # in a codebook
    width: int  # of a code's vector
    filters: int
    kernel: int
    last_kernel: int
    residual_kernel: int
    residual_layers: int
    dilation_growth: int
    compress: int
    lstm_layers: int
    strides: tuple[int, ...]
    causal: bool
    trim_right: float
    pad_mode: str  # of PAD_MODES
    conv_shortcut: bool

    @property
    def hop(self) -> int:
        """Samples of one frame."""
        return math.prod(self.strides)

    @property
    def top_filters(self) -> int:
        """Filters of the recurrent layers; each stride halves them."""
        return self.filters << len(self.strides)

    def padding(self, span: int) -> tuple[int, int]:
        """Return how many of the `span` values beside its own one a convolution looks at before it, and after it."""
        after = 0 if self.causal else span // 2
        return span - after, after

    @property
    def receptive_radius(self) -> int:
        """Frames to each side that the sound of a frame can depend on, after the recurrent layers."""
        reach = self.last_kernel - 1  # in samples, of the layer that the loop has come up to
        for stride in reversed(self.strides):
            reach += sum((self.residual_kernel - 1) * self.dilation_growth**j for j in range(self.residual_layers))
            reach = -(-reach // stride) + 1  # a transposed convolution, two strides long, blends two neighbours
        return reach


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a whole MusicGen model."""

    text: TextShape
    decoder: DecoderShape
    codec: CodecShape
    projected: bool  # whether text states are brought to the decoder's width

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """
        Read a config.json.

        Raises:
            CheckpointError: It is of another architecture, or a member is missing, of the wrong kind, or of a kind
                that isn't supported; the message names the member.
        """
        kind = config.get("model_type")
        if kind != "musicgen":
            raise CheckpointError(f"config.json is of a {kind!r} model, only 'musicgen' is supported")
        text_part, decoder_part, codec_part = (
            _Part(config, name) for name in ("text_encoder", "decoder", "audio_encoder")
        )
        text, decoder, codec = _text(text_part), _decoder(decoder_part), _codec(codec_part)
        projected = text.width != decoder.width
        if projected and decoder_part.raw("cross_attention_hidden_size") is not None:
            raise decoder_part.unsupported("cross_attention_hidden_size")
        if decoder.vocab > codec.codes:
            raise CheckpointError(
                f"config.json doesn't fit: the decoder makes {decoder.vocab} codes, the audio encoder has {codec.codes}"
            )
        return cls(text, decoder, codec, projected)


class _Part:
    """One of the three nested objects."""

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        part = config.get(name)
        if not isinstance(part, dict):
            raise CheckpointError(f"config.json has no object {name!r}")
        self._name, self._part = name, part

    def raw(self, key: str, default: object = None) -> object:
        value = self._part.get(key)
        return default if value is None else value

    def whole(self, key: str, default: int, *, least: int = 1) -> int:
        value = self.raw(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self._wrong(key, f"a whole number from {least} on")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.raw(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._wrong(key, "a number from 0 to 1")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.raw(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def word(self, key: str, default: str, known: tuple[str, ...]) -> str:
        value = self.raw(key, default)
        if not isinstance(value, str) or value not in known:
            raise self._wrong(key, f"one of {', '.join(known)}")
        return value

    def unsupported(self, key: str) -> CheckpointError:
        return CheckpointError(f"config.json: {self._name}.{key} {self.raw(key)!r} is not supported"[:200])

    def _wrong(self, key: str, wanted: str) -> CheckpointError:
        return CheckpointError(f"config.json: {self._name}.{key} must be {wanted}, got {self.raw(key)!r}"[:200])


def _text(part: _Part) -> TextShape:
    part.word("model_type", "t5", ("t5",))
    # T5Config derives the activation and the gate from this word alone; its "gated-gelu" means the tanh form.
    forward = part.word("feed_forward_proj", "relu", ("relu", "gelu", "gelu_new", "gated-relu", "gated-gelu"))
    gate, _, activation = forward.rpartition("-")
    shape = TextShape(
        vocab=part.whole("vocab_size", 32128),
        width=part.whole("d_model", 512),
        layers=part.whole("num_layers", 6),
        heads=part.whole("num_heads", 8),
        head_width=part.whole("d_kv", 64),
        ffn=part.whole("d_ff", 2048),
        gated=bool(gate),
        activation="gelu_new" if forward == "gated-gelu" else activation,
        buckets=part.whole("relative_attention_num_buckets", 32, least=4),
        max_distance=part.whole("relative_attention_max_distance", 128),
        epsilon=part.number("layer_norm_epsilon", 1e-6),
    )
    if shape.max_distance <= shape.buckets // 4:
        raise part.unsupported("relative_attention_max_distance")
    return shape


def _decoder(part: _Part) -> DecoderShape:
    shape = DecoderShape(
        vocab=part.whole("vocab_size", 2048),
        width=part.whole("hidden_size", 1024),
        layers=part.whole("num_hidden_layers", 24),
        heads=part.whole("num_attention_heads", 16),
        ffn=part.whole("ffn_dim", 4096),
        activation=part.word("activation_function", "gelu", ACTIVATIONS),
        codebooks=part.whole("num_codebooks", 4),
        channels=part.whole("audio_channels", 1),
    )
    if shape.channels > 2 or shape.codebooks % shape.channels:
        raise part.unsupported("audio_channels")
    if shape.width % (shape.heads * _HEAD_MULTIPLE):
        raise CheckpointError(
            f"config.json: decoder.hidden_size {shape.width} is not {shape.heads} heads of a multiple of 8"
        )
    for key in ("pad_token_id", "bos_token_id"):
        if part.raw(key, shape.vocab) != shape.vocab:
            raise part.unsupported(key)
    return shape


def _codec(part: _Part) -> CodecShape:
    part.word("model_type", "encodec", ("encodec",))
    part.word("norm_type", "weight_norm", ("weight_norm",))
    if part.whole("audio_channels", 1) != 1:  # a stereo model has a mono codec, once for each channel
        raise part.unsupported("audio_channels")
    strides = part.raw("upsampling_ratios", [8, 5, 4, 2])
    if not isinstance(strides, list) or not strides or not all(type(s) is int and s > 0 for s in strides):
        raise part.unsupported("upsampling_ratios")
    shape = CodecShape(
        rate=part.whole("sampling_rate", 24_000),
        codes=part.whole("codebook_size", 1024),
        width=part.whole("hidden_size", 128),
        filters=part.whole("num_filters", 32),
        kernel=part.whole("kernel_size", 7),
        last_kernel=part.whole("last_kernel_size", 7),
        residual_kernel=part.whole("residual_kernel_size", 3),
        residual_layers=part.whole("num_residual_layers", 1, least=0),
        dilation_growth=part.whole("dilation_growth_rate", 2),
        compress=part.whole("compress", 2),
        lstm_layers=part.whole("num_lstm_layers", 2),
        strides=tuple(strides),
        causal=part.flag("use_causal_conv", default=True),
        trim_right=part.number("trim_right_ratio", 1.0),
        pad_mode=part.word("pad_mode", "reflect", PAD_MODES),
        conv_shortcut=part.flag("use_conv_shortcut", default=True),
    )
    if part.whole("codebook_dim", shape.width) != shape.width:
        raise part.unsupported("codebook_dim")
    if not shape.causal and shape.trim_right != 1.0:
        raise part.unsupported("trim_right_ratio")
    return shape
