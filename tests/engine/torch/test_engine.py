"""
The engine of PyTorch on the CPU: the codes of transformers and of the other engine, and the same bytes in any company.

What only a GPU has, CUDA graphs above all, is tested where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="needs the extra torch")
transformers = pytest.importorskip("transformers", reason="needs the extra torch")

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import registry
from musicgen_cli.engine.base import NullListener, Origin
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sampling import SAMPLER_VERSION, Sampling
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.engine import OnnxEngine, OnnxModel
from musicgen_cli.engine.onnx.graph_cache import prepare_graphs
from musicgen_cli.engine.torch.engine import TorchEngine, TorchModel
from musicgen_cli.errors import AbsentError, CheckpointError, MemoryNeededError, ModelAbsentError
from tests.support.oracle import MODELS, PROMPTS, generate, num_distinct, quiet, random_model  # noqa: F401  # after what may skip it

pytestmark = pytest.mark.oracle

STEREO = "stereo, causal, gated, equal widths"  # 8 codebooks
CPU = torch.device("cpu")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def request(**values: Any) -> GenerateRequest:
    return GenerateRequest(**{"prompt": "calm ambient piano", "duration": 1.0, "seed": 1} | values)


@pytest.fixture(scope="module")
def ours(nano: Checkpoint) -> Iterator[TorchEngine]:
    """Load the bundled model."""
    loaded = TorchEngine(nano, device="cpu")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def exact(nano: Checkpoint, session_cache: Path) -> Iterator[OnnxEngine]:
    """Load the bundled model into the other engine."""
    loaded = OnnxEngine(nano, cache_dir=session_cache, threads=1, precision="fp32")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make a random stereo model: as transformers has it, its checkpoint, and as the other engine has it."""
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
        calibrate=lambda made, kv_bounds: kv_bounds,  # nobody asks for it
        note=lambda text: None,
    )
    return theirs, checkpoint, OnnxModel(graphs.directory, shape, threads=1)


def model_of(checkpoint: Checkpoint, dtype: Any = torch.float32, device: Any = CPU) -> TorchModel:
    return TorchModel(checkpoint, Shape.of(checkpoint.config), device, dtype)


def take_of(model: Any, shape: Shape, ids: Any, frames: int, **sampling: Any) -> tuple[Any, Any]:
    """Make one take; return its codes, and its logits, shape (steps, rows, codebooks, vocabulary)."""
    decoder = shape.decoder
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "guidance_scale": 3.0, "do_sample": False, "seed": 0}
    take = Sequence(
        DelayPattern(decoder.codebooks, decoder.channels, frames),
        Sampling(**{**values, **sampling}),
        vocab=decoder.vocab,
    )
    step = model.decoder(rows=take.rows, steps=take.pattern.steps)
    step.set_conditioning(0, model.encode_text(ids) if ids else None)
    logits = []
    while not take.done:
        logits.append(step(take.tokens, np.full(take.rows, take.position)).copy())
        take.advance(logits[-1])
    return take.codes, np.stack(logits)


def sound_of(model: TorchModel, codes: Any) -> Any:
    stream = model.audio_stream()
    return np.concatenate([*(stream.push(codes[:, [t]]) for t in range(codes.shape[1])), stream.end()], axis=1)


@pytest.mark.parametrize(("prompt", "scale"), [(0, 3.0), (1, 1.0), (None, 1.0)])
def test_greedy_codes_and_their_sound_are_those_of_transformers(stereo: Any, prompt: int | None, scale: float) -> None:
    """Every code, over at least 100 different ones; the sound to a millionth of its peak. The other engine's, too."""
    theirs, checkpoint, other = stereo
    ids = [] if prompt is None else PROMPTS[prompt]
    (codes,), sound = generate(theirs, [ids] if ids else [], scale)
    mine, shape = model_of(checkpoint), Shape.of(checkpoint.config)
    found, logits = take_of(mine, shape, ids, codes.shape[1], guidance_scale=scale)
    others, expected = take_of(other, shape, ids, codes.shape[1], guidance_scale=scale)

    assert num_distinct(codes) >= 100
    assert np.array_equal(found, codes)
    assert np.array_equal(found, others)
    assert np.abs(logits - expected).max() <= 1e-3 * expected.std()
    assert np.abs(sound_of(mine, found) - sound[0]).max() <= 3e-6 * np.abs(sound).max()


def test_nano_is_what_transformers_makes_of_it(ours: TorchEngine, nano: Checkpoint) -> None:
    """Greedy, from words, over 3 s."""
    theirs = transformers.MusicgenForConditionalGeneration.from_pretrained(nano.directory).eval()
    ids = transformers.AutoTokenizer.from_pretrained(nano.directory)("calm ambient piano").input_ids
    codes, sound = generate(theirs, [ids], 3.0, frames=150)
    found, _ = take_of(ours.model, ours.shape, ids, 150)

    assert list(ours.tokenize("calm ambient piano")) == ids
    assert np.array_equal(found, codes[0])
    assert np.abs(sound_of(ours.model, found) - sound[0]).max() <= 5e-6 * np.abs(sound).max()


