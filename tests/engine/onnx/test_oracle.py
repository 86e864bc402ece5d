"""
Compares with transformers: the same codes, the same logits, the same sound.

Besides nano, the models are random ones of shapes that differ in everything a config can say. Their weights are drawn
wide, so that a greedy take wanders over many codes instead of repeating one.
"""

from __future__ import annotations

import dataclasses
import json
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

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape, TextShape
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sampling import Sampling, apply_guidance, probabilities
from musicgen_cli.engine.decoding.scheduler import Scheduler
from musicgen_cli.engine.decoding.sequence import Sequence, Step
from musicgen_cli.engine.onnx import calibrate
from musicgen_cli.engine.onnx.decoder import Text
from musicgen_cli.engine.onnx.decoder_step import sinusoids
from musicgen_cli.engine.onnx.engine import OnnxModel
from musicgen_cli.engine.onnx.graph_cache import graphs_of
from musicgen_cli.engine.onnx.text_encoder import position_buckets
from tests.support.oracle import FRAMES, MODELS, PROMPTS, distinct, quiet, random_model, their_take  # noqa: F401  # after what may skip it

pytestmark = pytest.mark.oracle


@dataclass(frozen=True)
class Pair:
    """The same weights twice."""

    theirs: Any  # MusicgenForConditionalGeneration
    ours: OnnxModel
    shape: Shape
    checkpoint: Checkpoint
    cache: Path


def load(checkpoint: Checkpoint, cache: Path, precision: str) -> OnnxModel:
    shape = Shape.of(checkpoint.config)
    graphs = graphs_of(
        checkpoint,
        shape,
        positions=2000,
        cache_dir=cache / "oracle",
        precision=precision,
        calibrate=lambda folder, kv_bounds: calibrate.coarse(kv_bounds),
        note=lambda text: None,
    )
    return OnnxModel(graphs.directory, shape, threads=1, scales=graphs.scales())


