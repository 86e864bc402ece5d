"""
The graph of a decoder step: the newest tokens of a batch → the logits of the next ones.

Each row is at its own position and has its own KV cache, which the caller binds both as input and as output, so that it
is updated in place. Source: MusicgenForCausalLM (transformers, modeling_musicgen.py); GroupQueryAttention (ONNX
Runtime, ContribOperators.md).
"""

from __future__ import annotations

import math

import numpy as np

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine.onnx.graph_builder import FLOAT, INT8, INT32, INT64, Dims, Graph


def write_decoder_step(
    graph: Graph, shape: DecoderShape, tensors: Tensors, *, positions: int, int8_kv: bool = False
) -> None:
    """
    Write the graph.

    Inputs: `tokens` (rows, codebooks) int64; `positions` (rows,) int64; `lengths` (rows,) int32, the number of
    positions already in a row's KV cache, which equals its position; `longest` (1,) int32, the largest length + 1;
    `text_rows` (n,) int64, the conditional rows; `text_mask` (n, 1, 1, length) float32, 0 or -inf; for each layer i,
    `cross_key.i` and `cross_value.i` as the text encoder outputs them, with n rows, and the KV cache `key.i` and
    `value.i` (rows, heads, size, cached head width).
    An int8 KV cache has for each layer also `key_scale.i` and `value_scale.i` (1, heads, 1, cached head width), the
    scale of each channel; codes are clipped to -128 to 127.
    Outputs: `logits` (rows, codebooks, vocabulary); `new_key.i` and `new_value.i`, to be bound to the same cache.

    A row that isn't in `text_rows` is unconditional: its text states are zero, and as keys and values have no bias, its
    cross-attention would add exactly zero.

    Args:
        positions: Steps of the longest clip.
        int8_kv: Store keys and values as int8.
    """
    tokens = graph.input("tokens", INT64, ["R", shape.codebooks])
    position = graph.input("positions", INT64, ["R"])
    text_rows = graph.input("text_rows", INT64, ["N"])
    graph.input("lengths", INT32, ["R"])
    graph.input("longest", INT32, [1])
    graph.input("text_mask", FLOAT, ["N", 1, 1, "S"])

    x = graph.node("Gather", graph.weight(sinusoids(positions, shape.width)), position)
    codes = [f"codes.{k}" for k in range(shape.codebooks)]
    graph.nodes("Split", tokens, to=codes, axis=1, num_outputs=shape.codebooks)
    embedded = [
        graph.node(
            "Gather",
            graph.weight(tensors.read(f"decoder.model.decoder.embed_tokens.{k}.weight", shape.vocab + 1, shape.width)),
            graph.node("Squeeze", column, graph.ints(1)),
        )
        for k, column in enumerate(codes)
    ]
    x = graph.node("Add", graph.node("Sum", *embedded), x)
    scatter_rows = graph.node("Unsqueeze", text_rows, graph.ints(1))
    for i in range(shape.layers):
        x = _layer(graph, shape, tensors, x, i, text_rows, scatter_rows, int8_kv=int8_kv)
    x = _norm(graph, shape, tensors, x, "decoder.model.decoder.layer_norm")
    heads = [tensors.read(f"decoder.lm_heads.{k}.weight", shape.vocab, shape.width) for k in range(shape.codebooks)]
    # In 8 bits these alone would cause a third of the error, and they are 2 % of the weights.
    logits = graph.linear(x, *heads, keep_float32=True)
    graph.node("Reshape", logits, graph.ints(0, shape.codebooks, shape.vocab), to="logits")
    graph.output("logits", ["R", shape.codebooks, shape.vocab])


def sinusoids(positions: int, width: int) -> FloatArray:
    """
    Return the position vectors, (positions, width): cosines, then sines.

    Source:
        MusicgenSinusoidalPositionalEmbedding. Each of its operations rounds to float32, and so does each one here;
        functions are computed in float64 first, which is at most one unit in the last place from torch's result.
    """
    half = width // 2
    powers = np.arange(half, dtype=np.float32) * np.float32(-math.log(10_000) / (half - 1))
    angles = np.arange(positions, dtype=np.float32)[:, None] * np.exp(powers.astype(np.float64)).astype(np.float32)
    exact = angles.astype(np.float64)
    return np.concatenate([np.cos(exact), np.sin(exact)], axis=1).astype(np.float32)


