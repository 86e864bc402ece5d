"""Exported loops, by the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.audio.wav import inspect
from musicgen_cli.store import ArtifactDraft, Store
from tests.support.beats import RATE, beats

Run = Callable[..., Any]


@pytest.fixture
def beat(store_path: Path) -> None:
    """Store ten seconds of drums at 120 beats per minute."""
    draft = ArtifactDraft(tags=(), prompt="drums, 120 bpm", params={}, creator="me", origin={})
    Store(store_path).put(beats(120, 10.0), draft)


@pytest.mark.usefixtures("beat")
def test_a_loop_is_cut_on_the_beat_and_says_how(musicgen: Run, tmp_path: Path) -> None:
    """Four of the five bars, since the rest of the fifth is needed for the fade."""
    done = musicgen("export", "last", "--loop", "-o", tmp_path / "loop.wav")

    assert done.code == 0
    assert done.err.startswith("loop: 4 bars at 120.0 bpm (measured, ")
    assert abs(inspect((tmp_path / "loop.wav").read_bytes()).frames - 8 * RATE) < 0.001 * RATE


@pytest.mark.usefixtures("beat")
def test_bars_and_tempo_can_be_given(musicgen: Run, tmp_path: Path) -> None:
    """The length is exact to a sample."""
    assert musicgen("export", "last", "--loop", "--bars", 2, "--bpm", 100, "-o", tmp_path / "loop.wav").code == 0
    assert inspect((tmp_path / "loop.wav").read_bytes()).frames == round(2 * 4 * 0.6 * RATE)


@pytest.mark.usefixtures("beat")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bars", 2], "--bars needs --loop"),
        (["--bpm", 100], "--bpm needs --loop"),
        (["--loop", "--bpm", 10], "bpm must be 30-300 beats per minute, got 10"),
        (["--loop", "--bars", 8], "8 bars at 120.0 bpm take 16.00 s, the take has 10.00 s"),
    ],
)
def test_what_cannot_be_cut_is_wrong_usage(musicgen: Run, tmp_path: Path, words: list[object], message: str) -> None:
    """Nothing is written."""
    done = musicgen("export", "last", *words, "-o", tmp_path / "loop.wav")

    assert done.code == 2
    assert message in done.err
    assert not list(tmp_path.glob("*.wav"))


@pytest.mark.usefixtures("beat")
def test_a_loop_in_mp3_is_warned_of(musicgen: Run, tmp_path: Path) -> None:
    """The format pads both ends with silence."""
    pytest.importorskip("soundfile", reason="needs the extra audio")
    done = musicgen("export", "last", "--loop", "-o", tmp_path / "loop.mp3", "-q")
    assert "warning: mp3 adds silence at both ends, so a loop has a gap" in done.err