def pair_of(theirs: Any, checkpoint: Checkpoint, cache: Path) -> Pair:
    return Pair(theirs, load(checkpoint, cache, "fp32"), Shape.of(checkpoint.config), checkpoint, cache)


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Make a random model of each shape, saved by transformers and read by us."""
    folder = tmp_path_factory.mktemp("model")
    theirs = random_model(10 + list(MODELS).index(request.param), *MODELS[request.param])
    theirs.save_pretrained(folder)
    return pair_of(theirs, find_checkpoint(str(folder), folder), folder / "cache")


@pytest.fixture(scope="module")
def nano_pair(nano: Checkpoint, session_cache: Path) -> Pair:
    """Load the bundled model into both."""
    return pair_of(
        transformers.MusicgenForConditionalGeneration.from_pretrained(nano.directory).eval(), nano, session_cache
    )


def our_take(
    pair: Pair,
    ids: abc.Sequence[int],
    scale: float,
    *,
    frames: int = FRAMES,
    pattern: type[DelayPattern] = DelayPattern,
    seen: Any = lambda text: text,
    through: Any = lambda step: step,
) -> Any:
    """Make one greedy take; `pattern`, `seen` and `through` are where a test puts a mistake in."""
    decoder = pair.shape.decoder
    sampling = Sampling(1.0, 0, 1.0, scale if ids else 1.0, do_sample=False, seed=0)
    take = Sequence(pattern(decoder.codebooks, decoder.channels, frames), sampling, vocab=decoder.vocab)
    text = seen(pair.ours.encode_text(ids)) if ids else None
    return run(through(pair.ours.begin(take, text)), take)


def run(step: Step, take: Sequence) -> Any:
    while not take.done:
        take.advance(step(take.tokens, np.full(take.rows, take.position)))
    return take.codes


def sound_of(pair: Pair, codes: Any) -> Any:
    """Turn codes into samples as they come: frame by frame."""
    stream = pair.ours.audio_stream()
    return np.concatenate([*(stream.push(codes[:, [t]]) for t in range(codes.shape[1])), stream.end()], axis=1)


CASES = [
    pytest.param(PROMPTS[:1], 3.0, id="one guided"),
    pytest.param(PROMPTS, 3.0, id="three guided"),
    pytest.param(PROMPTS[:1], 1.0, id="one unguided"),
    pytest.param(PROMPTS, 1.0, id="three unguided"),
    pytest.param((), 1.0, id="unconditional"),
]


@pytest.mark.parametrize(("prompts", "scale"), CASES)
def test_greedy_codes_and_their_sound_are_equal(
    pair: Pair, prompts: abc.Sequence[abc.Sequence[int]], scale: float
) -> None:
    """Every code of every take, over at least 100 different ones; the sound to a millionth of its peak."""
    codes, sound = their_take(pair.theirs, prompts, scale)

    for ids, wanted, heard in zip(prompts or [()], codes, sound, strict=True):
        ours = our_take(pair, ids, scale)
        assert distinct(wanted) >= 100
        assert np.array_equal(ours, wanted)
        assert np.abs(sound_of(pair, ours) - heard).max() <= 3e-6 * np.abs(heard).max()


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_takes_side_by_side_are_what_they_are_alone(pair: Pair, precision: str) -> None:
    """Of every shape, to the last code: of other lengths, texts and guidances, some given up on their way."""
    model, shape = load(pair.checkpoint, pair.cache, precision), pair.shape.decoder
    slots = Scheduler(model.decoder(rows=6, steps=100), 3)

    def begin(number: int) -> tuple[Sequence, Text | None]:
        scale = (3.0, 1.0, 2.0)[number % 3]
        sampling = Sampling(1.0, 50, 0.9, scale, do_sample=True, seed=number)
        take = Sequence(
            DelayPattern(shape.codebooks, shape.channels, 20 + number * 7 % 31), sampling, vocab=shape.vocab
        )
        return take, (model.encode_text(PROMPTS[number % 3] * (1 + 5 * (number % 2))) if number % 4 else None)

    def together(number: int) -> Any:
        def heard(done: int, total: int) -> None:
            if number % 5 == 4 and done > 9:
                raise KeyboardInterrupt

        try:
            return slots.run(*begin(number), heard)
        except KeyboardInterrupt:
            return None

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(together, range(12)))

    for number, codes in enumerate(made):
        take, text = begin(number)
        assert codes is None if number % 5 == 4 else np.array_equal(codes, run(model.begin(take, text), take))


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
    """The bundled model too, from words, over 5 s. Greedy, it is a model of few tokens: the next test takes more."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(nano.directory)
    prompts = [tokenizer(text).input_ids for text in words]
    codes, sound = their_take(nano_pair.theirs, prompts, scale, frames=250)

    for ids, wanted, heard in zip(prompts or [()], codes, sound, strict=True):
        ours = our_take(nano_pair, ids, scale, frames=250)
        assert distinct(wanted) >= 40
        assert np.array_equal(ours, wanted)
        assert np.abs(sound_of(nano_pair, ours) - heard).max() <= 5e-6 * np.abs(heard).max()


class Kept:
    """A step that keeps what went in and what came out."""

    def __init__(self, step: Step) -> None:
        self.step, self.tokens, self.logits = step, [], []

    def __call__(self, tokens: Any, positions: Any) -> Any:
        logits = self.step(tokens, positions)
        self.tokens.append(tokens.copy())
        self.logits.append(logits.copy())
        return logits


def test_nano_is_equal_along_a_sampled_take(nano_pair: Pair, nano: Checkpoint) -> None:
    """Every choice and every logit, over at least 100 different tokens, with the text and without."""
    ids = transformers.AutoTokenizer.from_pretrained(nano.directory)("happy rock with drums").input_ids
    take = Sequence(DelayPattern(4, 1, 250), Sampling(2.0, 0, 1.0, 3.0, do_sample=True, seed=4), vocab=512)
    step = Kept(nano_pair.ours.begin(take, nano_pair.ours.encode_text(ids)))
    codes = run(step, take)
    tokens, ours = np.stack(step.tokens, axis=2), np.stack(step.logits, axis=2)
    wanted = their_logits(nano_pair.theirs, ids, tokens)

    assert distinct(codes) >= 100
    assert np.abs(ours - wanted).max() <= 1e-4 * wanted.std()
    assert np.array_equal(ours.argmax(-1), wanted.argmax(-1))


