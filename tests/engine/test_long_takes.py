"""Takes that are longer than the model's window, and takes that go on from a sound, on the local engines."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("tokenizers", reason="needs the extra local")

from musicgen_cli.audio.wav import inspect, pcm16_wav
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Clip, Inputs, NullListener, ProgressListener, Recipe
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.pcm import Recording
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.local import LocalEngine
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.errors import InvalidValueError, NoAudioEncoderError, UsageError
from tests.support import clips
from tests.support.decoding import decode
from tests.support.listeners import RaisingListener, RecordingListener
from training.nano.code_analysis import analyze

RATE, HOP = 32_000, 640
HEADER_BYTES = 44


def request(**fields: Any) -> GenerateRequest:
    """Return a request whose duration may be longer than the wire allows."""
    duration = fields.pop("duration", 50.0)
    return clips.request(**fields).model_copy(update={"duration": duration})


def generate(engine: LocalEngine[Any], listener: ProgressListener | None = None, **fields: Any) -> Clip:
    inputs = Inputs(**{name: fields.pop(name) for name in ("continue_wav", "recipe", "overlap") if name in fields})
    return engine.generate(request(**fields), listener or NullListener(), inputs)


def pcm_of(clip: Clip) -> Any:
    return np.frombuffer(clip.wav[HEADER_BYTES:], "<i2").reshape(-1, clip.info.channels).T.astype(int)


def made_by_hand(
    engine: LocalEngine[Any], *, duration: float, overlap: float, given: Any = None, before: int = 0, **fields: Any
) -> Any:
    """
    Make the codes of a take window by window, by audiocraft's rule, each in a decoder of its own.

    Args:
        given: Codes that the first window begins with.
        before: Frames of the source before them.
        fields: Of the request.
    """
    model: Any = engine.model
    asked = request(**fields)
    stride, total = 1500 - round(overlap * 50), round(duration * 50)
    conditioning = model.encode_text(engine.tokenize(asked.prompt))
    codes = np.empty((4, 0), np.int64) if given is None else given
    total += codes.shape[1]
    offset = 0
    while codes.shape[1] < total:
        known = codes[:, offset:] if codes.shape[1] else None
        sequence = Sequence(
            DelayPattern(4, 1, min(total - offset, 1500)),
            Sampling.of(asked, seed=asked.seed or 0),
            vocab=engine.shape.decoder.vocab,
            given=known,
            first_frame=before + offset,
        )
        decoder = model.decoder(rows=2, steps=sequence.pattern.steps)
        decoder.set_conditioning(0, conditioning)
        codes = np.concatenate([codes[:, :offset], decode(sequence, decoder)], axis=1)
        offset += stride
    return codes


def decoded(engine: LocalEngine[Any], codes: Any) -> Any:
    """Decode codes as one stream, into 16-bit samples."""
    stream: Any = engine.model.audio_stream()
    recording = Recording(codes.shape[1] * HOP, sample_rate=RATE, channels=1)
    recording.add(stream.push(codes))
    recording.add(stream.end())
    return np.frombuffer(recording.wav()[0][HEADER_BYTES:], "<i2").astype(int)


def test_a_long_take_is_made_by_the_rule(engine: OnnxEngine) -> None:
    """Three windows; its samples are those of all codes decoded as one stream."""
    listener = RecordingListener()
    clip = generate(engine, listener, overlap=12.0)
    codes = made_by_hand(engine, duration=50.0, overlap=12.0)

    assert clip.info.frames == 50 * RATE
    assert np.array_equal(pcm_of(clip)[0], decoded(engine, codes))
    assert (clip.extra["windows"], clip.extra["overlap"]) == (3, 12.0)
    done = [done for done, _ in listener.steps]
    assert done == sorted(set(done))
    assert {total for _, total in listener.steps} == {done[-1]} == {50 * 50 + 3 * 3}
    assert listener.pcm == clip.wav[HEADER_BYTES:]


@pytest.mark.parametrize("prompt", ["calm ambient piano", "rock with drums", "jazz"])
def test_nano_keeps_the_beat_for_two_minutes(engine: OnnxEngine, prompt: str) -> None:
    """Its codes state the position in the bar: nearly each follows from the one before, over six windows, too."""
    codes = made_by_hand(engine, prompt=prompt, seed=1, duration=120.0, overlap=12.0)

    assert codes.shape == (4, 120 * 50)
    assert analyze(codes.astype(np.int16)).clock >= 0.995


def test_the_first_window_is_the_take_of_30_s(engine: OnnxEngine) -> None:
    """A longer duration changes no random number; only the end of the 30 s is decoded with what follows."""
    short, long = generate(engine, duration=30.0), generate(engine, duration=40.0)

    assert np.array_equal(pcm_of(long)[:, : 29 * RATE], pcm_of(short)[:, : 29 * RATE])
    assert "windows" not in short.extra


def test_long_takes_are_the_same_alone_and_among_others(engine: OnnxEngine) -> None:
    """Of different lengths, some cancelled on their way; with a scale of 1, too."""
    cases: list[dict[str, Any]] = [
        {"duration": duration, "seed": number, "guidance_scale": 1.0 + number % 3, "overlap": 5.0 + number}
        for number, duration in enumerate([32.0, 2.0, 40.0, 31.0])
    ]

    def make(number: int) -> bytes | None:
        listener = RaisingListener(ZeroDivisionError(), at=1510) if number == 2 else None
        try:
            return generate(engine, listener, **cases[number]).wav
        except ZeroDivisionError:
            return None

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(make, range(len(cases))))

    assert together == [make(number) for number in range(len(cases))]
    assert together[2] is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"duration": 600.5}, "duration must be at most 600 s, got 600.5"),
        ({"overlap": 0.5}, "overlap must be 1-25 s, got 0.5"),
        ({"overlap": 25.5}, "overlap must be 1-25 s, got 25.5"),
        ({"overlap": float("nan")}, "overlap must be 1-25 s, got nan"),
        ({"continue_wav": b"no sound"}, "the sound can't be used: not a WAV"),
    ],
)
def test_values_out_of_range_are_refused(engine: OnnxEngine, fields: dict[str, Any], message: str) -> None:
    """Before anything is made."""
    listener = RecordingListener()
    with pytest.raises(InvalidValueError, match=message):
        generate(engine, listener, **fields)
    assert listener.steps == []


def sound(seconds: float, *, rate: int = RATE, channels: int = 1) -> bytes:
    """Return a WAV of a chord with some noise."""
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * hz * time) for hz in (220, 277, 330)) * 0.2
    noise = np.random.default_rng(1).normal(size=(len(time), channels)) * 0.02
    samples = np.rint((tones[:, None] + noise) * 32_767).astype("<i2")
    return pcm16_wav(samples.tobytes(), sample_rate=rate, channels=channels)


@pytest.fixture
def listening_engine(listening: Checkpoint, tmp_path: Path) -> Iterator[OnnxEngine]:
    """Load a model with an audio encoder, whose weights are random."""
    engine = OnnxEngine(listening, cache_dir=tmp_path / "cache", precision="fp32", threads=1, slots=2)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("source", "new", "context", "windows"),
    [(5.0, 3.0, 5.0, 1), (29.0, 4.0, 26.0, 1), (20.01, 20.0, 12.0, 2)],
    ids=["whole", "as much as fits", "two windows"],
)
def test_a_take_goes_on_from_a_sound(
    listening_engine: OnnxEngine, source: float, new: float, context: float, windows: int
) -> None:
    """
    It is the sound, to the bit but for its last 10 ms, and then the new sound by the rule.

    There is no step at the seam that its surroundings don't have, too.
    """
    engine, wav = listening_engine, sound(source)
    listener = RecordingListener()
    listener.step(0, 0)
    clip = generate(engine, listener, continue_wav=wav, duration=new, overlap=12.0)
    original, pcm = np.frombuffer(wav[HEADER_BYTES:], "<i2").astype(int), pcm_of(clip)[0]
    frames = round(context * 50)
    samples = (original / 32_768).astype(np.float32)[None, -frames * HOP :]
    before = len(original) // HOP - frames
    given = engine.sound_encoder.encode(samples)
    codes = made_by_hand(engine, duration=new, overlap=12.0, given=given, before=before)

    assert clip.info.frames == len(original) + round(new * RATE)
    assert np.array_equal(pcm[: len(original) - 320], original[:-320])
    assert np.array_equal(pcm[len(original) :], decoded(engine, codes)[frames * HOP :])
    assert clip.extra["context_s"] == context
    assert clip.extra.get("windows", 1) == windows
    assert listener.pcm == clip.wav[HEADER_BYTES:]
    assert {listener.steps[-1]} == {(round(new * 50) + 3 * windows,) * 2}
    steps, seam = np.abs(np.diff(pcm)), len(original)
    around = [*steps[seam - 640 : seam - 322], *steps[seam + 1 : seam + 320]]
    assert steps[seam - 322 : seam + 1].max() <= 1.2 * max(around)


def test_a_continuation_is_the_same_each_time(listening_engine: OnnxEngine) -> None:
    """Another seed gives another sound; a sound at another rate and in stereo is taken, too."""
    wav = sound(3.0, rate=44_100, channels=2)
    first, again, other = (generate(listening_engine, continue_wav=wav, duration=2.0, seed=seed) for seed in (1, 1, 2))

    assert first.wav == again.wav
    assert first.info.frames == 5 * RATE
    assert inspect(first.wav).channels == 1
    assert other.wav != first.wav
    assert np.array_equal(pcm_of(other)[:, : 3 * RATE - 320], pcm_of(first)[:, : 3 * RATE - 320])


@pytest.mark.oracle
def test_torch_goes_on_as_onnx_does(listening_engine: OnnxEngine, listening: Checkpoint) -> None:
    """With the same seed it makes the same codes; samples differ by rounding alone."""
    pytest.importorskip("torch", reason="needs the extra torch")
    pytest.importorskip("transformers", reason="needs the extra torch")
    from musicgen_cli.engine.torch.engine import TorchEngine

    torch_engine = TorchEngine(listening, device="cpu")
    theirs, ours = (
        generate(engine, continue_wav=sound(6.0), duration=1.0) for engine in (torch_engine, listening_engine)
    )
    torch_engine.close()

    assert {**theirs.extra, "runtime": None} == {**ours.extra, "runtime": None}
    assert np.abs(pcm_of(theirs) - pcm_of(ours)).max() <= 2


def test_a_sound_that_ends_in_silence_is_refused(listening_engine: OnnxEngine) -> None:
    """The model would read nothing else; where the context reaches back to the sound, it goes on."""
    wav = sound(20.0) + bytes(2 * 13 * RATE)
    wav = pcm16_wav(wav[HEADER_BYTES:], sample_rate=RATE, channels=1)

    with pytest.raises(InvalidValueError, match=r"the last 12 s of the sound are silent"):
        generate(listening_engine, continue_wav=wav, duration=30.0)
    assert generate(listening_engine, continue_wav=wav, duration=1.0).extra["context_s"] == 29.0


def test_a_model_without_an_audio_encoder_cant_go_on(engine: OnnxEngine) -> None:
    """The bundled one has none; nothing is made."""
    listener = RecordingListener()
    with pytest.raises(UsageError, match="nano has no audio encoder"):
        generate(engine, listener, continue_wav=sound(1.0), duration=1.0)
    assert listener.steps == []


def recipe_of(clip: Clip, **fields: Any) -> Recipe:
    """Return how a clip was made."""
    inputs = Inputs(**{name: fields.pop(name) for name in ("recipe", "overlap") if name in fields})
    return Recipe(request(**fields), inputs, clip.extra["checkpoint"])


def test_a_model_without_an_audio_encoder_goes_on_from_its_own(engine: OnnxEngine) -> None:
    """
    Makes again what the sound went on from, and then the sound, whose codes it then knows.

    Neither sound ends where a frame does; what is left of its last frame is the beginning of the new one.
    """
    first = generate(engine, duration=2.013, seed=1)
    first_recipe = recipe_of(first, duration=2.013, seed=1)
    second = generate(engine, duration=1.509, seed=2, continue_wav=first.wav, recipe=first_recipe)
    second_recipe = recipe_of(second, duration=1.509, seed=2, recipe=first_recipe)
    listener = RecordingListener()
    third = generate(engine, listener, duration=1.0, seed=3, continue_wav=second.wav, recipe=second_recipe)

    assert second.info.frames == round(2.013 * RATE) + round(1.509 * RATE)
    assert third.info.frames == second.info.frames + RATE
    assert np.array_equal(pcm_of(second)[:, : first.info.frames - 320], pcm_of(first)[:, :-320])
    assert np.array_equal(pcm_of(third)[:, : second.info.frames - 320], pcm_of(second)[:, :-320])
    assert [done for done, _ in listener.steps] == sorted(done for done, _ in listener.steps)
    assert listener.steps[-1] == (listener.steps[-1][1],) * 2
    assert len({total for _, total in listener.steps}) == 1
    assert listener.pcm == third.wav[HEADER_BYTES:]
    assert generate(engine, duration=1.0, seed=3, continue_wav=second.wav, recipe=second_recipe).wav == third.wav


def test_going_on_with_the_same_seed_is_one_longer_take(engine: OnnxEngine) -> None:
    """The codes are known exactly and the random numbers go on, so only the model's view of the beginning differs."""
    first = generate(engine, duration=2.0, seed=4)
    second = generate(
        engine, duration=1.0, seed=4, continue_wav=first.wav, recipe=recipe_of(first, duration=2.0, seed=4)
    )
    whole = generate(engine, duration=3.0, seed=4)

    assert np.abs(pcm_of(second)[:, : 2 * RATE - 2000] - pcm_of(whole)[:, : 2 * RATE - 2000]).max() <= 1
    assert second.info.frames == whole.info.frames


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": 9}, "this one came out different"),
        ({"duration": 1.5}, "this one isn't what its recipe makes"),
        ({"checkpoint": "another"}, "this one was made by another model"),
        ({"recipe": Recipe(request(), Inputs(continue_wav=b"import"), "")}, "this one was made by another model"),
    ],
)
def test_a_sound_that_cant_be_made_again_is_refused(engine: OnnxEngine, change: dict[str, Any], reason: str) -> None:
    """With the reason."""
    clip = generate(engine, duration=1.0, seed=4)
    checkpoint = change.pop("checkpoint", None)
    recipe = recipe_of(clip, **{"duration": 1.0, "seed": 4, **change})
    if checkpoint:
        recipe = replace(recipe, checkpoint=checkpoint)
    with pytest.raises(NoAudioEncoderError, match=reason) as caught:
        generate(engine, duration=1.0, continue_wav=clip.wav, recipe=recipe)
    assert "--model small" in str(caught.value.hint)