def test_a_sampled_take_is_that_of_the_other_engine(ours: TorchEngine, exact: OnnxEngine) -> None:
    """Every choice and every logit, with the text and without, over at least 100 tokens; the text is long, too."""
    ids = ours.tokenize("lively jazz and drums " * 17)
    wild = {"do_sample": True, "temperature": 2.0, "seed": 4}
    codes, logits = take_of(ours.model, ours.shape, ids, 400, **wild)
    wanted, expected = take_of(exact.model, ours.shape, ids, 400, **wild)

    assert len(ids) > 64
    assert num_distinct(codes) >= 100
    assert np.array_equal(codes, wanted)
    assert np.abs(logits - expected).max() <= 1e-4 * expected.std()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_the_same_in_any_company(stereo: Any, dtype: Any) -> None:
    """To the bit: on another row, in another block, moved, beside longer texts and rows that are pages ahead."""
    model = model_of(stereo[1], dtype)
    random = np.random.default_rng(0)
    tokens = random.integers(0, 256, (5, 300, 8))
    texts = [model.encode_text(random.integers(1, 60, size).tolist()) for size in (5, 64, 200)]
    alone = model.decoder(rows=1, steps=300)
    alone.set_conditioning(0, texts[0])
    wanted = [alone(tokens[0, at : at + 1], np.array([at])).copy() for at in range(300)]

    crowd = model.decoder(rows=12, steps=600)
    for row in range(12):
        crowd.set_conditioning(row, texts[row % 3])
    crowd.set_conditioning(9, texts[0])
    place = 9
    for at in range(300):
        if at in (20, 40, 270):  # into the other block, within it, and back with two pages
            target = {20: 3, 40: 5, 270: 11}[at]
            crowd.move(place, target, positions=at)
            place = target
        others = 300 + random.integers(0, 290, 12)  # in company that is a page ahead, or none
        rows = 12 if at % 7 else place + 1
        positions = np.where(np.arange(12) == place, at, others)[:rows]
        now = tokens[1 + random.integers(0, 4, rows), at]
        now[place] = tokens[0, at]
        assert np.array_equal(crowd(now, positions)[place], wanted[at][0]), at


def test_clips_made_side_by_side_are_the_bytes_they_are_alone(ours: TorchEngine, nano: Checkpoint) -> None:
    """From many threads, in more slots, of many lengths, texts and guidances; some given up on their way."""
    prompts = ["calm ambient piano", "", "piano " * 70]
    requests = [
        request(prompt=prompts[i % 3], seed=i, duration=0.5 + (i * 7 % 5) / 5, guidance_scale=1.0 + i % 3)
        for i in range(10)
    ]

    class Stopped(NullListener):
        def step(self, done: int, total: int) -> None:
            if done >= 20:
                raise KeyboardInterrupt

    def make(engine: TorchEngine, number: int) -> bytes | None:
        try:
            return engine.generate(requests[number], Stopped() if number % 5 == 4 else NullListener()).wav
        except KeyboardInterrupt:
            return None

    wider = TorchEngine(nano, device="cpu", slots=6)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda number: make(wider, number), range(10)))
    wider.close()

    assert (ours.slots, wider.slots) == (4, 6)
    assert together == [make(ours, number) for number in range(10)]
    assert [number for number, wav in enumerate(together) if wav is None] == [4, 9]


def test_a_clip_tells_what_a_remake_needs_and_is_heard_as_it_is_made(ours: TorchEngine, nano: Checkpoint) -> None:
    """The chunks are the WAV's samples, the first half second soon; the length is exact."""

    class Hearing(NullListener):
        steps = 0
        chunks: list[tuple[int, bytes]] = []  # noqa: RUF012

        def step(self, done: int, total: int) -> None:
            self.steps = done

        def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
            self.chunks.append((self.steps, pcm))

    listener = Hearing()
    clip = ours.generate(request(duration=1.23), listener)

    assert b"".join(pcm for _, pcm in listener.chunks) == clip.wav[44:]
    assert listener.chunks[0][0] <= 32
    assert clip.info.frames == 39_360
    assert clip.origin == Origin("local", model="nano", engine="torch", precision="fp32", device="cpu")
    assert (clip.seed, clip.license) == (1, "MIT")
    assert clip.extra == {"checkpoint": nano.digest, "sampler": SAMPLER_VERSION}