def their_logits(model: Any, ids: abc.Sequence[int], tokens: Any) -> Any:
    """
    Let transformers read tokens, shape (2, codebooks, positions), with the text and without.

    Returns:
        Shape (2, codebooks, positions, vocabulary).
    """
    mask = torch.tensor([[1] * len(ids), [0] * len(ids)])  # the second row's states become zero
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([ids, ids]),
            attention_mask=mask,
            decoder_input_ids=torch.tensor(tokens.reshape(-1, tokens.shape[2])),
        ).logits.numpy()
    return logits.reshape(*tokens.shape, -1)


class LatePattern(DelayPattern):
    """One step too late from the second codebook on."""

    @property
    def steps(self) -> int:
        return super().steps + 1

    def delay(self, codebook: int) -> int:
        return super().delay(codebook) + (codebook > 0)


def unmasked(text: Text) -> Text:
    """Let padding be seen."""
    text.mask[...] = 0
    return text


def swapped(step: Step) -> Step:
    """Take the row without the text for the one with it."""
    return lambda tokens, positions: step(tokens, positions)[::-1]


@pytest.mark.parametrize(
    "mistake",
    [{"pattern": LatePattern}, {"seen": unmasked}, {"through": swapped}],
    ids=["delay off by one", "no text mask", "guidance swapped"],
)
def test_a_mistake_would_be_noticed(pair: Pair, mistake: Mapping[str, Any]) -> None:
    """The comparison above can fail: it does for each of these."""
    codes, _ = their_take(pair.theirs, PROMPTS[:1], 3.0)

    assert np.array_equal(our_take(pair, PROMPTS[0], 3.0), codes[0])
    assert not np.array_equal(our_take(pair, PROMPTS[0], 3.0, **mistake), codes[0])


def test_old_names_of_weights_are_equal(tmp_path: Path) -> None:
    """A checkpoint as of 2023 makes the same sound as transformers makes of it."""
    from safetensors.numpy import load_file, save_file

    theirs = random_model(9, *MODELS["as published"])
    theirs.save_pretrained(tmp_path)
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
    codes, sound = their_take(pair.theirs, PROMPTS[:1], 3.0, frames=20)

    assert np.array_equal(our_take(pair, PROMPTS[0], 3.0, frames=20), codes[0])
    assert np.abs(sound_of(pair, codes[0]) - sound[0]).max() <= 3e-6 * np.abs(sound).max()


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 24, 25, 26, 29, 30, 31, 57, 58, 60, 90])
def test_sound_of_any_length_is_equal(pair: Pair, frames: int) -> None:
    """Shorter than what is reflected, and at the bounds of the chunks."""
    decoder = pair.shape.decoder
    codes = np.random.default_rng(frames).integers(0, decoder.vocab, (decoder.codebooks, frames))
    with torch.no_grad():
        heard = np.concatenate(
            [
                pair.theirs.audio_encoder.decode(torch.tensor(codes[None, None, c :: decoder.channels]), [None])[0][0]
                for c in range(decoder.channels)
            ]
        )

    assert np.abs(sound_of(pair, codes) - heard).max() <= 3e-6 * np.abs(heard).max()


