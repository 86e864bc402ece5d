"""The ONNX engine; what every engine must do is tested in tests/engine/suite.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("tokenizers", reason="needs the extra local")

from musicgen_cli.audio.wav import inspect
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine import hardware
from musicgen_cli.engine.base import NullListener, Origin
from musicgen_cli.engine.decoding.sampling import SAMPLER_VERSION
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.errors import CheckpointError, EngineError, MemoryNeededError
from tests.support.clips import request
from tests.support.listeners import RecordingListener


def test_a_clip_names_what_it_takes_to_reproduce_it(engine: OnnxEngine, nano: Checkpoint) -> None:
    """Its origin, its seed, the digest of the weights, the sampler's version; and the license of the weights."""
    clip = engine.generate(request(), NullListener())

    assert clip.origin == Origin("local", model="nano", engine="onnx", precision="int8", device="cpu")
    assert (clip.seed, clip.license) == (1, "MIT")
    assert clip.extra == {
        "checkpoint": nano.digest,
        "sampler": SAMPLER_VERSION,
        "runtime": f"onnxruntime {version('onnxruntime')}",
        "processor": hardware.processor(),
    }
    assert clip.info == inspect(clip.wav)
    assert clip.elapsed_s > 0


def test_the_listener_is_told_of_the_steps(engine: OnnxEngine) -> None:
    """A second has 50 frames, and three steps more for the delay; steps can be skipped while the listener is busy."""
    listener = RecordingListener()
    engine.generate(request(), listener)

    steps = [done for done, _ in listener.steps]
    assert steps == sorted(set(steps))
    assert listener.steps[-1] == (53, 53)


@pytest.mark.parametrize("duration", [0.5, 0.503, 1.23, 3.0])
def test_the_listeners_chunks_add_up_to_the_wav(engine: OnnxEngine, duration: float) -> None:
    """To the byte, the first chunk being at least half a second; test_audio_stream.py tests how soon it comes."""
    listener = RecordingListener()
    clip = engine.generate(request(duration=duration), listener)

    assert listener.pcm == clip.wav[44:]
    assert all(pcm and (rate, channels) == (32_000, 1) for pcm, rate, channels in listener.chunks)
    assert len(listener.chunks[0][0]) >= 2 * 16_000
    assert len(listener.chunks) >= (2 if duration > 1 else 1)  # on a busy machine several may come together


def test_every_parameter_changes_the_sound(engine: OnnxEngine) -> None:
    """And so does the prompt."""
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
    base = {"prompt": "jazz", "duration": 6.0}  # a prompt for which the model has many likely codes
    clips = [engine.generate(request(**base | values), NullListener()).wav for values in variants]

    assert len(set(clips)) == len(variants)


def test_sampling_from_one_code_is_greedy(engine: OnnxEngine) -> None:
    """Whether top-k or top-p leaves only one."""
    variants: list[dict[str, Any]] = [{"do_sample": False}, {"top_k": 1}, {"top_p": 0.0}]

    assert len({engine.generate(request(**values), NullListener()).wav for values in variants}) == 1


