"""
How far a precision is from float32: the mean KL divergence of what comes next.

The float32 model makes a take, with guidance and a fixed seed; the other precision is led through the very same codes.
At each step and for each codebook that gets a code there, the two distributions over the next code, after guidance and
before temperature and the rest, are compared: KL(float32 ‖ precision), in nats. So nothing piles up from step to step,
and the same two models always give the same number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.digest_cache import read_cached, write_cached
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine import hardware, registry
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, IntArray
from musicgen_cli.engine.decoding.sampling import Sampling, apply_guidance
from musicgen_cli.engine.decoding.sequence import Sequence, Step
from musicgen_cli.engine.onnx.graph_cache import GRAPH_FORMAT, Graphs

if TYPE_CHECKING:
    from musicgen_cli.engine.onnx.engine import OnnxModel

EXACT = "fp32"
FIDELITY_VERSION = 1  # raised with every change of what is measured

_PROMPT = "calm ambient piano with a warm pad and a slow beat"
_SEED, _GUIDANCE, _TOP_K = 2006, 3.0, 250
_FRAMES = 150  # 3 s at 50 frames a second


def fidelity_of(checkpoint: Checkpoint, precision: str, cache_dir: Path, note: Callable[[str], None]) -> float | None:
    """
    Return how far a precision is from float32: as it was measured when the model was pulled, else as it is found now.

    What is found now is remembered in the cache.

    Args:
        note: Hears that it is measured, which can take a minute.

    Returns:
        Nats; None where it isn't known and the weights to measure it weren't kept.

    Raises:
        EngineError: The model can't be prepared or run.
    """
    if precision == EXACT:
        return 0.0
    if checkpoint.manifest:
        return checkpoint.manifest.fidelity.get(precision)
    key = f"{checkpoint.digest} {precision} {GRAPH_FORMAT} {FIDELITY_VERSION}"
    if known := read_cached(cache_dir, "fidelity", key):
        return float(known)
    found = measure(checkpoint, precision, cache_dir, note)
    write_cached(cache_dir, "fidelity", key, repr(found))
    return found


def measure(checkpoint: Checkpoint, precision: str, cache_dir: Path, note: Callable[[str], None]) -> float:
    """
    Measure how far a precision is from float32.

    Raises:
        EngineError: The model can't be prepared or run.
    """
    if precision == EXACT:
        return 0.0
    for each in (EXACT, precision):  # makes its graphs, unless they are here
        registry.open_local(str(checkpoint.directory.resolve()), precision=each, note=note).close()
    note(f"measuring how far {precision} is from {EXACT}")
    graphs = prepared_graphs(checkpoint, cache_dir)
    return mean_kl(checkpoint, graphs[EXACT].directory, graphs[precision].directory, threads=hardware.cores())


def mean_kl(checkpoint: Checkpoint, exact: Path, other: Path, *, threads: int, frames: int = _FRAMES) -> float:
    """
    Measure how far the graphs in one folder are from those in another.

    Only one of them is loaded at a time.

    Args:
        checkpoint: Whose graphs they are.
        exact: The graphs in float32.
        other: Those that are compared with them.
        threads: For one operation.
        frames: Of the take that is made.

    Returns:
        Nats; 0 is no difference.

    Raises:
        EngineError: ONNX Runtime can't load or run them.
    """
    shape = Shape.of(checkpoint.config)
    ids = Tokenizer.from_file(str(checkpoint.tokenizer)).encode(_PROMPT).ids
    made = _make(exact, shape, ids, threads=threads, frames=frames)
    told = _lead(other, shape, ids, made.tokens, threads=threads, frames=frames)
    pattern = _pattern(shape, frames)
    steps = zip(made.logits, told, strict=True)
    return float(np.mean(np.concatenate([_kl(a, b)[pattern.codebooks_at(step)] for step, (a, b) in enumerate(steps)])))


@dataclass(slots=True)
class _Led:
    """A Step that keeps what went in and what came out."""

    step: Step
    tokens: list[IntArray] = field(default_factory=list)
    logits: list[FloatArray] = field(default_factory=list)

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """Take each row one position further."""
        logits = self.step(tokens, positions)
        self.tokens.append(tokens.copy())
        self.logits.append(apply_guidance(logits, _GUIDANCE).copy())
        return logits


def _load(directory: Path, shape: Shape, threads: int) -> OnnxModel:
    from musicgen_cli.engine.onnx.engine import OnnxModel  # only the door to an engine imports it at once

    return OnnxModel(directory, shape, threads=threads, scales=Graphs(directory).scales())


def _make(directory: Path, shape: Shape, ids: list[int], *, threads: int, frames: int) -> _Led:
    """Let a model make a take."""
    model = _load(directory, shape, threads)
    take = _take(shape, frames)
    led = _Led(model.begin(take, model.encode_text(ids)))
    while not take.done:
        take.advance(led(take.tokens, np.full(take.rows, take.position)))
    return led


def _lead(
    directory: Path, shape: Shape, ids: list[int], tokens: list[IntArray], *, threads: int, frames: int
) -> list[FloatArray]:
    """Lead a model through the codes that another one made."""
    model = _load(directory, shape, threads)
    take = _take(shape, frames)
    led = _Led(model.begin(take, model.encode_text(ids)))
    for position, newest in enumerate(tokens):
        led(newest, np.full(take.rows, position, np.int64))
    return led.logits


def _take(shape: Shape, frames: int) -> Sequence:
    sampling = Sampling(temperature=1.0, top_k=_TOP_K, top_p=1.0, guidance_scale=_GUIDANCE, do_sample=True, seed=_SEED)
    return Sequence(_pattern(shape, frames), sampling, vocab=shape.decoder.vocab)


def _pattern(shape: Shape, frames: int) -> DelayPattern:
    return DelayPattern(shape.decoder.codebooks, shape.decoder.channels, frames)


def _kl(exact: FloatArray, other: FloatArray) -> FloatArray:
    """Compare two distributions given as logits, along the last axis."""
    p, q = (_log_softmax(logits.astype(np.float64)) for logits in (exact, other))
    divergence: FloatArray = (np.exp(p) * (p - q)).sum(axis=-1)
    return divergence


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    values: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return values
