from __future__ import annotations

import json
import subprocess
import sys
from collections import abc
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("tokenizers", reason="needs the extra local")

from musicgen_cli.audio.wav import inspect
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import hardware
from musicgen_cli.engine.base import NullListener, Origin
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sampling import SAMPLER_VERSION, Sampling
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.errors import AbsentError, CheckpointError, EngineError, MemoryNeededError


def request(**values: Any) -> GenerateRequest:
    return GenerateRequest(**{"prompt": "calm ambient piano", "duration": 1.0, "seed": 1} | values)


def test_the_same_seed_gives_the_same_bytes(engine: OnnxEngine, nano: Checkpoint, session_cache: Path) -> None:
    """Again, after another take, and from a model loaded anew with more threads; another seed gives another sound."""
    first = engine.generate(request(), NullListener())
    other = engine.generate(request(seed=2, duration=1.5), NullListener())
    again = engine.generate(request(), NullListener())
    fresh = OnnxEngine(nano, cache_dir=session_cache, threads=2)

    assert first.wav == again.wav == fresh.generate(request(), NullListener()).wav
    assert other.wav[44:][: len(first.wav) - 44] != first.wav[44:]
    fresh.close()


def test_a_clip_tells_what_a_remake_needs(engine: OnnxEngine, nano: Checkpoint) -> None:
    """Where it came from, the seed, the weights and their license."""
    clip = engine.generate(request(), NullListener())

    assert clip.origin == Origin("local", model="nano", engine="onnx", precision="int8", device="cpu")
    assert (clip.seed, clip.license) == (1, "MIT")
    assert clip.extra == {"checkpoint": nano.digest, "sampler": SAMPLER_VERSION}
    assert clip.info == inspect(clip.wav)
    assert clip.elapsed_s > 0


def test_a_seed_that_wasnt_given_is_drawn_and_told(engine: OnnxEngine) -> None:
    """And it is honoured like one that was."""
    drawn = engine.generate(request(seed=None), NullListener())

    assert drawn.seed != engine.generate(request(seed=None), NullListener()).seed
    assert engine.generate(request(seed=drawn.seed), NullListener()).wav == drawn.wav


@pytest.mark.parametrize("duration", [0.5, 0.51, 0.58, 2 / 3, 0.7501, 9.99, 30.0])
def test_a_clip_is_as_long_as_was_asked_to_the_sample(engine: OnnxEngine, duration: float) -> None:
    """16-bit mono at the model's rate."""
    info = engine.generate(request(duration=duration, do_sample=False), NullListener()).info

    assert (info.frames, info.sample_rate, info.channels, info.bits) == (round(duration * 32_000), 32_000, 1, 16)


class Counting(NullListener):
    def __init__(self, stop_at: int | None = None) -> None:
        self.steps: list[tuple[int, int]] = []
        self.stop_at = stop_at

    def step(self, done: int, total: int) -> None:
        self.steps.append((done, total))
        if self.stop_at is not None and done >= self.stop_at:
            raise KeyboardInterrupt


def test_the_listener_hears_how_far_it_is(engine: OnnxEngine) -> None:
    """50 frames of a second and the three that the delay costs; what came while it was busy is told at once."""
    listener = Counting()
    engine.generate(request(), listener)

    steps = [done for done, _ in listener.steps]
    assert steps == sorted(set(steps))
    assert listener.steps[-1] == (53, 53)


class Hearing(NullListener):
    def __init__(self) -> None:
        self.steps = 0
        self.chunks: list[tuple[bytes, int, int]] = []

    def step(self, done: int, total: int) -> None:
        self.steps = done

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        self.chunks.append((pcm, sample_rate, channels))


