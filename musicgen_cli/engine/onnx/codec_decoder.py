"""
The graphs of EnCodec's decoder, from codes to samples; always float32, whatever the precision of the language model.

There are two, and both are run chunk by chunk with the result of one run over the whole clip. The codec LSTM is
everything up to and including the LSTM, which depends on all frames before: its state is an input and an output. The
codec decoder is everything after the LSTM. It depends on no more than `CodecShape.receptive_radius` frames on each
side, so each chunk is run with that much context.

Source: EncodecDecoder and EncodecResidualVectorQuantizer (transformers, modeling_encodec.py).
"""

from __future__ import annotations

from musicgen_cli.checkpoint.shape import CodecShape
from musicgen_cli.checkpoint.tensors import Tensors
from musicgen_cli.engine.onnx.codec_layers import CodecLayers
from musicgen_cli.engine.onnx.graph_builder import FLOAT, INT64, Graph


def write_codec_lstm(graph: Graph, shape: CodecShape, tensors: Tensors, *, codebooks: int) -> None:
    """
    Write the graph up to and including the LSTM.

    Inputs: `codes` (channels, codebooks, frames) int64, each channel decoded by itself; `start` and `end` (1,) int64,
    the range of frames that go through the LSTM, the others being context of the convolution before it; `memory`
    (2 * layers, channels, filters) float32, the LSTM state, zeros at first.
    Outputs: `states` (channels, filters, end - start) float32, the features; `new_memory`, the new LSTM state.

    Args:
        codebooks: Of one channel.
    """
    codes = graph.input("codes", INT64, ["C", codebooks, "F"])
    start, end = graph.input("start", INT64, [1]), graph.input("end", INT64, [1])
    columns = [f"codes.{k}" for k in range(codebooks)]
    graph.nodes("Split", codes, to=columns, axis=1, num_outputs=codebooks)
    vectors = [
        graph.node(
            "Gather",
            graph.weight(tensors.read(f"audio_encoder.quantizer.layers.{k}.codebook.embed", shape.codes, shape.width)),
            graph.node("Squeeze", column, graph.ints(1)),
        )
        for k, column in enumerate(columns)
    ]
    decoder = CodecLayers(graph, shape, tensors, "decoder")
    x = graph.node("Transpose", graph.node("Sum", *vectors), perm=[0, 2, 1])
    x = decoder.conv(x, 0, shape.width, shape.top_filters, shape.kernel)
    decoder.lstm(graph.node("Slice", x, start, end, graph.ints(2)), 1, state="memory", to="states")
    graph.output("states", ["C", shape.top_filters, "N"])


def write_codec_decoder(graph: Graph, shape: CodecShape, tensors: Tensors) -> None:
    """
    Write the graph of everything after the LSTM.

    Input: `states` (channels, filters, frames) float32, the features.
    Output: `sound` (channels, frames * hop) float32, samples, nominally -1.0 to 1.0.
    """
    decoder = CodecLayers(graph, shape, tensors, "decoder")
    filters = shape.top_filters
    x = graph.input("states", FLOAT, ["C", filters, "F"])
    layer = 2  # torch numbers all layers in one list, activations included
    for stride in shape.strides:
        x = decoder.upsample(decoder.elu(x), layer + 1, filters, stride)
        filters //= 2
        layer += 2
        for j in range(shape.residual_layers):
            x = decoder.residual(x, layer, filters, shape.dilation_growth**j)
            layer += 1
    x = decoder.conv(decoder.elu(x), layer + 1, filters, 1, shape.last_kernel)
    graph.node("Squeeze", x, graph.ints(1), to="sound")
    graph.output("sound", ["C", "L"])
