"""
A first minute for the text encoder alone: tell the plan from the caption.

Started from nothing, a language model first learns to do without its text, since most of what comes next follows from
what came before; and while it does, the encoder's output means nothing to it. So the encoder gets a head start. Its
output heads are thrown away afterwards.
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

_ANSWERS: dict[str, tuple[list[object], Callable[[Plan], object]]] = {
    "genre": ([*GENRES], lambda p: p.genre),
    "mood": ([*MOODS], lambda p: p.mood),
    "tempo": ([*BEAT_FRAMES], lambda p: p.beat_frames),
    "key": ([*KEYS], lambda p: p.key),
    "lead": ([None, *codes.LEADS], lambda p: p.lead),
    "chord": ([None, *codes.CHORDS, "dist", "harp", "mbox"], lambda p: p.chord),
    "bass": ([None, *codes.BASSES], lambda p: p.bass),
    "kit": ([None, "electronic", "acoustic", "soft", "taiko", "chip"], lambda p: p.kit),
    "solo": ([False, True], lambda p: p.solo),
}


def warm_up(model: MusicgenForConditionalGeneration, *, steps: int, seed: int, told: Callable[[int], None]) -> None:
    """Train the text encoder for some steps; `told` hears of each."""
    torch.manual_seed(seed)
    heads = torch.nn.ModuleDict(
        {name: torch.nn.Linear(TEXT_WIDTH, len(kinds)) for name, (kinds, _) in _ANSWERS.items()}
    )
    parameters = [*model.text_encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1.5e-3, betas=(0.9, 0.98))
    for step in range(steps):
        drawn = [plan.draw(_seed(seed, step, number)) for number in range(BATCH)]
        captions = [plan.caption(asked, Random(number)) for number, (_, asked) in enumerate(drawn)]
        ids, mask = data.ids(captions)
        states = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        end = states[torch.arange(BATCH), mask.sum(1) - 1]
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        loss = torch.zeros(())
        for name, (kinds, answer) in _ANSWERS.items():
            wanted = torch.tensor([kinds.index(answer(piece)) for piece, _ in drawn])
            loss = loss + functional.cross_entropy(heads[name](end), wanted)
            loss = loss + 0.3 * functional.cross_entropy(heads[name](mean), wanted)
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1.0, (step + 1) / 50) * max(0.1, 1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        told(step + 1)


def _seed(seed: int, step: int, number: int) -> int:
    return (2 * seed + 1) * 10**9 + step * BATCH + number  # odd thousands of millions; training has the even ones
