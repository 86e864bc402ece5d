"""Fits the classifiers of audio_analysis.py, on pieces of seeds that training never draws, and keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from training.nano import codec, composer, fidelity, plan
from training.nano.audio_analysis import Ear, Heard, fit, listen, near_tempo
from training.nano.plan import INSTRUMENTS, Plan
from training.nano.pulse import bpm
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
    path = cache / f"ear-{each}.npz"
    if not path.exists():
        learned_from = _renders(_FIRST_SEED, each)
        truth = np.array([_truth(wanted) for wanted, _ in learned_from])
        ear = fit(np.array([heard.features for _, heard in learned_from]), LABELS, truth)
        print(f"what is heard in pieces that the classifiers don't know, after {len(learned_from)} others:")
        _report(ear, _renders(_FIRST_SEED + 10**6, max(1, each // 4)))
        partial = path.with_suffix(".new.npz")
        np.savez(partial, mean=ear.mean, scale=ear.scale, weights=ear.weights)
        partial.replace(path)
    kept = np.load(path)
    return Ear(LABELS, kept["mean"], kept["scale"], kept["weights"])


def _report(ear: Ear, pieces: list[tuple[Plan, Heard]]) -> None:
    """Print how often hearing is right where the truth is known: what the table's rows from sound can reach."""
    truth = np.array([_truth(wanted) for wanted, _ in pieces])
    found = np.array([list(ear.scores(heard.features).values()) for _, heard in pieces]) > 0
    for label, yes, said in zip(LABELS, truth.T, found.T, strict=True):
        print(f"  {label:20} {said[yes].mean():4.0%} where it is there, {(~said[~yes]).mean():4.0%} where it isn't")
    tempi = [near_tempo(heard.tempo, bpm(wanted.beat_frames)) for wanted, heard in pieces]
    keys = [heard.key == wanted.key.name for wanted, heard in pieces]
    modes = [heard.mode == wanted.key.mode for wanted, heard in pieces]
    print(f"  tempo {np.mean(tempi):.0%}, key {np.mean(keys):.0%}, major or minor {np.mean(modes):.0%}")


def _renders(seed: int, each: int) -> list[tuple[Plan, Heard]]:
    """Render pieces until each label was true so often."""
    torch.set_num_threads(1)
    model = codec.build().half().float()
    counts, pieces = np.zeros(len(LABELS)), []
    while counts.min() < each:
        wanted, _ = plan.draw(seed)
        truth = _truth(wanted)
        if (counts[truth] < each).any():  # it has something of which more is needed
            pieces.append((wanted, listen(fidelity.play(model, composer.compose(wanted, seed, _FRAMES)))))
            counts += truth
        seed += 1
    return pieces


def _truth(wanted: Plan) -> np.ndarray:
    genres = [name == wanted.genre == wanted.flavour for name in GENRES]
    return np.array([*(wanted.has(name) for name in ("drums", *INSTRUMENTS)), *genres])