def test_logits_of_a_larger_model_are_equal(tmp_path: Path) -> None:
    """Teacher-forced over 150 positions, with and without text: to a thousandth of their spread, and far less."""
    theirs = random_model(
        0,
        {"vocab_size": 1000, "d_model": 256, "d_kv": 32, "d_ff": 1024, "num_layers": 4, "num_heads": 8},
        {"vocab_size": 2048, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "ffn_dim": 2048}
        | {"initializer_factor": 0.05},
        {"codebook_size": 2048},
    )
    theirs.save_pretrained(tmp_path)
    pair = pair_of(theirs, find_checkpoint(str(tmp_path), tmp_path), tmp_path / "cache")
    tokens = np.random.default_rng(0).integers(0, 2049, (4, 150))
    wanted = their_logits(theirs, PROMPTS[1], np.stack([tokens, tokens]))

    take = Sequence(DelayPattern(4, 1, 150), Sampling(1.0, 0, 1.0, 3.0, do_sample=False, seed=0), vocab=2048)
    step = pair.ours.begin(take, pair.ours.encode_text(PROMPTS[1]))
    ours = np.stack([step(np.tile(tokens[:, at], (2, 1)), np.full(2, at)).copy() for at in range(150)], axis=2)
    assert np.abs(ours - wanted).max() <= 1e-4 * wanted.std()


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0, 15.0])
@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 2.0])
def test_probabilities_are_those_of_the_processors(temperature: float, scale: float) -> None:
    """Every probability to 1e-5, for a grid of top_k and top_p; which of equal logits goes, torch leaves open."""
    from transformers.generation import logits_process as theirs

    random = np.random.default_rng(0)
    logits = (random.normal(size=(2, 4, 600)) * [[[0.3], [1.0], [4.0], [1.0]]]).astype(np.float32)
    logits[:, 3] = logits[:, 3].round(1)
    if scale == 1.0:
        logits = logits[:1]
    for top_k in (0, 1, 2, 10, 250, 1000):
        for top_p in (0.0, 0.1, 0.5, 0.9, 0.999, 1.0):
            scores = torch.tensor(logits.reshape(-1, 600))
            if scale > 1:
                scores = theirs.ClassifierFreeGuidanceLogitsProcessor(scale)(torch.zeros(4, 1), scores)
            scores = theirs.TemperatureLogitsWarper(temperature)(None, scores)
            if top_k:
                scores = theirs.TopKLogitsWarper(top_k)(None, scores)
            if top_p < 1:
                scores = theirs.TopPLogitsWarper(top_p)(None, scores)
            wanted = scores.double().softmax(-1).numpy()

            sampling = Sampling(temperature, top_k, top_p, scale, do_sample=True, seed=0)
            found = probabilities(apply_guidance(logits, scale), sampling)
            ours = found / found.sum(-1, keepdims=True)
            wanted[3].sort()  # the codebook with equal logits
            ours[3].sort()
            assert np.abs(ours - wanted).max() <= 1e-5, (top_k, top_p)


@pytest.mark.parametrize(("buckets", "most"), [(32, 128), (16, 40), (32, 256), (8, 20), (64, 1000)])
def test_position_buckets_are_equal(nano: Checkpoint, buckets: int, most: int) -> None:
    """Of every distance, and beyond the last one nothing changes."""
    from transformers.models.t5.modeling_t5 import T5Attention

    text: TextShape = dataclasses.replace(Shape.of(nano.config).text, buckets=buckets, max_distance=most)
    distances = torch.arange(-3 * most, 3 * most + 1)
    wanted = T5Attention._relative_position_bucket(distances, num_buckets=buckets, max_distance=most)
    ours = np.array(position_buckets(text))

    assert ours[np.clip(distances.numpy(), -most, most) + most].tolist() == wanted.tolist()


@pytest.mark.parametrize("width", [64, 192, 1024, 2048])
def test_position_vectors_are_equal(width: int) -> None:
    """Of each of the longest clip's steps: where a frequency differs in its last bit, so does the angle."""
    from transformers.models.musicgen.modeling_musicgen import MusicgenSinusoidalPositionalEmbedding

    wanted = MusicgenSinusoidalPositionalEmbedding.get_embedding(1503, width).numpy()

    assert np.abs(sinusoids(1503, width) - wanted).max() <= 1e-4


def test_prompts_have_the_same_tokens(nano: Checkpoint, engine: Any) -> None:
    """Specials, accents, blanks and unknown words."""
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
        assert list(engine._ids(prompt)) == tokenizer(prompt).input_ids


def test_a_saved_config_is_whole(tmp_path: Path) -> None:
    """What transformers leaves out of a config it has left out of its classes: the defaults agree."""
    defaults = {
        "text_encoder": transformers.T5Config(),
        "decoder": transformers.MusicgenDecoderConfig(),
        "audio_encoder": transformers.EncodecConfig(codebook_size=2048),
    }
    told = {name: json.loads(json.dumps(config.to_dict())) for name, config in defaults.items()}
    silent: dict[str, Any] = {"text_encoder": {}, "decoder": {}, "audio_encoder": {"codebook_size": 2048}}

    assert Shape.of({"model_type": "musicgen", **told}) == Shape.of({"model_type": "musicgen", **silent})
