"""Compares parts of the local engines with those of transformers: sampling, positions, tokenizer, config defaults."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the oracle needs torch")
transformers = pytest.importorskip("transformers", reason="the oracle needs transformers")

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape, TextShape
from musicgen_cli.engine.decoder_tensors import sinusoids
from musicgen_cli.engine.decoding.sampling import apply_guidance, probabilities
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.engine.onnx.text_encoder import position_buckets
from tests.support.decoding import sampling
from tests.support.oracle import quiet  # noqa: F401  # a fixture

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0, 15.0])
@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 2.0])
def test_probabilities_are_those_of_the_logits_processors(temperature: float, scale: float) -> None:
    """To 1e-5, for a grid of top-k and top-p; torch leaves open which of several equal logits is removed."""
    from transformers.generation import logits_process

    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(2, 4, 600)) * [[[0.3], [1.0], [4.0], [1.0]]]).astype(np.float32)
    logits[:, 3] = logits[:, 3].round(1)
    if scale == 1.0:
        logits = logits[:1]
    for top_k in (0, 1, 2, 10, 250, 1000):
        for top_p in (0.0, 0.1, 0.5, 0.9, 0.999, 1.0):
            scores = torch.tensor(logits.reshape(-1, 600))
            if scale > 1:
                scores = logits_process.ClassifierFreeGuidanceLogitsProcessor(scale)(torch.zeros(4, 1), scores)
            scores = logits_process.TemperatureLogitsWarper(temperature)(None, scores)
            if top_k:
                scores = logits_process.TopKLogitsWarper(top_k)(None, scores)
            if top_p < 1:
                scores = logits_process.TopPLogitsWarper(top_p)(None, scores)
            theirs = scores.double().softmax(-1).numpy()

            parameters = sampling(temperature=temperature, top_k=top_k, top_p=top_p, guidance_scale=scale)
            weights = probabilities(apply_guidance(logits, scale), parameters)
            ours = weights / weights.sum(-1, keepdims=True)
            theirs[3].sort()  # the codebook with equal logits
            ours[3].sort()
            assert np.abs(ours - theirs).max() <= 1e-5, (top_k, top_p)


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (16, 40), (32, 256), (8, 20), (64, 1000)])
def test_position_buckets_are_equal(nano: Checkpoint, buckets: int, max_distance: int) -> None:
    """For distances up to three times the maximum, from which on they don't change."""
    from transformers.models.t5.modeling_t5 import T5Attention

    text: TextShape = dataclasses.replace(Shape.of(nano.config).text, buckets=buckets, max_distance=max_distance)
    distances = torch.arange(-3 * max_distance, 3 * max_distance + 1)
    theirs = T5Attention._relative_position_bucket(distances, num_buckets=buckets, max_distance=max_distance)
    ours = np.array(position_buckets(text))

    assert ours[np.clip(distances.numpy(), -max_distance, max_distance) + max_distance].tolist() == theirs.tolist()


@pytest.mark.parametrize("width", [64, 192, 1024, 2048])
def test_position_embeddings_are_equal(width: int) -> None:
    """For each step of the longest clip, as far as frequencies that differ in their last bit allow."""
    from transformers.models.musicgen.modeling_musicgen import MusicgenSinusoidalPositionalEmbedding

    theirs = MusicgenSinusoidalPositionalEmbedding.get_embedding(1503, width).numpy()

    assert np.abs(sinusoids(1503, width) - theirs).max() <= 1e-4


def test_prompts_have_the_same_tokens(nano: Checkpoint, engine: OnnxEngine) -> None:
    """Also with punctuation, accents, white space and unknown words."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(nano.directory)
    for prompt in (
        "calm ambient piano",
        "Jazz, with DRUMS!",
        "café  \t\n pianos",
        "日本語",
        "a" * 2000,
        "x " * 500,
        " ",
    ):
        assert list(engine.tokenize(prompt)) == tokenizer(prompt).input_ids


def test_config_defaults_are_equal() -> None:
    """A config.json without its optional members means the same as one in which transformers writes them all."""
    defaults = {
        "text_encoder": transformers.T5Config(),
        "decoder": transformers.MusicgenDecoderConfig(),
        "audio_encoder": transformers.EncodecConfig(codebook_size=2048),
    }
    full = {name: json.loads(json.dumps(config.to_dict())) for name, config in defaults.items()}
    short: dict[str, Any] = {"text_encoder": {}, "decoder": {}, "audio_encoder": {"codebook_size": 2048}}

    assert Shape.of({"model_type": "musicgen", **full}) == Shape.of({"model_type": "musicgen", **short})
