"""Unlimited training data: pieces and captions that are made when they are needed, each from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import torch

from training.nano import codes, composer, plan
from training.nano.model import PAD
from training.nano.words import CONCEPTS, SPECIAL

_NUMBER = {concept: number for number, concept in enumerate(CONCEPTS)}
_PAD, _END = SPECIAL.index("<pad>"), SPECIAL.index("</s>")


_CUT = 1500  # frames that are left out at most at the beginning of a window


def pieces(
    seeds: Sequence[int],
    frames: int,
    *,
    emphasize_hard: bool = False,
    emphasize_jingles: bool = False,
    cut: bool = False,
) -> tuple[torch.Tensor, list[list[str]], torch.Tensor]:
    """
    Make a piece for each seed.

    Args:
        emphasize_hard: See `plan.draw`.
        emphasize_jingles: See `plan.draw`.
        cut: Let half of the windows begin anywhere in a piece, as those of a continuation do.

    Returns:
        The codes in the delay pattern (stream k is delayed by k frames) after a start token, shape
        ``(pieces, STREAMS, frames + 1)``; the captions, as concepts; and whether each is a whole piece, from its start.
    """
    tokens = np.full((len(seeds), codes.STREAMS, frames + 1), PAD, np.int64)
    captions, whole = [], np.ones(len(seeds), bool)
    for number, seed in enumerate(seeds):
        rng = Random(seed)
        piece_plan, concepts = plan.draw(seed, emphasize_hard=emphasize_hard, emphasize_jingles=emphasize_jingles)
        captions.append(plan.caption(piece_plan, concepts, rng))
        whole[number] = not (cut and rng.random() < 0.5)
        piece = composer.compose(piece_plan, seed, frames, start=0 if whole[number] else rng.randint(1, _CUT))
        for stream in range(codes.STREAMS):
            tokens[number, stream, 1 + stream :] = piece[stream, : frames - stream]
    return torch.from_numpy(tokens), captions, torch.from_numpy(whole)


def ids(captions: Sequence[Sequence[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the padded ids of the concepts with an end token, and the attention mask, ``(captions, longest)``."""
    rows = [[_NUMBER[concept] for concept in caption] + [_END] for caption in captions]
    longest = max(map(len, rows))
    padded = torch.tensor([row + [_PAD] * (longest - len(row)) for row in rows])
    return padded, (padded != _PAD).long()