@pytest.mark.parametrize("duration", [0.5, 0.503, 1.23, 3.0])
def test_the_chunks_that_are_heard_are_the_wav(engine: OnnxEngine, duration: float) -> None:
    """To the byte, and there is half a second at first; how soon it comes, test_sound.py tells."""
    listener = Hearing()
    clip = engine.generate(request(duration=duration), listener)

    assert b"".join(pcm for pcm, _, _ in listener.chunks) == clip.wav[44:]
    assert all(pcm and (rate, channels) == (32_000, 1) for pcm, rate, channels in listener.chunks)
    assert len(listener.chunks[0][0]) >= 2 * 16_000
    assert len(listener.chunks) >= (2 if duration > 1 else 1)  # on a busy machine several may come together


def test_what_hears_the_sound_can_stop_it(engine: OnnxEngine) -> None:
    """A player that was closed ends the take like Ctrl-C does."""

    class Closed(Hearing):
        def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
            raise BrokenPipeError

    listener = Closed()
    with pytest.raises(BrokenPipeError):
        engine.generate(request(duration=30.0), listener)
    assert listener.steps < 1503


def test_ctrl_c_goes_through_and_leaves_the_engine_usable(engine: OnnxEngine) -> None:
    """What was begun leaves no trace in what comes next."""
    before = engine.generate(request(), NullListener()).wav
    with pytest.raises(KeyboardInterrupt):
        engine.generate(request(seed=9), Counting(stop_at=20))

    assert engine.generate(request(), NullListener()).wav == before


def test_parameters_matter(engine: OnnxEngine) -> None:
    """Each of them changes the sound, and so does the prompt."""
    variants: list[dict[str, Any]] = [
        {},
        {"prompt": "energetic techno with drums"},
        {"prompt": ""},
        {"guidance_scale": 6.0},
        {"guidance_scale": 15.0},
        {"temperature": 2.0},
        {"temperature": 2.0, "top_k": 3},
        {"temperature": 2.0, "top_p": 0.8},
        {"do_sample": False},
    ]
    asked = [{"prompt": "jazz", "duration": 6.0} | values for values in variants]  # where there is much to choose
    sounds = [engine.generate(request(**values), NullListener()).wav for values in asked]

    assert len(set(sounds)) == len(variants)


def test_one_candidate_is_greedy(engine: OnnxEngine) -> None:
    """Whichever way there is only one."""
    ways: list[dict[str, Any]] = [{"do_sample": False}, {"top_k": 1}, {"top_p": 0.0}]

    assert len({engine.generate(request(**values), NullListener()).wav for values in ways}) == 1


def test_without_a_prompt_guidance_means_nothing(engine: OnnxEngine) -> None:
    """There is nothing to be guided to."""
    one, five = (engine.generate(request(prompt="", guidance_scale=scale), NullListener()).wav for scale in (1.0, 5.0))

    assert one == five


@pytest.mark.parametrize(("words", "length"), [(1, 64), (63, 64), (64, 128), (333, 384)])
def test_a_prompt_of_any_length_is_read_whole(engine: OnnxEngine, words: int, length: int) -> None:
    """Padded to a multiple of 64 tokens, of which its own are seen: the words and the end."""
    prompt = "piano " * words
    text = engine._model.encode_text(engine._ids(prompt))

    assert text.mask.ravel().tolist() == [0.0] * (words + 1) + [-np.inf] * (length - words - 1)
    assert engine.generate(request(prompt=prompt), NullListener()).info.frames == 32_000


def test_rows_at_their_own_positions_are_what_they_are_alone(engine: OnnxEngine) -> None:
    """To the bit: so requests can join and leave at any step."""
    model = engine._model
    text = model.encode_text(engine._ids("calm ambient piano"))
    tokens = np.random.default_rng(0).integers(0, 512, (2, 12, 4))
    both, one = (
        Sequence(DelayPattern(4, 1, 20), Sampling(1.0, 0, 1.0, scale, do_sample=True, seed=1), vocab=512)
        for scale in (3.0, 1.0)
    )
    alone = []
    for row, seen in ((0, text), (1, None)):
        step = model.begin(one, seen)
        alone.append([step(tokens[row, at : at + 1], np.array([at])).copy() for at in range(12)])

    together = model.begin(both, text)
    for at in range(12):  # the second row joins five steps later, its first ones being thrown away
        late = max(at - 5, 0)
        logits = together(np.stack([tokens[0, at], tokens[1, late]]), np.array([at, late]))
        assert np.array_equal(logits[0], alone[0][at][0])
        assert np.array_equal(logits[1], alone[1][late][0])


