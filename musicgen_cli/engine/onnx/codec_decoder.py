"""
The graphs from codes to samples. Always float32, whatever the language model is kept in.

There are two, both run chunk by chunk, which gives what one run over the whole clip would. `frames` goes up to the
recurrent layers: these look at everything before, so their memory goes in and comes out. `sound` is what comes after
them, and looks no further than `CodecShape.receptive_radius` frames to each side: it is run with that much around each
chunk.

Source: EncodecDecoder and EncodecResidualVectorQuantizer (transformers, modeling_encodec.py).
"""

from __future__ import annotations

import math

import numpy as np

from musicgen_cli.checkpoint.shape import CodecShape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine.onnx.graph_builder import FLOAT, INT64, Dims, Graph
from musicgen_cli.errors import CheckpointError

_PADS = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}  # torch's word → ONNX's


def write_codec_lstm(graph: Graph, shape: CodecShape, tensors: Tensors, *, codebooks: int) -> None:
    """
    Write the graph up to the recurrent layers.

    Inputs: `codes` (channels, codebooks, frames) int64, each channel is decoded by itself; `start` and `end` (1,)
    int64, between which of these frames the recurrent layers go on, the others being there for the convolution alone;
    `memory` (2 * layers, channels, filters) float32, what the recurrent layers know, zeros at first.
    Outputs: `states` (channels, filters, end - start) float32; `new_memory`.

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
    Write the graph from the recurrent layers on.

    Inputs: `states` (channels, filters, frames) float32.
    Outputs: `sound` (channels, frames * hop) float32, nominally -1.0 to 1.0.
    """
    decoder = _Decoder(graph, shape, tensors)
    filters = shape.top_filters
    x = graph.input("states", FLOAT, ["C", filters, "F"])
    at = 2  # torch numbers all layers in a row, the activations too
    for stride in shape.strides:
        x = decoder.up(decoder.elu(x), at + 1, filters, stride)
        filters //= 2
        at += 2
        for j in range(shape.residual_layers):
            x = decoder.residual(x, at, filters, shape.dilation_growth**j)
            at += 1
    x = decoder.conv(decoder.elu(x), at + 1, filters, 1, shape.last_kernel)
    graph.node("Squeeze", x, graph.ints(1), to="sound")
    graph.output("sound", ["C", "L"])


