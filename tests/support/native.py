"""A random decoder for the tests of the native one, and its step written out in numpy."""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.engine.decoding.positions import sinusoids
from musicgen_cli.engine.native import library
from musicgen_cli.engine.native.decoder import NativeDecoder, Pool, Text, Weights
from musicgen_cli.engine.native.weights import write_weights
from musicgen_cli.engine.quantization.codes import ACTIVATION_MINIMUM, INT8_MAX, UINT8_MAX, quantize_per_channel

TOKENS = 21  # of a text
FINE_MAX = 16383  # the largest fine code
BLOCK = 512  # values of a row that share a step


def small_shape(**values: Any) -> DecoderShape:
    """Return a shape whose sizes are no multiples of larger numbers than they must be."""
    defaults = {"vocab": 33, "width": 96, "layers": 2, "heads": 3, "ffn": 176, "activation": "gelu", "codebooks": 4}
    return DecoderShape(**{**defaults, "channels": 1, **values})


class RandomTensors:
    """A `TensorSource`: each tensor is random, and the same each time."""

    def read(self, name: str, *shape: int) -> Any:
        return _random_tensor(name, shape)


@cache
def _random_tensor(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    if "norm" in name:
        return values * np.float32(0.2) + np.float32(name.endswith("weight"))
    return values * np.float32(0.5 if "embed" in name else 2 / np.sqrt(shape[-1]))


def random_text(shape: DecoderShape) -> dict[str, Any]:
    """Return what a text encoder could have computed."""
    rng = np.random.default_rng(5)
    sizes = {"key": (1, shape.heads, shape.head_width, TOKENS), "value": (1, shape.heads, TOKENS, shape.head_width)}
    return {
        f"cross_{part}.{i}": rng.standard_normal(size).astype(np.float32)
        for i in range(shape.layers)
        for part, size in sizes.items()
    }


def random_scales(shape: DecoderShape) -> Any:
    size = (shape.layers, 2, shape.heads, shape.head_width)
    return np.random.default_rng(6).uniform(0.02, 0.04, size).astype(np.float32)


def isas() -> list[str]:
    """Return the instruction sets that this processor has."""
    return [name for name, number in library.INSTRUCTION_SETS.items() if library.load().mg_has_isa(number)]


class Sample:
    """A random model in a weight file, and decoders of it."""

    def __init__(self, folder: Path, shape: DecoderShape, *, positions: int = 64) -> None:
        self.shape, self.positions = shape, positions
        self.path = folder / "step.weights"
        write_weights(self.path, shape, RandomTensors(), positions=positions)
        self.weights = Weights(self.path, shape)
        self.text = Text.of(shape, random_text(shape)) if shape.has_cross_attention else None

    def decoder(self, *, rows: int, isa: str | None = None, threads: int = 1, patient: bool = False) -> NativeDecoder:
        """Return a decoder whose even rows have the text."""
        pool = Pool(threads, patient=patient)
        scales = random_scales(self.shape)
        decoder = NativeDecoder(
            self.weights, pool, isa or isas()[0], rows=rows, positions=self.positions, scales=scales
        )
        for row in range(0, rows, 2):
            decoder.set_conditioning(row, self.text)
        return decoder

    def tokens(self, *size: int) -> Any:
        return np.random.default_rng(7).integers(0, self.shape.vocab + 1, (*size, self.shape.codebooks))


class Reference:
    """One row of a decoder in numpy, with the native decoder's quantization, in float64 wherever it has float32."""

    def __init__(self, shape: DecoderShape, text: dict[str, Any] | None, *, positions: int) -> None:
        self._shape, self._text, self._tensors = shape, text, RandomTensors()
        self._positions = sinusoids(positions, shape.width)
        self._scales = random_scales(shape).astype(np.float64)
        self._keys: list[list[Any]] = [[] for _ in range(shape.layers)]
        self._values: list[list[Any]] = [[] for _ in range(shape.layers)]

    def step(self, tokens: Any, position: int) -> Any:
        """Return the logits after the tokens at the next position, shape ``(codebooks, vocabulary)``."""
        shape, name = self._shape, "decoder.model.decoder"
        x = self._positions[position].astype(np.float64)
        for k, token in enumerate(tokens):
            x = x + self._tensors.read(f"{name}.embed_tokens.{k}.weight", shape.vocab + 1, shape.width)[token]
        for i in range(shape.layers):
            x = self._layer(f"{name}.layers.{i}", i, x)
        x = self._norm(f"{name}.layer_norm", x)
        heads = [
            self._tensors.read(f"decoder.lm_heads.{k}.weight", shape.vocab, shape.width) for k in range(shape.codebooks)
        ]
        return np.stack([head.astype(np.float64) @ x for head in heads])

    def _layer(self, layer: str, i: int, x: Any) -> Any:
        shape = self._shape
        h = self._norm(f"{layer}.self_attn_layer_norm", x)
        query, key, value = (self._multiply(f"{layer}.self_attn.{part}_proj", h) for part in "qkv")
        attended = self._attend(i, query, key, value)
        x = x + self._multiply(f"{layer}.self_attn.out_proj", attended, largest_code=FINE_MAX)
        if self._text is not None:
            h = self._norm(f"{layer}.encoder_attn_layer_norm", x)
            query = self._multiply(f"{layer}.encoder_attn.q_proj", h).reshape(shape.heads, shape.head_width)
            keys, values = (self._text[f"cross_{part}.{i}"][0].astype(np.float64) for part in ("key", "value"))
            weights = softmax(np.einsum("hc,hct->ht", query, keys) / np.sqrt(shape.head_width))
            x = x + self._multiply(f"{layer}.encoder_attn.out_proj", np.einsum("ht,htc->hc", weights, values).ravel())
        h = self._norm(f"{layer}.final_layer_norm", x)
        h = activate(shape.activation, self._multiply(f"{layer}.fc1", h, shape.ffn, shape.width))
        return x + self._multiply(f"{layer}.fc2", h, shape.width, shape.ffn, ACTIVATION_MINIMUM[shape.activation])

    def _attend(self, i: int, query: Any, key: Any, value: Any) -> Any:
        shape = self._shape
        (key_scales, value_scales), split = self._scales[i], (shape.heads, shape.head_width)
        self._keys[i].append(np.rint(key.reshape(split) / key_scales).clip(-128, 127))
        self._values[i].append(np.rint(value.reshape(split) / value_scales).clip(-128, 127))
        query = query.reshape(split) * key_scales
        reach = np.abs(query).max(-1, keepdims=True) / 32000
        scores = np.einsum("hc,phc->hp", np.rint(query / reach) * reach, self._keys[i]) / np.sqrt(shape.head_width)
        numerators = np.rint(np.exp(scores - scores.max(-1, keepdims=True)) * 32512)
        shares = numerators / numerators.sum(-1, keepdims=True)
        return (np.einsum("hp,phc->hc", shares, self._values[i]) * value_scales).ravel()

    def _multiply(
        self,
        name: str,
        x: Any,
        outputs: int | None = None,
        inputs: int | None = None,
        minimum: float | None = None,
        largest_code: int = INT8_MAX,
    ) -> Any:
        width = self._shape.width
        codes, scales = quantize_per_channel(self._tensors.read(f"{name}.weight", outputs or width, inputs or width).T)
        blocks = []
        for values in np.split(x, range(BLOCK, len(x), BLOCK)):
            least = minimum or 0.0
            step = np.abs(values).max() / largest_code if minimum is None else (values.max() - least) / UINT8_MAX
            blocks.append(np.rint((values - least) / step) * step + least)
        return (np.concatenate(blocks) @ codes.astype(np.float64)) * scales

    def _norm(self, name: str, x: Any) -> Any:
        weight, bias = (self._tensors.read(f"{name}.{part}", len(x)) for part in ("weight", "bias"))
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias


def softmax(scores: Any) -> Any:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def activate(name: str, x: Any) -> Any:
    from math import erf

    if name == "relu":
        return np.maximum(x, 0)
    if name == "gelu":
        return x / 2 * (1 + np.vectorize(erf)(x / np.sqrt(2)))
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
