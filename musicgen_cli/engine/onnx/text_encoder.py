"""
The graph of the text encoder: token ids → what the decoder reads of a text.

That is the keys and values of every layer's cross-attention, or in a melody model, which has none, a vector for each
token. Source: T5EncoderModel (transformers, modeling_t5.py) and the cross-attention of modeling_musicgen.py.
"""

from __future__ import annotations

import math

import numpy as np

from musicgen_cli.checkpoint.shape import DecoderShape, Shape, TextShape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine.onnx.graph_builder import INT64, Dims, Graph


def write_text_encoder(graph: Graph, shape: Shape, tensors: Tensors) -> None:
    """
    Write the graph.

    Input: `ids` (rows, length) int64, without padding.
    Outputs: for each decoder layer i, `cross_key.i` (rows, heads, head width, length) and `cross_value.i` (rows, heads,
    length, head width). Of a melody model, which has no cross-attention, `states` (rows, length, width).
    """
    states = _encoder(graph, shape.text, tensors, graph.input("ids", INT64, ["B", "S"]))
    width = shape.decoder.width
    if shape.projected:
        product = graph.linear(states, tensors.read("enc_to_dec_proj.weight", width, shape.text.width))
        states = graph.node("Add", product, graph.weight(tensors.read("enc_to_dec_proj.bias", width)))
    if shape.decoder.has_cross_attention:
        _cross_attention_kv(graph, shape.decoder, tensors, states)
    else:
        graph.output(graph.node("Identity", states, to="states"), ["B", "S", width])


def position_buckets(shape: TextShape) -> list[int]:
    """
    Return the bucket of each distance between two tokens, from -max_distance to +max_distance.

    All larger distances are in the outermost buckets, too.

    Source:
        T5Attention._relative_position_bucket, bidirectional. Its float32 rounding decides the bucket of a boundary.
    """
    half = shape.buckets // 2
    exact = half // 2
    offset = np.arange(-shape.max_distance, shape.max_distance + 1)
    distance = np.abs(offset)
    ratio = np.maximum(distance, 1).astype(np.float32) / np.float32(exact)
    log_ratio = np.log(ratio) / np.float32(math.log(shape.max_distance / exact))
    logarithmic = np.minimum(exact + (log_ratio * np.float32(half - exact)).astype(np.int64), half - 1)
    buckets = np.where(offset > 0, half, 0) + np.where(distance < exact, distance, logarithmic)
    return [int(bucket) for bucket in buckets]


def _encoder(graph: Graph, shape: TextShape, tensors: Tensors, ids: str) -> str:
    inner = shape.heads * shape.head_width
    table = next(
        (name for name in ("shared", "encoder.embed_tokens") if f"text_encoder.{name}.weight" in tensors), "shared"
    )
    x = graph.node("Gather", graph.weight(tensors.read(f"text_encoder.{table}.weight", shape.vocab, shape.width)), ids)
    bias = _position_bias(graph, shape, tensors, ids)
    for i in range(shape.layers):
        layer = f"text_encoder.encoder.block.{i}.layer"

        def matrix(name: str, rows: int, columns: int, layer: str = layer) -> FloatArray:
            return tensors.read(f"{layer}.{name}.weight", rows, columns)

        h = _rms_norm(graph, x, tensors.read(f"{layer}.0.layer_norm.weight", shape.width), shape.epsilon)
        query, key, value = (
            graph.node(
                "Transpose",
                graph.node(
                    "Reshape",
                    graph.linear(h, matrix(f"0.SelfAttention.{part}", inner, shape.width)),
                    graph.ints(0, 0, shape.heads, shape.head_width),
                ),
                perm=order,
            )
            for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3]))
        )
        weights = graph.node("Softmax", graph.node("Add", graph.node("MatMul", query, key), bias), axis=-1)
        attended = graph.node("Transpose", graph.node("MatMul", weights, value), perm=[0, 2, 1, 3])
        attended = graph.node("Reshape", attended, graph.ints(0, 0, inner))
        x = graph.node("Add", x, graph.linear(attended, matrix("0.SelfAttention.o", shape.width, inner)))

        h = _rms_norm(graph, x, tensors.read(f"{layer}.1.layer_norm.weight", shape.width), shape.epsilon)
        first = "wi_0" if shape.gated else "wi"
        forward = graph.linear(h, matrix(f"1.DenseReluDense.{first}", shape.ffn, shape.width))
        forward = graph.activation(shape.activation, forward)
        if shape.gated:
            other = graph.linear(h, matrix("1.DenseReluDense.wi_1", shape.ffn, shape.width))
            forward = graph.node("Mul", forward, other)
        x = graph.node("Add", x, graph.linear(forward, matrix("1.DenseReluDense.wo", shape.width, shape.ffn)))
    return _rms_norm(graph, x, tensors.read("text_encoder.encoder.final_layer_norm.weight", shape.width), shape.epsilon)


def _position_bias(graph: Graph, shape: TextShape, tensors: Tensors, ids: str) -> str:
    """Return the relative position bias of each head, (heads, length, length)."""
    biases = tensors.read(
        "text_encoder.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", shape.buckets, shape.heads
    )
    table = graph.weight(biases[position_buckets(shape)])
    length = graph.node("Squeeze", graph.node("Shape", ids, start=1, end=2))
    position = graph.node("Range", graph.weight(np.array(0)), length, graph.weight(np.array(1)))
    distance = graph.node(
        "Sub", graph.node("Unsqueeze", position, graph.ints(0)), graph.node("Unsqueeze", position, graph.ints(1))
    )
    limit = shape.max_distance
    distance = graph.node("Clip", distance, graph.weight(np.array(-limit)), graph.weight(np.array(limit)))
    return graph.node(
        "Transpose", graph.node("Gather", table, graph.node("Add", distance, graph.ints(limit))), perm=[2, 0, 1]
    )


def _rms_norm(graph: Graph, x: str, weight: FloatArray, epsilon: float) -> str:
    square = graph.node("ReduceMean", graph.node("Mul", x, x), graph.ints(-1))
    root = graph.node("Sqrt", graph.node("Add", square, graph.scalar(epsilon)))
    return graph.node("Mul", graph.node("Div", x, root), graph.weight(weight))


def _cross_attention_kv(graph: Graph, shape: DecoderShape, tensors: Tensors, states: str) -> None:
    split = graph.ints(0, 0, shape.heads, shape.head_width)
    for i in range(shape.layers):
        parts: tuple[tuple[str, str, list[int], Dims], ...] = (
            ("k_proj", "cross_key", [0, 2, 3, 1], ["B", shape.heads, shape.head_width, "S"]),
            ("v_proj", "cross_value", [0, 2, 1, 3], ["B", shape.heads, "S", shape.head_width]),
        )
        for part, name, order, dims in parts:
            matrix = tensors.read(
                f"decoder.model.decoder.layers.{i}.encoder_attn.{part}.weight", shape.width, shape.width
            )
            heads = graph.node("Reshape", graph.linear(states, matrix), split)
            graph.node("Transpose", heads, to=f"{name}.{i}", perm=order)
            graph.output(f"{name}.{i}", dims)
