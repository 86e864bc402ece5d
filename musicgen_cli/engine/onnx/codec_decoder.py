"""
The graphs of EnCodec's decoder, from codes to samples; always float32, whatever the precision of the language model.

There are two, and both are run chunk by chunk with the result of one run over the whole clip. The codec LSTM is
everything up to and including the LSTM, which depends on all frames before: its state is an input and an output. The
codec decoder is everything after the LSTM. It depends on no more than `CodecShape.receptive_radius` frames on each
side, so each chunk is run with that much context.

Source: EncodecDecoder and EncodecResidualVectorQuantizer (transformers, modeling_encodec.py).
"""

from __future__ import annotations

import math

import numpy as np

from musicgen_cli.checkpoint.shape import CodecShape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine.onnx.graph_builder import FLOAT, INT64, Dims, Graph
from musicgen_cli.errors import CheckpointError

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}  # torch's name → ONNX's


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
    decoder = _Decoder(graph, shape, tensors)
    x = graph.node("Transpose", graph.node("Sum", *vectors), perm=[0, 2, 1])
    x = decoder.conv(x, 0, shape.width, shape.top_filters, shape.kernel)
    decoder.lstm(graph.node("Slice", x, start, end, graph.ints(2)), 1, shape.top_filters)


def write_codec_decoder(graph: Graph, shape: CodecShape, tensors: Tensors) -> None:
    """
    Write the graph of everything after the LSTM.

    Input: `states` (channels, filters, frames) float32, the features.
    Output: `sound` (channels, frames * hop) float32, samples, nominally -1.0 to 1.0.
    """
    decoder = _Decoder(graph, shape, tensors)
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


