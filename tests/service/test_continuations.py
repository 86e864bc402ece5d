"""Takes from sounds, and long ones, over HTTP: they have the bytes that they have without a service."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("soxr", reason="needs the extra local")

import numpy as np

from musicgen_cli import limits
from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.engine.base import MELODY, NO_INPUTS, Clip, Inputs, NullListener, Recipe
from musicgen_cli.engine.client import RemoteEngine
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.errors import NotOfferedError, ServiceError
from tests.support import clips
from tests.support.services import Service
from tests.support.sounds import tones

RATE = 32_000


def sound(seconds: float, *, rate: int = RATE, channels: int = 1) -> bytes:
    """Return a WAV of a chord with some noise."""
    time = np.arange(round(seconds * rate)) / rate
    tones = np.sum([np.sin(2 * np.pi * hz * time) for hz in (220, 277, 330)], axis=0) * 0.2
    noise = np.random.default_rng(1).normal(size=(len(time), channels)) * 0.02
    samples = np.rint((tones[:, None] + noise) * 32_767).astype("<i2")
    return pcm16_wav(samples.tobytes(), sample_rate=rate, channels=channels)


class Both:
    """An engine, and a client of a service that has the same one."""

    def __init__(self, engine: OnnxEngine) -> None:
        self.engine = engine
        self.service = Service(lambda: engine, max_duration=600.0)
        assert self.service.ready.wait(60)
        self.client = RemoteEngine(self.service.url, timeout_s=300, max_wait_s=60)

    def local(self, inputs: Inputs = NO_INPUTS, **fields: Any) -> Clip:
        return self.engine.generate(clips.request(**fields), NullListener(), inputs)

    def remote(self, inputs: Inputs = NO_INPUTS, **fields: Any) -> Clip:
        return self.client.generate(clips.request(**fields), NullListener(), inputs)


def _both(engine: OnnxEngine) -> Iterator[Both]:
    both = Both(engine)
    yield both
    both.service.end()


@pytest.fixture
def nano_both(nano: Checkpoint, session_cache: Path) -> Iterator[Both]:
    """Serve the bundled model, which has no audio encoder."""
    yield from _both(OnnxEngine(nano, cache_dir=session_cache, threads=1, slots=8))


@pytest.fixture
def listening_both(listening: Checkpoint, tmp_path: Path) -> Iterator[Both]:
    """Serve a model with an audio encoder, whose weights are random."""
    yield from _both(OnnxEngine(listening, cache_dir=tmp_path / "cache", precision="fp32", threads=1, slots=2))


@pytest.fixture
def tuneful_both(melody: Checkpoint, session_cache: Path) -> Iterator[Both]:
    """Serve a melody model, whose weights are random."""
    yield from _both(OnnxEngine(melody, cache_dir=session_cache, precision="fp32", threads=1, slots=2))


@pytest.mark.parametrize(("duration", "seconds", "rate"), [(2.0, 3.0, 44_100), (33.0, 240.0, 16_000)])
def test_a_take_on_a_tune_has_the_same_bytes(tuneful_both: Both, duration: float, seconds: float, rate: int) -> None:
    """Also one of two windows, on a tune of which only the beginning is sent."""
    tune = tones(*range(8), seconds=seconds / 8, rate=rate)
    inputs = Inputs(melody_wav=tune)
    remote = tuneful_both.remote(inputs, duration=duration, seed=4)

    assert MELODY in tuneful_both.engine.abilities.features
    assert remote.wav == tuneful_both.local(inputs, duration=duration, seed=4).wav
    assert remote.wav != tuneful_both.local(duration=duration, seed=4).wav


def test_a_continuation_by_recipe_has_the_same_bytes(nano_both: Both) -> None:
    """The sound itself isn't sent; neither is that which it went on from."""
    first = nano_both.local(duration=1.513, seed=1)
    recipe = Recipe(clips.request(duration=1.513, seed=1), NO_INPUTS, first.extra["checkpoint"])
    inputs = Inputs(continue_wav=first.wav, recipe=recipe, overlap=3.0)
    second = nano_both.local(inputs, duration=1.0, seed=2)
    deeper = Recipe(clips.request(duration=1.0, seed=2), replace(inputs, continue_wav=None), recipe.checkpoint)
    third_inputs = Inputs(continue_wav=second.wav, recipe=deeper)

    assert nano_both.remote(inputs, duration=1.0, seed=2).wav == second.wav
    remote, local = (make(third_inputs, duration=1.0, seed=3) for make in (nano_both.remote, nano_both.local))
    assert remote.wav == local.wav
    assert remote.extra == local.extra
    assert remote.extra["context_s"] == 2.513 + 0.007  # whole frames