def test_a_row_that_moves_takes_its_text_along(engine: OnnxEngine) -> None:
    """It goes on to the bit as if it had been there from the start."""
    model = engine._model
    here, there = (model.encode_text(engine._ids(prompt)) for prompt in ("calm ambient piano", "drums " * 70))
    tokens = np.random.default_rng(0).integers(0, 512, (12, 1, 4))

    def go_on(decoder: Any, steps: range) -> Any:
        return [decoder(np.repeat(tokens[at], 2, axis=0), np.full(2, at)).copy() for at in steps]

    stayed, moved = (model.decoder(rows=3, steps=20) for _ in range(2))
    stayed.set_conditioning(1, there)
    wanted = go_on(stayed, range(12))
    moved.set_conditioning(0, here)
    moved.set_conditioning(1, there)
    go_on(moved, range(6))
    moved.move(1, 0, positions=6)
    found = go_on(moved, range(6, 12))

    assert all(np.array_equal(a[0], b[1]) for a, b in zip(found, wanted[6:], strict=True))
    assert not any(np.array_equal(a[0], b[0]) for a, b in zip(found, wanted[6:], strict=True))


def test_clips_made_side_by_side_are_the_bytes_they_are_alone(engine: OnnxEngine) -> None:
    """From many threads, of many lengths, texts and guidances; some given up on their way, others waiting."""
    prompts = ["calm ambient piano", "energetic techno with drums", "", "piano " * 70]
    requests = [
        request(prompt=prompts[i % 4], seed=i, duration=0.5 + (i * 7 % 13) / 5, guidance_scale=1.0 + i % 3)
        for i in range(16)
    ]

    def make(number: int) -> bytes | None:
        try:
            return engine.generate(requests[number], Counting(stop_at=20 if number % 5 == 4 else None)).wav
        except KeyboardInterrupt:
            return None

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(make, range(16)))

    assert together == [make(number) for number in range(16)]
    assert [number for number, wav in enumerate(together) if wav is None] == [4, 9, 14]


