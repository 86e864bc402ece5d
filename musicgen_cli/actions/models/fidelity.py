"""
Measures the fidelity of a precision: the mean KL divergence of its predictions from those of float32.

The float32 model samples a clip with guidance and a fixed seed, and the other precision is given the same tokens. At
each step, for each codebook that gets a code there, the two distributions of the next code are compared, after guidance
and before temperature, top-k and top-p: KL(float32 ‖ precision), in nats. As both see the same tokens, differences
don't accumulate from step to step, and the same two models always give the same number.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

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
from musicgen_cli.engine.tokenizer import load_tokenizer

REFERENCE = "fp32"
FIDELITY_VERSION = 1  # raised with every change of what is measured

PROMPT = "calm ambient piano with a warm pad and a slow beat"
SEED, GUIDANCE, TOP_K = 2006, 3.0, 250
_FRAMES = 150  # 3 s at 50 frames a second


def fidelity_of(checkpoint: Checkpoint, precision: str, cache_dir: Path, note: Callable[[str], None]) -> float | None:
    """
    Return the mean KL divergence of a precision from float32.

    That of a pulled model was measured by the pull; that of any other is measured now, and cached.

    Args:
        note: Called with a line before measuring, which can take a minute.

    Returns:
        Nats; None if a pull neither measured it nor kept the weights that are needed to measure it.

    Raises:
        EngineError: The model can't be prepared or run.
    """
    if precision == REFERENCE:
        return 0.0
    if checkpoint.manifest:
        return checkpoint.manifest.fidelity.get(precision)
    key = f"{checkpoint.digest} {precision} {GRAPH_FORMAT} {FIDELITY_VERSION}"
    if cached := read_cached(cache_dir, "fidelity", key):
        return float(cached)
    divergence = measure(checkpoint, precision, cache_dir, note)
    write_cached(cache_dir, "fidelity", key, repr(divergence))
    return divergence


def measure(checkpoint: Checkpoint, precision: str, cache_dir: Path, note: Callable[[str], None]) -> float:
    """
    Measure the mean KL divergence of a precision from float32, in nats.

    Raises:
        EngineError: The model can't be prepared or run.
    """
    if precision == REFERENCE:
        return 0.0
    for needed in (REFERENCE, precision):  # builds the graphs that aren't cached
        registry.open_local(str(checkpoint.directory.resolve()), precision=needed, note=note).close()
    note(f"measuring the difference of {precision} from {REFERENCE}")
    graphs = prepared_graphs(checkpoint, cache_dir)
    return mean_kl(checkpoint, graphs[REFERENCE].directory, graphs[precision].directory, threads=hardware.cores())


def mean_kl(checkpoint: Checkpoint, reference: Path, other: Path, *, threads: int, frames: int = _FRAMES) -> float:
    """
    Measure the mean KL divergence of the graphs in one folder from those in another.

    Only one of them is loaded at a time.

    Args:
        checkpoint: Whose graphs they are.
        reference: The graphs that choose the tokens.
        other: The graphs that are compared with them.
        threads: Per operation.
        frames: Length of the clip.

    Returns:
        Nats; 0 means no difference.

    Raises:
        EngineError: ONNX Runtime can't load or run them.
    """
    shape = Shape.of(checkpoint.config)
    ids = load_tokenizer(checkpoint.tokenizer).encode(PROMPT).ids
    tokens, reference_logits = _sample(reference, shape, ids, threads=threads, frames=frames)
    other_logits = _teacher_forced(other, shape, ids, tokens, threads=threads, frames=frames)
    pattern = _pattern(shape, frames)
    steps = enumerate(zip(reference_logits, other_logits, strict=True))
    return float(np.mean(np.concatenate([kl_divergence(p, q)[pattern.codebooks_at(step)] for step, (p, q) in steps])))


def kl_divergence(reference: FloatArray, other: FloatArray) -> FloatArray:
    """Return KL(reference ‖ other) along the last axis, in nats; both are logits."""
    p, q = (_log_softmax(logits.astype(np.float64)) for logits in (reference, other))
    divergence: FloatArray = (np.exp(p) * (p - q)).sum(axis=-1)
    return divergence


def _sample(
    directory: Path, shape: Shape, ids: list[int], *, threads: int, frames: int
) -> tuple[list[IntArray], list[FloatArray]]:
    """Sample a clip; return the tokens and the guided logits of each step."""
    sequence, step = _start(directory, shape, ids, threads=threads, frames=frames)
    tokens: list[IntArray] = []
    logits: list[FloatArray] = []
    while not sequence.done:
        tokens.append(sequence.tokens)
        rows = step(sequence.tokens, np.full(sequence.rows, sequence.position))
        logits.append(apply_guidance(rows, GUIDANCE))
        sequence.advance(rows)
    return tokens, logits


def _teacher_forced(
    directory: Path, shape: Shape, ids: list[int], tokens: list[IntArray], *, threads: int, frames: int
) -> list[FloatArray]:
    """Run a model over the tokens of another one; return the guided logits of each step."""
    sequence, step = _start(directory, shape, ids, threads=threads, frames=frames)
    return [
        apply_guidance(step(newest, np.full(sequence.rows, position)), GUIDANCE)
        for position, newest in enumerate(tokens)
    ]


def _start(directory: Path, shape: Shape, ids: list[int], *, threads: int, frames: int) -> tuple[Sequence, Step]:
    """Load the graphs in a folder, and begin the clip with them."""
    from musicgen_cli.engine.onnx.engine import OnnxModel  # imports onnxruntime, which reading a result doesn't need

    model = OnnxModel(directory, shape, threads=threads, scales=Graphs(directory).scales())
    sampling = Sampling(temperature=1.0, top_k=TOP_K, top_p=1.0, guidance_scale=GUIDANCE, do_sample=True, seed=SEED)
    sequence = Sequence(_pattern(shape, frames), sampling, vocab=shape.decoder.vocab)
    return sequence, model.decoder_for(sequence, model.encode_text(ids))


def _pattern(shape: Shape, frames: int) -> DelayPattern:
    return DelayPattern(shape.decoder.codebooks, shape.decoder.channels, frames)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    values: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return values