def test_what_the_service_cant_go_on_from_is_refused(nano_both: Both) -> None:
    """A sound without a recipe, before anything is sent; another model's, by the service."""
    inputs = Inputs(continue_wav=sound(1.0))
    with pytest.raises(NotOfferedError, match="can only go on from takes that its model made"):
        nano_both.remote(inputs, duration=1.0)
    with pytest.raises(NotOfferedError, match=r"can't follow a melody \(its model is nano\)"):
        nano_both.remote(Inputs(melody_wav=sound(1.0)), duration=1.0)
    recipe = Recipe(clips.request(duration=1.0, seed=1), NO_INPUTS, "another")
    with pytest.raises(ServiceError, match=r"422: nano has no audio encoder.*made by another model"):
        nano_both.remote(replace(inputs, recipe=recipe), duration=1.0)
    real = nano_both.local(duration=0.5).extra["checkpoint"]
    with pytest.raises(ServiceError, match=r"422: nano has no audio encoder.*came out different"):
        nano_both.remote(replace(inputs, recipe=replace(recipe, checkpoint=real)), duration=1.0)


def test_takes_have_the_same_bytes_alone_and_among_others(nano_both: Both) -> None:
    """A long take and a continuation, while eight others are made."""
    fields: dict[str, Any] = {"duration": 40.0, "seed": 4}
    long = nano_both.local(**fields)
    source = nano_both.local(duration=2.5, seed=1)
    recipe = Recipe(clips.request(duration=2.5, seed=1), NO_INPUTS, source.extra["checkpoint"])
    inputs = Inputs(continue_wav=source.wav, recipe=recipe)
    longer = nano_both.local(inputs, duration=3.0, seed=2)
    alone = [nano_both.local(duration=0.5 + number, seed=number).wav for number in range(8)]
    with ThreadPoolExecutor(10) as pool:
        others = [pool.submit(partial(nano_both.remote, duration=0.5 + number, seed=number)) for number in range(8)]
        together = pool.submit(lambda: nano_both.remote(**fields))
        continued = pool.submit(lambda: nano_both.remote(inputs, duration=3.0, seed=2))
        assert together.result(300).wav == long.wav
        assert continued.result(300).wav == longer.wav
        assert [other.result(300).wav for other in others] == alone

    assert together.result().extra == long.extra
    assert (long.extra["windows"], long.extra["overlap"]) == (2, 12.0)


SOURCES = {
    "as the model's": sound(4.2),
    "another rate, in stereo": sound(4.2, rate=44_100, channels=2),
    "another rate": sound(4.2, rate=8_000),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_continuation_has_the_same_bytes(listening_both: Both, name: str) -> None:
    """It begins with the sound that was sent, at the model's rate."""
    inputs = Inputs(continue_wav=SOURCES[name])
    local, remote = (make(inputs, duration=1.0, seed=5) for make in (listening_both.local, listening_both.remote))

    assert remote.wav == local.wav
    assert remote.extra == local.extra
    assert remote.info.frames == round(5.2 * RATE)


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (RATE, 2), (44_100, 2)])
def test_the_beginning_of_a_large_sound_stays_here(
    listening_both: Both, monkeypatch: pytest.MonkeyPatch, rate: int, channels: int
) -> None:
    """The bytes are those that they are without a service, also if the sound has another form than the model's."""
    wav = sound(35.37, rate=rate, channels=channels)
    monkeypatch.setattr(limits, "SOURCE_SENT_S", 35.0)
    inputs = Inputs(continue_wav=wav, overlap=2.0)
    local, remote = (make(inputs, duration=20.0, seed=6) for make in (listening_both.local, listening_both.remote))

    assert remote.wav == local.wav
    assert remote.extra == local.extra
    assert remote.info.frames == round(55.37 * RATE)
    with wave.open(io.BytesIO(remote.wav)) as file:
        assert file.getnframes() == remote.info.frames