def test_a_prompt_that_comes_again_is_read_once(
    nano: Checkpoint, session_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From several threads, too, until four others came."""
    engine = OnnxEngine(nano, cache_dir=session_cache, threads=1)
    model, read = engine._model, []
    ids = {tuple(engine._ids(prompt)): prompt for prompt in ("piano", "jazz", "rock", "folk", "house")}

    def reading(tokens: abc.Sequence[int], look: Any = model.encode_text) -> Any:
        read.append(ids[tuple(tokens)])
        return look(tokens)

    monkeypatch.setattr(model, "encode_text", reading)
    with ThreadPoolExecutor(4) as pool:
        clips = list(pool.map(lambda _: engine.generate(request(prompt="piano"), NullListener()).wav, range(4)))
    for prompt in ("jazz", "rock", "piano", "folk", "house", "piano", "jazz"):
        engine.generate(request(prompt=prompt, duration=0.5), NullListener())

    assert len(set(clips)) == 1
    assert read == ["piano", "jazz", "rock", "folk", "house", "jazz"]
    engine.close()


def test_int8_needs_less_and_sounds_alike(nano: Checkpoint, session_cache: Path, engine: OnnxEngine) -> None:
    """
    Its graph is at most two thirds of fp32's, and what it expects next is near, KL divergence 0.01 at most on average.

    The output layers, exact in both, are a fifth of nano's.
    """
    exact = OnnxEngine(nano, cache_dir=session_cache, threads=1, precision="fp32")
    sizes = [(loaded._graphs.directory / "step.data").stat().st_size for loaded in (engine, exact)]
    tokens = np.random.default_rng(0).integers(0, 752, (4, 60))
    take = Sequence(DelayPattern(4, 1, 57), Sampling(1.0, 0, 1.0, 3.0, do_sample=True, seed=1), vocab=752)
    scores = []
    for loaded in (engine, exact):
        step = loaded._model.begin(take, loaded._model.encode_text(loaded._ids("calm ambient piano")))
        logits = np.stack([step(np.tile(tokens[:, at], (2, 1)), np.full(2, at)).copy() for at in range(60)])
        scores.append(logits[:, 0].astype(np.float64))
    exact.close()

    given, wanted = (values - np.logaddexp.reduce(values, -1, keepdims=True) for values in scores)
    assert sizes[0] < 0.67 * sizes[1]
    assert 0 < (np.exp(wanted) * (wanted - given)).sum(-1).mean() < 0.01


def test_a_model_that_doesnt_fit_is_refused_before_it_is_loaded(nano: Checkpoint, tmp_path: Path) -> None:
    """The message says what is needed and what is free; nothing was prepared."""
    with pytest.raises(MemoryNeededError, match=r"'nano' needs about 1\d\d\.\d MB of memory, 100\.0 MB is free"):
        OnnxEngine(nano, cache_dir=tmp_path, free=lambda: 100_000_000)

    assert list(tmp_path.iterdir()) == []


def test_unknown_memory_isnt_checked(nano: Checkpoint, session_cache: Path) -> None:
    """Where nobody can say what is free, the model is loaded."""
    OnnxEngine(nano, cache_dir=session_cache, free=lambda: None).close()


def test_memory_is_reckoned_near_what_is_measured(nano: Checkpoint, session_cache: Path, engine: OnnxEngine) -> None:
    """Peak of a fresh process with a clip of 10 s: no more than reckoned for 30 s, no less than 60 % of it."""
    program = (
        "import resource, sys; from pathlib import Path; from musicgen_cli.contract import GenerateRequest;"
        "from musicgen_cli.checkpoint.checkpoint import find_checkpoint;"
        "from musicgen_cli.engine.base import NullListener; from musicgen_cli.engine.onnx.engine import OnnxEngine;"
        "e = OnnxEngine(find_checkpoint('nano', Path()), cache_dir=Path(sys.argv[1]), threads=1);"
        "e.generate(GenerateRequest(prompt='piano', duration=10.0), NullListener());"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(session_cache)], capture_output=True, text=True, check=True
    )
    needed, _ = hardware.memory_needed(Shape.of(nano.config), nano.tensors(), steps=1503, int8=True)

    assert 0.6 * needed < int(done.stdout) * 1024 <= needed


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:  1000 kB\n"}
V2 = {"proc/self/cgroup": "0::/user/job\n"}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MEMINFO, 1_024_000),
        (
            {**MEMINFO, **V2, "sys/fs/cgroup/user/job/memory.max": "max", "sys/fs/cgroup/user/job/memory.current": "5"},
            1_024_000,
        ),
        (
            {
                **MEMINFO,
                **V2,
                "sys/fs/cgroup/user/memory.max": "9000",
                "sys/fs/cgroup/user/memory.current": "8000",
                "sys/fs/cgroup/user/memory.stat": "anon 1\ninactive_file 500\n",
            },
            1_500,
        ),
        (
            {
                **MEMINFO,
                "proc/self/cgroup": "4:cpu,memory:/docker/abc\n1:name=systemd:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "9500",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 200\n",
            },
            0,
        ),
        (
            {
                **MEMINFO,
                "proc/self/limits": "Limit                     Soft Limit           Hard Limit           Units\n"
                "Max address space         500000               unlimited            bytes\n",
                "proc/self/status": "Name:\tx\nVmSize:\t     300 kB\n",
            },
            192_800,
        ),
        (
            {
                **MEMINFO,
                "proc/self/limits": "Max address space         unlimited            unlimited            bytes\n",
            },
            1_024_000,
        ),
    ],
)
def test_free_memory_is_the_least_that_anyone_leaves(
    tmp_path: Path, files: Mapping[str, str], free: int | None
) -> None:
    """The hardware, a control group of either version, the process's own limit."""
    assert hardware.free_memory(tree(tmp_path, files)) == free


def test_there_are_as_many_slots_as_memory_allows() -> None:
    """From one to eight; eight where nobody can say."""
    assert [hardware.slots(100, free) for free in (0, 99, 100, 250, 10_000, None)] == [1, 1, 2, 3, 8, 8]


def test_at_least_one_core_is_there() -> None:
    """And no more than there are processors."""
    import os

    assert 1 <= hardware.cores() <= (os.cpu_count() or 1)


def test_a_small_model_has_one_thread(nano: Checkpoint) -> None:
    """Others have all cores."""
    small = Shape.of(nano.config).decoder

    assert hardware.threads(small) == 1
    assert hardware.threads(replace(small, width=1024, ffn=4096)) == hardware.cores()


@pytest.mark.parametrize(
    ("flags", "signed"),
    [
        ("fpu avx2 avx512_vnni sse", True),
        ("fpu avx_vnni", True),
        ("fpu avx2 avx512f", False),
        ("fpu avx_vnni_int8", False),
    ],
)
def test_weights_have_a_sign_where_that_is_faster(tmp_path: Path, flags: str, *, signed: bool) -> None:
    """Told by the processor's flags; elsewhere, and where there are none, they haven't."""
    files = {"proc/cpuinfo": f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: avx_vnni\n"}

    assert hardware.prefers_signed(tree(tmp_path, files)) is signed
    assert not hardware.prefers_signed(tmp_path / "nowhere")


@pytest.mark.parametrize("values", [{"precision": "int4"}, {"precision": "bf16"}, {"device": "cuda"}])
def test_what_isnt_there_is_refused(nano: Checkpoint, tmp_path: Path, values: Mapping[str, str]) -> None:
    """Another precision or device isn't silently replaced."""
    with pytest.raises(AbsentError):
        OnnxEngine(nano, cache_dir=tmp_path, **values)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"has no tokenizer\.json"), ("{", "can't be read"), ("{}", "can't be read")],
)
def test_a_checkpoint_needs_its_tokenizer(write: Any, tmp_path: Path, content: str | None, message: str) -> None:
    """Absent or damaged is said before anything is prepared."""
    folder = write()
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)

    with pytest.raises(CheckpointError, match=message):
        OnnxEngine(find_checkpoint(str(folder), folder), cache_dir=tmp_path / "cache")


