"""Compares melody models with transformers: the same codes without a tune and with one, with and without guidance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the oracle needs torch")
pytest.importorskip("transformers", reason="the oracle needs transformers")

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sequence import Sequence as DecodedSequence
from musicgen_cli.engine.onnx.engine import OnnxModel, encode_text
from musicgen_cli.engine.onnx.graph_cache import prepare_graphs
from tests.support.decoding import decode, sampling
from tests.support.oracle import (
    MODELS,
    PROMPTS,
    Config,
    generate,
    num_distinct,
    quiet,  # noqa: F401  # a fixture
    random_model,
    relative_to_peak,
    samples_of,
)

pytestmark = pytest.mark.oracle

FRAMES = 60
MELODY_MODELS: dict[str, tuple[tuple[Config, Config, Config], int]] = {
    "as published": (MODELS["as published"], 235),
    "stereo, equal widths, a short tune": (MODELS["stereo, causal, gated, equal widths"], 20),
    "relu, a tune longer than 30 s": (MODELS["8 codebooks, replicating, 2 residual layers"], 300),
    "heads of 4": (MODELS["heads of 4, as in tiny models for tests"], 3),
}


class Pair:
    """The same weights in transformers and in ONNX Runtime."""

    def __init__(self, theirs: Any, folder: Path) -> None:
        theirs.save_pretrained(folder)
        self.theirs = theirs
        self.checkpoint: Checkpoint = find_checkpoint(str(folder), folder)
        self.shape = Shape.of(self.checkpoint.config)
        self.ours = self.load("fp32")

    def load(self, precision: str) -> OnnxModel:
        graphs = prepare_graphs(
            self.checkpoint,
            self.shape,
            positions=2500,
            cache_dir=self.checkpoint.directory / "cache",
            precision=precision,
            encode_prompts=lambda graph: [encode_text(graph, list(ids), 1) for ids in PROMPTS[:2]],
            note=lambda text: None,
        )
        return OnnxModel(graphs.directory, self.shape, threads=1, scales=graphs.scales())

    def sequence(self, ids: Sequence[int], tune: Any, **values: Any) -> DecodedSequence:
        shape = self.shape.decoder
        used = None if tune is None else np.resize(tune, (shape.melody_frames, 12))
        frames = values.pop("frames", FRAMES)
        return DecodedSequence(
            DelayPattern(shape.codebooks, shape.channels, frames),
            sampling(**values),
            vocab=shape.vocab,
            prefix=self.ours.prefix(list(ids), used),
        )

    def codes(self, ids: Sequence[int], scale: float, tune: Any = None) -> Any:
        sequence = self.sequence(ids, tune, guidance_scale=scale, do_sample=False, seed=0)
        return decode(sequence, self.ours.decoder_for(sequence, None))


@pytest.fixture(scope="module", params=MELODY_MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Make a random melody model of each config."""
    configs, length = MELODY_MODELS[request.param]
    theirs = random_model(30 + list(MELODY_MODELS).index(request.param), *configs, chroma_length=length)
    return Pair(theirs, tmp_path_factory.mktemp("model"))


def random_tune(frames: int, seed: int = 0) -> Any:
    """Return a tune of random pitch classes, shape (frames, 12)."""
    return np.eye(12, dtype=np.float32)[np.random.default_rng(seed).integers(0, 12, frames)]


@pytest.mark.parametrize("scale", [3.0, 1.0])
@pytest.mark.parametrize("tune_frames", [None, 235, 50], ids=["text", "tune", "short tune"])
def test_greedy_codes_and_their_samples_are_equal(pair: Pair, scale: float, tune_frames: int | None) -> None:
    """Of two prompts; a tune that is shorter than the model's is repeated."""
    tune = None if tune_frames is None else random_tune(tune_frames)
    for ids in PROMPTS[:2]:
        (codes,), (samples,) = generate(pair.theirs, [ids], scale, FRAMES, tune=tune)
        ours = pair.codes(ids, scale, tune)

        assert num_distinct(codes) >= 60
        assert np.array_equal(ours, codes)
        assert relative_to_peak(samples_of(pair.ours, ours), samples) <= 3e-6


@pytest.mark.parametrize("tune_frames", [None, 40])
def test_without_a_prompt_they_are_equal(pair: Pair, tune_frames: int | None) -> None:
    """The model reads one token of zeros."""
    tune = None if tune_frames is None else random_tune(tune_frames)
    (codes,), _ = generate(pair.theirs, [], 1.0, FRAMES, tune=tune)

    assert np.array_equal(pair.codes((), 1.0, tune), codes)
