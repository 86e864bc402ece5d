"""
Compares the ONNX engine with transformers: the same codes, the same logits, the same samples.

Besides nano, the models are random ones whose configs differ in everything that a config can say. Their weights have a
large variance, so that a greedy clip goes through many codes instead of repeating one.
"""

from __future__ import annotations

import shutil
from collections import abc
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the oracle needs torch")
transformers = pytest.importorskip("transformers", reason="the oracle needs transformers")

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from musicgen_cli.actions.models.examine import examine
from musicgen_cli.actions.models.published import PublishedClip
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.scheduler import Scheduler
from musicgen_cli.engine.decoding.sequence import Sequence, Step
from musicgen_cli.engine.onnx.decoder import Conditioning
from musicgen_cli.engine.onnx.engine import OnnxModel, encode_text
from musicgen_cli.engine.onnx.graph_cache import prepare_graphs
from musicgen_cli.engine.quantization.float_decoder import forward
from musicgen_cli.settings import cache_dir
from tests.support.decoding import decode, sampling
from tests.support.oracle import (
    FRAMES,
    LARGER,
    MODELS,
    NANO_SAMPLES,
    PROMPTS,
    generate,
    greedy_samples,
    logits_of,
    num_distinct,
    quiet,  # noqa: F401  # a fixture
    random_model,
    relative_to_peak,
    samples_of,
)

pytestmark = pytest.mark.oracle


@dataclass(frozen=True)
class Pair:
    """The same weights in transformers and in ONNX Runtime."""

    theirs: Any  # MusicgenForConditionalGeneration
    ours: OnnxModel
    shape: Shape
    checkpoint: Checkpoint
    cache: Path


def load(checkpoint: Checkpoint, cache: Path, precision: str) -> OnnxModel:
    shape = Shape.of(checkpoint.config)
    graphs = prepare_graphs(
        checkpoint,
        shape,
        positions=2000,
        cache_dir=cache / "oracle",
        precision=precision,
        encode_prompts=lambda graph: [encode_text(graph, list(ids), 1) for ids in PROMPTS[:2]],
        note=lambda text: None,
    )
    return OnnxModel(graphs.directory, shape, threads=1, scales=graphs.scales())


def pair_of(theirs: Any, checkpoint: Checkpoint, cache: Path) -> Pair:
    return Pair(theirs, load(checkpoint, cache, "fp32"), Shape.of(checkpoint.config), checkpoint, cache)


