"""Compares melody models on PyTorch with transformers and with the ONNX engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("transformers", reason="needs the extra torch")

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.base import Inputs, NullListener
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.prefix import chromatic_tune, prefixes
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.engine.torch.engine import TorchEngine
from musicgen_cli.engine.torch.model import TorchModel
from tests.support.clips import request
from tests.support.decoding import decode, sampling
from tests.support.oracle import (
    MELODY_MODELS,
    PROMPTS,
    generate,
    num_distinct,
    quiet,  # noqa: F401  # a fixture
    random_model,
)
from tests.support.sounds import tones

pytestmark = pytest.mark.oracle

FRAMES = 40


@pytest.mark.parametrize("name", MELODY_MODELS)
def test_greedy_codes_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    """With guidance and without, with a tune and without, with a prompt and without."""
    configs, length = MELODY_MODELS[name]
    theirs = random_model(50, *configs, chroma_length=length)
    theirs.save_pretrained(tmp_path)
    checkpoint = find_checkpoint(str(tmp_path), tmp_path)
    shape = Shape.of(checkpoint.config)
    model = TorchModel(checkpoint, shape, torch.device("cpu"), torch.float32)
    tune = chromatic_tune(length)
    for ids, scale, heard in (
        (PROMPTS[0], 3.0, tune),
        (PROMPTS[1], 1.0, tune),
        (PROMPTS[0], 3.0, None),
        ([], 1.0, None),
    ):
        (codes,), _ = generate(theirs, [ids] if ids else [], scale, FRAMES, tune=heard)
        assert model.pitch_vectors is not None
        sequence = Sequence(
            DelayPattern(shape.decoder.codebooks, shape.decoder.channels, FRAMES),
            sampling(guidance_scale=scale, do_sample=False),
            vocab=shape.decoder.vocab,
            prefix=prefixes(model.pitch_vectors, length, model.text_states(ids) if ids else None, heard),
        )

        assert num_distinct(codes) >= 40
        assert np.array_equal(decode(sequence, model.decoder(rows=2, steps=sequence.pattern.steps)), codes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_prefix_is_read_the_same_in_any_row(melody: Checkpoint, dtype: Any) -> None:
    """To the bit, in another block, and in any company of other rows, two of whose pages it fills."""
    shape = Shape.of(melody.config)
    model = TorchModel(melody, shape, torch.device("cpu"), dtype)
    vectors = np.random.default_rng(0).normal(size=(300, shape.decoder.width)).astype(np.float32)
    alone, among = (model.decoder(rows=12, steps=100) for _ in range(2))
    for first in range(0, 300, 128):
        part = vectors[first : first + 128]
        alone.prefill(0, first, inputs=part)
        for row in (4, 9, 10):
            among.prefill(row, first, inputs=part if row == 9 else part[::-1])
    tokens = np.random.default_rng(1).integers(0, shape.decoder.vocab, (12, 4))
    expected = alone(tokens[9:10], np.array([300]))

    assert np.array_equal(among(tokens, np.full(12, 300))[9], expected[0])


def test_it_follows_as_onnx_does(melody: Checkpoint, session_cache: Path) -> None:
    """The same codes for a seed; samples differ by rounding alone."""
    engines: list[Any] = [
        TorchEngine(melody, device="cpu"),
        OnnxEngine(melody, cache_dir=session_cache, precision="fp32", threads=1),
    ]
    clips = []
    for engine in engines:
        clip = engine.generate(request(duration=2.0), NullListener(), Inputs(melody_wav=tones(0, 4, 7, 11)))
        clips.append(np.frombuffer(clip.wav[44:], "<i2").astype(int))
        engine.close()

    assert np.abs(clips[0] - clips[1]).max() <= 2