def kv_bounds(shape: DecoderShape, tensors: Tensors) -> FloatArray:
    """
    Return upper bounds of keys and values that follow from the weights, shape (layers, 2, heads, cached head width).

    The norm of a layer-normalised vector is at most the root of its width, and the dot product of two vectors is at
    most the product of their norms (Cauchy-Schwarz).
    """
    bounds = np.empty((shape.layers, 2, shape.width), np.float32)
    for i in range(shape.layers):
        layer = f"decoder.model.decoder.layers.{i}"
        gain, offset = (
            tensors.read(f"{layer}.self_attn_layer_norm.{part}", shape.width) for part in ("weight", "bias")
        )
        for j, part in enumerate("kv"):
            matrix = tensors.read(f"{layer}.self_attn.{part}_proj.weight", shape.width, shape.width)
            bounds[i, j] = np.linalg.norm(matrix * gain, axis=1) * math.sqrt(shape.width) + np.abs(matrix @ offset)
    padding = (0, shape.cached_head_width - shape.head_width)  # of zeros, so that any bound is right
    by_head = bounds.reshape(shape.layers, 2, shape.heads, shape.head_width)
    return np.pad(by_head, [(0, 0), (0, 0), (0, 0), padding], constant_values=1)


def _padded_heads(shape: DecoderShape, matrix: FloatArray) -> FloatArray:
    """Widen each head to the cached width by rows of zeros, which add nothing to any product."""
    padding = shape.cached_head_width - shape.head_width
    if not padding:
        return matrix
    heads = matrix.reshape(shape.heads, shape.head_width, -1)
    return np.pad(heads, [(0, 0), (0, padding), (0, 0)]).reshape(-1, matrix.shape[1])


def _layer(
    graph: Graph,
    shape: DecoderShape,
    tensors: Tensors,
    x: str,
    i: int,
    text_rows: str,
    scatter_rows: str,
    *,
    int8_kv: bool,
) -> str:
    layer = f"decoder.model.decoder.layers.{i}"
    width = shape.width

    def matrix(name: str, rows: int = width, columns: int = width) -> FloatArray:
        return tensors.read(f"{layer}.{name}.weight", rows, columns)

    h = _norm(graph, shape, tensors, x, f"{layer}.self_attn_layer_norm")
    qkv = graph.linear(h, *(_padded_heads(shape, matrix(f"self_attn.{part}_proj")) for part in "qkv"))
    cache: Dims = ["R", shape.heads, "T", shape.cached_head_width]
    kind = INT8 if int8_kv else FLOAT
    scales: list[str] = []
    attributes: dict[str, str | int | float] = {"num_heads": shape.heads, "kv_num_heads": shape.heads}
    if shape.cached_head_width != shape.head_width:
        attributes["scale"] = shape.head_width**-0.5  # by default it is that of the cached width
    if int8_kv:
        dims: Dims = [1, shape.heads, 1, shape.cached_head_width]
        scales = [""] * 5 + [graph.input(f"{part}_scale.{i}", FLOAT, dims) for part in ("key", "value")]
        attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
    attended, *_ = graph.contrib_nodes(
        "GroupQueryAttention",
        graph.node("Unsqueeze", qkv, graph.ints(1)),
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
    attended = graph.node("Squeeze", attended, graph.ints(1))
    out = _padded_heads(shape, matrix("self_attn.out_proj").T).T
    x = graph.node("Add", x, graph.linear(attended, out))

    h = _norm(graph, shape, tensors, graph.node("Gather", x, text_rows), f"{layer}.encoder_attn_layer_norm")
    query = graph.linear(h, matrix("encoder_attn.q_proj"))
    query = graph.node("Mul", query, graph.scalar(shape.head_width**-0.5))
    query = graph.node("Reshape", query, graph.ints(-1, shape.heads, 1, shape.head_width))
    key = graph.input(f"cross_key.{i}", FLOAT, ["N", shape.heads, shape.head_width, "S"])
    value = graph.input(f"cross_value.{i}", FLOAT, ["N", shape.heads, "S", shape.head_width])
    scores = graph.node("Add", graph.node("MatMul", query, key), "text_mask")
    attended = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
    attended = graph.linear(graph.node("Reshape", attended, graph.ints(-1, width)), matrix("encoder_attn.out_proj"))
    x = graph.node("ScatterND", x, scatter_rows, attended, reduction="add")

    h = _norm(graph, shape, tensors, x, f"{layer}.final_layer_norm")
    forward = graph.activation(shape.activation, graph.linear(h, matrix("fc1", shape.ffn, width)))
    forward = graph.linear(forward, matrix("fc2", width, shape.ffn), input_activation=shape.activation)
    return graph.node("Add", x, forward)


def _norm(graph: Graph, shape: DecoderShape, tensors: Tensors, x: str, name: str) -> str:
    return graph.layer_norm(x, tensors.read(f"{name}.weight", shape.width), tensors.read(f"{name}.bias", shape.width))
