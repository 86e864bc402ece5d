"""
The graphs of EnCodec's encoder, from samples to codes; always float32.

There are two, as for the decoder. The codec encoder is everything before the LSTM. It depends on few frames, so it is
run chunk by chunk, each with `CodecShape.encoder_radius` frames of context on each side. The codec quantizer is the
rest, whose values are a few for each frame: it is run once over the whole sound.

Source: EncodecEncoder, EncodecResidualVectorQuantizer and EncodecEuclideanCodebook (transformers, modeling_encodec.py).
"""

from __future__ import annotations

import numpy as np

from musicgen_cli.checkpoint.shape import CodecShape
from musicgen_cli.checkpoint.tensors import Tensors
from musicgen_cli.engine.onnx.codec_layers import CodecLayers
from musicgen_cli.engine.onnx.graph_builder import FLOAT, INT64, Graph


def write_codec_encoder(graph: Graph, shape: CodecShape, tensors: Tensors) -> None:
    """
    Write the graph of everything before the LSTM.

    Input: `sound` (channels, frames * hop) float32, samples, nominally -1.0 to 1.0, each channel encoded by itself.
    Output: `features` (channels, filters, frames) float32.
    """
    encoder = CodecLayers(graph, shape, tensors, "encoder")
    x = graph.node("Unsqueeze", graph.input("sound", FLOAT, ["C", "L"]), graph.ints(1))
    filters, layer = shape.filters, 0  # torch numbers all layers in one list, activations included
    x = encoder.conv(x, layer, 1, filters, shape.kernel)
    for stride in reversed(shape.strides):
        for j in range(shape.residual_layers):
            layer += 1
            x = encoder.residual(x, layer, filters, shape.dilation_growth**j)
        layer += 2
        x = encoder.downsample(encoder.elu(x), layer, filters, stride)
        filters *= 2
    graph.node("Identity", x, to="features")
    graph.output("features", ["C", filters, "F"])


def write_codec_quantizer(graph: Graph, shape: CodecShape, tensors: Tensors, *, codebooks: int, codes: int) -> None:
    """
    Write the graph of the LSTM and what comes after it.

    Input: `features` (channels, filters, frames) float32, of the whole sound.
    Outputs: `codes` (channels, codebooks, frames) int64; `latents` (channels, frames, width) float32, the values that
    the codes approximate.

    Args:
        codebooks: Of one channel.
        codes: Of each codebook, how many the language model knows.
    """
    encoder = CodecLayers(graph, shape, tensors, "encoder")
    lstm = 1 + len(shape.strides) * (shape.residual_layers + 2)  # the number of its layer
    x = encoder.lstm(graph.input("features", FLOAT, ["C", shape.top_filters, "F"]), lstm)
    x = encoder.conv(encoder.elu(x), lstm + 2, shape.top_filters, shape.width, shape.last_kernel)
    left = graph.node("Transpose", x, to="latents", perm=[0, 2, 1])  # what no codebook has approximated yet
    graph.output("latents", ["C", "F", shape.width])
    columns = []
    for k in range(codebooks):
        vectors = tensors.read(f"audio_encoder.quantizer.layers.{k}.codebook.embed", shape.codes, shape.width)
        vectors = vectors[:codes]
        # The nearest vector v minimises |x|² - 2 x·v + |v|², of which |x|² is the same for all.
        nearness = graph.node(
            "Sub",
            graph.node("MatMul", left, graph.weight(2 * vectors.T)),
            graph.weight(np.square(vectors).sum(axis=1)),
        )
        nearest = graph.node("ArgMax", nearness, axis=-1, keepdims=0)
        columns.append(graph.node("Unsqueeze", nearest, graph.ints(1)))
        if k < codebooks - 1:
            left = graph.node("Sub", left, graph.node("Gather", graph.weight(vectors), nearest))
    graph.node("Concat", *columns, to="codes", axis=1)
    graph.output("codes", ["C", codebooks, "F"], INT64)
