"""
Compares the torch model on the CPU with transformers and with the ONNX model, and a row in a batch with the row alone.

What only a GPU has, CUDA graphs above all, is tested where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="needs the extra torch")
transformers = pytest.importorskip("transformers", reason="needs the extra torch")

from musicgen_cli.actions.models.fidelity import kl_divergence
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.engine import OnnxEngine, OnnxModel
from musicgen_cli.engine.onnx.graph_cache import prepare_graphs
from musicgen_cli.engine.torch.engine import TorchEngine
from musicgen_cli.engine.torch.model import TorchModel
from musicgen_cli.engine.torch.sound_encoder import TorchSoundEncoder
from tests.support.decoding import decode as decode_by_steps
from tests.support.decoding import sampling
from tests.support.oracle import (
    MODELS,
    PROMPTS,
    generate,
    num_distinct,
    quiet,  # noqa: F401  # a fixture
    random_model,
    relative_to_peak,
    samples_of,
)

pytestmark = pytest.mark.oracle

STEREO = "stereo, causal, gated, equal widths"  # 8 codebooks


@dataclass(frozen=True)
class StereoModel:
    """A random stereo model: in transformers, as a checkpoint, and in ONNX Runtime."""

    theirs: Any  # MusicgenForConditionalGeneration
    checkpoint: Checkpoint
    shape: Shape
    onnx: OnnxModel


@pytest.fixture(scope="module")
def onnx_engine(nano: Checkpoint, session_cache: Path) -> Iterator[OnnxEngine]:
    """Load the bundled model into the ONNX engine, in float32."""
    engine = OnnxEngine(nano, cache_dir=session_cache, threads=1, precision="fp32")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> StereoModel:
    """Make a random stereo model."""
    folder = tmp_path_factory.mktemp("stereo")
    theirs = random_model(11, *MODELS[STEREO])
    theirs.save_pretrained(folder)
    checkpoint = find_checkpoint(str(folder), folder)
    shape = Shape.of(checkpoint.config)
    graphs = prepare_graphs(
        checkpoint,
        shape,
        positions=200,
        cache_dir=folder / "cache",
        precision="fp32",
        encode_prompts=lambda graph: [],  # not called with fp32
        note=lambda text: None,
    )
    return StereoModel(theirs, checkpoint, shape, OnnxModel(graphs.directory, shape, threads=1))


def load(checkpoint: Checkpoint, *, dtype: Any = torch.float32, device: str = "cpu") -> TorchModel:
    return TorchModel(checkpoint, Shape.of(checkpoint.config), torch.device(device), dtype)


def decode(model: Any, shape: Shape, ids: list[int], frames: int, **parameters: Any) -> tuple[Any, Any]:
    """
    Decode one sequence with a model of either engine, greedily and guided unless the parameters say otherwise.

    Returns:
        Codes, and logits, shape (steps, rows, codebooks, vocabulary).
    """
    decoder = shape.decoder
    pattern = DelayPattern(decoder.codebooks, decoder.channels, frames)
    defaults = {"guidance_scale": 3.0, "do_sample": False}
    sequence = Sequence(pattern, sampling(**{**defaults, **parameters}), vocab=decoder.vocab)
    step = model.decoder(rows=sequence.rows, steps=pattern.steps)
    step.set_conditioning(0, model.encode_text(ids) if ids else None)
    logits = []
    while not sequence.done:
        logits.append(step(sequence.tokens, np.full(sequence.rows, sequence.position)).copy())
        sequence.advance(logits[-1])
    return sequence.codes, np.stack(logits)


@pytest.mark.parametrize(("prompt", "scale"), [(0, 3.0), (1, 1.0), (None, 1.0)])
def test_greedy_codes_and_their_samples_are_those_of_transformers(
    stereo: StereoModel, prompt: int | None, scale: float
) -> None:
    """
    Every code, with at least 100 different ones, and the samples to a few millionths of their peak.

    The codes and the logits are those of the ONNX model, too.
    """
    ids = [] if prompt is None else PROMPTS[prompt]
    (their_codes,), their_samples = generate(stereo.theirs, [ids] if ids else [], scale)
    model, frames = load(stereo.checkpoint), their_codes.shape[1]
    codes, logits = decode(model, stereo.shape, ids, frames, guidance_scale=scale)
    onnx_codes, onnx_logits = decode(stereo.onnx, stereo.shape, ids, frames, guidance_scale=scale)

    assert num_distinct(their_codes) >= 100
    assert np.array_equal(codes, their_codes)
    assert np.array_equal(codes, onnx_codes)
    assert np.abs(logits - onnx_logits).max() <= 1e-3 * onnx_logits.std()
    assert relative_to_peak(samples_of(model, codes), their_samples[0]) <= 3e-6


def test_nano_is_equal_to_transformers(torch_engine: TorchEngine, nano: Checkpoint) -> None:
    """From words to samples, greedily, over 3 s."""
    theirs = transformers.MusicgenForConditionalGeneration.from_pretrained(nano.directory).eval()
    ids = transformers.AutoTokenizer.from_pretrained(nano.directory)("calm ambient piano").input_ids
    their_codes, their_samples = generate(theirs, [ids], 3.0, frames=150)
    codes, _ = decode(torch_engine.model, torch_engine.shape, ids, 150)

    assert list(torch_engine.tokenize("calm ambient piano")) == ids
    assert np.array_equal(codes, their_codes[0])
    assert relative_to_peak(samples_of(torch_engine.model, codes), their_samples[0]) <= 5e-6


def test_a_sampled_sequence_is_that_of_the_onnx_engine(torch_engine: TorchEngine, onnx_engine: OnnxEngine) -> None:
    """Every code and the logits of both rows, with at least 100 different codes and a prompt of several pages."""
    ids = torch_engine.tokenize("lively jazz and drums " * 17)
    parameters = {"do_sample": True, "temperature": 2.0, "seed": 4}
    codes, logits = decode(torch_engine.model, torch_engine.shape, ids, 400, **parameters)
    onnx_codes, onnx_logits = decode(onnx_engine.model, torch_engine.shape, ids, 400, **parameters)

    assert len(ids) > 64
    assert num_distinct(codes) >= 100
    assert np.array_equal(codes, onnx_codes)
    assert np.abs(logits - onnx_logits).max() <= 1e-4 * onnx_logits.std()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_the_same_in_any_batch(stereo: StereoModel, dtype: Any) -> None:
    """To the bit: at another index, in another block, moved, beside longer prompts and rows that are pages ahead."""
    model = load(stereo.checkpoint, dtype=dtype)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 256, (5, 300, 8))
    conditionings = [model.encode_text(rng.integers(1, 60, size).tolist()) for size in (5, 64, 200)]
    alone = model.decoder(rows=1, steps=300)
    alone.set_conditioning(0, conditionings[0])
    expected = [alone(tokens[0, at : at + 1], np.array([at])).copy() for at in range(300)]

    batch = model.decoder(rows=12, steps=600)
    for row in range(12):
        batch.set_conditioning(row, conditionings[row % 3])
    batch.set_conditioning(9, conditionings[0])
    row = 9
    for at in range(300):
        if at in (20, 40, 270):  # into the other block, within it, and back with two pages
            target = {20: 3, 40: 5, 270: 11}[at]
            batch.move(row, target, positions=at)
            row = target
        others = 300 + rng.integers(0, 290, 12)  # one page or more ahead
        rows = 12 if at % 7 else row + 1
        positions = np.where(np.arange(12) == row, at, others)[:rows]
        newest = tokens[1 + rng.integers(0, 4, rows), at]
        newest[row] = tokens[0, at]
        assert np.array_equal(batch(newest, positions)[row], expected[at][0]), at


@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_a_continuation_is_that_of_transformers(stereo: StereoModel, scale: float) -> None:
    """Its codes, and those of the sound that it goes on from, over two pages of the KV cache."""
    model, shape = load(stereo.checkpoint), stereo.shape
    sound = np.random.default_rng(5).normal(size=(2, 300 * shape.codec.hop)).astype(np.float32) * np.float32(0.3)
    (expected,), _ = generate(stereo.theirs, PROMPTS[:1], scale, frames=60, sound=sound)
    given = TorchSoundEncoder(stereo.checkpoint, shape, model.device).encode(sound)
    pattern = DelayPattern(8, 2, 360)
    greedy = sampling(guidance_scale=scale, do_sample=False)
    sequence = Sequence(pattern, greedy, vocab=shape.decoder.vocab, given=expected[:, :300])
    decoder = model.decoder(rows=sequence.rows, steps=pattern.steps)
    decoder.set_conditioning(0, model.encode_text(PROMPTS[0]))

    assert (given == expected[:, :300]).all(axis=0).mean() >= 0.99
    assert np.array_equal(decode_by_steps(sequence, decoder), expected)
    assert num_distinct(expected[:, 300:]) >= 60


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_given_codes_are_read_the_same_in_any_row(stereo: StereoModel, dtype: Any) -> None:
    """To the bit: in another block, beside other prompts; and nearly as step by step."""
    model = load(stereo.checkpoint, dtype=dtype)
    tokens = np.random.default_rng(0).integers(0, 256, (301, 8))
    short, long = model.encode_text(PROMPTS[0]), model.encode_text(PROMPTS[1] * 12)
    alone, among, steps = (model.decoder(rows=12, steps=600) for _ in range(3))
    for row in range(12):
        among.set_conditioning(row, long)
    for decoder, row in ((alone, 0), (among, 9), (steps, 0)):
        decoder.set_conditioning(row, short)
    for first in range(0, 300, 128):
        part = tokens[first : min(first + 128, 300)]
        alone.prefill(0, first, tokens=part)
        for row in (4, 9, 10):
            among.prefill(row, first, tokens=part)
    for at in range(300):
        steps(tokens[at : at + 1], np.array([at]))
    expected = alone(tokens[300:], np.array([300]))

    assert np.array_equal(among(np.repeat(tokens[300:], 12, 0), np.full(12, 300))[9], expected[0])
    by_steps = steps(tokens[300:], np.array([300]))
    assert np.abs(by_steps - expected).max() <= (1e-4 if dtype is torch.float32 else 0.1) * expected.std()


def test_bf16_predicts_as_fp32_does(torch_engine: TorchEngine, nano: Checkpoint) -> None:
    """Its mean KL divergence from fp32 is at most 0.01; the same codes give the same samples, decoded in float32."""
    bf16 = load(nano, dtype=torch.bfloat16)
    ids = torch_engine.tokenize("calm ambient piano")
    tokens = np.random.default_rng(0).integers(0, 512, (60, 4))
    logits = []
    for model in (torch_engine.model, bf16):
        step = model.decoder(rows=1, steps=60)
        step.set_conditioning(0, model.encode_text(ids))
        logits.append(np.stack([step(tokens[at : at + 1], np.array([at])).copy() for at in range(60)]))

    assert 0 < kl_divergence(*logits).mean() < 0.01
    codes = tokens.T.copy()
    assert np.array_equal(samples_of(bf16, codes), samples_of(torch_engine.model, codes))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_logits_and_samples_are_those_of_the_cpu(torch_engine: TorchEngine, nano: Checkpoint) -> None:
    """In float32, the logits to a thousandth of their standard deviation, over two pages of the KV cache."""
    ids = torch_engine.tokenize("calm ambient piano")
    gpu = load(nano, device="cuda")
    codes, cpu_logits = decode(torch_engine.model, torch_engine.shape, ids, 300)
    _, gpu_logits = decode(gpu, torch_engine.shape, ids, 300)

    assert np.abs(gpu_logits - cpu_logits).max() <= 1e-3 * cpu_logits.std()
    assert relative_to_peak(samples_of(gpu, codes), samples_of(torch_engine.model, codes)) <= 1e-4