class _Decoder:
    """Adds the layers of EnCodec's decoder to a graph; every value has the shape (channels, filters, length)."""

    def __init__(self, graph: Graph, shape: CodecShape, tensors: Tensors) -> None:
        self._graph, self._shape, self._tensors = graph, shape, tensors

    def conv(self, x: str, layer: int | str, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> str:
        """Add a convolution of stride 1 that keeps the length."""
        weight, bias = self._weights(f"{layer}.conv", (outputs, inputs, kernel), outputs)
        x = self._pad(x, *self._shape.padding((kernel - 1) * dilation))
        return self._graph.node(
            "Conv", x, self._graph.weight(weight), self._graph.weight(bias), dilations=[dilation], kernel_shape=[kernel]
        )

    def upsample(self, x: str, layer: int, inputs: int, stride: int) -> str:
        """Add a transposed convolution: `stride` times the length, half the filters."""
        graph, kernel = self._graph, 2 * stride
        weight, bias = self._weights(f"{layer}.conv", (inputs, inputs // 2, kernel), inputs // 2)
        total = kernel - stride
        right = math.ceil(total * self._shape.trim_right) if self._shape.causal else total // 2
        # The operator's pads trim its output, which torch's model does in a separate step.
        return graph.node(
            *("ConvTranspose", x, graph.weight(weight), graph.weight(bias)),
            kernel_shape=[kernel],
            strides=[stride],
            pads=[total - right, right],
        )

    def residual(self, x: str, layer: int, filters: int, dilation: int) -> str:
        """Add a residual block of two convolutions."""
        shape = self._shape
        hidden = filters // shape.compress
        inner = self.conv(self.elu(x), f"{layer}.block.1", filters, hidden, shape.residual_kernel, dilation)
        inner = self.conv(self.elu(inner), f"{layer}.block.3", hidden, filters, 1)
        if shape.conv_shortcut:
            x = self.conv(x, f"{layer}.shortcut", filters, filters, 1)
        return self._graph.node("Add", x, inner)

    def lstm(self, x: str, layer: int, filters: int) -> None:
        """Add the LSTM with its residual connection; its state comes in as `memory` and goes out as `new_memory`."""
        graph, depth = self._graph, self._shape.lstm_layers
        state_dims: Dims = [2 * depth, "C", filters]
        states = [f"memory.{i}" for i in range(2 * depth)]  # of each layer the hidden state, then the cell state
        graph.nodes("Split", graph.input("memory", FLOAT, state_dims), to=states, axis=0, num_outputs=2 * depth)
        new_states = [f"new_{name}" for name in states]
        x = graph.node("Transpose", x, perm=[2, 0, 1])  # (length, channels, filters)
        y = x
        for i in range(depth):

            def gates(name: str, *dims: int, i: int = i) -> FloatArray:
                values = self._tensors.read(
                    f"audio_encoder.decoder.layers.{layer}.lstm.{name}_l{i}", 4 * filters, *dims
                )
                # torch: input, forget, cell, output; ONNX: input, output, forget, cell
                into, forget, cell, out = np.split(values, 4)
                return np.concatenate([into, out, forget, cell])[None]

            bias = np.concatenate([gates("bias_ih"), gates("bias_hh")], axis=1)
            weights = (gates("weight_ih", filters), gates("weight_hh", filters), bias)
            layer_states = slice(2 * i, 2 * i + 2)
            inputs = (y, *map(graph.weight, weights), "", *states[layer_states])
            y, *_ = graph.nodes("LSTM", *inputs, to=[f"lstm.{i}", *new_states[layer_states]], hidden_size=filters)
            y = graph.node("Squeeze", y, graph.ints(1))  # the axis of directions, of which there is one
        graph.node("Transpose", graph.node("Add", y, x), to="states", perm=[1, 2, 0])
        graph.output("states", ["C", filters, "N"])
        graph.node("Concat", *new_states, to="new_memory", axis=0)
        graph.output("new_memory", state_dims)

    def elu(self, x: str) -> str:
        """
        Add ELU, computed as max(x, 0) + expm1(min(x, 0)).

        ONNX Runtime's Elu computes exp(x) - 1, which loses its precision near zero, where all of nano's signal is.
        expm1(x) = tanh(x / 2) (exp(x) + 1) subtracts no two numbers of nearly the same size.
        """
        graph = self._graph
        negative = graph.node("Min", x, graph.scalar(0))
        half = graph.node("Tanh", graph.node("Mul", negative, graph.scalar(0.5)))
        expm1 = graph.node("Mul", half, graph.node("Add", graph.node("Exp", negative), graph.scalar(1)))
        return graph.node("Add", graph.node("Relu", x), expm1)

    def _pad(self, x: str, left: int, right: int) -> str:
        graph, longest = self._graph, max(left, right)
        if longest == 0:
            return x
        pads = graph.ints(0, 0, left, 0, 0, right)
        mode = _PAD_MODES[self._shape.pad_mode]
        if mode != "reflect":
            return graph.node("Pad", x, pads, mode=mode)
        # An input too short to be reflected is first extended by zeros, which are cut off again at the end.
        missing = graph.node("Sub", graph.ints(longest + 1), graph.node("Shape", x, start=2, end=3))
        missing = graph.node("Max", missing, graph.ints(0))
        extended = graph.node("Pad", x, graph.node("Concat", graph.ints(0, 0, 0, 0, 0), missing, axis=0))
        padded = graph.node("Pad", extended, pads, mode=mode)
        end = graph.node("Sub", graph.node("Shape", padded, start=2, end=3), missing)
        return graph.node("Slice", padded, graph.ints(0), end, graph.ints(2))

    def _weights(self, layer: str, dims: tuple[int, int, int], outputs: int) -> tuple[FloatArray, FloatArray]:
        """Return a convolution's weight, computed from its weight norm parametrization, and its bias."""
        name = f"audio_encoder.decoder.layers.{layer}"
        prefix = f"{name}.parametrizations.weight.original"  # of torch 2 and transformers 5; before: weight_g, weight_v
        norm, direction = f"{prefix}0", f"{prefix}1"
        if norm not in self._tensors:
            norm, direction = f"{name}.weight_g", f"{name}.weight_v"
        g, v = self._tensors.read(norm, dims[0], 1, 1), self._tensors.read(direction, *dims)
        length = np.sqrt(np.square(v, dtype=np.float64).sum(axis=(1, 2), keepdims=True))
        if not length.all():
            raise CheckpointError(f"tensor {direction!r} has rows of zeros, which have no direction")
        return (v * (g / length)).astype(np.float32), self._tensors.read(f"{name}.bias", outputs)