def test_a_foreign_tokenizer_is_noticed(write: Any, tmp_path: Path) -> None:
    """A token that the model doesn't know is refused, not looked up beyond the table."""
    folder = write()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zither"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    mine = OnnxEngine(find_checkpoint(str(folder), folder), cache_dir=tmp_path / "cache")

    with pytest.raises(CheckpointError, match="doesn't fit"):
        mine.generate(request(prompt="zither"), NullListener())
    mine.close()


def test_weights_that_overflow_are_an_error_and_no_sound(
    write: Any, nano_tensors: Mapping[str, Any], tmp_path: Path
) -> None:
    """Finite weights can still make what isn't a number; in int8 it shows as soon as they are tried out."""
    name = "decoder.lm_heads.0.weight"
    folder = write(tensors={**nano_tensors, name: np.full(nano_tensors[name].shape, 3e38, np.float32)})
    checkpoint = find_checkpoint(str(folder), folder)
    with pytest.raises(EngineError, match="not a number"):
        OnnxEngine(checkpoint, cache_dir=tmp_path / "cache")
    mine = OnnxEngine(checkpoint, cache_dir=tmp_path / "cache", precision="fp32")
    with pytest.raises(EngineError, match="not a number"):
        mine.generate(request(), NullListener())
    mine.close()