def test_the_latest_four_prompts_are_encoded_once(
    nano: Checkpoint, session_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when several threads ask for the same prompt at once."""
    engine = OnnxEngine(nano, cache_dir=session_cache, threads=1)
    prompts = {tuple(engine.tokenize(prompt)): prompt for prompt in ("piano", "jazz", "rock", "folk", "house")}
    encode, encoded = engine.model.encode_text, []

    def record_and_encode(ids: list[int]) -> Any:
        encoded.append(prompts[tuple(ids)])
        return encode(ids)

    monkeypatch.setattr(engine.model, "encode_text", record_and_encode)
    with ThreadPoolExecutor(4) as pool:
        clips = list(pool.map(lambda _: engine.generate(request(prompt="piano"), NullListener()).wav, range(4)))
    for prompt in ("jazz", "rock", "piano", "folk", "house", "piano", "jazz"):
        engine.generate(request(prompt=prompt, duration=0.5), NullListener())

    assert len(set(clips)) == 1
    assert encoded == ["piano", "jazz", "rock", "folk", "house", "jazz"]
    engine.close()


def test_a_model_that_does_not_fit_into_memory_is_refused_before_it_is_loaded(nano: Checkpoint, tmp_path: Path) -> None:
    """The message says what is needed and what is free; no graphs were built."""
    with pytest.raises(MemoryNeededError, match=r"'nano' needs about 1\d\d\.\d MB of memory, 100\.0 MB is free"):
        OnnxEngine(nano, cache_dir=tmp_path, free=lambda: 100_000_000)

    assert list(tmp_path.iterdir()) == []


def test_unknown_free_memory_is_not_checked(nano: Checkpoint, session_cache: Path) -> None:
    """The model is loaded."""
    OnnxEngine(nano, cache_dir=session_cache, free=lambda: None).close()


def test_clips_at_once_are_kept_within_the_free_memory_and_announced(
    nano: Checkpoint, session_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many slots as are wanted and fit; what they take is said before the model is loaded."""
    monkeypatch.setattr(hardware, "_MUCH_BYTES", 0)
    peak, per_clip = hardware.estimate_memory(Shape.of(nano.config), nano.tensors(), steps=1503, int8=True)
    notes: list[str] = []

    def slots(**options: Any) -> int:
        engine = OnnxEngine(nano, cache_dir=session_cache, note=notes.append, **options)
        engine.close()
        return engine.slots

    assert slots(free=lambda: peak + 2 * per_clip, clips=8) == 3
    assert [note for note in notes if note.startswith("up to 3 clips at once: ")] == notes
    assert (len(notes), slots(free=lambda: None, clips=2), len(notes)) == (1, 2, 2)
    assert (slots(clips=1), slots(), len(notes)) == (1, 8, 2)  # no word where nothing is known, or about one
    with pytest.raises(MemoryNeededError, match="8 slots need"):
        slots(free=lambda: peak + 2 * per_clip, slots=8)


def test_a_prompt_longer_than_the_text_encoder_learned_is_used_and_warned_of(engine: OnnxEngine) -> None:
    """From 513 tokens on, the end of the prompt included; the last word still changes the sound."""
    short, long, other = (
        engine.generate(request(prompt="a " * words + last), NullListener())
        for words, last in ((507, "jazz"), (508, "jazz"), (508, "techno"))
    )

    assert short.warnings == ()
    assert [warning.partition(";")[0] for warning in long.warnings] == [
        "the prompt has 513 tokens, all of which are used"
    ]
    assert long.wav != other.wav


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"has no tokenizer\.json"), ("{", "can't be read"), ("{}", "can't be read")],
)
def test_a_missing_or_damaged_tokenizer_is_an_error(
    write: Any, tmp_path: Path, content: str | None, message: str
) -> None:
    """It is found before any graphs are built."""
    folder = write()
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)

    with pytest.raises(CheckpointError, match=message):
        OnnxEngine(find_checkpoint(str(folder), folder), cache_dir=tmp_path / "cache")


def test_a_tokenizer_of_another_model_is_an_error(write: Any, tmp_path: Path) -> None:
    """A token id beyond the model's vocabulary is refused."""
    folder = write()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["xyzzy"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    engine = OnnxEngine(find_checkpoint(str(folder), folder), cache_dir=tmp_path / "cache")

    with pytest.raises(CheckpointError, match="doesn't fit"):
        engine.generate(request(prompt="xyzzy"), NullListener())
    engine.close()


def test_weights_that_overflow_are_an_error(write: Any, nano_tensors: Mapping[str, Any], tmp_path: Path) -> None:
    """Finite weights can still give infinite logits; with int8 the calibration finds it."""
    name = "decoder.lm_heads.0.weight"
    folder = write(tensors={**nano_tensors, name: np.full(nano_tensors[name].shape, 3e38, np.float32)})
    checkpoint = find_checkpoint(str(folder), folder)
    with pytest.raises(EngineError, match="NaN or infinite"):
        OnnxEngine(checkpoint, cache_dir=tmp_path / "cache")
    engine = OnnxEngine(checkpoint, cache_dir=tmp_path / "cache", precision="fp32")
    with pytest.raises(EngineError, match="NaN or infinite"):
        engine.generate(request(), NullListener())
    engine.close()
