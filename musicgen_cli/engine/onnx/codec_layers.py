"""
The layers of EnCodec that its encoder and its decoder share: convolutions, residual blocks, the LSTM, ELU.

Source: EncodecConv1d, EncodecConvTranspose1d, EncodecResnetBlock and EncodecLSTM (transformers, modeling_encodec.py).
"""

from __future__ import annotations

import math

import numpy as np

from musicgen_cli.checkpoint.shape import CodecShape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine.onnx.graph_builder import FLOAT, Dims, Graph
from musicgen_cli.errors import CheckpointError

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}  # torch's name → ONNX's


class CodecLayers:
    """Adds the layers of one half of EnCodec to a graph; every value has the shape (channels, filters, length)."""

    def __init__(self, graph: Graph, shape: CodecShape, tensors: Tensors, half: str) -> None:
        """
        Add nothing yet.

        Args:
            half: `encoder` or `decoder`, as in the names of its tensors.
        """
        self._graph, self._shape, self._tensors = graph, shape, tensors
        self._prefix = f"audio_encoder.{half}.layers"

    def conv(self, x: str, layer: int | str, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> str:
        """Add a convolution of stride 1 that keeps the length."""
        weight, bias = self._weights(f"{layer}.conv", (outputs, inputs, kernel), outputs)
        x = self._pad(x, *self._shape.padding((kernel - 1) * dilation))
        return self._graph.node(
            "Conv", x, self._graph.weight(weight), self._graph.weight(bias), dilations=[dilation], kernel_shape=[kernel]
        )

    def downsample(self, x: str, layer: int, inputs: int, stride: int) -> str:
        """Add a convolution: a `stride`-th of the length, which is a multiple of it, and twice the filters."""
        graph, kernel = self._graph, 2 * stride
        weight, bias = self._weights(f"{layer}.conv", (2 * inputs, inputs, kernel), 2 * inputs)
        x = self._pad(x, *self._shape.padding(kernel - stride))
        return graph.node("Conv", x, graph.weight(weight), graph.weight(bias), strides=[stride], kernel_shape=[kernel])

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

    def lstm(self, x: str, layer: int, *, state: str = "", to: str | None = None) -> str:
        """
        Add the LSTM with its residual connection.

        Args:
            state: The name of an input with its state, which goes out as `new_` and this name; "" starts at zero.
            to: The name of its output; None: a new name.
        """
        graph, depth, filters = self._graph, self._shape.lstm_layers, self._shape.top_filters
        state_dims: Dims = [2 * depth, "C", filters]
        # Of each layer the hidden state, then the cell state.
        states, new_states = [""] * (2 * depth), [""] * (2 * depth)
        if state:
            states, new_states = ([f"{name}.{i}" for i in range(2 * depth)] for name in (state, f"new_{state}"))
            graph.nodes("Split", graph.input(state, FLOAT, state_dims), to=states, axis=0, num_outputs=2 * depth)
        x = graph.node("Transpose", x, perm=[2, 0, 1])  # (length, channels, filters)
        y = x
        for i in range(depth):

            def gates(name: str, *dims: int, i: int = i) -> FloatArray:
                values = self._tensors.read(f"{self._prefix}.{layer}.lstm.{name}_l{i}", 4 * filters, *dims)
                # torch: input, forget, cell, output; ONNX: input, output, forget, cell
                into, forget, cell, out = np.split(values, 4)
                return np.concatenate([into, out, forget, cell])[None]

            bias = np.concatenate([gates("bias_ih"), gates("bias_hh")], axis=1)
            weights = (gates("weight_ih", filters), gates("weight_hh", filters), bias)
            layer_states = slice(2 * i, 2 * i + 2)
            inputs = (y, *map(graph.weight, weights), "", *states[layer_states])
            y, *_ = graph.nodes("LSTM", *inputs, to=[f"lstm.{i}", *new_states[layer_states]], hidden_size=filters)
            y = graph.node("Squeeze", y, graph.ints(1))  # the axis of directions, of which there is one
        if state:
            graph.node("Concat", *new_states, to=f"new_{state}", axis=0)
            graph.output(f"new_{state}", state_dims)
        return graph.node("Transpose", graph.node("Add", y, x), to=to, perm=[1, 2, 0])

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
        name = f"{self._prefix}.{layer}"
        prefix = f"{name}.parametrizations.weight.original"  # of torch 2 and transformers 5; before: weight_g, weight_v
        norm, direction = f"{prefix}0", f"{prefix}1"
        if norm not in self._tensors:
            norm, direction = f"{name}.weight_g", f"{name}.weight_v"
        g, v = self._tensors.read(norm, dims[0], 1, 1), self._tensors.read(direction, *dims)
        length = np.sqrt(np.square(v, dtype=np.float64).sum(axis=(1, 2), keepdims=True))
        if not length.all():
            raise CheckpointError(f"tensor {direction!r} has rows of zeros, which have no direction")
        return (v * (g / length)).astype(np.float32), self._tensors.read(f"{name}.bias", outputs)
