"""
Measures the fidelity of a precision: the mean KL divergence of its predictions from those of float32.

The model samples a clip in that precision, with guidance and a fixed seed, and float32 is given the same tokens. At
each step, for each codebook that gets a code there, the two distributions of the next code are compared, after guidance
and before temperature, top-k and top-p: KL(float32 ‖ precision), in nats. As both see the same tokens, differences
don't accumulate from step to step, and the same model always gives the same number.

As the tokens are known, float32 is computed layer by layer, so measuring takes no more memory than making a take.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.digest_cache import read_cached, write_cached
from musicgen_cli.checkpoint.shape import DecoderShape, Shape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine import hardware, registry
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, IntArray
from musicgen_cli.engine.decoding.prefix import chromatic_tune, pitch_vectors, prefixes
from musicgen_cli.engine.decoding.sampling import Sampling, apply_guidance
from musicgen_cli.engine.decoding.scheduler import Decoder, prefill
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.graph_cache import (
    GRAPH_FORMAT,
    NATIVE,
    NATIVE_STEP,
    NATIVE_VARIANT,
    build_text_encoder,
)
from musicgen_cli.engine.onnx.graph_folders import STAGING_PREFIX, Graphs
from musicgen_cli.engine.quantization.float_decoder import Text, forward
from musicgen_cli.engine.tokenizer import load_tokenizer
from musicgen_cli.text import number

REFERENCE = "fp32"
FIDELITY_VERSION = 2  # raised with every change of what is measured
MAX_KL = 0.05  # nats; a precision that is further from float32 isn't prepared unless it is asked for

_NEGLIGIBLE = 0.0001
PROMPT = "calm ambient piano with a warm pad and a slow beat"
SEED, GUIDANCE, TOP_K = 2006, 3.0, 250
_FRAMES = 150  # 3 s at 50 frames a second


def fidelity_of(checkpoint: Checkpoint, variant: str, cache_dir: Path, note: Callable[[str], None]) -> float | None:
    """
    Return the mean KL divergence of a variant (`graph_cache.variant`) from float32.

    That of a pulled model was measured by the pull; that of any other is measured now, and cached.

    Args:
        note: Called with a line before measuring, which can take a minute.

    Returns:
        Nats; None if a pull neither measured it nor kept the weights that are needed to measure it, or if this machine
        can't run it.

    Raises:
        EngineError: The model can't be prepared or run.
    """
    if variant == REFERENCE:
        return 0.0
    if checkpoint.manifest:
        return checkpoint.manifest.fidelity.get(variant)
    key = f"{checkpoint.digest} {variant} {GRAPH_FORMAT} {FIDELITY_VERSION}"
    if cached := read_cached(cache_dir, "fidelity", key):
        return float(cached)
    if variant == NATIVE_VARIANT and registry.native_obstacle(checkpoint):
        return None
    divergence = measure(checkpoint, variant, cache_dir, note)
    write_cached(cache_dir, "fidelity", key, repr(divergence))
    return divergence


def spoken(variant: str) -> str:
    """Return what a variant (`graph_cache.variant`) is called in a sentence."""
    return "int8 with the native decoder" if variant == NATIVE_VARIANT else variant


def in_words(precision: str, divergence: float) -> str:
    """Return a sentence about the mean KL divergence of a precision, or of what `spoken` returns, from float32."""
    if divergence > MAX_KL:
        judgement = f"{precision} is too far from float32"
    elif divergence > MAX_KL / 5:
        judgement = f"{precision} is near float32"
    else:
        judgement = f"{precision} is very near float32"
    measured = f"{divergence:.2g}" if divergence >= _NEGLIGIBLE else f"less than {_NEGLIGIBLE}"
    return (
        f"{judgement}: its predictions of the next code differ from float32's by {measured} nats on average "
        f"(KL divergence; 0 is no difference, up to {number(MAX_KL)} is good)"
    )


def measure(checkpoint: Checkpoint, variant: str, cache_dir: Path, note: Callable[[str], None]) -> float:
    """
    Measure the mean KL divergence of a variant (`graph_cache.variant`) from float32, in nats.

    Raises:
        EngineError: The model can't be prepared or run.
    """
    if variant == REFERENCE:
        return 0.0
    if variant not in prepared_graphs(checkpoint, cache_dir):
        engine, precision = (NATIVE, "int8") if variant == NATIVE_VARIANT else ("onnx", variant)
        name = str(checkpoint.directory.resolve())
        registry.open_local(name, engine=engine, precision=precision, note=note).close()
    note(f"measuring the difference of {spoken(variant)} from {REFERENCE}")
    graphs = prepared_graphs(checkpoint, cache_dir)[variant]
    return mean_kl(checkpoint, graphs.directory, threads=hardware.cores())


def mean_kl(checkpoint: Checkpoint, graphs: Path, *, threads: int, frames: int = _FRAMES) -> float:
    """
    Measure the mean KL divergence of the graphs in a folder from the weights of a checkpoint in float32.

    Args:
        graphs: The graphs that choose the tokens.
        threads: Per operation.
        frames: Length of the clip.

    Returns:
        Nats; hardly above 0 for graphs in float32, whose sums have another order.

    Raises:
        CheckpointError: The weights aren't there, or can't be used.
        EngineError: ONNX Runtime can't load or run the graphs.
    """
    # onnxruntime is imported here, as reading a result doesn't need it.
    from musicgen_cli.engine.onnx.engine import encode_text

    shape, tensors = Shape.of(checkpoint.config), checkpoint.tensors()
    ids = load_tokenizer(checkpoint.tokenizer).encode(PROMPT).ids
    pattern = DelayPattern(shape.decoder.codebooks, shape.decoder.channels, frames)
    sequence, decoder = _start(graphs, shape, ids, pattern, threads)
    while sequence.is_reading:
        prefill(decoder, sequence, list(range(sequence.rows)))
    tokens, logits = [], []
    while not sequence.done:
        tokens.append(sequence.tokens)
        logits.append(decoder(sequence.tokens, np.full(sequence.rows, sequence.decoder_position)).copy())
        sequence.advance(logits[-1])
    del decoder
    with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=graphs.parent) as folder:
        text = encode_text(build_text_encoder(Path(folder), shape, tensors), ids, threads)
    exact = _exact(shape.decoder, tensors, np.stack(tokens, axis=2), text)
    divergence = kl_divergence(
        apply_guidance(exact, GUIDANCE), apply_guidance(np.stack(logits, axis=2), GUIDANCE)
    )  # (codebooks, steps)
    return float(np.mean(np.concatenate([divergence[pattern.codebooks_at(at), at] for at in range(pattern.steps)])))


def kl_divergence(reference: FloatArray, other: FloatArray) -> FloatArray:
    """Return KL(reference ‖ other) along the last axis, in nats; both are logits."""
    p, q = (_log_softmax(logits.astype(np.float64)) for logits in (reference, other))
    divergence: FloatArray = (np.exp(p) * (p - q)).sum(axis=-1)
    return divergence


def _exact(shape: DecoderShape, tensors: Tensors, tokens: IntArray, text: Text) -> FloatArray:
    """Compute the logits in float32."""
    if shape.has_cross_attention:
        return forward(shape, tensors, tokens, [text, None])
    frames = shape.melody_frames
    prefix = prefixes(pitch_vectors(shape, tensors), frames, text["states"][0], chromatic_tune(frames))
    return forward(shape, tensors, tokens, [None, None], prefix=prefix)


def _start(
    directory: Path, shape: Shape, ids: list[int], pattern: DelayPattern, threads: int
) -> tuple[Sequence, Decoder[Any]]:
    """Load the graphs in a folder, and begin a clip with them; a melody model gets a tune."""
    # These import onnxruntime, which reading a result doesn't need.
    from musicgen_cli.engine.native.engine import NativeModel
    from musicgen_cli.engine.onnx.engine import OnnxModel

    scales = Graphs(directory).scales()
    sampling = Sampling(temperature=1.0, top_k=TOP_K, top_p=1.0, guidance_scale=GUIDANCE, do_sample=True, seed=SEED)
    model: Any
    if (directory / NATIVE_STEP).exists():
        assert scales is not None  # int8 always has them
        model = NativeModel(directory, shape, threads=threads, scales=scales)
    else:
        model = OnnxModel(directory, shape, threads=threads, scales=scales)
    prefix = model.prefix(ids, chromatic_tune(shape.decoder.melody_frames))
    sequence = Sequence(pattern, sampling, vocab=shape.decoder.vocab, prefix=prefix)
    return sequence, model.decoder_for(sequence, model.encode_text(ids) if prefix is None else None)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    values: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return values
