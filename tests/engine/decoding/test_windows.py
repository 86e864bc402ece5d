from __future__ import annotations

import itertools
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli import limits
from musicgen_cli.engine.decoding.windows import Window, context_of, plan_windows


def test_a_clip_that_fits_is_one_window() -> None:
    """With what is known before it."""
    assert plan_windows(1500, longest=1500, overlap=600) == [Window(0, 0, 1500)]
    assert plan_windows(300, context=1200, longest=1500, overlap=600) == [Window(0, 1200, 1500)]


def test_a_longer_clip_is_made_in_windows() -> None:
    """With the defaults, 120 s are six windows, each with 12 s of the one before it."""
    windows = plan_windows(6000, longest=1500, overlap=round(limits.OVERLAP.default * 50))

    assert windows == [Window(900 * i, 600 if i else 0, 1500) for i in range(6)]
    assert plan_windows(1550, longest=1500, overlap=600) == [Window(0, 0, 1500), Window(900, 600, 650)]
    assert len(plan_windows(30_000, longest=1500, overlap=600)) == 33


@pytest.mark.parametrize("prompt", [0, 1, 7, 39, 40, 99])
@pytest.mark.parametrize("overlap", [1, 10, 40, 99])
def test_windows_are_those_of_audiocraft(prompt: int, overlap: int) -> None:
    """A plain loop over tokens that are numbered, written after its `_generate_tokens`, makes the same parts."""
    longest, stride = 100, 100 - overlap
    for new in (1, 20, 60, 61, 100, 101, 350, 777):
        total, made, offset, known = prompt + new, [], 0, list(range(prompt))
        while offset + len(known) < total:
            length = min(total - offset, longest)
            tokens = known + list(range(offset + len(known), offset + length))
            made.append((offset, len(known), len(tokens)))
            known = tokens[stride:]
            offset += stride

        windows = plan_windows(new, context=prompt, longest=longest, overlap=overlap)
        assert [(window.start, window.given, window.frames) for window in windows] == made


def test_every_frame_is_generated_once() -> None:
    """The windows' new frames follow each other without a gap, and every window has some."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        longest = int(rng.integers(2, 200))
        overlap, context = (int(rng.integers(1, longest)) for _ in range(2))
        new = int(rng.integers(1, 1000))
        windows = plan_windows(new, context=context, longest=longest, overlap=overlap)
        frames: Any = itertools.chain.from_iterable(range(w.start + w.given, w.end) for w in windows)

        assert list(frames) == list(range(context, context + new))
        assert all(w.given < w.frames <= longest for w in windows)


def test_the_context_is_what_a_window_holds_beside_the_new_frames() -> None:
    """The whole sound if that fits; where several windows are needed, the overlap."""
    rule = {"longest": 1500, "overlap": 600}

    assert context_of(500, 1000, **rule) == 500
    assert context_of(1500, 1000, **rule) == 600
    assert context_of(1500, 300, **rule) == 1200
    assert context_of(30_000, 1, **rule) == 1499
    assert context_of(30_000, 5000, **rule) == 600
    assert context_of(50, 5000, **rule) == 50