def saved_pair(theirs: Any, folder: Path) -> Pair:
    """Save a model with transformers and load it into ONNX Runtime."""
    theirs.save_pretrained(folder)
    return pair_of(theirs, find_checkpoint(str(folder), folder), folder / "cache")


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Make a random model of each config."""
    theirs = random_model(10 + list(MODELS).index(request.param), *MODELS[request.param])
    return saved_pair(theirs, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def nano_pair(nano: Checkpoint, session_cache: Path) -> Pair:
    """Load the bundled model into both."""
    return pair_of(
        transformers.MusicgenForConditionalGeneration.from_pretrained(nano.directory).eval(), nano, session_cache
    )


def our_codes(
    pair: Pair,
    ids: abc.Sequence[int],
    scale: float,
    *,
    frames: int = FRAMES,
    pattern: type[DelayPattern] = DelayPattern,
    change_conditioning: Any = lambda conditioning: conditioning,
    change_step: Any = lambda step: step,
) -> Any:
    """Decode one greedy sequence; a test can insert a mistake with the last three parameters."""
    decoder = pair.shape.decoder
    greedy = sampling(guidance_scale=scale if ids else 1.0, do_sample=False, seed=0)
    sequence = Sequence(pattern(decoder.codebooks, decoder.channels, frames), greedy, vocab=decoder.vocab)
    conditioning = change_conditioning(pair.ours.encode_text(list(ids))) if ids else None
    return decode(sequence, change_step(pair.ours.decoder_for(sequence, conditioning)))


CASES = [
    pytest.param(PROMPTS[:1], 3.0, id="one guided"),
    pytest.param(PROMPTS, 3.0, id="three guided"),
    pytest.param(PROMPTS[:1], 1.0, id="one unguided"),
    pytest.param(PROMPTS, 1.0, id="three unguided"),
    pytest.param((), 1.0, id="unconditional"),
]


@pytest.mark.parametrize(("prompts", "scale"), CASES)
def test_greedy_codes_and_their_samples_are_equal(
    pair: Pair, prompts: abc.Sequence[abc.Sequence[int]], scale: float
) -> None:
    """Every code of every clip, with at least 100 different ones; the samples to a few millionths of their peak."""
    codes, samples = generate(pair.theirs, prompts, scale)

    for ids, their_codes, their_samples in zip(prompts or [()], codes, samples, strict=True):
        ours = our_codes(pair, ids, scale)
        assert num_distinct(their_codes) >= 100
        assert np.array_equal(ours, their_codes)
        assert relative_to_peak(samples_of(pair.ours, ours), their_samples) <= 3e-6


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_sequences_in_one_batch_are_what_they_are_alone(pair: Pair, precision: str) -> None:
    """With every config, to the last code: of different lengths, prompts and scales, some cancelled on their way."""
    model, shape = load(pair.checkpoint, pair.cache, precision), pair.shape.decoder
    scheduler = Scheduler(model.decoder(rows=6, steps=100), 3)

    def new(number: int) -> tuple[Sequence, Conditioning | None]:
        parameters = sampling(top_k=50, top_p=0.9, guidance_scale=(3.0, 1.0, 2.0)[number % 3], seed=number)
        pattern = DelayPattern(shape.codebooks, shape.channels, 20 + number * 7 % 31)
        conditioning = model.encode_text(PROMPTS[number % 3] * (1 + 5 * (number % 2))) if number % 4 else None
        return Sequence(pattern, parameters, vocab=shape.vocab), conditioning

    def run(number: int) -> Any:
        def on_step(done: int, total: int) -> None:
            if number % 5 == 4 and done > 9:
                raise KeyboardInterrupt

        try:
            return scheduler.run(*new(number), on_step)
        except KeyboardInterrupt:
            return None

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(run, range(12)))

    for number, codes in enumerate(results):
        sequence, conditioning = new(number)
        alone = decode(sequence, model.decoder_for(sequence, conditioning))
        assert codes is None if number % 5 == 4 else np.array_equal(codes, alone)


@pytest.mark.parametrize(
    ("words", "scale"),
    [
        (["calm ambient piano"], 3.0),
        (["calm ambient piano", "energetic techno with heavy drums and a fast bass line", "jazz"], 3.0),
        (["calm ambient piano"], 1.0),
        (["sad slow guitar", "happy fast rock with drums", "organ"], 1.0),
        ([], 1.0),
    ],
)
def test_nano_is_equal(nano_pair: Pair, nano: Checkpoint, words: list[str], scale: float) -> None:
    """From words to samples, over 5 s. Greedily the bundled model uses few codes: the next test has more."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(nano.directory)
    prompts = [tokenizer(text).input_ids for text in words]
    codes, samples = generate(nano_pair.theirs, prompts, scale, frames=250)

    for ids, their_codes, their_samples in zip(prompts or [()], codes, samples, strict=True):
        ours = our_codes(nano_pair, ids, scale, frames=250)
        assert num_distinct(their_codes) >= 40
        assert np.array_equal(ours, their_codes)
        assert relative_to_peak(samples_of(nano_pair.ours, ours), their_samples) <= NANO_SAMPLES


