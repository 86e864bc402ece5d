"""Compares melody models with transformers: the same codes without a tune and with one, with and without guidance."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the oracle needs torch")
pytest.importorskip("transformers", reason="the oracle needs transformers")

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from musicgen_cli.actions.models.examine import examine
from musicgen_cli.actions.models.published import PublishedClip, beeps
from musicgen_cli.audio.chroma import melody_chroma
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.scheduler import Scheduler
from musicgen_cli.engine.decoding.sequence import Sequence as DecodedSequence
from musicgen_cli.engine.onnx.engine import OnnxModel, encode_text
from musicgen_cli.engine.onnx.graph_cache import prepare_graphs
from musicgen_cli.engine.quantization.float_decoder import forward
from musicgen_cli.settings import cache_dir
from tests.support.decoding import decode, sampling
from tests.support.oracle import (
    MELODY_MODELS,
    PROMPTS,
    generate,
    greedy_samples,
    num_distinct,
    quiet,  # noqa: F401  # a fixture
    random_model,
    relative_to_peak,
    samples_of,
)

pytestmark = pytest.mark.oracle

FRAMES = 60


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


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_sequences_in_one_batch_are_what_they_are_alone(pair: Pair, precision: str) -> None:
    """To the last code: of different lengths, prompts, tunes and scales, some cancelled on their way."""
    model = pair.load(precision)
    scheduler = Scheduler(model.decoder(rows=6, steps=100), 3)

    def new(number: int) -> DecodedSequence:
        return pair.sequence(
            PROMPTS[number % 3] * (1 + 5 * (number % 2)) if number % 4 else (),
            random_tune(50, number) if number % 2 else None,
            frames=20 + number * 7 % 31,
            top_k=50,
            top_p=0.9,
            guidance_scale=(3.0, 1.0, 2.0)[number % 3],
            seed=number,
        )

    def run(number: int) -> Any:
        def on_step(done: int, total: int) -> None:
            if number % 5 == 4 and done > 9:
                raise KeyboardInterrupt

        try:
            return scheduler.run(new(number), None, on_step)
        except KeyboardInterrupt:
            return None

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(run, range(12)))

    for number, codes in enumerate(results):
        sequence = new(number)
        alone = decode(sequence, model.decoder_for(sequence, None))
        assert codes is None if number % 5 == 4 else np.array_equal(codes, alone)


def test_the_float_decoder_is_equal(pair: Pair) -> None:
    """Its logits of both rows after the prefix, over random tokens, as far as weights with a large variance allow."""
    shape = pair.shape.decoder
    tokens = np.random.default_rng(1).integers(0, shape.vocab + 1, (shape.codebooks, 40))
    prefix = pair.ours.prefix(PROMPTS[1], random_tune(shape.melody_frames))
    assert prefix is not None
    with torch.no_grad():
        expected = pair.theirs.decoder(
            input_ids=torch.tensor(np.concatenate([tokens, tokens])), encoder_hidden_states=torch.tensor(prefix)
        ).logits.numpy()
    expected = expected.reshape(2, shape.codebooks, -1, shape.vocab)[:, :, prefix.shape[1] :]
    ours = forward(shape, pair.checkpoint.tensors(), np.stack([tokens, tokens]), [None, None], prefix=prefix)

    assert np.abs(ours - expected).max() <= 1e-3 * expected.std()


def test_a_continuation_is_equal(pair: Pair) -> None:
    """Given codes follow the prefix."""
    shape, tune = pair.shape.decoder, random_tune(60)
    given = np.random.default_rng(2).integers(0, shape.vocab, (1, shape.codebooks, 30))
    (expected,), _ = generate(pair.theirs, PROMPTS[:1], 3.0, FRAMES, codes=given, tune=tune)
    used = np.resize(tune, (shape.melody_frames, 12))
    sequence = DecodedSequence(
        DelayPattern(shape.codebooks, shape.channels, 30 + FRAMES),
        sampling(guidance_scale=3.0, do_sample=False),
        vocab=shape.vocab,
        given=given[0],
        prefix=pair.ours.prefix(PROMPTS[0], used),
    )

    assert np.array_equal(decode(sequence, pair.ours.decoder_for(sequence, None)), expected)


@pytest.mark.parametrize("mistake", ["no positions", "no tune in guidance", "text first"])
def test_a_mistake_would_be_noticed(pair: Pair, mistake: str) -> None:
    """The comparison of greedy codes fails with each of these."""
    shape, tune = pair.shape.decoder, random_tune(235)
    (codes,), _ = generate(pair.theirs, PROMPTS[:1], 3.0, FRAMES, tune=tune)
    prefix = pair.ours.prefix(PROMPTS[0], np.resize(tune, (shape.melody_frames, 12)))
    assert prefix is not None
    if mistake == "no positions":
        prefix = prefix[:, :0]
    elif mistake == "no tune in guidance":
        prefix[1, : shape.melody_frames] = prefix[0, : shape.melody_frames]
    else:
        prefix = np.roll(prefix, -shape.melody_frames, axis=1)
    pattern = DelayPattern(shape.codebooks, shape.channels, FRAMES)
    greedy = sampling(guidance_scale=3.0, do_sample=False)
    sequence = DecodedSequence(pattern, greedy, vocab=shape.vocab, prefix=prefix)

    assert not np.array_equal(decode(sequence, pair.ours.decoder_for(sequence, None)), codes)


@pytest.mark.parametrize("has_tune", [True, False])
def test_published_values_are_compared_as_they_were_made(pair: Pair, has_tune: bool, tmp_path: Path) -> None:
    """What transformers makes of a random model, also with the tune of its tests, is equal; other values aren't."""
    tokenizer = Tokenizer(WordLevel({str(number): number for number in range(64)}, unk_token="0"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = tmp_path / "model"
    shutil.copytree(pair.checkpoint.directory, folder, ignore=shutil.ignore_patterns("cache"))
    tokenizer.save(str(folder / "tokenizer.json"))
    frames = melody_chroma(beeps(), 8) if has_tune else None
    samples = greedy_samples(pair.theirs, [5, 9, 44, 3], 1.0, 12, tune=frames)
    checkpoint = find_checkpoint(str(folder), folder)

    def state(values: Any) -> str:
        clip = PublishedClip("5 9 44 3", 1.0, 12, values[:, :16].tolist(), has_tune=has_tune)
        return list(examine(checkpoint, (clip,), cache_dir(), lambda _: None))[-1].state

    assert state(samples) == "ok"
    assert state(samples + 0.001) == "wrong"
