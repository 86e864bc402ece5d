"""
transformers, computing with the weights of the native decoder's file and with its rounding to 8 bits.

What then still differs is the order of sums, and a code now and then that was close to the middle between two. The
file is read here by its description in native/weights.h, not by code that writes or maps it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from musicgen_cli.checkpoint.shape import DecoderShape

PANEL, INPUTS, ALIGNMENT = 16, 4, 64
QUERY_MOST, NUMERATOR_MOST = 32000, 32512  # whole numbers that queries and numerators of a softmax are rounded to
CODE_MOST, FINE_MOST = 127, 16383  # of a code, and of a fine one
BLOCK = 512  # values of a row that share a step
LEAST_ACTIVATION = {"relu": 0.0, "gelu": -0.1701, "gelu_new": -0.1701}


def decoder_weights(path: Path, shape: DecoderShape) -> dict[str, Any]:
    """Read the weight file of a decoder; return float32 by the names of transformers' parameters."""
    file = _File(path)
    layers, width, heads, ffn, vocab, codebooks, positions, _, cross = file.take(np.int32, 9, at=12).tolist()
    assert (layers, width, heads, ffn) == (shape.layers, shape.width, shape.heads, shape.ffn)
    assert (vocab, codebooks, cross) == (shape.vocab, shape.codebooks, 1)
    file.at = 64
    found: dict[str, Any] = {}
    embeddings = file.take(np.float32, codebooks, vocab + 1, width)
    found |= {f"model.decoder.embed_tokens.{k}.weight": table for k, table in enumerate(embeddings)}
    file.take(np.float32, positions, width)  # the vectors of positions, which transformers computes
    for i in range(layers):
        layer = f"model.decoder.layers.{i}"
        found |= _norm(file, f"{layer}.self_attn_layer_norm", width)
        qkv = file.matrix(width, 3 * width)
        found |= {f"{layer}.self_attn.{part}_proj.weight": qkv[k * width :][:width] for k, part in enumerate("qkv")}
        found[f"{layer}.self_attn.out_proj.weight"] = file.matrix(width, width)
        found |= _norm(file, f"{layer}.encoder_attn_layer_norm", width)
        found[f"{layer}.encoder_attn.q_proj.weight"] = file.matrix(width, width)
        found[f"{layer}.encoder_attn.out_proj.weight"] = file.matrix(width, width)
        found |= _norm(file, f"{layer}.final_layer_norm", width)
        found[f"{layer}.fc1.weight"] = file.matrix(width, ffn)
        found[f"{layer}.fc2.weight"] = file.matrix(ffn, width)
        file.take(np.int32, -(-ffn // BLOCK), width)  # sums of columns
    found |= _norm(file, "model.decoder.layer_norm", width)
    panels = -(-codebooks * vocab // PANEL)
    halves = file.take(np.float16, panels, width, PANEL).astype(np.float32)
    scales = file.take(np.float32, panels, PANEL)
    outputs = (halves.transpose(0, 2, 1) * scales[:, :, None]).reshape(-1, width)
    found |= {f"lm_heads.{k}.weight": outputs[k * vocab :][:vocab] for k in range(codebooks)}
    assert file.at == file.size
    return found


class _File:
    """Hands out the arrays of a weight file in their order."""

    def __init__(self, path: Path) -> None:
        self._bytes = path.read_bytes()
        self.size = len(self._bytes)
        self.at = 0

    def take(self, kind: Any, *shape: int, at: int | None = None) -> Any:
        start, count = self.at if at is None else at, int(np.prod(shape))
        values = np.frombuffer(self._bytes, kind, count, start).reshape(shape)
        self.at = start + values.nbytes + -values.nbytes % ALIGNMENT
        return values

    def matrix(self, inputs: int, outputs: int) -> Any:
        """Return a matrix in float32, shape ``(outputs, inputs)``, as transformers has it."""
        codes = self.take(np.uint8, outputs // PANEL, inputs // INPUTS, PANEL, INPUTS).astype(np.float32) - 128
        scales = self.take(np.float32, outputs)
        return codes.transpose(0, 2, 1, 3).reshape(outputs, inputs) * scales[:, None]


def _norm(file: _File, name: str, width: int) -> dict[str, Any]:
    return {f"{name}.weight": file.take(np.float32, width), f"{name}.bias": file.take(np.float32, width)}


def rounded(model: Any, weights: Path, kv_scales: Any, shape: DecoderShape, *, activations: bool = True) -> Any:
    """
    Return a copy of a MusicgenForConditionalGeneration that computes with a native decoder's weights.

    Args:
        weights: The file of the native decoder.
        kv_scales: Of its keys and values, shape ``(layers, 2, heads, head width)``.
        activations: Round the inputs of products, keys and values as well; False leaves them in float32.
    """
    ours = copy.deepcopy(model)
    missing, unexpected = ours.decoder.load_state_dict(
        {name: torch.tensor(values) for name, values in decoder_weights(weights, shape).items()}, strict=False
    )
    assert not unexpected
    assert all(".encoder_attn.k_proj." in name or ".encoder_attn.v_proj." in name for name in missing), missing
    with torch.no_grad():
        for parameter in _in_float16(ours):
            parameter.copy_(parameter.half().float())
    if activations:
        ours.decoder.set_attn_implementation(_ATTENTION)
        for layer, scales in zip(ours.decoder.model.decoder.layers, kv_scales, strict=True):
            _round_activations(layer, scales, LEAST_ACTIVATION[shape.activation])
    return ours


def _in_float16(model: Any) -> Iterator[Any]:
    """Yield the matrices that become the keys and values of a text: they are kept in float16."""
    for module in model.text_encoder.modules():
        if isinstance(module, torch.nn.Linear):
            yield module.weight
    if hasattr(model, "enc_to_dec_proj"):
        yield model.enc_to_dec_proj.weight
    for layer in model.decoder.model.decoder.layers:
        yield layer.encoder_attn.k_proj.weight
        yield layer.encoder_attn.v_proj.weight


def _round_activations(layer: Any, kv_scales: Any, least: float) -> None:
    """Round what a layer multiplies, a scale for each block of a row, and its keys and values, one for each channel."""

    def by_blocks(rounding: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda _, inputs: (torch.cat([rounding(x) for x in inputs[0].split(BLOCK, -1)], -1), *inputs[1:])

    def symmetric(x: Any, most: int = CODE_MOST) -> Any:
        step = x.abs().amax(-1, keepdim=True) / most
        return torch.where(step > 0, torch.round(x / step) * step, 0.0)

    def fine(x: Any) -> Any:
        return symmetric(x, FINE_MOST)

    def floored(x: Any) -> Any:
        step = (x.amax(-1, keepdim=True) - least) / 255
        return torch.round((x - least) / step) * step + least

    def cached(scales: Any) -> Any:
        return lambda _, inputs, values: torch.clamp(torch.round(values / scales), -128, 127) * scales

    attention, text_attention = layer.self_attn, layer.encoder_attn
    products = (attention.q_proj, attention.k_proj, attention.v_proj, layer.fc1)
    for module in (*products, text_attention.q_proj, text_attention.out_proj):
        module.register_forward_pre_hook(by_blocks(symmetric))
    attention.out_proj.register_forward_pre_hook(by_blocks(fine))
    layer.fc2.register_forward_pre_hook(by_blocks(floored))
    scales = torch.tensor(kv_scales)
    attention.key_scales = scales[0]
    for part, module in enumerate((attention.k_proj, attention.v_proj)):
        module.register_forward_hook(cached(scales[part].flatten()))


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any
) -> tuple[Any, None]:
    """Attend as transformers' eager attention does; over the layer's own keys, with the native decoder's rounding."""
    is_self = hasattr(module, "key_scales")
    if is_self:
        query = query * module.key_scales[:, None]
        key = key / module.key_scales[:, None]
        step = query.abs().amax(-1, keepdim=True) / QUERY_MOST
        query = torch.where(step > 0, torch.round(query / step) * step, 0.0)
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    numerators = (scores - scores.amax(-1, keepdim=True)).exp()
    if is_self:
        numerators = torch.round(numerators * NUMERATOR_MOST)
    return (numerators / numerators.sum(-1, keepdim=True) @ value).transpose(1, 2).contiguous(), None


_ATTENTION = "rounded as by the native decoder"
ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(_ATTENTION, eager_mask)
