from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random

import pytest

pytest.importorskip("numpy", reason="needs the extra local")

import numpy as np

from training.nano import code_analysis, codes, composer, plan, pulse
from training.nano.keys import KEYS, Key, pitch_classes
from training.nano.styles import GENRES, MOODS

SEEDS = range(60)


def test_any_tempo_is_near_one_of_the_grid() -> None:
    """From 60 to 180 beats a minute, the nearest tempo of the grid is within 4.5 %."""
    for beats_a_minute in range(60, 181):
        assert abs(pulse.bpm(pulse.nearest(beats_a_minute)) / beats_a_minute - 1) <= 0.045


def test_every_meaning_has_a_code_of_its_own() -> None:
    """No stream has a meaning twice, or more meanings than the language model has codes."""
    for stream in codes.names():
        assert len(set(stream)) == len(stream) <= codes.CODES


def test_states_are_silent_and_events_are_not() -> None:
    """The vectors of clock, bar, harmony and latest pitch are zero; no other vector is."""
    for stream, table in zip(codes.names(), codes.vectors(), strict=True):
        for name, vector in zip(stream, table, strict=False):
            assert vector.any() == (name[0] not in codes.SILENT)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_piece_follows_its_plan(seed: int) -> None:
    """Tempo, key and voices that are read from the codes are those of the plan, and the clock is always right."""
    piece_plan, _ = plan.draw(seed)
    analysis = code_analysis.analyze(composer.compose(piece_plan, seed, 1500))

    assert analysis.tempo == pulse.bpm(piece_plan.beat_frames)
    assert analysis.key == piece_plan.key.name
    assert analysis.clock == 1
    assert analysis.voices == piece_plan.voices


@pytest.mark.parametrize("seed", SEEDS)
def test_a_caption_is_true_of_its_plan(seed: int) -> None:
    """Instruments, tempi and keys that are named are in the plan; instruments named with `no` aren't."""
    piece_plan, concepts = plan.draw(seed)
    for concept in concepts:
        if concept.startswith("no_"):
            assert not piece_plan.has(concept.removeprefix("no_"))
        elif concept in plan.INSTRUMENTS:
            assert piece_plan.has(concept)
        elif concept.startswith("bpm_"):
            assert piece_plan.beat_frames == int(concept.removeprefix("bpm_"))
        elif concept.startswith("key_"):
            assert piece_plan.key == KEYS[int(concept.removeprefix("key_"))]
    if "solo" in concepts:
        assert (piece_plan.kit is None) == ("drums" not in concepts)
        assert len({timbre for _, timbre in piece_plan.voices}) == 1


def test_every_piece_has_a_pitched_voice() -> None:
    """Unwanted instruments are replaced: no piece is silent, only drum solos have drums alone, only solos no chords."""
    for seed in range(3000):
        piece_plan, concepts = plan.draw(seed, emphasize_hard=True)
        assert {role for role, _ in piece_plan.voices} - {"kit"} or {"solo", "drums"} <= set(concepts), concepts
        if piece_plan.chord is None:
            assert piece_plan.solo


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_the_scale_of_a_degree_contains_its_chord(key: Key) -> None:
    """In every key, the scale has the notes of the chord and at least six notes."""
    for degree in ("I", "ii", "IV", "V", "vi", "bVII") if key.mode == "major" else ("i", "iv", "V", "VI", "VII"):
        assert set(pitch_classes(key.triad(degree))) <= key.scale(degree)
        assert len(key.scale(degree)) >= 6


def test_a_window_begins_anywhere_in_a_piece() -> None:
    """A window is a part of the whole piece."""
    piece_plan, _ = plan.draw(3)
    whole = composer.compose(piece_plan, 3, 900)

    assert np.array_equal(composer.compose(piece_plan, 3, 500, start=333), whole[:, 333:833])


def drawn(*concepts: str) -> Iterator[tuple[plan.Plan, int]]:
    """Yield plans whose captions name these concepts, and their seeds."""
    for seed in range(100_000):
        piece_plan, named = plan.draw(seed)
        if set(concepts) <= set(named):
            yield piece_plan, seed


@pytest.mark.parametrize("concept", ["calm", "choir", "solo", "drone"])
def test_without_a_genre_there_are_no_drums_where_they_would_be_absurd(concept: str) -> None:
    """Pieces whose caption names neither a genre, drums nor another mood have none."""
    found = 0
    for seed in range(30_000):
        piece_plan, named = plan.draw(seed)
        lively = {*GENRES, *MOODS, *plan.KITS, "drums"} - {"calm"}
        if concept in named and not lively & set(named):
            found += 1
            assert piece_plan.kit is None, named
    assert found >= 20


def test_a_named_instrument_begins_within_two_seconds() -> None:
    """In calm ambient pieces with a piano, it is there from the first bar on."""
    for (piece_plan, seed), _ in zip(drawn("ambient", "piano"), range(60), strict=False):
        onset = code_analysis.first_onset(composer.compose(piece_plan, seed, 500), "piano")
        assert onset is not None
        assert onset <= 2, seed


def test_a_jingle_comes_to_an_end() -> None:
    """All its voices are silent for a second, after a final chord on the tonic."""
    for (piece_plan, seed), _ in zip(drawn("jingle"), range(20), strict=False):
        bar = pulse.BEATS_A_BAR * piece_plan.beat_frames
        piece = composer.compose(piece_plan, seed, 8 * bar)
        final = codes.names()[2][piece[2, piece_plan.jingle // 2 * bar + 1]]

        assert final[2] in {"I", "i"}
        assert code_analysis.has_ending(piece)


def test_other_pieces_go_on() -> None:
    """Solo violins have no pause of a second."""
    for (piece_plan, seed), _ in zip(drawn("solo", "violin"), range(20), strict=False):
        if piece_plan.beat_frames <= pulse.nearest(90):
            assert not code_analysis.has_ending(composer.compose(piece_plan, seed, 1000)), seed


def test_a_seed_determines_the_piece() -> None:
    """The same seed gives the same piece, another seed another one."""
    piece_plan, _ = plan.draw(5)

    assert np.array_equal(composer.compose(piece_plan, 5, 500), composer.compose(piece_plan, 5, 500))
    assert not np.array_equal(composer.compose(piece_plan, 5, 500), composer.compose(piece_plan, 6, 500))


def test_the_training_data_stays_the_same() -> None:
    """The captions and pieces of 100 seeds change with the recipe alone, and then on purpose."""
    captions, pieces = hashlib.sha256(), hashlib.sha256()
    for seed in range(100):
        piece_plan, concepts = plan.draw(seed, emphasize_hard=seed % 2 == 1)
        captions.update(" ".join(plan.caption(piece_plan, concepts, Random(seed))).encode() + b"\n")
        pieces.update(composer.compose(piece_plan, seed, 500).astype("<i2").tobytes())

    assert captions.hexdigest()[:16] == "a07df24b9b61c67c"
    assert pieces.hexdigest()[:16] == "3db27f2cb009f67f"
