from __future__ import annotations

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")

from training.nano import codes, composer, describe, plan
from training.nano.keys import KEYS


def test_each_bar_has_its_chord_and_what_plays() -> None:
    """Of a piano that plays one chord a bar for two bars and a half, without any other voice."""
    piece_plan = plan.Plan(
        genre="ambient",
        flavour="ambient",
        mood="calm",
        beat_frames=50,
        key=KEYS[0],
        lead=None,
        chord="piano",
        style="long",
        bass=None,
        line="long",
        kit=None,
        hues=(0, 0, 0),
        drone=True,
    )
    piece = composer.compose(piece_plan, 1, 500)

    assert codes.names()[2][piece[2, 0]][:2] == ("chord", "piano")
    first, *bars = describe.lines(piece)
    assert first == "C major, 60 bpm"
    assert [bar.split(":")[0] for bar in bars] == ["1 C", "2 C", "3 C"]
    assert all("piano chords" in bar and "," not in bar for bar in bars)
