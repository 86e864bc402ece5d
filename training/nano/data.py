"""Endless training data: pieces and captions, made as they are needed, each from the number of its seed."""

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


def pieces(seeds: Sequence[int], frames: int, *, insisting: bool = False) -> tuple[torch.Tensor, list[list[str]]]:
    """
    Make pieces.

    Args:
        insisting: As of `plan.draw`.

    Returns:
        Codes in the delay pattern, stream k k frames late, after a start token: shape
        ``(pieces, STREAMS, frames + 1)``; and each one's caption, in concepts.
    """
    made = np.full((len(seeds), codes.STREAMS, frames + 1), PAD, np.int64)
    captions = []
    for number, seed in enumerate(seeds):
        wanted, asked = plan.draw(seed, insisting=insisting)
        piece = composer.compose(wanted, seed, frames)
        for stream in range(codes.STREAMS):
            made[number, stream, 1 + stream :] = piece[stream, : frames - stream]
        captions.append(plan.caption(asked, Random(seed)))
    return torch.from_numpy(made), captions


def ids(captions: Sequence[Sequence[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the concepts' ids with an end, padded, and the mask of what isn't padding, ``(captions, longest)``."""
    rows = [[_NUMBER[concept] for concept in caption] + [_END] for caption in captions]
    longest = max(map(len, rows))
    padded = torch.tensor([row + [_PAD] * (longest - len(row)) for row in rows])
    return padded, (padded != _PAD).long()
