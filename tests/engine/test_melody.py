"""Takes that follow a melody, on the local engines, with a small random melody model."""

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
pytest.importorskip("safetensors", reason="writes checkpoints")

from musicgen_cli.actions.models.fidelity import mean_kl
from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.audio.chroma import chroma
from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.engine.base import Clip, Inputs, NullListener, ProgressListener
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.pcm import Recording
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.local import LocalEngine
from musicgen_cli.engine.native import library
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.errors import InvalidValueError, UsageError
from tests.support import clips
from tests.support.decoding import decode
from tests.support.listeners import RaisingListener, RecordingListener
from tests.support.sounds import tones

RATE, HOP = 32_000, 640
HEADER_BYTES = 44


@pytest.fixture(scope="module")
def tuneful(melody: Checkpoint, session_cache: Path) -> Iterator[OnnxEngine]:
    """Load the melody model in float32."""
    engine = OnnxEngine(melody, cache_dir=session_cache, precision="fp32", threads=1, slots=3)
    yield engine
    engine.close()


def generate(engine: LocalEngine[Any], listener: ProgressListener | None = None, **fields: Any) -> Clip:
    names = ("continue_wav", "melody_wav", "overlap")
    inputs = Inputs(**{name: fields.pop(name) for name in names if name in fields})
    duration = fields.pop("duration", 1.0)
    request = clips.request(**fields).model_copy(update={"duration": duration})
    return engine.generate(request, listener or NullListener(), inputs)


def samples_of(wav: bytes) -> Any:
    return np.frombuffer(wav[HEADER_BYTES:], "<i2").astype(np.float32) / np.float32(32_768)