class RecordingStep:
    """A step that records its tokens and its logits."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.tokens: list[Any] = []
        self.logits: list[Any] = []

    def __call__(self, tokens: Any, positions: Any) -> Any:
        logits = self.step(tokens, positions)
        self.tokens.append(tokens.copy())
        self.logits.append(logits.copy())
        return logits


def test_nano_is_equal_along_a_sampled_sequence(nano_pair: Pair, nano: Checkpoint) -> None:
    """The logits of both rows, over at least 100 different codes."""
    ids = transformers.AutoTokenizer.from_pretrained(nano.directory)("happy rock with drums").input_ids
    parameters = sampling(temperature=3.0, guidance_scale=3.0, seed=4)
    sequence = Sequence(DelayPattern(4, 1, 250), parameters, vocab=nano_pair.shape.decoder.vocab)
    step = RecordingStep(nano_pair.ours.decoder_for(sequence, nano_pair.ours.encode_text(ids)))
    codes = decode(sequence, step)
    tokens, ours = np.stack(step.tokens, axis=2), np.stack(step.logits, axis=2)
    theirs = logits_of(nano_pair.theirs, ids, tokens)

    assert num_distinct(codes) >= 100
    assert np.abs(ours - theirs).max() <= 1e-4 * theirs.std()
    assert np.array_equal(ours.argmax(-1), theirs.argmax(-1))


class LatePattern(DelayPattern):
    """Delays all codebooks but the first by one step too many."""

    @property
    def steps(self) -> int:
        return super().steps + 1

    def delay(self, codebook: int) -> int:
        return super().delay(codebook) + (codebook > 0)


def unmask_padding(conditioning: Conditioning) -> Conditioning:
    conditioning.mask[...] = 0
    return conditioning


def swap_rows(step: Step) -> Step:
    """Take the unconditional row for the conditional one."""
    return lambda tokens, positions: step(tokens, positions)[::-1]


@pytest.mark.parametrize(
    "mistake",
    [{"pattern": LatePattern}, {"change_conditioning": unmask_padding}, {"change_step": swap_rows}],
    ids=["delay off by one", "no text mask", "guidance swapped"],
)
def test_a_mistake_would_be_noticed(pair: Pair, mistake: Mapping[str, Any]) -> None:
    """The comparison of greedy codes fails with each of these mistakes."""
    codes, _ = generate(pair.theirs, PROMPTS[:1], 3.0)

    assert np.array_equal(our_codes(pair, PROMPTS[0], 3.0), codes[0])
    assert not np.array_equal(our_codes(pair, PROMPTS[0], 3.0, **mistake), codes[0])


@pytest.mark.parametrize("case", ["guided", "unguided", "unconditional", "too short for the delays"])
def test_published_values_are_compared_as_they_were_made(pair: Pair, case: str, tmp_path: Path) -> None:
    """What transformers makes of a random model counts as equal; the same with another prompt doesn't."""
    prompt = None if case in ("unconditional", "too short for the delays") else "5 9 44 3"
    scale = 3.0 if case == "guided" else 1.0
    steps = 5 if case == "too short for the delays" else 12
    tokenizer = Tokenizer(WordLevel({str(number): number for number in range(64)}, unk_token="0"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = tmp_path / "model"
    shutil.copytree(pair.checkpoint.directory, folder, ignore=shutil.ignore_patterns("cache"))
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(prompt).ids if prompt else []
    samples = greedy_samples(pair.theirs, ids, scale, steps)
    checkpoint = find_checkpoint(str(folder), folder)

    def state(values: Any) -> str:
        clip = PublishedClip(prompt, scale, steps, values[:, :16].tolist())
        return list(examine(checkpoint, (clip,), cache_dir(), lambda _: None))[-1].state

    assert state(samples) == "ok"
    assert state(samples + 0.001) == "wrong"


def test_old_names_of_weights_are_equal(tmp_path: Path) -> None:
    """A checkpoint with the tensor names of 2023 gives the samples that transformers generates with it."""
    from safetensors.numpy import load_file, save_file

    random_model(9, *MODELS["as published"]).save_pretrained(tmp_path)
    new = "parametrizations.weight.original"
    tensors = load_file(tmp_path / "model.safetensors")
    old = {name.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): v for name, v in tensors.items()}
    assert any(name.endswith("weight_g") for name in old)
    save_file(old, tmp_path / "model.safetensors", {"format": "pt"})
    pair = pair_of(
        transformers.MusicgenForConditionalGeneration.from_pretrained(tmp_path).eval(),
        find_checkpoint(str(tmp_path), tmp_path),
        tmp_path / "cache",
    )
    codes, samples = generate(pair.theirs, PROMPTS[:1], 3.0, frames=20)

    assert np.array_equal(our_codes(pair, PROMPTS[0], 3.0, frames=20), codes[0])
    assert relative_to_peak(samples_of(pair.ours, codes[0]), samples[0]) <= 3e-6


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 24, 25, 26, 29, 30, 31, 57, 58, 60, 90])
def test_samples_of_any_length_are_equal(pair: Pair, frames: int) -> None:
    """Also of fewer frames than a convolution reflects, and at the bounds of the chunks."""
    decoder = pair.shape.decoder
    codes = np.random.default_rng(frames).integers(0, decoder.vocab, (decoder.codebooks, frames))
    with torch.no_grad():
        theirs = np.concatenate(
            [
                pair.theirs.audio_encoder.decode(torch.tensor(codes[None, None, c :: decoder.channels]), [None])[0][0]
                for c in range(decoder.channels)
            ]
        )

    assert relative_to_peak(samples_of(pair.ours, codes), theirs) <= 3e-6


def test_the_float_decoder_is_equal(pair: Pair) -> None:
    """Its logits of both rows, over random tokens, as far as weights with a large variance allow."""
    shape = pair.shape.decoder
    tokens = np.random.default_rng(1).integers(0, shape.vocab + 1, (shape.codebooks, 40))
    tokens = np.stack([tokens, tokens])
    expected = logits_of(pair.theirs, PROMPTS[1], tokens)
    text = pair.ours.encode_text(PROMPTS[1]).values
    ours = forward(shape, pair.checkpoint.tensors(), tokens, [text, None])

    assert np.abs(ours - expected).max() <= 1e-3 * expected.std()


def test_logits_of_a_larger_model_are_equal(tmp_path: Path) -> None:
    """Both rows, over 150 positions of random tokens, to a ten-thousandth of the logits' standard deviation."""
    theirs = random_model(0, *LARGER)
    pair = saved_pair(theirs, tmp_path)
    tokens = np.random.default_rng(0).integers(0, 2049, (4, 150))
    expected = logits_of(theirs, PROMPTS[1], np.stack([tokens, tokens]))

    sequence = Sequence(DelayPattern(4, 1, 150), sampling(guidance_scale=3.0, do_sample=False), vocab=2048)
    step = pair.ours.decoder_for(sequence, pair.ours.encode_text(PROMPTS[1]))
    ours = np.stack([step(np.tile(tokens[:, at], (2, 1)), np.full(2, at)).copy() for at in range(150)], axis=2)
    assert np.abs(ours - expected).max() <= 1e-4 * expected.std()
