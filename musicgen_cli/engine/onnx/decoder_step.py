"""
The step graph: the newest codes of some rows → the logits of their next codes.

Each row is at its own position and has its own keys and values, in buffers that the caller binds as input and output at
once. Source: MusicgenForCausalLM (transformers, modeling_musicgen.py); GroupQueryAttention (ONNX Runtime,
ContribOperators.md).
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

    Inputs: `tokens` (rows, codebooks) int64; `positions` (rows,) int64; `lengths` (rows,) int32, the positions that
    are already in a row's buffer, which is its position; `longest` (1,) int32, the largest of them + 1; `text_rows`
    (n,) int64, the rows that look at a text; `text_mask` (n, 1, 1, length) float32, 0 or -inf; for each layer i,
    `cross_key.i` and `cross_value.i` as the text graph makes them, n rows, and `key.i`, `value.i` (rows, heads, size,
    head width).
    A small cache has int8 in its buffers, and for each layer the inputs `key_scale.i` and `value_scale.i` (1, heads, 1,
    head width): what a step of 1 is worth in each channel. What lies beyond -128 to 127 is cut off.
    Outputs: `logits` (rows, codebooks, vocabulary); `new_key.i`, `new_value.i`, to be bound to the same buffers.

    A row that isn't in `text_rows` is one whose text states are zero: keys and values have no bias, so what it would
    see is exactly zero.

    Args:
        positions: Steps of the longest clip.
        small_cache: Keep keys and values in 8 bits.
    """
    tokens = graph.input("tokens", INT64, ["R", shape.codebooks])
    place = graph.input("positions", INT64, ["R"])
    text_rows = graph.input("text_rows", INT64, ["N"])
    graph.input("lengths", INT32, ["R"])
    graph.input("longest", INT32, [1])
    graph.input("text_mask", FLOAT, ["N", 1, 1, "S"])

    x = graph.node("Gather", graph.weight(sinusoids(positions, shape.width)), place)
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
    at = graph.node("Unsqueeze", text_rows, graph.ints(1))
    for i in range(shape.layers):
        x = _layer(graph, shape, tensors, x, i, text_rows, at, int8_kv=int8_kv)
    x = _norm(graph, shape, tensors, x, "decoder.model.decoder.layer_norm")
    heads = [tensors.read(f"decoder.lm_heads.{k}.weight", shape.vocab, shape.width) for k in range(shape.codebooks)]
    # In 8 bits they alone would make a third of the error, and they are 2 % of the weights.
    graph.node("Reshape", graph.linear(x, *heads, exact=True), graph.ints(0, shape.codebooks, shape.vocab), to="logits")
    graph.output("logits", ["R", shape.codebooks, shape.vocab])


def sinusoids(positions: int, width: int) -> FloatArray:
    """
    Return the position vectors, (positions, width): cosines, then sines.

    Source:
        MusicgenSinusoidalPositionalEmbedding. Its steps are rounded to float32 one by one, and so are these; each
        function is computed in float64 first, which is at most one unit in the last place from what torch finds.
    """
    half = width // 2
    powers = np.arange(half, dtype=np.float32) * np.float32(-math.log(10_000) / (half - 1))
    angles = np.arange(positions, dtype=np.float32)[:, None] * np.exp(powers.astype(np.float64)).astype(np.float32)
    exact = angles.astype(np.float64)
    return np.concatenate([np.cos(exact), np.sin(exact)], axis=1).astype(np.float32)


