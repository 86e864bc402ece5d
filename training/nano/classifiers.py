"""Fits the classifiers of `audio_analysis` on pieces with seeds that training never draws, and caches them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.nano import codec, composer, fidelity, plan
from training.nano.audio_analysis import AudioAnalysis, Classifiers, analyze, fit, is_near_tempo
from training.nano.plan import INSTRUMENTS, Plan
from training.nano.pulse import bpm
from training.nano.styles import GENRES

LABELS = ("drums", *INSTRUMENTS, *(f"genre {name}" for name in GENRES))
_FIRST_SEED = 7 * 10**9
_FRAMES = 400


def load(cache: Path, min_pieces: int) -> Classifiers:
    """
    Return the classifiers, after fitting them if they aren't in the cache.

    Args:
        min_pieces: The least number of pieces to which each label applies.
    """
    path = cache / f"ear-{min_pieces}.npz"
    if not path.exists():
        training_set = _rendered_pieces(_FIRST_SEED, min_pieces)
        truth = np.array([_truth(piece_plan) for piece_plan, _ in training_set])
        fitted = fit(np.array([analysis.features for _, analysis in training_set]), LABELS, truth)
        print(f"accuracy of the classifiers on other pieces, after {len(training_set)} pieces:")
        _report(fitted, _rendered_pieces(_FIRST_SEED + 10**6, max(1, min_pieces // 4)))
        partial = path.with_suffix(".new.npz")
        np.savez(partial, mean=fitted.mean, scale=fitted.scale, weights=fitted.weights)
        partial.replace(path)
    arrays = np.load(path)
    return Classifiers(LABELS, arrays["mean"], arrays["scale"], arrays["weights"])


def _report(classifiers: Classifiers, pieces: list[tuple[Plan, AudioAnalysis]]) -> None:
    """Print the accuracy on pieces whose plans are known: an upper bound of what the evaluation finds from sound."""
    truth = np.array([_truth(piece_plan) for piece_plan, _ in pieces])
    labelled = np.array([list(classifiers.scores(analysis.features).values()) for _, analysis in pieces]) > 0
    for label, actual, predicted in zip(LABELS, truth.T, labelled.T, strict=True):
        print(
            f"  {label:20} {predicted[actual].mean():4.0%} where it applies, "
            f"{(~predicted[~actual]).mean():4.0%} where it doesn't"
        )
    tempi = [is_near_tempo(analysis.tempo, bpm(piece_plan.beat_frames)) for piece_plan, analysis in pieces]
    keys = [analysis.key == piece_plan.key.name for piece_plan, analysis in pieces]
    modes = [analysis.mode == piece_plan.key.mode for piece_plan, analysis in pieces]
    print(f"  tempo {np.mean(tempi):.0%}, key {np.mean(keys):.0%}, major or minor {np.mean(modes):.0%}")


def _rendered_pieces(seed: int, min_pieces: int) -> list[tuple[Plan, AudioAnalysis]]:
    """Render and analyze pieces until each label has applied to `min_pieces` of them."""
    torch.set_num_threads(1)
    model = codec.build().half().float()
    counts, pieces = np.zeros(len(LABELS)), []
    while counts.min() < min_pieces:
        piece_plan, _ = plan.draw(seed)
        truth = _truth(piece_plan)
        if (counts[truth] < min_pieces).any():
            samples = fidelity.decode(model, composer.compose(piece_plan, seed, _FRAMES))
            pieces.append((piece_plan, analyze(samples)))
            counts += truth
        seed += 1
    return pieces


def _truth(piece_plan: Plan) -> NDArray[np.bool_]:
    """Return which labels apply to a piece."""
    genres = [name == piece_plan.genre == piece_plan.flavour for name in GENRES]
    return np.array([*(piece_plan.has(name) for name in ("drums", *INSTRUMENTS)), *genres])
