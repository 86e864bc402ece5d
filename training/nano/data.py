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


def pieces(seeds: Sequence[int], frames: int, *, emphasize_hard: bool = False) -> tuple[torch.Tensor, list[list[str]]]:
    """
    Make a piece for each seed.

    Args:
        emphasize_hard: See `plan.draw`.

    Returns:
        The codes in the delay pattern (stream k is delayed by k frames) after a start token, shape
        ``(pieces, STREAMS, frames + 1)``; and the captions, as concepts.
    """
    tokens = np.full((len(seeds), codes.STREAMS, frames + 1), PAD, np.int64)
    captions = []
    for number, seed in enumerate(seeds):
        piece_plan, concepts = plan.draw(seed, emphasize_hard=emphasize_hard)
        piece = composer.compose(piece_plan, seed, frames)
        for stream in range(codes.STREAMS):
            tokens[number, stream, 1 + stream :] = piece[stream, : frames - stream]
        captions.append(plan.caption(concepts, Random(seed)))
    return torch.from_numpy(tokens), captions


def ids(captions: Sequence[Sequence[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the padded ids of the concepts with an end token, and the attention mask, ``(captions, longest)``."""
    rows = [[_NUMBER[concept] for concept in caption] + [_END] for caption in captions]
    longest = max(map(len, rows))
    padded = torch.tensor([row + [_PAD] * (longest - len(row)) for row in rows])
    return padded, (padded != _PAD).long()
