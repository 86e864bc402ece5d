"""
The decoder in float32, computed by numpy over whole sequences, one layer after the other.

With the tokens known in advance, each layer handles all positions at once, so only one of its matrices is in memory at
a time: a model of any size is computed in little memory, in one pass over its weights. Source: MusicgenForCausalLM
(transformers, modeling_musicgen.py) and MusicgenMelodyForCausalLM.

Results are the same to the bit with any number of cores. BLAS would split a product by the number of its threads, which
changes sums in their last bits; so it gets one thread, and products are split here, always in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine import hardware
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.engine.decoding.positions import sinusoids

# What the text encoder's graph gives of a prompt: `cross_key.i` and `cross_value.i`, or in a melody model `states`.
Text = Mapping[str, FloatArray]

_NORM_EPSILON = 1e-5
_COLUMNS = 256  # of a product, computed by one thread


class Observer(Protocol):
    """Sees each product of a layer: the activations, the matrix, and what they give."""

    def __call__(self, layer: int, name: str, inputs: FloatArray, matrix: FloatArray, outputs: FloatArray) -> None:
        """
        Look at a product; nothing may be changed.

        Args:
            name: Of the matrix, such as "self_attn.q_proj".
            inputs: Shape ``(…, in)``.
            matrix: Shape ``(out, in)``, as in torch.
            outputs: Shape ``(…, out)``.
        """


def ignore(layer: int, name: str, inputs: FloatArray, matrix: FloatArray, outputs: FloatArray) -> None:
    """Observe nothing."""


def forward(
    shape: DecoderShape,
    tensors: Tensors,
    tokens: IntArray,
    texts: Sequence[Text | None],
    observe: Observer = ignore,
    *,
    prefix: FloatArray | None = None,
) -> FloatArray:
    """
    Compute the logits of every position of the tokens; values that overflow give NaN.

    Args:
        tokens: Shape ``(rows, codebooks, positions)``.
        texts: What each row's cross-attention reads; None for an unconditional one.
        prefix: What each row reads before the tokens, shape ``(rows, n, width)``; None for nothing.

    Returns:
        Shape ``(rows, codebooks, positions, vocabulary)``.

    Raises:
        CheckpointError: A tensor is missing or can't be used.
    """
    with (
        np.errstate(over="ignore", invalid="ignore"),
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(hardware.cores(), initializer=_ignore_overflows) as pool,
    ):
        x = np.zeros((len(tokens), tokens.shape[2], shape.width), np.float32)
        for k in range(shape.codebooks):
            table = tensors.read(f"decoder.model.decoder.embed_tokens.{k}.weight", shape.vocab + 1, shape.width)
            x += table[tokens[:, k]]
        before = 0 if prefix is None else prefix.shape[1]
        if prefix is not None:
            x = np.concatenate([prefix, x], axis=1)
        x += sinusoids(x.shape[1], shape.width)
        for i in range(shape.layers):
            _Layer(shape, tensors, i, observe, pool).add_to(x, texts)
        x = _norm(x[:, before:], tensors, "decoder.model.decoder.layer_norm")
        heads = (tensors.read(f"decoder.lm_heads.{k}.weight", shape.vocab, shape.width) for k in range(shape.codebooks))
        return np.stack([_product(pool, x, head) for head in heads], axis=1)


class _Layer:
    """One layer of the decoder."""

    def __init__(
        self, shape: DecoderShape, tensors: Tensors, index: int, observe: Observer, pool: ThreadPoolExecutor
    ) -> None:
        self._shape, self._tensors, self._index, self._observe, self._pool = shape, tensors, index, observe, pool
        self._name = f"decoder.model.decoder.layers.{index}"

    def add_to(self, x: FloatArray, texts: Sequence[Text | None]) -> None:
        """Add what the layer computes to the residual stream, shape ``(rows, positions, width)``."""
        h = _norm(x, self._tensors, f"{self._name}.self_attn_layer_norm")
        query, key, value = (self._linear(h, f"self_attn.{part}_proj") for part in "qkv")
        attended = np.stack(list(self._pool.map(self._self_attention, query, key, value)))
        x += self._linear(attended, "self_attn.out_proj")

        guided = [row for row, text in enumerate(texts) if text is not None]
        if guided:
            h = _norm(x[guided], self._tensors, f"{self._name}.encoder_attn_layer_norm")
            query = self._linear(h, "encoder_attn.q_proj")
            attended = np.stack(list(self._pool.map(self._cross_attention, query, filter(None, texts))))
            x[guided] += self._linear(attended, "encoder_attn.out_proj")

        h = _norm(x, self._tensors, f"{self._name}.final_layer_norm")
        hidden = activation(self._shape.activation, self._linear(h, "fc1", outputs=self._shape.ffn))
        x += self._linear(hidden, "fc2")

    def _linear(self, x: FloatArray, name: str, *, outputs: int | None = None) -> FloatArray:
        matrix = self._tensors.read(f"{self._name}.{name}.weight", outputs or self._shape.width, x.shape[-1])
        product = _product(self._pool, x, matrix)
        self._observe(self._index, name, x, matrix, product)
        return product

    def _self_attention(self, query: FloatArray, key: FloatArray, value: FloatArray) -> FloatArray:
        """Attend to the positions up to each one's own; all arrays have the shape ``(positions, width)``."""
        q, k, v = self._queries(query), self._heads(key), self._heads(value)
        scores = q @ k.transpose(0, 2, 1)
        scores[:, *np.triu_indices(len(query), 1)] = -np.inf
        return self._joined(_softmax(scores) @ v)

    def _cross_attention(self, query: FloatArray, text: Text) -> FloatArray:
        key, value = text[f"cross_key.{self._index}"][0], text[f"cross_value.{self._index}"][0]
        return self._joined(_softmax(self._queries(query) @ key) @ value)

    def _heads(self, values: FloatArray) -> FloatArray:
        """Split the channels: ``(positions, width)`` → ``(heads, positions, head width)``."""
        shape = self._shape
        return values.reshape(-1, shape.heads, shape.head_width).transpose(1, 0, 2)

    def _queries(self, values: FloatArray) -> FloatArray:
        """Split the channels as `_heads` does, and scale them for the softmax."""
        return self._heads(values) * np.float32(self._shape.head_width**-0.5)

    @staticmethod
    def _joined(values: FloatArray) -> FloatArray:
        return values.transpose(1, 0, 2).reshape(values.shape[1], -1)


