"""
The graph of a decoder step: the newest tokens of a batch → the logits of the next ones.

Each row is at its own position and has its own KV cache, which the caller binds both as input and as output, so that it
is updated in place. One row by itself may read many positions at once, which fills its cache with given tokens, or with
the prefix of a melody model. Source: MusicgenForCausalLM and MusicgenMelodyForCausalLM (transformers);
GroupQueryAttention (ONNX Runtime, ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import numpy as np

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine.decoding.positions import sinusoids
from musicgen_cli.engine.onnx.graph_builder import FLOAT, INT8, INT32, INT64, Dims, Graph
from musicgen_cli.engine.quantization.observers import Matrix


def write_decoder_step(
    graph: Graph,
    shape: DecoderShape,
    tensors: Tensors,
    *,
    positions: int,
    int8_kv: bool = False,
    in_blocks: AbstractSet[Matrix] = frozenset(),
) -> None:
    """
    Write the graph.

    Inputs: `tokens` (rows, n, codebooks) int64, of n successive positions, where n is 1 if there are several rows;
    `positions` (rows, n) int64; `lengths` (rows,) int32, the last of a row's positions; `longest` (1,) int32, the
    largest length + 1; `text_rows` (m,) int64, the conditional rows; `text_mask` (m, 1, 1, length) float32, 0 or -inf;
    for each layer i, `cross_key.i` and `cross_value.i` as the text encoder outputs them, with m rows, and the KV cache
    `key.i` and `value.i` (rows, heads, size, cached head width).
    An int8 KV cache has for each layer also `key_scale.i` and `value_scale.i` (1, heads, 1, cached head width), the
    scale of each channel; codes are clipped to -128 to 127.
    Outputs: `logits` (rows, codebooks, vocabulary), behind the last position; `new_key.i` and `new_value.i`, to be
    bound to the same cache.

    A row that isn't in `text_rows` is unconditional: its text states are zero, and as keys and values have no bias, its
    cross-attention would add exactly zero.

    A decoder without cross-attention has none of the inputs about text, and one for the prefix: `inputs` (rows, p,
    width) float32, vectors of p successive positions, which the tokens follow. Either p or n can be 0, and `positions`
    is of both.

    Args:
        positions: Of the decoder, at most.
        int8_kv: Store keys and values as int8.
        in_blocks: The matrices that have a scale for each block, where `graph` stores weights in 8 bits.
    """
    tokens = graph.input("tokens", INT64, ["R", "L", shape.codebooks])
    position = graph.input("positions", INT64, ["R", "L" if shape.has_cross_attention else "P"])
    if shape.has_cross_attention:
        graph.input("text_rows", INT64, ["N"])
    graph.input("lengths", INT32, ["R"])
    graph.input("longest", INT32, [1])
    if shape.has_cross_attention:
        graph.input("text_mask", FLOAT, ["N", 1, 1, "S"])

    x = graph.node("Gather", graph.weight(sinusoids(positions, shape.width)), position)
    codes = [f"codes.{k}" for k in range(shape.codebooks)]
    graph.nodes("Split", tokens, to=codes, axis=2, num_outputs=shape.codebooks)
    embedded = [
        graph.node(
            "Gather",
            graph.weight(tensors.read(f"decoder.model.decoder.embed_tokens.{k}.weight", shape.vocab + 1, shape.width)),
            graph.node("Squeeze", column, graph.ints(2)),
        )
        for k, column in enumerate(codes)
    ]
    vectors = graph.node("Sum", *embedded)
    if not shape.has_cross_attention:
        vectors = graph.node("Concat", graph.input("inputs", FLOAT, ["R", "V", shape.width]), vectors, axis=1)
    x = graph.node("Add", vectors, x)
    layers = _Layers(graph, shape, tensors, int8_kv=int8_kv, in_blocks=in_blocks)
    for i in range(shape.layers):
        x = layers.self_attention(x, i)
        if shape.has_cross_attention:
            x = layers.cross_attention(x, i)
        x = layers.feed_forward(x, i)
    x = graph.node("Gather", x, graph.weight(np.array(-1)), axis=1)
    x = layers.norm(x, "decoder.model.decoder.layer_norm")
    heads = [tensors.read(f"decoder.lm_heads.{k}.weight", shape.vocab, shape.width) for k in range(shape.codebooks)]
    # In 8 bits these alone would cause a third of the error, and they are 2 % of the weights.
    logits = graph.linear(x, *heads, keep_float32=True)
    graph.node("Reshape", logits, graph.ints(0, shape.codebooks, shape.vocab), to="logits")
    graph.output("logits", ["R", shape.codebooks, shape.vocab])


class _Layers:
    """Adds the layers of the decoder to a graph; every value has the shape (rows, n, width)."""

    def __init__(
        self, graph: Graph, shape: DecoderShape, tensors: Tensors, *, int8_kv: bool, in_blocks: AbstractSet[Matrix]
    ) -> None:
        self._graph, self._shape, self._tensors = graph, shape, tensors
        self._int8_kv, self._in_blocks = int8_kv, in_blocks
        self._text_rows = "text_rows"
        if shape.has_cross_attention:
            self._scatter_rows = graph.node("Unsqueeze", self._text_rows, graph.ints(1))

    def self_attention(self, x: str, i: int) -> str:
        graph, shape = self._graph, self._shape
        h = self.norm(x, f"{_layer(i)}.self_attn_layer_norm")
        in_blocks = any((i, f"self_attn.{part}_proj") in self._in_blocks for part in "qkv")
        qkv = graph.linear(
            h,
            *(_padded_heads(shape, self._matrix(i, f"self_attn.{part}_proj")) for part in "qkv"),
            in_blocks=in_blocks,
        )
        cache: Dims = ["R", shape.heads, "T", shape.cached_head_width]
        kind = INT8 if self._int8_kv else FLOAT
        scales: list[str] = []
        attributes: dict[str, str | int | float] = {"num_heads": shape.heads, "kv_num_heads": shape.heads}
        if shape.cached_head_width != shape.head_width:
            attributes["scale"] = shape.head_width**-0.5  # by default it is that of the cached width
        if self._int8_kv:
            dims: Dims = [1, shape.heads, 1, shape.cached_head_width]
            scales = [""] * 5 + [graph.input(f"{part}_scale.{i}", FLOAT, dims) for part in ("key", "value")]
            attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        attended, *_ = graph.contrib_nodes(
            "GroupQueryAttention",
            qkv,
            "",
            "",
            graph.input(f"key.{i}", kind, cache),
            graph.input(f"value.{i}", kind, cache),
            "lengths",
            "longest",
            *scales,
            to=[f"seen.{i}", f"new_key.{i}", f"new_value.{i}"],
            **attributes,
        )
        graph.output(f"new_key.{i}", cache, kind)
        graph.output(f"new_value.{i}", cache, kind)
        out = _padded_heads(shape, self._matrix(i, "self_attn.out_proj").T).T
        in_blocks = (i, "self_attn.out_proj") in self._in_blocks
        return graph.node("Add", x, graph.linear(attended, out, in_blocks=in_blocks))

    def cross_attention(self, x: str, i: int) -> str:
        graph, shape = self._graph, self._shape
        h = self.norm(graph.node("Gather", x, self._text_rows), f"{_layer(i)}.encoder_attn_layer_norm")
        query = self._linear(h, i, "encoder_attn.q_proj")
        query = graph.node("Mul", query, graph.scalar(shape.head_width**-0.5))
        query = graph.node("Reshape", query, graph.ints(0, 0, shape.heads, shape.head_width))
        query = graph.node("Transpose", query, perm=[0, 2, 1, 3])
        key = graph.input(f"cross_key.{i}", FLOAT, ["N", shape.heads, shape.head_width, "S"])
        value = graph.input(f"cross_value.{i}", FLOAT, ["N", shape.heads, "S", shape.head_width])
        scores = graph.node("Add", graph.node("MatMul", query, key), "text_mask")
        attended = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
        attended = graph.node("Transpose", attended, perm=[0, 2, 1, 3])
        attended = graph.node("Reshape", attended, graph.ints(0, 0, shape.width))
        attended = self._linear(attended, i, "encoder_attn.out_proj")
        return graph.node("ScatterND", x, self._scatter_rows, attended, reduction="add")

    def feed_forward(self, x: str, i: int) -> str:
        graph, shape = self._graph, self._shape
        h = self.norm(x, f"{_layer(i)}.final_layer_norm")
        hidden = graph.activation(shape.activation, self._linear(h, i, "fc1", outputs=shape.ffn))
        return graph.node("Add", x, self._linear(hidden, i, "fc2", inputs=shape.ffn, activation=shape.activation))

    def norm(self, x: str, name: str) -> str:
        weight, bias = (self._tensors.read(f"{name}.{part}", self._shape.width) for part in ("weight", "bias"))
        return self._graph.layer_norm(x, weight, bias)

    def _linear(
        self,
        x: str,
        i: int,
        name: str,
        inputs: int | None = None,
        outputs: int | None = None,
        activation: str | None = None,
    ) -> str:
        """Multiply by a matrix of a layer; see `Graph.linear`."""
        matrix = self._matrix(i, name, outputs, inputs)
        return self._graph.linear(x, matrix, input_activation=activation, in_blocks=(i, name) in self._in_blocks)

    def _matrix(self, i: int, name: str, outputs: int | None = None, inputs: int | None = None) -> FloatArray:
        rows, columns = outputs or self._shape.width, inputs or self._shape.width
        return self._tensors.read(f"{_layer(i)}.{name}.weight", rows, columns)


def _padded_heads(shape: DecoderShape, matrix: FloatArray) -> FloatArray:
    """Widen each head to the cached width by rows of zeros, which add nothing to any product."""
    padding = shape.cached_head_width - shape.head_width
    if not padding:
        return matrix
    heads = matrix.reshape(shape.heads, shape.head_width, -1)
    return np.pad(heads, [(0, 0), (0, padding), (0, 0)]).reshape(-1, matrix.shape[1])


def _layer(i: int) -> str:
    return f"decoder.model.decoder.layers.{i}"
