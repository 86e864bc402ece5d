"""The size of a model and of its graphs, reckoned from its config before its weights are there."""

from __future__ import annotations

from musicgen_cli.checkpoint.shape import PITCH_CLASSES, CodecShape, DecoderShape, Shape, TextShape

_STORED_POSITIONS = 2048  # transformers saves a table of position vectors, which nobody uses


def parameters(shape: Shape) -> dict[str, int]:
    """
    Return how many numbers the tensors hold that engines use, by the beginning of the tensors' names.

    Transformers saves the same tensors; the codec's encoder, which no engine uses, isn't counted.
    """
    text, decoder, codec = shape.text, shape.decoder, shape.codec
    codebooks = decoder.codebooks // decoder.channels
    return {
        "text_encoder.": _text(text),
        "enc_to_dec_proj.": (text.width + 1) * decoder.width if shape.projected else 0,
        "audio_enc_to_dec_proj.": 0 if decoder.has_cross_attention else (PITCH_CLASSES + 1) * decoder.width,
        "decoder.": _decoder(decoder),
        "audio_encoder.decoder.": _codec_decoder(codec),
        # Two tables, the use of each code, and whether they were initialised.
        "audio_encoder.quantizer.": codebooks * (codec.codes * (2 * codec.width + 1) + 1),
    }


def graph_bytes(shape: Shape, *, int8: bool) -> int:
    """
    Return about how many bytes the graphs take on disk, in float32 or in 8 bits.

    In 8 bits the matrices of the decoder's layers are stored, while text encoder and cross-attention keys and values
    have 16; the rest is float32.
    """
    quantizer = parameters(shape)["audio_encoder.quantizer."]
    codebooks = shape.decoder.codebooks // shape.decoder.channels * shape.codec.codes * shape.codec.width
    total = sum(parameters(shape).values()) - quantizer + codebooks  # the other tables are for training
    if not int8:
        return 4 * total
    halves, bytes_ = _text(shape.text) + shape.decoder.cross_weights, shape.decoder.step_weights
    return 2 * halves + bytes_ + 4 * (total - halves - bytes_)


def _text(shape: TextShape) -> int:
    attention = 4 * shape.heads * shape.head_width * shape.width
    forward = (3 if shape.gated else 2) * shape.ffn * shape.width
    norms = 2 * shape.width
    return (
        (shape.vocab + 1) * shape.width  # and the last norm
        + shape.buckets * shape.heads
        + shape.layers * (attention + forward + norms)
    )


def _decoder(shape: DecoderShape) -> int:
    norms = (6 if shape.has_cross_attention else 4) * shape.width * shape.layers
    tables = shape.codebooks * (2 * shape.vocab + 1) * shape.width
    return shape.step_weights + shape.cross_weights + norms + tables + (2 + _STORED_POSITIONS) * shape.width


def _codec_decoder(shape: CodecShape) -> int:
    filters = shape.top_filters
    total = _convolution(shape.width, filters, shape.kernel)
    total += shape.lstm_layers * 8 * filters * (filters + 1)
    for stride in shape.strides:
        total += filters * (filters // 2) * 2 * stride + filters // 2 + filters
        filters //= 2
        hidden = filters // shape.compress
        residual = _convolution(filters, hidden, shape.residual_kernel) + _convolution(hidden, filters, 1)
        shortcut = _convolution(filters, filters, 1) if shape.conv_shortcut else 0
        total += shape.residual_layers * (residual + shortcut)
    return total + _convolution(filters, 1, shape.last_kernel)


def _convolution(inputs: int, outputs: int, kernel: int) -> int:
    """Count a convolution's directions, norms (one for each output) and biases."""
    return outputs * (inputs * kernel + 2)
