from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("torch", reason="the recipe needs torch")

import numpy as np

from training.nano import codes, composer, listening, plan
from training.nano.audio_analysis import SAMPLE_RATE, FloatArray
from training.nano.composer import Codes
from training.nano.listening import Listener

pytestmark = pytest.mark.oracle


class Monotonous:
    """A player that answers every prompt and seed with the same tone, and says that its codes are a drum solo."""

    name = "monotonous"

    def __init__(self) -> None:
        self.taken = 0
        drum_solo = next(p for p, named in map(plan.draw, range(10_000)) if {"solo", "drums"} == set(named))
        self._piece = composer.compose(drum_solo, 1, 100)

    def take(self, prompt: str, seed: int, seconds: float) -> tuple[Codes | None, FloatArray]:
        """Return the same codes and a sine of a second."""
        self.taken += 1
        return self._piece, 0.1 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)

    def chord(self, timbre: str) -> FloatArray | None:
        """Return a decaying tone for each timbre but one."""
        time = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
        return None if timbre == "brass" else np.asarray(np.sin(2 * np.pi * 440 * time) * np.exp(-time))

    def unknown_words(self) -> str:
        """Return an arbitrary answer."""
        return "12%"


def test_each_question_is_answered_from_the_takes(tmp_path: Path) -> None:
    """The answers are those that a drone with the codes of a drum solo deserves; takes are made once."""
    player = Monotonous()
    listener = Listener(player, tmp_path, takes=2)

    answers = dict(line.strip("| ").split(" | ") for line in list(listening.table([listener]))[2:])
    taken = player.taken

    assert answers["takes of a calm prompt agree within 4 LU"] == "4 of 4; 0.0, 0.0, 0.0, 0.0"
    assert answers["a chord is within 6 dB for … ms (800)"].startswith("pad 700, strings 700")
    assert "brass" not in answers["a chord is within 6 dB for … ms (800)"]
    assert answers["`calm ambient piano`: piano within 2 s"] == "0 of 2"
    assert answers["a drum solo is drums alone; loudness"].startswith("2 of 2")
    assert answers["hymns, chimes, rain, solos: no drums"] == "0 of 16"
    assert answers["prompts alike: different bytes, 10 s"].startswith("1 of ")
    assert answers["seeds: different bytes, 2 s"] == "1 of 50"
    assert answers["solos: silent half seconds"] == "0%"
    assert answers["unknown words in free prompts"] == "12%"
    assert len(answers) == len(listening.QUESTIONS)
    assert list(listening.table([listener]))
    assert player.taken == taken
    assert listener.hear("techno", 0).codes.shape[0] == codes.STREAMS