def test_bf16_runs_on_the_cpu_and_sounds_alike(ours: TorchEngine, nano: Checkpoint) -> None:
    """What it expects next is near fp32's, KL divergence 0.01 at most on average; its sound is made in float32."""
    half = TorchEngine(nano, device="cpu", precision="bf16")
    ids = ours.tokenize("calm ambient piano")
    tokens = np.random.default_rng(0).integers(0, 512, (60, 4))
    scores = []
    for engine in (half, ours):
        step = engine.model.decoder(rows=1, steps=60)
        step.set_conditioning(0, engine.model.encode_text(ids))
        logits = np.stack([step(tokens[at : at + 1], np.array([at])).copy() for at in range(60)]).astype(np.float64)
        scores.append(logits - np.logaddexp.reduce(logits, -1, keepdims=True))
    given, wanted = scores

    assert 0 < (np.exp(wanted) * (wanted - given)).sum(-1).mean() < 0.01
    codes = tokens.T.copy()
    assert np.array_equal(sound_of(half.model, codes), sound_of(ours.model, codes))
    clip = half.generate(request(), NullListener())
    assert np.frombuffer(clip.wav[44:], "<i2").std() > 100
    assert clip.origin.precision == "bf16"
    half.close()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precision": "int8"}, "the engine torch has no precision 'int8'"),
        pytest.param({"device": "cuda"}, "torch finds no cuda", marks=pytest.mark.skipif("torch.cuda.is_available()")),
        pytest.param(
            {"device": "mps"}, "torch finds no mps", marks=pytest.mark.skipif("torch.backends.mps.is_available()")
        ),
    ],
)
def test_what_isnt_there_is_refused(values: Mapping[str, str], message: str) -> None:
    """Another precision or device isn't silently replaced."""
    with pytest.raises(AbsentError, match=message):
        registry.open_local("nano", engine="torch", note=lambda _: None, **values)


def test_a_model_without_its_weights_is_refused(nano: Checkpoint) -> None:
    """The hint says how to get them."""
    without = Checkpoint("small", nano.directory, nano.config, (), nano.license)
    with pytest.raises(ModelAbsentError, match="which were not kept") as caught:
        TorchEngine(without, device="cpu")

    assert "--keep-weights" in str(caught.value.hint)


def test_a_model_that_doesnt_fit_is_refused_before_it_is_loaded(nano: Checkpoint) -> None:
    """The message says what is needed and what is free; more slots need more."""
    with pytest.raises(MemoryNeededError, match=r"'nano' needs about [67]\d\d\.\d MB of memory, 100\.0 MB is free"):
        TorchEngine(nano, device="cpu", free=lambda: 100_000_000)
    with pytest.raises(MemoryNeededError, match=r"'nano' needs about \d\.\d GB of memory"):
        TorchEngine(nano, device="cpu", slots=64, free=lambda: 100_000_000)


def test_weights_that_are_missing_are_not_made_up(write: Any, nano_tensors: Mapping[str, Any]) -> None:
    """Transformers itself would draw them at random, and only log it."""
    name = "decoder.model.decoder.layers.1.fc1.weight"
    folder = write(tensors={key: values for key, values in nano_tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=f"has no tensor '{name}'"):
        TorchEngine(find_checkpoint(str(folder), folder), device="cpu")


def test_a_config_that_doesnt_fit_is_an_error(write: Any, nano: Checkpoint) -> None:
    """In one line, as what is wrong with a checkpoint always is."""
    config = json.loads(json.dumps(nano.config))
    config["decoder"]["ffn_dim"] += 8
    folder = write(config=config)
    with pytest.raises(CheckpointError, match="transformers can't load mine") as caught:
        TorchEngine(find_checkpoint(str(folder), folder), device="cpu")

    assert "\n" not in str(caught.value)


@pytest.mark.cuda
@on_a_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_a_seed_means_the_same_bytes(nano: Checkpoint, precision: str) -> None:
    """Alone, beside others, and again; recorded graphs and their pages change nothing."""
    gpu = TorchEngine(nano, device="cuda", precision=precision)
    requests = [request(seed=i, duration=1.0 + i, prompt="piano " * (1 + 30 * i)) for i in range(6)]
    alone = [gpu.generate(each, NullListener()).wav for each in requests]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda each: gpu.generate(each, NullListener()).wav, requests))
    gpu.close()

    assert together == alone


@pytest.mark.cuda
@on_a_gpu
def test_on_a_gpu_the_logits_are_those_of_the_cpu(ours: TorchEngine, nano: Checkpoint) -> None:
    """In float32, to a thousandth of their spread, over two pages; and so is the sound."""
    ids = ours.tokenize("calm ambient piano")
    gpu = model_of(nano, device=torch.device("cuda"))
    codes, wanted = take_of(ours.model, ours.shape, ids, 300)
    _, logits = take_of(gpu, ours.shape, ids, 300)

    assert np.abs(logits - wanted).max() <= 1e-3 * wanted.std()
    heard = sound_of(ours.model, codes)
    assert np.abs(sound_of(gpu, codes) - heard).max() <= 1e-4 * np.abs(heard).max()


@pytest.mark.cuda
@on_a_gpu
def test_a_gpu_that_is_full_is_noticed(nano: Checkpoint) -> None:
    """Before anything is loaded onto it."""
    with pytest.raises(MemoryNeededError, match=r"100\.0 MB is free"):
        TorchEngine(nano, device="cuda", free=lambda: 100_000_000)
