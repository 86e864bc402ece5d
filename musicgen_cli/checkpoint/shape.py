"""
The sizes and options in a model's config.json, checked.

An absent member has the default of transformers (configuration_musicgen.py, configuration_t5.py,
configuration_encodec.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from musicgen_cli.errors import CheckpointError

# Of feed-forward layers; gelu is the exact form, gelu_new the tanh approximation.
ACTIVATIONS = ("gelu", "gelu_new", "relu")
PAD_MODES = ("constant", "reflect", "replicate")
PITCH_CLASSES = 12  # of a tune's chroma
# Of a text, which T5 was trained on: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 3.1.2.
# A melody model reads no more of them.
TRAINED_TOKENS = 512

# What a number of the config may be at most: a model takes memory and time by its config before its weights are read.
# The largest that is published has 48 layers of width 2048.
_LARGEST = 1 << 16
_MOST_LAYERS = 1000
_MOST_CODEC_LAYERS = 16  # of each kind: recurrent, residual, and transposed convolutions
_MOST_CODEBOOKS = 64
_LARGEST_VOCABULARY = 1 << 20
_LARGEST_RATE = 768_000  # Hz
_LARGEST_FRAME_RATE = 1000  # Hz
_LARGEST_KERNEL = 1024
_LARGEST_SPAN = 1 << 16  # of a convolution's window, in samples
_LARGEST_HOP = 1 << 20  # samples

_HEAD_MULTIPLE = 8  # of head widths, in ONNX Runtime's GroupQueryAttention


@dataclass(frozen=True, slots=True)
class TextShape:
    """Sizes of the T5 text encoder."""

    vocab: int
    width: int
    layers: int
    heads: int
    head_width: int
    ffn: int
    gated: bool
    activation: str  # of ACTIVATIONS
    buckets: int  # of relative positions
    max_distance: int  # in tokens; all larger distances share the last bucket
    epsilon: float  # of the layer norms


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Sizes of the decoder, the language model over audio codes."""

    vocab: int  # codes in a codebook; the code `vocab` itself is the start token and the padding
    width: int
    layers: int
    heads: int
    ffn: int
    activation: str  # of ACTIVATIONS
    codebooks: int  # of all channels together
    channels: int
    melody_frames: int = 0  # of a tune that is read before the codes; such a decoder has no cross-attention

    @property
    def has_cross_attention(self) -> bool:
        """Whether the layers attend to the text; otherwise a prefix of tune and text stands before the codes."""
        return not self.melody_frames

    @property
    def prefix_positions(self) -> int:
        """The positions of the longest prefix."""
        return 0 if self.has_cross_attention else self.melody_frames + TRAINED_TOKENS

    @property
    def cross_weights(self) -> int:
        """The weights of all layers that turn a text into keys and values; they are computed with the text encoder."""
        return 2 * self.layers * self.width**2 if self.has_cross_attention else 0

    @property
    def step_weights(self) -> int:
        """The weights of all layers' other matrices, which int8 stores in 8 bits."""
        attention = (6 if self.has_cross_attention else 4) * self.width**2
        return self.layers * (attention + 2 * self.width * self.ffn)

    @property
    def head_width(self) -> int:
        """The width of one attention head."""
        return self.width // self.heads

    @property
    def cached_head_width(self) -> int:
        """The width of a head in a KV cache of ONNX Runtime, whose kernel takes multiples of 8: the rest is zeros."""
        return -(-self.head_width // _HEAD_MULTIPLE) * _HEAD_MULTIPLE


@dataclass(frozen=True, slots=True)
class CodecShape:
    """Sizes of EnCodec, whose decoder turns codes into samples and whose encoder turns samples into codes."""

    rate: int  # Hz
    codes: int  # in a codebook
    width: int  # of a code's embedding
    filters: int
    kernel: int
    last_kernel: int
    residual_kernel: int
    residual_layers: int
    dilation_growth: int
    compress: int
    lstm_layers: int
    strides: tuple[int, ...]  # of the decoder's transposed convolutions; their product is the hop length
    causal: bool  # whether convolutions look only at earlier samples
    trim_right: float  # share of a transposed convolution's surplus that is trimmed on the right
    pad_mode: str  # of PAD_MODES
    conv_shortcut: bool

    @property
    def hop(self) -> int:
        """Samples in one frame."""
        return math.prod(self.strides)

    @property
    def top_filters(self) -> int:
        """The number of filters of the recurrent layers; each stride halves it."""
        return self.filters << len(self.strides)

    def padding(self, span: int) -> tuple[int, int]:
        """
        Return how many values a convolution needs before the current one, and how many after it.

        Args:
            span: The width of its window without the current value: (kernel - 1) * dilation.
        """
        after = 0 if self.causal else span // 2
        return span - after, after

    @property
    def receptive_radius(self) -> int:
        """The frames to each side that influence a frame's samples, in the layers after the recurrent ones."""
        radius = self.last_kernel - 1  # counted back from the last layer, in that layer's samples
        for stride in reversed(self.strides):
            radius += sum((self.residual_kernel - 1) * self.dilation_growth**j for j in range(self.residual_layers))
            radius = -(-radius // stride) + 1  # a transposed convolution, two strides long, overlaps its neighbours
        return radius

    @property
    def encoder_radius(self) -> int:
        """The frames to each side whose samples influence a frame in the encoder's layers before the recurrent ones."""
        radius, step = self.kernel - 1, 1  # in samples; samples between two values of the layer
        for stride in reversed(self.strides):
            radius += (
                sum((self.residual_kernel - 1) * self.dilation_growth**j for j in range(self.residual_layers)) * step
            )
            radius += (2 * stride - 1) * step
            step *= stride
        return -(-radius // self.hop)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a MusicGen model."""

    text: TextShape
    decoder: DecoderShape
    codec: CodecShape
    projected: bool  # whether a linear layer brings the text states to the decoder's width

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """
        Read the sizes from a parsed config.json.

        Raises:
            CheckpointError: The model has another architecture, or a member is missing, has the wrong type, or has a
                value that isn't supported; the message names the member.
        """
        model_type = config.get("model_type")
        if model_type not in ("musicgen", "musicgen_melody"):
            raise CheckpointError(
                f"config.json is of a {_shown(model_type)} model, only 'musicgen' and 'musicgen_melody' are supported"
            )
        text_section, decoder_section, codec_section = (
            _Section.of(config, name) for name in ("text_encoder", "decoder", "audio_encoder")
        )
        melody_frames = _melody_frames(_Section(config)) if model_type == "musicgen_melody" else 0
        text, decoder, codec = _text(text_section), _decoder(decoder_section, melody_frames), _codec(codec_section)
        projected = text.width != decoder.width
        if projected and decoder_section.get("cross_attention_hidden_size") is not None:
            raise decoder_section.unsupported("cross_attention_hidden_size")
        if decoder.vocab > codec.codes:
            raise CheckpointError(
                f"config.json: the decoder has {decoder.vocab} codes, but the audio encoder {codec.codes}"
            )
        return cls(text, decoder, codec, projected)


class _Section:
    """A config.json, or one of the three nested objects in it, whose members are read with a check."""

    def __init__(self, members: Mapping[str, Any], path: str = "") -> None:
        self._members, self._path = members, path

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str) -> _Section:
        members = config.get(name)
        if not isinstance(members, dict):
            raise CheckpointError(f"config.json has no object {name!r}")
        return cls(members, f"{name}.")

    def get(self, key: str, default: object = None) -> object:
        value = self._members.get(key)
        return default if value is None else value

    def integer(self, key: str, default: int, *, minimum: int = 1, maximum: int = _LARGEST) -> int:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise self._invalid(key, f"an integer of at least {minimum}")
        if value > maximum:
            raise self._invalid(key, f"at most {maximum}")
        return value

    def fraction(self, key: str, default: float) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._invalid(key, "a number from 0 to 1")
        return float(value)

    def boolean(self, key: str, *, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self._invalid(key, "true or false")
        return value

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise self._invalid(key, f"one of {', '.join(choices)}")
        return value

    def unsupported(self, key: str) -> CheckpointError:
        return CheckpointError(f"config.json: {self._path}{key} {_shown(self.get(key))} is not supported")

    def _invalid(self, key: str, expected: str) -> CheckpointError:
        return CheckpointError(f"config.json: {self._path}{key} must be {expected}, got {_shown(self.get(key))}")


def _shown(value: object) -> str:
    """Write a value of the config for a message; it may be as long and as deep as its author likes."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    return repr(value)[:80]


def _text(section: _Section) -> TextShape:
    section.choice("model_type", "t5", ("t5",))
    # T5Config derives the activation and the gate from this value alone; its "gated-gelu" means the tanh form.
    feed_forward = section.choice("feed_forward_proj", "relu", ("relu", "gelu", "gelu_new", "gated-relu", "gated-gelu"))
    gate, _, activation = feed_forward.rpartition("-")
    shape = TextShape(
        vocab=section.integer("vocab_size", 32128, maximum=_LARGEST_VOCABULARY),
        width=section.integer("d_model", 512),
        layers=section.integer("num_layers", 6, maximum=_MOST_LAYERS),
        heads=section.integer("num_heads", 8),
        head_width=section.integer("d_kv", 64),
        ffn=section.integer("d_ff", 2048),
        gated=bool(gate),
        activation="gelu_new" if feed_forward == "gated-gelu" else activation,
        buckets=section.integer("relative_attention_num_buckets", 32, minimum=4),
        max_distance=section.integer("relative_attention_max_distance", 128),
        epsilon=section.fraction("layer_norm_epsilon", 1e-6),
    )
    if shape.max_distance <= shape.buckets // 4:
        raise section.unsupported("relative_attention_max_distance")
    return shape


def _melody_frames(section: _Section) -> int:
    if section.integer("num_chroma", PITCH_CLASSES) != PITCH_CLASSES:
        raise section.unsupported("num_chroma")
    return section.integer("chroma_length", 235)


def _decoder(section: _Section, melody_frames: int) -> DecoderShape:
    shape = DecoderShape(
        vocab=section.integer("vocab_size", 2048),
        width=section.integer("hidden_size", 1024),
        layers=section.integer("num_hidden_layers", 24, maximum=_MOST_LAYERS),
        heads=section.integer("num_attention_heads", 16),
        ffn=section.integer("ffn_dim", 4096),
        activation=section.choice("activation_function", "gelu", ACTIVATIONS),
        codebooks=section.integer("num_codebooks", 4, maximum=_MOST_CODEBOOKS),
        channels=section.integer("audio_channels", 1),
        melody_frames=melody_frames,
    )
    if melody_frames and shape.width == PITCH_CLASSES:  # transformers doesn't project a tune then
        raise section.unsupported("hidden_size")
    if shape.channels > 2 or shape.codebooks % shape.channels:
        raise section.unsupported("audio_channels")
    if shape.width % shape.heads or shape.width % 2 or shape.width < 4:  # half of it are sines, half are cosines
        raise CheckpointError(
            f"config.json: decoder.hidden_size must be even and a multiple of num_attention_heads ({shape.heads}), "
            f"got {shape.width}"
        )
    for key in ("pad_token_id", "bos_token_id"):
        if section.get(key, shape.vocab) != shape.vocab:
            raise section.unsupported(key)
    return shape


def _codec(section: _Section) -> CodecShape:
    section.choice("model_type", "encodec", ("encodec",))
    section.choice("norm_type", "weight_norm", ("weight_norm",))
    if section.integer("audio_channels", 1) != 1:  # a stereo model runs a mono codec once for each channel
        raise section.unsupported("audio_channels")
    strides = section.get("upsampling_ratios", [8, 5, 4, 2])
    if not isinstance(strides, list) or not 0 < len(strides) <= _MOST_CODEC_LAYERS:
        raise section.unsupported("upsampling_ratios")
    if not all(type(stride) is int and 0 < stride <= _LARGEST for stride in strides):
        raise section.unsupported("upsampling_ratios")
    shape = CodecShape(
        rate=section.integer("sampling_rate", 24_000, maximum=_LARGEST_RATE),
        codes=section.integer("codebook_size", 1024),
        width=section.integer("hidden_size", 128),
        filters=section.integer("num_filters", 32),
        kernel=section.integer("kernel_size", 7, maximum=_LARGEST_KERNEL),
        last_kernel=section.integer("last_kernel_size", 7, maximum=_LARGEST_KERNEL),
        residual_kernel=section.integer("residual_kernel_size", 3, maximum=_LARGEST_KERNEL),
        residual_layers=section.integer("num_residual_layers", 1, minimum=0, maximum=_MOST_CODEC_LAYERS),
        dilation_growth=section.integer("dilation_growth_rate", 2, maximum=_MOST_CODEC_LAYERS),
        compress=section.integer("compress", 2),
        lstm_layers=section.integer("num_lstm_layers", 2, maximum=_MOST_CODEC_LAYERS),
        strides=tuple(strides),
        causal=section.boolean("use_causal_conv", default=True),
        trim_right=section.fraction("trim_right_ratio", 1.0),
        pad_mode=section.choice("pad_mode", "reflect", PAD_MODES),
        conv_shortcut=section.boolean("use_conv_shortcut", default=True),
    )
    if not shape.rate / _LARGEST_FRAME_RATE <= shape.hop <= _LARGEST_HOP:
        raise section.unsupported("upsampling_ratios")
    if shape.top_filters > _LARGEST:
        raise section.unsupported("num_filters")
    if (shape.residual_kernel - 1) * shape.dilation_growth**shape.residual_layers > _LARGEST_SPAN:
        raise section.unsupported("dilation_growth_rate")
    if section.integer("codebook_dim", shape.width) != shape.width:
        raise section.unsupported("codebook_dim")
    if not shape.causal and shape.trim_right != 1.0:
        raise section.unsupported("trim_right_ratio")
    return shape
