"""
The decoder in PyTorch: KV caches by row, tokens in, logits out.

A matrix product can depend, in its last bit, on how many rows it has: 2 rows and 8 differ in float32 on the CPU. So
every step computes eight rows, used or not, and a seed gives the same bytes alone and beside other sequences. For the
same reason attention is summed page by page: pages that only a longer neighbour needs add exact zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import linear

from musicgen_cli.checkpoint.shape import DecoderShape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.engine.torch.device import ExclusiveDevice

BLOCK_ROWS = 8  # rows of every step: four guided sequences
PAGE = 256  # positions of a page of the KV cache
TEXT_PAGE = 64  # tokens of a page of cross-attention keys and values


@dataclass(frozen=True, slots=True)
class Conditioning:
    """One prompt's keys and values for cross-attention, in pages."""

    keys: torch.Tensor  # (layers, pages, heads, TEXT_PAGE, head width)
    values: torch.Tensor
    mask: torch.Tensor  # (pages, 1, TEXT_PAGE) float32, 0 for a token and -inf for padding


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """The decoder's modules and tensors, on their device and in their dtype."""

    dtype: torch.dtype
    embeddings: Any  # one module per codebook
    layers: Any  # modules of transformers, whose `self_attn.qkv` is one matrix
    norm: Any
    position_embeddings: Callable[[int, int], torch.Tensor]  # (positions, width) → their vectors
    heads: torch.Tensor  # (codebooks * vocabulary, width)


