from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="needs the extra local")

import numpy as np

from training.nano import codes, general_midi, measures
from training.nano.audio_analysis import SAMPLE_RATE


@pytest.mark.skipif(not general_midi.is_installed(), reason="needs fluidsynth and fluid-soundfont-gm")
def test_a_piece_is_rendered_with_a_soundfont() -> None:
    """It is as long as its codes, silent before the first note, and sustains a pad until the rest."""
    tables = codes.ids()
    piece = np.zeros((codes.STREAMS, 200), np.int16)
    piece[2, 50] = tables[2]["chord", "strings", 0, "major", 1]
    piece[2, 150] = tables[2]["rest",]

    samples = general_midi.render(piece)

    assert len(samples) == 4 * SAMPLE_RATE
    assert np.abs(samples[: SAMPLE_RATE - 1000]).max() < 1e-3
    assert measures.held_ms(samples[SAMPLE_RATE:]) > 800
