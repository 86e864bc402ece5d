from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from tokenizers import Tokenizer

from musicgen_cli.actions.models import fidelity
from musicgen_cli.actions.models.fidelity import fidelity_of, kl_divergence, mean_kl
from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine import registry
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.engine import OnnxModel
from musicgen_cli.settings import cache_dir
from tests.support.decoding import sampling

FRAMES = 60


def fp32_graphs(folder: Path) -> tuple[Checkpoint, Path]:
    """Build the float32 graphs of a checkpoint folder."""
    registry.open_local(str(folder), precision="fp32", note=lambda _: None).close()
    checkpoint = find_checkpoint(str(folder), folder)
    return checkpoint, prepared_graphs(checkpoint, cache_dir())["fp32"].directory


def rounded(values: Any, bits: int) -> Any:
    """Round the rows of a matrix to so many bits."""
    if values.ndim < 2:
        return values
    step = np.abs(values.astype(np.float32)).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    return (np.round(values / np.maximum(step, 1e-12)) * step).astype(np.float32)


def test_fewer_bits_diverge_more(write: Any, nano_tensors: Mapping[str, Any]) -> None:
    """The divergence of a model is 0 from itself, small with 8-bit weights, and much larger with 4-bit weights."""
    checkpoint, exact = fp32_graphs(write("exact"))
    divergences = []
    for bits in (8, 4):
        tensors = {
            name: rounded(values, bits) if name.startswith("decoder.model.decoder.layers") else values
            for name, values in nano_tensors.items()
        }
        _, other = fp32_graphs(write(f"bits{bits}", tensors=tensors))
        divergences.append(mean_kl(checkpoint, other, threads=1, frames=FRAMES))

    assert mean_kl(checkpoint, exact, threads=1, frames=FRAMES) < 1e-9
    assert 0 < divergences[0] < 0.01
    assert divergences[0] * 10 < divergences[1]


def other_head(write: Any, nano_tensors: Mapping[str, Any]) -> Path:
    """Build the graphs of a model whose first output layer is 1 % larger."""
    name = "decoder.lm_heads.0.weight"
    _, other = fp32_graphs(write("other", tensors={**nano_tensors, name: nano_tensors[name] * np.float16(1.01)}))
    return other


def test_the_same_two_models_give_the_same_number(write: Any, nano_tensors: Mapping[str, Any]) -> None:
    """To the last bit, as the seed of the clip is fixed."""
    checkpoint, _ = fp32_graphs(write("exact"))
    other = other_head(write, nano_tensors)

    divergence = mean_kl(checkpoint, other, threads=1, frames=9)
    assert divergence == mean_kl(checkpoint, other, threads=1, frames=9) > 0


def test_kl_divergence_is_that_of_the_textbook() -> None:
    """The sum of p · ln(p / q), whatever is added to all logits."""
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])

    assert kl_divergence(np.log(p) + 5, np.log(q) - 3) == pytest.approx((p * np.log(p / q)).sum())


def test_the_guided_distributions_are_compared(write: Any, nano_tensors: Mapping[str, Any]) -> None:
    """After guidance with a scale of 3, for the codebooks that get a code, along a clip sampled by the graphs."""
    checkpoint, exact = fp32_graphs(write("exact"))
    other = other_head(write, nano_tensors)
    shape = Shape.of(checkpoint.config)
    ids = Tokenizer.from_file(str(checkpoint.tokenizer)).encode(fidelity.PROMPT).ids
    pattern = DelayPattern(4, 1, 9)
    parameters = sampling(top_k=fidelity.TOP_K, guidance_scale=3.0, seed=fidelity.SEED)
    sequence = Sequence(pattern, parameters, vocab=shape.decoder.vocab)
    models = [OnnxModel(directory, shape, threads=1) for directory in (exact, other)]
    steps = [model.decoder_for(sequence, model.encode_text(ids)) for model in models]
    divergences = []
    while not sequence.done:
        rows = [step(sequence.tokens, np.full(2, sequence.position)) for step in steps]
        guided = [conditional * 3 - unconditional * 2 for conditional, unconditional in rows]
        divergences.append(kl_divergence(*guided)[pattern.codebooks_at(sequence.position)])
        sequence.advance(rows[1])

    assert mean_kl(checkpoint, other, threads=1, frames=9) == pytest.approx(
        np.concatenate(divergences).mean(), rel=1e-3
    )


def test_the_divergence_of_float32_is_zero(nano: Checkpoint, tmp_path: Path) -> None:
    """By definition, without loading the model."""
    assert fidelity_of(nano, "fp32", tmp_path, lambda _: None) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("divergence", "words"),
    [
        (0.0087, "int8 is very near float32: its predictions of the next code differ from float32's by 0.0087 nats"),
        (0.0287, "int8 is near float32: its predictions of the next code differ from float32's by 0.029 nats"),
        (0.236, "int8 is too far from float32: its predictions of the next code differ from float32's by 0.24 nats"),
    ],
)
def test_a_divergence_is_said_in_words(divergence: float, words: str) -> None:
    """The number, what it is, and whether it is good."""
    said = fidelity.in_words("int8", divergence)

    assert said.startswith(words)
    assert said.endswith("(KL divergence; 0 is no difference, up to 0.05 is good)")
