"""Loops of whole bars stay in time however often they are repeated."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.actions.library.loops import LoopOptions, cut_loop, prompt_tempo
from musicgen_cli.audio.tempo import measure_tempo
from musicgen_cli.audio.wav import inspect, pcm16_wav
from musicgen_cli.errors import InvalidValueError
from tests.support.beats import RATE, beats


def repeated(loop: bytes, times: int) -> bytes:
    """Play a loop several times."""
    info = inspect(loop)
    data = loop[info.data_start : info.data_start + info.data_bytes]
    return pcm16_wav(data * times, sample_rate=info.sample_rate, channels=info.channels)


@pytest.mark.parametrize("prompt", ["drums", "drums, 128 bpm", "drums, 126 bpm"])
@pytest.mark.parametrize("bpm", [126.0, 128.3])
def test_a_loop_keeps_its_beat_for_eight_repeats(bpm: float, prompt: str) -> None:
    """After the eighth, a beat is within 10 ms of where it would be in an endless clip."""
    loop = cut_loop(beats(bpm, 10.0), prompt, LoopOptions())
    length = inspect(loop.wav).frames / RATE

    assert loop.bars == 5
    assert abs(8 * length - 8 * 5 * 4 * 60 / bpm) < 0.010
    tempo = measure_tempo(repeated(loop.wav, 8), near=bpm)
    assert tempo is not None
    assert tempo.bpm == pytest.approx(bpm, rel=5e-4)


def test_a_given_tempo_is_used_as_it_is() -> None:
    """It isn't measured again, and the length is exact to a sample."""
    loop = cut_loop(beats(120, 10.0), "drums, 90 bpm", LoopOptions(bpm=120, bars=4))

    assert (loop.bars, inspect(loop.wav).frames) == (4, 8 * RATE)
    assert loop.description == "4 bars at 120.0 bpm (as given)"


def test_the_description_says_how_the_tempo_was_found() -> None:
    """Measured, with how sure that is, or taken from the prompt where nothing can be measured."""
    assert cut_loop(beats(124, 10.0), "house, 125 bpm", LoopOptions()).description.endswith(
        "sure, near the prompt's 125)"
    )
    silence = pcm16_wav(bytes(2 * 10 * RATE), sample_rate=RATE, channels=1)
    assert cut_loop(silence, "house, 120 bpm", LoopOptions()).description == "4 bars at 120.0 bpm (from the prompt)"


def test_without_a_beat_the_whole_clip_is_cross_faded() -> None:
    """As a drone is; the description says so."""
    silence = pcm16_wav(bytes(2 * 10 * RATE), sample_rate=RATE, channels=1)
    loop = cut_loop(silence, "drone", LoopOptions())

    assert (loop.bars, inspect(loop.wav).frames) == (None, 9 * RATE)
    assert loop.description == "cross-faded without a beat: no steady beat was found"
    with pytest.raises(InvalidValueError, match="2 bars need a tempo, and no steady beat was found"):
        cut_loop(silence, "drone", LoopOptions(bars=2))


def test_bars_that_do_not_fit_are_an_error() -> None:
    """The message says how long they would be."""
    with pytest.raises(InvalidValueError, match=r"8 bars at 120\.0 bpm take 16\.00 s, the take has 10\.00 s"):
        cut_loop(beats(120, 10.0), "drums", LoopOptions(bpm=120, bars=8))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bpm": 20}, "bpm must be 30-300 beats per minute, got 20"),
        ({"bars": 0}, "bars must be a whole number, 1-64, got 0"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, int], message: str) -> None:
    """The message names the range."""
    with pytest.raises(InvalidValueError) as caught:
        LoopOptions(**values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("prompt", "bpm"),
    [
        ("house, 124 bpm", 124),
        ("120BPM drum loop", 120),
        ("slow, 72.5-bpm waltz", 72.5),
        ("techno 130 bpm, really 130 bpm", 130),
        ("from 100 bpm to 140 bpm", None),
        ("20 bpm drone", None),
        ("1200 bpm", None),
        ("a song of 1999", None),
        ("", None),
    ],
)
def test_a_prompt_names_a_tempo_if_it_names_one(prompt: str, bpm: float | None) -> None:
    """In beats per minute, from 30 to 300."""
    assert prompt_tempo(prompt) == bpm
