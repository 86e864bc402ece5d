"""Fits the classifiers of hearing.py, on pieces of seeds that training never draws, and keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from training.nano import codec, composer, fidelity, plan
from training.nano.hearing import Ear, FloatArray, fit, listen
from training.nano.plan import INSTRUMENTS, Plan
from training.nano.styles import GENRES

LABELS = ("drums", *INSTRUMENTS, *(f"genre {name}" for name in GENRES))
_FIRST_SEED = 7 * 10**9
_FRAMES = 400


def load(cache: Path, each: int) -> Ear:
    """
    Return the classifiers; they are fitted if they aren't in the cache yet.

    Args:
        each: Pieces in which a label is true, at least.
    """
    path = cache / "ear.npz"
    if not path.exists():
        features, truth = _renders(_FIRST_SEED, each)
        ear = fit(features, LABELS, truth)
        others, known = _renders(_FIRST_SEED + 10**6, max(1, each // 4))
        scores = np.array([list(ear.scores(row).values()) for row in others]) > 0
        print(f"classifiers: {len(features)} pieces; on {len(others)} others, right where it is there, and where not:")
        for label, yes, found in zip(LABELS, known.T, scores.T, strict=True):
            print(f"  {label:20} {found[yes].mean():.0%} {(~found[~yes]).mean():.0%}")
        partial = path.with_suffix(".new.npz")
        np.savez(partial, mean=ear.mean, scale=ear.scale, weights=ear.weights)
        partial.replace(path)
    kept = np.load(path)
    return Ear(LABELS, kept["mean"], kept["scale"], kept["weights"])


def _renders(seed: int, each: int) -> tuple[FloatArray, np.ndarray]:
    """Render pieces until each label was true so often; return features and truth."""
    torch.set_num_threads(1)
    model = codec.build().half().float()
    counts, features, truths = np.zeros(len(LABELS)), [], []
    while counts.min() < each:
        wanted, _ = plan.draw(seed)
        truth = _truth(wanted)
        if (counts[truth] < each).any():  # it has something of which more is needed
            features.append(listen(fidelity.play(model, composer.compose(wanted, seed, _FRAMES))).features)
            truths.append(truth)
            counts += truth
        seed += 1
    return np.array(features), np.array(truths)


def _truth(wanted: Plan) -> np.ndarray:
    genres = [name == wanted.genre == wanted.flavour for name in GENRES]
    return np.array([*(wanted.has(name) for name in ("drums", *INSTRUMENTS)), *genres])
