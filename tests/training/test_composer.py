from __future__ import annotations

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from training.nano import code_analysis, codes, composer, plan, pulse
from training.nano.keys import KEYS, pitch_classes

SEEDS = range(60)


def test_any_tempo_has_a_neighbour_in_the_grid() -> None:
    """Within 5 %, from 60 to 180 beats a minute."""
    for wanted in range(60, 181):
        assert abs(pulse.bpm(pulse.nearest(wanted)) / wanted - 1) <= 0.045


def test_every_meaning_has_a_code_of_its_own() -> None:
    """Four streams, none of them beyond what the language model can say."""
    for stream in codes.names():
        assert len(set(stream)) == len(stream) <= codes.CODES


def test_what_is_silent_makes_no_sound_and_what_is_an_event_does() -> None:
    """Clock, bar, harmony and the latest pitch are vectors of zeros; nothing else is."""
    silent = {"clock", "bar", "harmony", "last"}
    for stream, table in zip(codes.names(), codes.vectors(), strict=True):
        for name, vector in zip(stream, table, strict=False):
            assert vector.any() == (name[0] not in silent)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_piece_is_what_its_plan_says(seed: int) -> None:
    """Read back from the codes: tempo, key, a clock that never stumbles, and nobody who isn't in the plan."""
    wanted, _ = plan.draw(seed)
    read = code_analysis.read(composer.compose(wanted, seed, 1500))

    assert read.tempo == pulse.bpm(wanted.beat_frames)
    assert read.key == wanted.key.name
    assert read.clock == 1
    assert read.voices == wanted.voices


@pytest.mark.parametrize("seed", SEEDS)
def test_a_caption_never_lies(seed: int) -> None:
    """What is named is there, what is named with `no` isn't."""
    wanted, asked = plan.draw(seed)
    for concept in asked:
        if concept.startswith("no_"):
            assert not wanted.has(concept.removeprefix("no_"))
        elif concept in plan.INSTRUMENTS:
            assert wanted.has(concept)
        elif concept.startswith("bpm_"):
            assert wanted.beat_frames == int(concept.removeprefix("bpm_"))
        elif concept.startswith("key_"):
            assert wanted.key == KEYS[int(concept.removeprefix("key_"))]
    if "solo" in asked:
        assert wanted.kit is None
        assert len({timbre for _, timbre in wanted.voices}) == 1


def test_there_is_always_somebody_to_hear() -> None:
    """Whoever must not be there is replaced: no piece is silent, or drums alone."""
    for seed in range(3000):
        wanted, asked = plan.draw(seed, insisting=True)
        assert {role for role, _ in wanted.voices} - {"kit"}, asked
        if wanted.chord is None:
            assert wanted.solo


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_scale_holds_its_chord(key: object) -> None:
    """Of every degree of every key, without two notes a semitone beside a borrowed one."""
    for degree in ("I", "ii", "IV", "V", "vi", "bVII") if key.mode == "major" else ("i", "iv", "V", "VI", "VII"):
        assert set(pitch_classes(key.triad(degree))) <= key.scale(degree)
        assert len(key.scale(degree)) >= 6


def test_pieces_of_one_seed_are_equal() -> None:
    """And those of another are others."""
    wanted, _ = plan.draw(5)

    assert np.array_equal(composer.compose(wanted, 5, 500), composer.compose(wanted, 5, 500))
    assert not np.array_equal(composer.compose(wanted, 5, 500), composer.compose(wanted, 6, 500))