class _Decoder:
    """EnCodec's decoder; every value is (channels, filters, length)."""

    def __init__(self, graph: Graph, shape: CodecShape, tensors: Tensors) -> None:
        self._graph, self._shape, self._tensors = graph, shape, tensors

    def conv(self, x: str, at: int | str, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> str:
        """Add a convolution of stride 1 that keeps the length."""
        weight, bias = self._weights(f"{at}.conv", (outputs, inputs, kernel), outputs)
        x = self._pad(x, *self._shape.padding((kernel - 1) * dilation))
        return self._graph.node(
            "Conv", x, self._graph.weight(weight), self._graph.weight(bias), dilations=[dilation], kernel_shape=[kernel]
        )

    def up(self, x: str, at: int, inputs: int, stride: int) -> str:
        """Add a transposed convolution that makes `stride` samples of one, and half the filters."""
        graph, kernel = self._graph, 2 * stride
        weight, bias = self._weights(f"{at}.conv", (inputs, inputs // 2, kernel), inputs // 2)
        total = kernel - stride
        right = math.ceil(total * self._shape.trim_right) if self._shape.causal else total // 2
        # ONNX trims what torch's model cuts off afterwards.
        return graph.node(
            *("ConvTranspose", x, graph.weight(weight), graph.weight(bias)),
            kernel_shape=[kernel],
            strides=[stride],
            pads=[total - right, right],
        )

    def residual(self, x: str, at: int, filters: int, dilation: int) -> str:
        shape = self._shape
        hidden = filters // shape.compress
        inner = self.conv(self.elu(x), f"{at}.block.1", filters, hidden, shape.residual_kernel, dilation)
        inner = self.conv(self.elu(inner), f"{at}.block.3", hidden, filters, 1)
        if shape.conv_shortcut:
            x = self.conv(x, f"{at}.shortcut", filters, filters, 1)
        return self._graph.node("Add", x, inner)

    def lstm(self, x: str, at: int, filters: int) -> None:
        """Add the recurrent layers with their memory, and what went into them to what comes out."""
        graph, layers = self._graph, self._shape.lstm_layers
        memory: Dims = [2 * layers, "C", filters]
        known = [f"memory.{i}" for i in range(2 * layers)]  # of each layer its hidden state, then its cell
        graph.nodes("Split", graph.input("memory", FLOAT, memory), to=known, axis=0, num_outputs=2 * layers)
        new = [f"new_{name}" for name in known]
        x = graph.node("Transpose", x, perm=[2, 0, 1])  # (length, channels, filters)
        y = x
        for layer in range(layers):

            def part(name: str, *dims: int, layer: int = layer) -> FloatArray:
                values = self._tensors.read(
                    f"audio_encoder.decoder.layers.{at}.lstm.{name}_l{layer}", 4 * filters, *dims
                )
                # torch: input, forget, cell, output; ONNX: input, output, forget, cell
                into, forget, cell, out = np.split(values, 4)
                return np.concatenate([into, out, forget, cell])[None]

            bias = np.concatenate([part("bias_ih"), part("bias_hh")], axis=1)
            gates = (part("weight_ih", filters), part("weight_hh", filters), bias)
            of_layer = slice(2 * layer, 2 * layer + 2)
            inputs = (y, *map(graph.weight, gates), "", *known[of_layer])
            y, *_ = graph.nodes("LSTM", *inputs, to=[f"lstm.{layer}", *new[of_layer]], hidden_size=filters)
            y = graph.node("Squeeze", y, graph.ints(1))  # its one direction
        graph.node("Transpose", graph.node("Add", y, x), to="states", perm=[1, 2, 0])
        graph.output("states", ["C", filters, "N"])
        graph.node("Concat", *new, to="new_memory", axis=0)
        graph.output("new_memory", memory)

    def elu(self, x: str) -> str:
        """
        Add max(x, 0) + expm1(min(x, 0)).

        ONNX Runtime's Elu takes exp(x) - 1, of which little is left near zero, where all of nano's signal is; expm1(x)
        is tanh(x / 2) (exp(x) + 1) too, and that has no difference of like numbers.
        """
        graph = self._graph
        below = graph.node("Min", x, graph.scalar(0))
        half = graph.node("Tanh", graph.node("Mul", below, graph.scalar(0.5)))
        expm1 = graph.node("Mul", half, graph.node("Add", graph.node("Exp", below), graph.scalar(1)))
        return graph.node("Add", graph.node("Relu", x), expm1)

    def _pad(self, x: str, left: int, right: int) -> str:
        graph, most = self._graph, max(left, right)
        if most == 0:
            return x
        pads = graph.ints(0, 0, left, 0, 0, right)
        mode = _PADS[self._shape.pad_mode]
        if mode != "reflect":
            return graph.node("Pad", x, pads, mode=mode)
        # What is too short to be reflected is first made longer by zeros, which are cut off again at the end.
        missing = graph.node("Sub", graph.ints(most + 1), graph.node("Shape", x, start=2, end=3))
        missing = graph.node("Max", missing, graph.ints(0))
        longer = graph.node("Pad", x, graph.node("Concat", graph.ints(0, 0, 0, 0, 0), missing, axis=0))
        padded = graph.node("Pad", longer, pads, mode=mode)
        end = graph.node("Sub", graph.node("Shape", padded, start=2, end=3), missing)
        return graph.node("Slice", padded, graph.ints(0), end, graph.ints(2))

    def _weights(self, at: str, dims: tuple[int, int, int], outputs: int) -> tuple[FloatArray, FloatArray]:
        """Return a convolution's weight, its norm multiplied in, and its bias."""
        name = f"audio_encoder.decoder.layers.{at}"
        new = f"{name}.parametrizations.weight.original"  # saved by torch 2 and transformers 5; before: weight_g, _v
        norm, direction = f"{new}0", f"{new}1"
        if norm not in self._tensors:
            norm, direction = f"{name}.weight_g", f"{name}.weight_v"
        g, v = self._tensors.read(norm, dims[0], 1, 1), self._tensors.read(direction, *dims)
        length = np.sqrt(np.square(v, dtype=np.float64).sum(axis=(1, 2), keepdims=True))
        if not length.all():
            raise CheckpointError(f"tensor {direction!r} has rows of zeros, which have no direction")
        return (v * (g / length)).astype(np.float32), self._tensors.read(f"{name}.bias", outputs)
