"""Compares continuations with transformers: of sounds, whose codes it is given as `input_values`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the oracle needs torch")
pytest.importorskip("transformers", reason="the oracle needs transformers")

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.scheduler import Scheduler
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.decoding.windows import plan_windows
from musicgen_cli.engine.onnx.engine import OnnxModel, encode_text
from musicgen_cli.engine.onnx.graph_cache import prepare_graphs
from musicgen_cli.engine.onnx.sound_encoder import OnnxSoundEncoder
from tests.support.decoding import decode, sampling
from tests.support.oracle import (
    MODELS,
    PROMPTS,
    generate,
    num_distinct,
    quiet,  # noqa: F401  # a fixture
    random_model,
)

pytestmark = pytest.mark.oracle

CONTEXT, NEW = 200, 60  # frames; the context is read in two parts


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Checkpoint]:
    """Make a random model of each config, which knows all codes of its codec."""
    text, decoder, codec = MODELS[request.param]
    theirs = random_model(30 + list(MODELS).index(request.param), text, {**decoder, "vocab_size": 256}, codec)
    folder = tmp_path_factory.mktemp("model")
    theirs.save_pretrained(folder)
    return theirs, find_checkpoint(str(folder), folder)


def load(checkpoint: Checkpoint, precision: str = "fp32") -> OnnxModel:
    graphs = prepare_graphs(
        checkpoint,
        Shape.of(checkpoint.config),
        positions=400,
        cache_dir=checkpoint.directory / "cache",
        precision=precision,
        encode_prompts=lambda graph: [encode_text(graph, list(ids), 1) for ids in PROMPTS[:2]],
        note=lambda text: None,
    )
    return OnnxModel(graphs.directory, Shape.of(checkpoint.config), threads=1, scales=graphs.scales())


def new_sequence(shape: Shape, given: Any, **parameters: Any) -> Sequence:
    pattern = DelayPattern(shape.decoder.codebooks, shape.decoder.channels, given.shape[1] + NEW)
    return Sequence(pattern, sampling(**parameters), vocab=shape.decoder.vocab, given=given)


@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_greedy_continuations_are_equal(pair: tuple[Any, Checkpoint], scale: float) -> None:
    """Every code, of each prompt, mono and stereo; also the codes of the sound itself, which our encoder makes."""
    theirs, checkpoint = pair
    shape = Shape.of(checkpoint.config)
    hop, channels = shape.codec.hop, shape.decoder.channels
    sound = np.random.default_rng(5).normal(size=(channels, CONTEXT * hop)).astype(np.float32) * np.float32(0.3)
    expected, _ = generate(theirs, PROMPTS, scale, frames=NEW, sound=sound)
    assert expected.shape[2] == CONTEXT + NEW
    encoder = OnnxSoundEncoder(
        checkpoint, shape, cache_dir=checkpoint.directory / "cache", threads=1, note=lambda text: None
    )
    given = encoder.encode(sound)
    model = load(checkpoint)

    for ids, codes in zip(PROMPTS, expected, strict=True):
        assert (given == codes[:, :CONTEXT]).all(axis=0).mean() >= 0.99
        sequence = new_sequence(shape, codes[:, :CONTEXT], guidance_scale=scale, do_sample=False)
        ours = decode(sequence, model.decoder_for(sequence, model.encode_text(list(ids))))
        assert num_distinct(codes[:, CONTEXT:]) >= 60
        assert np.array_equal(ours, codes)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_continuations_in_one_batch_are_what_they_are_alone(pair: tuple[Any, Checkpoint], precision: str) -> None:
    """To the last code, beside others that begin with other codes or none, and whatever the number of threads."""
    _, checkpoint = pair
    model, shape = load(checkpoint, precision), Shape.of(checkpoint.config)
    scheduler = Scheduler(model.decoder(rows=6, steps=400), 3)

    def new(number: int) -> tuple[Sequence, Any]:
        frames = (0, 1, 150, 300)[number % 4]
        rng = np.random.default_rng(number)
        given = rng.integers(0, shape.decoder.vocab, (shape.decoder.codebooks, frames))
        conditioning = model.encode_text(PROMPTS[number % 3]) if number % 5 else None
        return new_sequence(shape, given, guidance_scale=(3.0, 1.0)[number % 2], seed=number), conditioning

    def run(number: int) -> Any:
        return scheduler.run(*new(number), lambda done, total: None)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(run, range(8)))

    for number, codes in enumerate(results):
        sequence, conditioning = new(number)
        assert np.array_equal(codes, decode(sequence, model.decoder_for(sequence, conditioning)))


def test_positions_read_at_once_are_those_read_one_by_one(pair: tuple[Any, Checkpoint]) -> None:
    """The logits behind them are equal to a ten-thousandth of their spread."""
    _, checkpoint = pair
    model, shape = load(checkpoint), Shape.of(checkpoint.config)
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, shape.decoder.vocab, (150, shape.decoder.codebooks))
    conditioning = model.encode_text(list(PROMPTS[0]))
    at_once, one_by_one = (model.decoder(rows=2, steps=200) for _ in range(2))
    for decoder in (at_once, one_by_one):
        decoder.set_conditioning(0, conditioning)
    for row in (0, 1):
        at_once.prefill(row, 0, tokens=tokens[:100])
        at_once.prefill(row, 100, tokens=tokens[100:])
    for position, newest in enumerate(tokens):
        one_by_one(np.stack([newest, newest]), np.full(2, position))
    ours, expected = (
        decoder(np.zeros((2, shape.decoder.codebooks), np.int64), np.full(2, 150)) for decoder in (at_once, one_by_one)
    )

    assert np.abs(ours - expected).max() <= 1e-4 * expected.std()


def test_windows_are_those_of_transformers(pair: tuple[Any, Checkpoint]) -> None:
    """Greedily: three windows, each made by transformers from the end of the one before it."""
    theirs, checkpoint = pair
    model, shape = load(checkpoint), Shape.of(checkpoint.config)
    conditioning = model.encode_text(list(PROMPTS[0]))
    greedy = sampling(guidance_scale=3.0, do_sample=False)
    expected, _ = generate(theirs, PROMPTS[:1], 3.0, frames=90)
    codes = np.empty((shape.decoder.codebooks, 0), np.int64)
    for window in plan_windows(190, longest=90, overlap=30):
        if window.start:
            expected, _ = generate(theirs, PROMPTS[:1], 3.0, frames=window.frames - 30, codes=expected[:, :, -30:])
        known = codes[:, window.start :] if window.start else None
        sequence = Sequence(
            window.pattern(shape.decoder.codebooks, shape.decoder.channels),
            greedy,
            vocab=shape.decoder.vocab,
            given=known,
            first_frame=window.start,
        )
        made = decode(sequence, model.decoder_for(sequence, conditioning))
        assert np.array_equal(made, expected[0])
        codes = np.concatenate([codes[:, : window.start], made], axis=1)

    assert codes.shape[1] == 190
    assert num_distinct(codes) >= 100