def _ignore_overflows() -> None:
    np.seterr(over="ignore", invalid="ignore")


def _product(pool: ThreadPoolExecutor, x: FloatArray, matrix: FloatArray) -> FloatArray:
    """Multiply ``(rows, positions, in)`` by a matrix of shape ``(out, in)``."""
    flat = x.reshape(-1, x.shape[-1])
    product = np.empty((len(flat), len(matrix)), np.float32)

    def multiply(start: int) -> None:
        columns = slice(start, start + _COLUMNS)
        np.matmul(flat, matrix[columns].T, out=product[:, columns])

    list(pool.map(multiply, range(0, len(matrix), _COLUMNS)))
    return product.reshape(*x.shape[:-1], -1)


def activation(name: str, x: FloatArray) -> FloatArray:
    """Apply one of `checkpoint.shape.ACTIVATIONS`."""
    if name == "relu":
        return np.maximum(x, 0)
    if name == "gelu_new":
        inner: FloatArray = np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3))
    else:
        inner = _erf(x * np.float32(math.sqrt(0.5)))
    return x * (inner + 1) * np.float32(0.5)


def _erf(x: FloatArray) -> FloatArray:
    """
    Return the error function, to 2e-7.

    Source:
        Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
    """
    t = np.reciprocal(1 + np.float32(0.3275911) * np.abs(x))
    polynomial = np.zeros_like(x)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial = (polynomial + np.float32(coefficient)) * t
    result: FloatArray = np.copysign(1 - polynomial * np.exp(-x * x), x)
    return result


def _norm(x: FloatArray, tensors: Tensors, name: str) -> FloatArray:
    """Normalise the last axis, as torch.nn.LayerNorm does."""
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(_NORM_EPSILON))
    normalised: FloatArray = centred / deviation
    return normalised * tensors.read(f"{name}.weight", x.shape[-1]) + tensors.read(f"{name}.bias", x.shape[-1])


def _softmax(scores: FloatArray) -> FloatArray:
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return weights