def kv_bounds(shape: DecoderShape, tensors: Tensors) -> FloatArray:
    """
    Return what no key and no value can exceed, by its weights: shape (layers, 2, heads, head width).

    A normalised vector is at most the root of its width long, and a product with it at most so many times the length of
    what it is multiplied with (Cauchy and Schwarz).
    """
    limits = np.empty((shape.layers, 2, shape.width), np.float32)
    for i in range(shape.layers):
        layer = f"decoder.model.decoder.layers.{i}"
        gain, offset = (
            tensors.read(f"{layer}.self_attn_layer_norm.{part}", shape.width) for part in ("weight", "bias")
        )
        for j, part in enumerate("kv"):
            matrix = tensors.read(f"{layer}.self_attn.{part}_proj.weight", shape.width, shape.width)
            limits[i, j] = np.linalg.norm(matrix * gain, axis=1) * math.sqrt(shape.width) + np.abs(matrix @ offset)
    return limits.reshape(shape.layers, 2, shape.heads, shape.head_width)


def _layer(
    graph: Graph,
    shape: DecoderShape,
    tensors: Tensors,
    x: str,
    i: int,
    text_rows: str,
    at: str,
    *,
    int8_kv: bool,
) -> str:
    layer = f"decoder.model.decoder.layers.{i}"
    width = shape.width

    def matrix(name: str, rows: int = width, columns: int = width) -> FloatArray:
        return tensors.read(f"{layer}.{name}.weight", rows, columns)

    h = _norm(graph, shape, tensors, x, f"{layer}.self_attn_layer_norm")
    qkv = graph.linear(h, *(matrix(f"self_attn.{part}_proj") for part in "qkv"))
    buffer: Dims = ["R", shape.heads, "T", shape.head_width]
    kind = INT8 if int8_kv else FLOAT
    scales: list[str] = []
    attributes: dict[str, str | int] = {"num_heads": shape.heads, "kv_num_heads": shape.heads}
    if int8_kv:
        dims: Dims = [1, shape.heads, 1, shape.head_width]
        scales = [""] * 5 + [graph.input(f"{part}_scale.{i}", FLOAT, dims) for part in ("key", "value")]
        attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
    seen, *_ = graph.own(
        "GroupQueryAttention",
        graph.node("Unsqueeze", qkv, graph.ints(1)),
        "",
        "",
        graph.input(f"key.{i}", kind, buffer),
        graph.input(f"value.{i}", kind, buffer),
        "lengths",
        "longest",
        *scales,
        to=[f"seen.{i}", f"new_key.{i}", f"new_value.{i}"],
        **attributes,
    )
    graph.output(f"new_key.{i}", buffer, kind)
    graph.output(f"new_value.{i}", buffer, kind)
    x = graph.node("Add", x, graph.linear(graph.node("Squeeze", seen, graph.ints(1)), matrix("self_attn.out_proj")))

    h = _norm(graph, shape, tensors, graph.node("Gather", x, text_rows), f"{layer}.encoder_attn_layer_norm")
    query = graph.linear(h, matrix("encoder_attn.q_proj"))
    query = graph.node("Mul", query, graph.scalar(shape.head_width**-0.5))
    query = graph.node("Reshape", query, graph.ints(-1, shape.heads, 1, shape.head_width))
    key = graph.input(f"cross_key.{i}", FLOAT, ["N", shape.heads, shape.head_width, "S"])
    value = graph.input(f"cross_value.{i}", FLOAT, ["N", shape.heads, "S", shape.head_width])
    scores = graph.node("Add", graph.node("MatMul", query, key), "text_mask")
    seen = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
    seen = graph.linear(graph.node("Reshape", seen, graph.ints(-1, width)), matrix("encoder_attn.out_proj"))
    x = graph.node("ScatterND", x, at, seen, reduction="add")

    h = _norm(graph, shape, tensors, x, f"{layer}.final_layer_norm")
    forward = graph.activation(shape.activation, graph.linear(h, matrix("fc1", shape.ffn, width)))
    return graph.node("Add", x, graph.linear(forward, matrix("fc2", width, shape.ffn), after=shape.activation))


def _norm(graph: Graph, shape: DecoderShape, tensors: Tensors, x: str, name: str) -> str:
    return graph.layer_norm(x, tensors.read(f"{name}.weight", shape.width), tensors.read(f"{name}.bias", shape.width))
