"""
Trains the text encoder alone for a minute, to predict the plan from the caption.

A language model that is trained from the start together with its text encoder first learns to do without text, because
most codes follow from the previous ones; and meanwhile the output of the encoder carries no meaning. So the encoder is
trained ahead, with output heads that are discarded afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import torch
from torch.nn import functional
from transformers import MusicgenForConditionalGeneration

from training.nano import codes, data, plan
from training.nano.keys import KEYS
from training.nano.model import TEXT_WIDTH
from training.nano.plan import Plan
from training.nano.pulse import BEAT_FRAMES
from training.nano.styles import GENRES, MOODS

BATCH = 96

# Each property of a plan: its values, and how it is read.
_PROPERTIES: dict[str, tuple[list[object], Callable[[Plan], object]]] = {
    "genre": ([*GENRES], lambda p: p.genre),
    "mood": ([*MOODS], lambda p: p.mood),
    "tempo": ([*BEAT_FRAMES], lambda p: p.beat_frames),
    "key": ([*KEYS], lambda p: p.key),
    "lead": ([None, *codes.LEADS], lambda p: p.lead),
    "chord": ([None, *codes.CHORDS, "dist", "harp", "mbox"], lambda p: p.chord),
    "bass": ([None, *codes.BASSES], lambda p: p.bass),
    "kit": ([None, "electronic", "acoustic", "soft", "taiko", "chip"], lambda p: p.kit),
    "solo": ([False, True], lambda p: p.solo),
    "drone": ([False, True], lambda p: p.drone),
    "jingle": ([False, True], lambda p: p.jingle > 0),
}


def warm_up(model: MusicgenForConditionalGeneration, *, steps: int, seed: int, on_step: Callable[[int], None]) -> None:
    """Train the text encoder for some steps; `on_step` is called with the number of steps after each."""
    torch.manual_seed(seed)
    heads = torch.nn.ModuleDict(
        {name: torch.nn.Linear(TEXT_WIDTH, len(values)) for name, (values, _) in _PROPERTIES.items()}
    )
    parameters = [*model.text_encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1.5e-3, betas=(0.9, 0.98))
    for step in range(steps):
        drawn = [plan.draw(_seed(seed, step, number)) for number in range(BATCH)]
        captions = [
            plan.caption(piece_plan, concepts, Random(number)) for number, (piece_plan, concepts) in enumerate(drawn)
        ]
        ids, mask = data.ids(captions)
        states = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        end = states[torch.arange(BATCH), mask.sum(1) - 1]
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        loss = torch.zeros(())
        for name, (values, read) in _PROPERTIES.items():
            target = torch.tensor([values.index(read(piece_plan)) for piece_plan, _ in drawn])
            loss = loss + functional.cross_entropy(heads[name](end), target)
            loss = loss + 0.3 * functional.cross_entropy(heads[name](mean), target)
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1.0, (step + 1) / 50) * max(0.1, 1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        on_step(step + 1)


def _seed(seed: int, step: int, number: int) -> int:
    return (
        (2 * seed + 1) * 10**9 + step * BATCH + number
    )  # from an odd billion up; training draws between 2 and 3 billion