def by_hand(engine: Any, wav: bytes | None, prompt: str, duration: float, overlap: float = 12.0) -> Any:
    """
    Make the codes of a take window by window, by the rule of audiocraft, each in a decoder of its own.

    The prefix is put together from the model's tensors.
    """
    checkpoint: Checkpoint = engine._checkpoint
    tensors, length = checkpoint.tensors(), checkpoint.config["chroma_length"]
    weight = tensors.read("audio_enc_to_dec_proj.weight", 64, 12)
    bias = tensors.read("audio_enc_to_dec_proj.bias", 64)
    silent = np.eye(12, dtype=np.float32)[np.zeros(length, int)] @ weight.T + bias
    text = engine.model.text_states(engine.tokenize(prompt)) if prompt else np.zeros((1, 64), np.float32)
    tune = None if wav is None else samples_of(wav)
    total, stride = round(duration * 50), 1500 - round(overlap * 50)
    scale = clips.request().guidance_scale if prompt or wav is not None else 1.0
    parameters = replace(Sampling.of(clips.request(), clips.request().seed or 0), guidance_scale=scale)
    codes, offset = np.empty((4, 0), np.int64), 0
    while codes.shape[1] < total:
        heard = silent
        if tune is not None:
            if total > 1500:
                positions = np.arange(offset * HOP, offset * HOP + 30 * RATE)
                classes = chroma(tune[positions % len(tune)]).argmax(axis=1)
            else:
                classes = chroma(tune[: 30 * RATE]).argmax(axis=1)
            repeated = np.tile(classes, -(-length // len(classes)))[:length]
            heard = np.eye(12, dtype=np.float32)[repeated] @ weight.T + bias
        rows = np.stack([np.concatenate([heard, text]), np.concatenate([silent, np.zeros_like(text)])])
        sequence = Sequence(
            DelayPattern(4, 1, min(total - offset, 1500)),
            parameters,
            vocab=engine.shape.decoder.vocab,
            given=codes[:, offset:] if codes.shape[1] else None,
            first_frame=offset,
            prefix=rows.astype(np.float32),
        )
        decoder = engine.model.decoder(rows=2, steps=sequence.pattern.steps)
        codes = np.concatenate([codes[:, :offset], decode(sequence, decoder)], axis=1)
        offset += stride
    return codes


def decoded(engine: Any, codes: Any) -> bytes:
    """Decode codes as one stream, into the samples of a WAV."""
    stream = engine.model.audio_stream()
    recording = Recording(codes.shape[1] * HOP, sample_rate=RATE, channels=1)
    recording.add(stream.push(codes))
    recording.add(stream.end())
    return recording.wav()[0][HEADER_BYTES:]


@pytest.mark.parametrize("prompt", ["calm ambient piano", ""])
@pytest.mark.parametrize("wav", [None, tones(0, 4, 7, 11, seconds=2.0)], ids=["no tune", "tune"])
def test_a_take_is_what_the_prefix_and_the_model_make(tuneful: OnnxEngine, wav: bytes | None, prompt: str) -> None:
    """With a tune and without one, with a prompt and without one."""
    clip = generate(tuneful, prompt=prompt, duration=2.0, melody_wav=wav)

    assert clip.wav[HEADER_BYTES:] == decoded(tuneful, by_hand(tuneful, wav, prompt, 2.0))


def test_each_window_of_a_long_take_hears_its_part_of_the_tune(tuneful: OnnxEngine) -> None:
    """The tune, which has no whole number of frames, goes round and round in time, over three windows."""
    wav = tones(0, 2, 4, 5, 7, 9, 11, seconds=1.037)
    clip = generate(tuneful, duration=50.0, melody_wav=wav, overlap=12.0)

    assert clip.extra["windows"] == 3
    assert clip.wav[HEADER_BYTES:] == decoded(tuneful, by_hand(tuneful, wav, clips.request().prompt, 50.0))


def test_the_tune_and_the_prompt_matter(tuneful: OnnxEngine) -> None:
    """Another tune, another prompt or no tune give another clip; the same once more gives the same one."""
    cases: list[dict[str, Any]] = [
        {"melody_wav": tones(0, 4, 7)},
        {"melody_wav": tones(2, 5, 9)},
        {"melody_wav": tones(0, 4, 7), "prompt": "fast techno"},
        {},
    ]
    made = [generate(tuneful, **case).wav for case in cases]

    assert len(set(made)) == len(cases)
    assert [generate(tuneful, **case).wav for case in cases] == made


def test_a_tune_at_another_rate_and_in_stereo_is_taken(tuneful: OnnxEngine) -> None:
    """It is heard as the same tune."""
    plain = generate(tuneful, melody_wav=tones(0, 4, 7)).wav

    assert generate(tuneful, melody_wav=tones(0, 4, 7, rate=44_100, channels=2)).wav == plain


def test_takes_are_the_same_alone_and_among_others(tuneful: OnnxEngine) -> None:
    """With and without a tune, of different prompts and guidance; one is cancelled on its way."""
    cases: list[dict[str, Any]] = [
        {
            "duration": 1.0 + number,
            "prompt": "calm ambient piano " * (1 + 3 * (number % 3)),
            "guidance_scale": 1.0 + number % 3,
            "seed": number,
            "melody_wav": tones(number, 7) if number % 2 else None,
        }
        for number in range(7)
    ]

    def make(number: int) -> bytes | None:
        listener = RaisingListener(ZeroDivisionError(), at=20) if number == 4 else None
        try:
            return generate(tuneful, listener, **cases[number]).wav
        except ZeroDivisionError:
            return None

    with ThreadPoolExecutor(len(cases)) as pool:
        together = list(pool.map(make, range(len(cases))))

    assert together == [make(number) for number in range(len(cases))]
    assert together[4] is None


def test_a_melody_model_goes_on_from_a_sound(tuneful: OnnxEngine) -> None:
    """With a tune or without one; its steps are those of the new sound."""
    source = tones(0, 3, 7, seconds=1.0)
    listener = RecordingListener()
    listener.step(0, 0)
    plain = generate(tuneful, listener, continue_wav=source)
    following = generate(tuneful, continue_wav=source, melody_wav=tones(0, 4, 7))

    assert plain.wav[HEADER_BYTES:][: 2 * (3 * RATE - 320)] == source[HEADER_BYTES:][: 2 * (3 * RATE - 320)]
    assert plain.info.frames == following.info.frames == 4 * RATE
    assert plain.wav != following.wav
    assert listener.steps[-1] == (53, 53)


def test_other_models_refuse_a_melody(engine: OnnxEngine) -> None:
    """Before anything is made, with a model that can as the hint."""
    listener = RecordingListener()
    with pytest.raises(UsageError, match="nano can't follow a melody") as caught:
        generate(engine, listener, melody_wav=tones(0))

    assert "--model melody" in str(caught.value.hint)
    assert listener.steps == []
    assert not engine.follows_melodies


@pytest.mark.parametrize(
    ("wav", "message"),
    [
        (b"no sound", "the melody can't be used: not a WAV"),
        (tones(0, seconds=0.3), "the melody has 0.3 s"),
        (pcm16_wav(bytes(2 * RATE), sample_rate=RATE, channels=1), "the melody is silent"),
    ],
)
def test_what_is_no_tune_is_refused(tuneful: OnnxEngine, wav: bytes, message: str) -> None:
    """In a sentence, before anything is made."""
    listener = RecordingListener()
    with pytest.raises(InvalidValueError, match=message):
        generate(tuneful, listener, melody_wav=wav)
    assert listener.steps == []


def test_a_very_long_prompt_is_cut_with_a_warning(tuneful: OnnxEngine) -> None:
    """The prefix has room for 512 tokens; what comes after them changes nothing."""
    prompt = "calm piano " + "a b " * 400
    longer = prompt + "organ " * 12  # the first tokens of nano's tokenizer count letters, modulo 2 and 3
    clip = generate(tuneful, prompt=prompt)

    assert len(tuneful.tokenize(prompt)) > 512
    assert tuneful.tokenize(prompt)[:512] == tuneful.tokenize(longer)[:512]
    assert any("of which a melody model reads the first 512" in warning for warning in clip.warnings)
    assert generate(tuneful, prompt=longer).wav == clip.wav


def test_int8_is_near_float32(melody: Checkpoint, session_cache: Path) -> None:
    """
    On ONNX Runtime, and with the native decoder about as near; both make a take with a tune.

    The model is narrow, which leaves it further from float32 than a published one's widths do.
    """
    engines: list[type[Any]] = [OnnxEngine]
    try:
        library.load()
    except library.UnavailableError:
        pass
    else:
        from musicgen_cli.engine.native.engine import NativeEngine

        engines.append(NativeEngine)
    for kind in engines:
        engine = kind(melody, cache_dir=session_cache, threads=1)
        assert generate(engine, melody_wav=tones(0, 4, 7)).info.frames == RATE
        engine.close()
    folders = prepared_graphs(melody, session_cache)
    measured = {
        variant: mean_kl(melody, folder.directory, threads=1)
        for variant, folder in folders.items()
        if variant.startswith("int8")
    }

    assert len(measured) == len(engines)
    assert all(0 < divergence <= 0.03 for divergence in measured.values())
    assert max(measured.values()) <= 1.5 * measured["int8"]