class TorchDecoder:
    """A `scheduler.Decoder` that computes rows in blocks of BLOCK_ROWS."""

    def __init__(
        self, weights: DecoderWeights, shape: DecoderShape, device: ExclusiveDevice, *, rows: int, positions: int
    ) -> None:
        """
        Allocate the KV cache.

        Args:
            rows: The largest batch.
            positions: Of a row.
        """
        self._device = device
        pages = -(-positions // PAGE)
        with device.computing("allocate the KV cache"):
            self._blocks = [
                _Block(weights, shape, device.torch_device, pages=pages) for _ in range(0, rows, BLOCK_ROWS)
            ]

    def set_conditioning(self, row: int, conditioning: Conditioning | None) -> None:
        """Set what a row's cross-attention reads from now on; None for an unconditional row."""
        with self._device.computing("set the conditioning"):
            self._blocks[row // BLOCK_ROWS].set_conditioning(row % BLOCK_ROWS, conditioning)

    def move(self, source: int, target: int, *, positions: int) -> None:
        """Move a row, with its first `positions` cache entries and its conditioning, to another index."""
        (source_block, source_row), (target_block, target_row) = divmod(source, BLOCK_ROWS), divmod(target, BLOCK_ROWS)
        with self._device.computing("move a sequence"):
            self._blocks[target_block].copy_row(target_row, self._blocks[source_block], source_row, positions=positions)

    def prefill(
        self, row: int, start: int, *, tokens: IntArray | None = None, inputs: FloatArray | None = None
    ) -> None:
        """Read given tokens, or vectors in their place, into the KV cache of one row; see `scheduler.Decoder`."""
        with self._device.computing("read what comes before the first step"):
            self._blocks[row // BLOCK_ROWS].prefill(row % BLOCK_ROWS, start, tokens, inputs)

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """Advance the first rows by one position."""
        with self._device.computing("run a decoder step"):
            parts = [slice(first, first + BLOCK_ROWS) for first in range(0, len(tokens), BLOCK_ROWS)]
            logits = [
                block.step(tokens[part], positions[part]) for block, part in zip(self._blocks, parts, strict=False)
            ]
        return np.concatenate(logits)


class _Block:
    """
    The KV cache and the conditioning of BLOCK_ROWS rows, at fixed addresses as a CUDA graph needs them.

    They are stored page by page, so that the first pages of all rows are contiguous.
    """

    def __init__(self, weights: DecoderWeights, shape: DecoderShape, device: torch.device, *, pages: int) -> None:
        self._weights, self._shape, self._device = weights, shape, device
        self._conditioning: list[Conditioning | None] = [None] * BLOCK_ROWS
        self._keys, self._values = self._pages(pages, PAGE), self._pages(pages, PAGE)
        # An unconditional row attends to values of zero: as there are no biases, its cross-attention adds exactly zero.
        text_pages = 1 if shape.has_cross_attention else 0
        self._text_keys, self._text_values = self._pages(text_pages, TEXT_PAGE), self._pages(text_pages, TEXT_PAGE)
        self._text_mask = self._zeros(text_pages, BLOCK_ROWS, 1, TEXT_PAGE, dtype=torch.float32)
        self._tokens = self._zeros(BLOCK_ROWS, shape.codebooks, dtype=torch.int64)
        self._positions = self._zeros(BLOCK_ROWS, dtype=torch.int64)
        self._rows = torch.arange(BLOCK_ROWS, device=device)
        self._cache_positions = torch.arange(pages * PAGE, device=device).view(pages, 1, 1, PAGE)
        self._position_embeddings = weights.position_embeddings(pages * PAGE, shape.width).to(device, weights.dtype)
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}

    def set_conditioning(self, row: int, conditioning: Conditioning | None) -> None:
        if not self._shape.has_cross_attention:
            return
        self._conditioning[row] = conditioning
        if conditioning and (more := len(conditioning.mask) - len(self._text_mask)) > 0:
            self._graphs.clear()  # they refer to the old addresses
            self._text_keys = torch.cat([self._text_keys, self._pages(more, TEXT_PAGE)], 1)
            self._text_values = torch.cat([self._text_values, self._pages(more, TEXT_PAGE)], 1)
            masked = torch.full_like(self._text_mask[:1], -torch.inf).expand(more, -1, -1, -1)
            self._text_mask = torch.cat([self._text_mask, masked])
        pages = len(conditioning.mask) if conditioning else 1
        self._text_mask[pages:, row] = -torch.inf
        self._text_mask[:pages, row] = conditioning.mask if conditioning else 0
        self._text_keys[:, :pages, row] = conditioning.keys if conditioning else 0
        self._text_values[:, :pages, row] = conditioning.values if conditioning else 0

    def copy_row(self, row: int, other: _Block, source: int, *, positions: int) -> None:
        """Copy a row of any block, with its first `positions` cache entries and its conditioning, into this one."""
        pages = -(-positions // PAGE)
        self._keys[:, :pages, row] = other._keys[:, :pages, source]
        self._values[:, :pages, row] = other._values[:, :pages, source]
        self.set_conditioning(row, other._conditioning[source])

    def prefill(self, row: int, start: int, tokens: IntArray | None, inputs: FloatArray | None) -> None:
        """
        Read tokens, shape (positions, codebooks), or vectors, shape (positions, width), into the KV cache of a row.

        Positions stand where a step has rows. What is computed depends on their number and their place alone.
        """
        weights, shape = self._weights, self._shape
        if tokens is not None:
            codes = torch.from_numpy(tokens).to(self._device)
            x = sum(table(codes[:, k]) for k, table in enumerate(weights.embeddings))
        else:
            x = torch.from_numpy(np.ascontiguousarray(inputs)).to(self._device, weights.dtype)
        count = len(x)
        positions = torch.arange(start, start + count, device=self._device)
        page, offset = positions // PAGE, positions % PAGE
        pages = (start + count - 1) // PAGE + 1
        text_pages = len(text.mask) if (text := self._conditioning[row]) else 1
        future = self._cache_positions[:pages] > positions[:, None]
        mask = torch.zeros(future.shape, device=self._device).masked_fill_(future, -torch.inf)
        x = x + self._position_embeddings[positions]
        split = (count, -1, shape.heads, shape.head_width)
        for i, layer in enumerate(weights.layers):
            query, key, value = linear(layer.self_attn_layer_norm(x), layer.self_attn.qkv).view(split).unbind(1)
            self._keys[i][page, row, :, offset] = key
            self._values[i][page, row, :, offset] = value
            keys, values = self._keys[i][:pages, row], self._values[i][:pages, row]
            x = x + layer.self_attn.out_proj(_attend_at_once(query, keys, values, mask))
            if shape.has_cross_attention:
                query = layer.encoder_attn.q_proj(layer.encoder_attn_layer_norm(x)).view(split)[:, 0]
                keys, values = self._text_keys[i][:text_pages, row], self._text_values[i][:text_pages, row]
                text_mask = self._text_mask[:text_pages, row, None]
                x = x + layer.encoder_attn.out_proj(_attend_at_once(query, keys, values, text_mask))
            x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))

    def step(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        count = len(tokens)
        self._positions.zero_()  # unused rows write to position 0, and their results are ignored
        self._positions[:count] = torch.from_numpy(positions)
        self._tokens[:count] = torch.from_numpy(tokens)
        pages = int(positions.max()) // PAGE + 1
        text_pages = max(len(text.mask) if text else 1 for text in self._conditioning[:count])
        compute = self._replay if self._device.type == "cuda" else self._compute
        logits: FloatArray = compute(pages, text_pages)[:count].cpu().numpy()
        return logits

    def _replay(self, pages: int, text_pages: int) -> torch.Tensor:
        """Compute with a CUDA graph: one launch per step, instead of one for each of its thousand kernels."""
        if (pages, text_pages) not in self._graphs:
            warmup = torch.cuda.Stream()
            warmup.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(warmup):
                self._compute(pages, text_pages)  # lets libraries allocate what they can't while a graph is captured
            torch.cuda.current_stream().wait_stream(warmup)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                logits = self._compute(pages, text_pages)
            self._graphs[pages, text_pages] = graph, logits
        graph, logits = self._graphs[pages, text_pages]
        graph.replay()
        return logits

    def _compute(self, pages: int, text_pages: int) -> torch.Tensor:
        """Return logits, shape (BLOCK_ROWS, codebooks, vocabulary), float32, attending to the first pages."""
        weights, shape = self._weights, self._shape
        future = self._cache_positions[:pages] > self._positions[:, None, None]
        mask = torch.zeros(future.shape, device=self._device).masked_fill_(future, -torch.inf)
        page, offset = self._positions // PAGE, self._positions % PAGE
        x = sum(table(self._tokens[:, k]) for k, table in enumerate(weights.embeddings))
        x = x + self._position_embeddings[self._positions]
        split = (BLOCK_ROWS, -1, shape.heads, shape.head_width)
        for i, layer in enumerate(weights.layers):
            query, key, value = linear(layer.self_attn_layer_norm(x), layer.self_attn.qkv).view(split).unbind(1)
            self._keys[i][page, self._rows, :, offset] = key
            self._values[i][page, self._rows, :, offset] = value
            x = x + layer.self_attn.out_proj(_attend(query, self._keys[i][:pages], self._values[i][:pages], mask))
            if shape.has_cross_attention:
                query = layer.encoder_attn.q_proj(layer.encoder_attn_layer_norm(x)).view(split)[:, 0]
                keys, values = self._text_keys[i][:text_pages], self._text_values[i][:text_pages]
                x = x + layer.encoder_attn.out_proj(_attend(query, keys, values, self._text_mask[:text_pages]))
            x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
        return linear(weights.norm(x), weights.heads).float().view(BLOCK_ROWS, shape.codebooks, shape.vocab)

    def _pages(self, count: int, size: int) -> torch.Tensor:
        shape = self._shape
        dims = (shape.layers, count, BLOCK_ROWS, shape.heads, size, shape.head_width)
        return self._zeros(*dims, dtype=self._weights.dtype)

    def _zeros(self, *dims: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(dims, dtype=dtype, device=self._device)


def _attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Compute attention page by page: each page is summed by itself, and then their sums in order.

    So further pages that are masked add zeros at the end, which changes nothing.

    Args:
        query: Shape ``(rows, heads, width)``.
        keys: Shape ``(pages, rows, heads, page, width)``, as the values.
        mask: Shape ``(pages, rows, 1, page)``, 0 or -inf; the first page of each row has an entry that isn't masked.

    Returns:
        Shape ``(rows, heads * width)``.
    """
    # With the query on the left, which is several times as fast on the CPU.
    scores = (query[..., None, :] @ keys.mT).squeeze(-2).float() * query.shape[-1] ** -0.5 + mask
    weights = (scores - scores.amax((0, 3), keepdim=True)).exp()
    sums = weights.sum(-1, keepdim=True)
    parts = (weights.to(values.dtype)[..., None, :] @ values).squeeze(-2).float()
    total, attended = sums[0], parts[0]
    for page in range(1, len(keys)):
        total, attended = total + sums[page], attended + parts[page]
    return (attended / total).to(values.dtype).flatten(1)


def _attend_at_once(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Compute attention of many positions to the pages of their row.

    Args:
        query: Shape ``(positions, heads, width)``.
        keys: Shape ``(pages, heads, page, width)``, as the values.
        mask: Shape ``(pages, 1, positions or 1, page)``, 0 or -inf.

    Returns:
        Shape ``(positions, heads * width)``.
    """
    scores = (query.transpose(0, 1) @ keys.mT).float() * query.shape[-1] ** -0.5 + mask
    weights = (scores - scores.amax((0, 3), keepdim=True)).exp()
    attended = (weights.to(values.dtype) @ values).float().sum(0) / weights.sum((0, 3))[..., None]
    return attended.to(values.dtype).transpose(0, 1).flatten(1)
