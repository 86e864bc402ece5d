"""
Compares the native decoder with transformers: the logits of random models, and what nano makes of a prompt.

In 8 bits, a random model can't give the codes that it gives in float32. So transformers gets the native decoder's
weights and rounding, with which the logits are equal but for the order of sums; and how far 8 bits are from float32 is
measured by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the oracle needs torch")
transformers = pytest.importorskip("transformers", reason="the oracle needs transformers")

from musicgen_cli.engine.native import library

try:
    library.load()
except library.UnavailableError as err:
    pytest.skip(f"{err}: `python -m native.compile` builds it", allow_module_level=True)

from musicgen_cli.actions.models.fidelity import kl_divergence
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sampling import apply_guidance
from musicgen_cli.engine.decoding.sequence import Sequence, Step
from musicgen_cli.engine.native.decoder import Text
from musicgen_cli.engine.native.engine import NativeEngine, NativeModel
from musicgen_cli.engine.native.weights import write_weights
from musicgen_cli.engine.onnx.engine import encode_text
from musicgen_cli.engine.onnx.graph_cache import NATIVE_STEP, prepare_graphs
from tests.support.decoding import decode, sampling
from tests.support.oracle import (
    LARGER,
    MODELS,
    NANO_SAMPLES,
    PROMPTS,
    generate,
    logits_of,
    num_distinct,
    quiet,  # noqa: F401  # a fixture
    random_model,
    relative_to_peak,
    samples_of,
)
from tests.support.rounded_transformers import rounded

pytestmark = pytest.mark.oracle

STEPS = 100
GUIDANCE = 3.0
NOISE = 1e-4  # of the logits' standard deviation: sums in another order, and what they change in codes of 15 bits

# The native decoder is for heads whose width is a multiple of 16; others are computed by ONNX Runtime.
SIZES: dict[str, dict[str, int]] = {
    "8 codebooks, replicating, 2 residual layers": {"num_attention_heads": 2},
    "causal, reflecting, trimmed on both sides": {"num_attention_heads": 3},
    "heads of 4, as in tiny models for tests": {"num_attention_heads": 1, "ffn_dim": 48},
}


@dataclass(frozen=True)
class Pair:
    """The same model in transformers and in the native engine."""

    theirs: Any  # MusicgenForConditionalGeneration
    ours: NativeModel
    shape: Shape
    graphs: Path
    scales: Any  # of the KV cache

    def rounded(self) -> Any:
        """Return transformers with the weights and the rounding of ours."""
        return rounded(self.theirs, self.graphs / NATIVE_STEP, self.scales, self.shape.decoder)


def saved_pair(theirs: Any, folder: Path) -> Pair:
    """Save a model with transformers and load it into the native engine."""
    theirs.save_pretrained(folder)
    checkpoint = find_checkpoint(str(folder), folder)
    shape = Shape.of(checkpoint.config)
    graphs = prepare_graphs(
        checkpoint,
        shape,
        positions=STEPS,
        cache_dir=folder / "cache",
        precision="int8",
        encode_prompts=lambda graph: [encode_text(graph, list(ids), 1) for ids in PROMPTS[:2]],
        note=lambda _: None,
        write_native_step=lambda path, tensors: write_weights(path, shape.decoder, tensors, positions=STEPS),
    )
    scales = graphs.scales()
    assert scales is not None
    return Pair(theirs, NativeModel(graphs.directory, shape, threads=1, scales=scales), shape, graphs.directory, scales)


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Make a random model of each config, with a number of heads that the native decoder can compute."""
    text, decoder, codec = MODELS[request.param]
    theirs = random_model(10 + list(MODELS).index(request.param), text, decoder | SIZES.get(request.param, {}), codec)
    return saved_pair(theirs, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def larger_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Make a model of 8 layers, with weights of the size that trained ones have."""
    return saved_pair(random_model(0, *LARGER), tmp_path_factory.mktemp("larger"))


@pytest.fixture(scope="module")
def native_nano(nano: Checkpoint, session_cache: Path) -> Iterator[NativeEngine]:
    """Load the bundled model."""
    engine = NativeEngine(nano, cache_dir=session_cache, threads=1, slots=1)
    yield engine
    engine.close()


def random_tokens(pair: Pair) -> Any:
    """Return the same tokens for both rows, shape ``(2, codebooks, steps)``."""
    decoder = pair.shape.decoder
    tokens = np.random.default_rng(0).integers(0, decoder.vocab + 1, (decoder.codebooks, STEPS))
    return np.stack([tokens, tokens])


def our_logits(
    pair: Pair,
    tokens: Any,
    *,
    scales: Any = None,
    change_text: Callable[[Text], Text] = lambda text: text,
    positions: Any = range(STEPS),
) -> Any:
    """Compute the logits of both rows for given tokens; a test can insert a mistake with the last three parameters."""
    model = pair.ours if scales is None else NativeModel(pair.graphs, pair.shape, threads=1, scales=scales)
    decoder = model.decoder(rows=2, steps=STEPS)
    decoder.set_conditioning(0, change_text(model.encode_text(list(PROMPTS[1]))))
    return np.stack([decoder(tokens[:, :, at], np.full(2, at)).copy() for at in positions], axis=2)


def errors_by_position(actual: Any, expected: Any) -> Any:
    """Return the root mean square of the logits' errors, divided by the logits' spread, shape ``(rows, steps)``."""
    return np.sqrt(np.square(actual - expected).mean(axis=(1, 3))) / expected.std()


def test_logits_are_those_of_transformers_with_the_same_rounding(pair: Pair) -> None:
    """
    Of both rows, with a text and without, over random tokens.

    At most positions little more than the order of sums differs; at some, a value was so close to the middle between
    two codes of 8 bits that it became the other one.
    """
    tokens = random_tokens(pair)
    expected = logits_of(pair.rounded(), PROMPTS[1], tokens)
    actual = our_logits(pair, tokens)
    errors = errors_by_position(actual, expected)

    assert np.median(errors) <= NOISE
    assert (actual.argmax(-1) == expected.argmax(-1)).mean() >= 0.98


def attend_to_padding(text: Text) -> Text:
    return replace(text, used=text.length)


@pytest.mark.parametrize("mistake", ["padding", "scales", "positions", "rows"])
def test_a_mistake_would_be_noticed(pair: Pair, mistake: str) -> None:
    """The comparison fails with each of these mistakes, at once and by far."""
    tokens = random_tokens(pair)
    expected = logits_of(pair.rounded(), PROMPTS[1], tokens)
    if mistake == "padding":
        actual = our_logits(pair, tokens, change_text=attend_to_padding)
    elif mistake == "scales":
        actual = our_logits(pair, tokens, scales=np.roll(pair.scales, 1, axis=3))
    elif mistake == "positions":
        actual, expected = our_logits(pair, tokens, positions=range(1, STEPS)), expected[:, :, 1:]
    else:
        actual = our_logits(pair, tokens)[::-1]
    changed = errors_by_position(actual, expected)[0]  # of the row with a text

    assert np.median(changed) >= 10 * NOISE


def test_a_larger_model_is_near_transformers_in_float32(larger_pair: Pair) -> None:
    """
    Its mean KL divergence is within the bound of a published model, and with the same rounding there is less left.

    Wider rows have more values, so that at nearly every position one of them becomes another code.
    """
    tokens = random_tokens(larger_pair)
    actual = our_logits(larger_pair, tokens)
    same_rounding = errors_by_position(actual, logits_of(larger_pair.rounded(), PROMPTS[1], tokens))
    exact = logits_of(larger_pair.theirs, PROMPTS[1], tokens)
    divergence = kl_divergence(apply_guidance(exact, GUIDANCE), apply_guidance(actual, GUIDANCE))

    assert same_rounding.max() <= 0.05
    assert np.median(same_rounding) <= 0.5 * np.median(errors_by_position(actual, exact))
    assert 1e-5 < divergence.mean() <= 0.01
    assert (actual.argmax(-1) == exact.argmax(-1)).mean() >= 0.9


@pytest.fixture(scope="module")
def their_nano(nano: Checkpoint) -> Any:
    """Load the bundled model into transformers."""
    return transformers.MusicgenForConditionalGeneration.from_pretrained(nano.directory).eval()


class RecordingStep:
    """A step that records its tokens and its logits."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.tokens: list[Any] = []
        self.logits: list[Any] = []

    def __call__(self, tokens: Any, positions: Any) -> Any:
        self.tokens.append(tokens.copy())
        self.logits.append(self._step(tokens, positions).copy())
        return self.logits[-1]


def greedy_clip(engine: NativeEngine, words: str, scale: float) -> tuple[Any, RecordingStep]:
    """Make 5 s; return the codes, and the step that made them."""
    model, decoder = engine.model, engine.shape.decoder
    pattern = DelayPattern(decoder.codebooks, decoder.channels, 250)
    sequence = Sequence(pattern, sampling(guidance_scale=scale, do_sample=False), vocab=decoder.vocab)
    step = RecordingStep(model.decoder_for(sequence, model.encode_text(engine.tokenize(words))))
    return decode(sequence, step), step


@pytest.mark.parametrize(
    ("words", "scale"), [("ambient", 3.0), ("ambient", 1.0), ("drum solo", 3.0), ("lo-fi beat", 3.0), ("waltz", 3.0)]
)
def test_nano_makes_the_clip_that_transformers_makes(
    native_nano: NativeEngine, nano: Checkpoint, their_nano: Any, words: str, scale: float
) -> None:
    """
    Greedily and in float32: every code, and the samples nearly.

    These are prompts with which the best code is always better than the next one by more than 8 bits can change.
    """
    ids = transformers.AutoTokenizer.from_pretrained(nano.directory)(words).input_ids
    (their_codes,), (their_samples,) = generate(their_nano, [ids], scale, frames=250)
    codes, _ = greedy_clip(native_nano, words, scale)

    assert native_nano.tokenize(words) == ids
    assert num_distinct(their_codes) >= 40
    assert np.array_equal(codes, their_codes)
    assert relative_to_peak(samples_of(native_nano.model, codes), their_samples) <= NANO_SAMPLES


@pytest.mark.parametrize(
    "words",
    ["calm ambient piano", "energetic techno with heavy drums and a fast bass line", "sad slow guitar", "organ"],
)
def test_nano_chooses_nearly_always_as_transformers_does(
    native_nano: NativeEngine, their_nano: Any, words: str
) -> None:
    """Along its own greedy clip, where two codes are sometimes as good as equal."""
    _, step = greedy_clip(native_nano, words, GUIDANCE)
    tokens, logits = np.stack(step.tokens, axis=2), np.stack(step.logits, axis=2)
    theirs = logits_of(their_nano, native_nano.tokenize(words), tokens)
    ours, exact = apply_guidance(logits, GUIDANCE), apply_guidance(theirs, GUIDANCE)

    assert (ours.argmax(-1) == exact.argmax(-1)).mean() >= 0.99
    assert kl_divergence(exact, ours).mean() <= 0.005
