"""
Train text encoder and language model; resumable at any time, and the same whether it was interrupted or not.

The state is one file, replaced every two minutes: weights, their running average, the optimizer, the step. Which pieces
a step sees follows from the seed and the step alone; so does the schedule.

Three things make so little training enough. Weights of the loss: style is decided in the first frames, so they count
more. Short batches: most of them are openings of half a second or first bars only, of many more captions; what a
caption asks for is learned there, and how a piece goes on in the others. Corrupted histories: a few codes of what the
model reads are wrong, so it learns to come back from a bad sample.

On processors that multiply in bfloat16, training does (of what the optimizer keeps, everything is in float32): it takes
half as long there.

**Why guided logits are trained.** At generation the logits are `u + s (c - u)`, with c from the text and u without.
Most codes here are all but certain; c and u are both right about them, but s multiplies the noise in their difference,
and the clock stumbles. So from a point on each batch is run with and without its text, and the guided logits are
fitted, too, for s from 1.5 to 4.5.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional
from transformers import MusicgenForConditionalGeneration

from training.nano import codes, data
from training.nano.model import PAD, build, learned
from training.nano.warmup import warm_up
from training.nano.words import CONCEPTS

STATE, LOG = "state.pt", "log.jsonl"


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides the result, beside the code."""

    steps: int = 20_000
    seed: int = 1
    processes: int = 2
    positions: int = 3000  # frames a step, of all processes together
    warm_up: int = 300  # steps of the text encoder alone
    rate: float = 2e-3
    last_rate: float = 0.03  # as a share of it
    clip: float = 0.15  # of the gradient: long pieces would swamp Adam's averages
    average: float = 0.999  # what the running average of weights keeps in a step
    guided_from: float = 0.55  # share of the steps after which guided logits are trained
    insisting_from: float = 0.25  # and this, after which captions name more of what is learned last
    unguided: float = 0.15  # share of captions dropped before
    openings: float = 0.25  # share of the batches that are half seconds
    short: float = 0.35  # first bars
    long: float = 0.08  # and whole half minutes
    wrong: float = 0.008  # share of codes corrupted in every other piece's history
    smoothing: float = 0.002


OPENING, SHORT, MIDDLE, LONG = 24, 100, 500, 1500  # frames


def train(run: Path, recipe: Recipe, *, save_s: float = 120) -> None:
    """
    Train, or go on with what is in the folder.

    Args:
        save_s: Seconds between two savings of the state.
    """
    run.mkdir(parents=True, exist_ok=True)
    if recipe.processes == 1:
        _worker(0, run, recipe, save_s)
        return
    # gloo meets in a file; one that an earlier run left behind would mislead it.
    meeting = run / "meeting"
    meeting.unlink(missing_ok=True)
    torch.multiprocessing.spawn(_worker, (run, recipe, save_s), nprocs=recipe.processes)


def _worker(rank: int, run: Path, recipe: Recipe, save_s: float) -> None:
    torch.set_num_threads(1)
    if recipe.processes > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group(
            "gloo",
            init_method=f"file://{(run / 'meeting').resolve()}",
            rank=rank,
            world_size=recipe.processes,
            timeout=timedelta(days=1),  # all of them may be stopped for a while
        )
    trainer = Trainer(run, recipe, rank)
    trainer.resume()
    trainer.run(save_s)
    if recipe.processes > 1:
        dist.destroy_process_group()


class Trainer:
    """One process of training."""

    def __init__(self, run: Path, recipe: Recipe, rank: int) -> None:
        """Make a model that knows nothing."""
        self._run, self._recipe, self._rank = run, recipe, rank
        self.model = build(len(CONCEPTS), seed=recipe.seed)
        self.model.audio_encoder.requires_grad_(False)
        self.step = 0
        self._average: dict[str, torch.Tensor] = {}
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        text = [p for name, p in trained if "encoder_attn." in name or "enc_to_dec" in name]
        others = [p for name, p in trained if "encoder_attn." not in name and "enc_to_dec" not in name]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": 0.05, "share": 1.0},
            {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0, "share": 1.0},
            {"params": text, "weight_decay": 0.01, "share": 2.0},  # the text is heard late; let it be heard sooner
        ]
        self._parameters = [p for group in groups for p in group["params"]]
        self._optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), eps=1e-8)
        self._halved = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        self._valid = torch.tensor([len(stream) for stream in codes.names()])

    def resume(self) -> None:
        """Load the state, if there is one; else warm up the text encoder."""
        path = self._run / STATE
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"], strict=False)
            self._optimizer.load_state_dict(state["optimizer"])
            self.step, self._average = state["step"], state["average"]
            self._tell(f"going on after step {self.step}")
        elif self._recipe.warm_up:
            steps = self._recipe.warm_up

            def told(step: int) -> None:
                if step % 100 == 0:
                    self._tell(f"text encoder: {step} of {steps}")

            warm_up(self.model, steps=steps, seed=self._recipe.seed, told=told)
        if not self._average:
            self._average = {name: value.clone() for name, value in learned(self.model).items()}

    def run(self, save_s: float) -> None:
        """Train to the end."""
        self.model.train()
        saved = told = time.monotonic()
        told_at = self.step
        heard: list[torch.Tensor] = []
        while self.step < self._recipe.steps:
            heard.append(self.advance())
            now = time.monotonic()
            if self.step % 25 == 0:
                pace = (now - told) / (self.step - told_at)
                told, told_at = now, self.step
                self._report(torch.stack(heard).nanmean(0), pace)
                heard = []
            if self._rank == 0 and now - saved > save_s:
                self.save()
                saved = now
        if self._rank == 0:
            self.save()

    def advance(self) -> torch.Tensor:
        """Take one step; return the losses, of each stream, then guided ones where they are trained."""
        recipe, share = self._recipe, self.step / self._recipe.steps
        r = Random(f"{recipe.seed} {self.step} {self._rank}")
        frames = self._frames(share)
        guide = Random(f"{recipe.seed} {self.step}").uniform(1.5, 4.5) if share >= recipe.guided_from else None
        count = max(1, recipe.positions // frames // recipe.processes // (1 if guide is None else 2))
        torch.manual_seed(recipe.seed * 10**6 + self.step * recipe.processes + self._rank)
        seeds = [r.randrange(2 * 10**9, 3 * 10**9) for _ in range(count)]
        tokens, captions = data.pieces(seeds, frames, insisting=share >= recipe.insisting_from)
        rate = recipe.rate * min(1.0, (self.step + 1) / 60)
        rate *= recipe.last_rate + (1 - recipe.last_rate) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["share"]
        # What spares memory for long pieces costs twice the time of short ones.
        self.model.decoder.set_attn_implementation("sdpa" if frames > MIDDLE else "eager")
        with torch.autocast("cpu", torch.bfloat16, enabled=self._halved):
            loss, heard = self._loss(tokens, captions, guide)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._share_gradients()
        torch.nn.utils.clip_grad_norm_(self._parameters, recipe.clip)
        self._optimizer.step()
        with torch.no_grad():
            keeps = min(recipe.average, (self.step + 1) / (self.step + 20))
            for name, value in learned(self.model).items():
                self._average[name].lerp_(value, 1 - keeps)
        self.step += 1
        return heard

    def _frames(self, share: float) -> int:
        """Return how long this step's pieces are; all processes agree."""
        recipe = self._recipe
        chance = Random(f"{recipe.seed} {self.step} frames").random()
        if chance < recipe.openings:
            return OPENING
        if chance < recipe.openings + recipe.short:
            return SHORT
        return LONG if share > 0.3 and chance > 1 - recipe.long else MIDDLE

    def _share_gradients(self) -> None:
        if self._recipe.processes == 1:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).view(-1) for p in self._parameters])
        dist.all_reduce(flat)
        flat /= self._recipe.processes
        start = 0
        for p in self._parameters:
            p.grad = flat[start : start + p.numel()].view_as(p)
            start += p.numel()

    def _loss(
        self, tokens: torch.Tensor, captions: list[list[str]], guide: float | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what to descend on, and the plain losses in nats, of each stream: with the text, and guided."""
        n, recipe = len(tokens), self._recipe
        ids, mask = data.ids(captions)
        if guide is None:
            mask = mask * (torch.rand(n, 1) > recipe.unguided)
        read = tokens[:, :, :-1]
        wrong = (torch.rand(read.shape) < recipe.wrong * (torch.rand(n, 1, 1) < 0.5)) & (read != PAD)
        read = torch.where(wrong, (torch.rand(read.shape) * self._valid[:, None]).long(), read)
        if guide is not None:
            read, ids, mask = torch.cat([read, read]), torch.cat([ids, ids]), torch.cat([mask, torch.zeros_like(mask)])
        states = hidden(self.model, read, ids, mask)
        losses, plain, apply_guidance = [], [], []
        for stream, head in enumerate(self.model.decoder.lm_heads):
            wanted = tokens[:, stream, 1:]
            there = (wanted != PAD).float()
            weight = there * (1 + 5 * torch.exp(-torch.arange(there.shape[1]) / 50))
            weight[:, stream] += 15  # the first code of the stream

            def cost(logits: torch.Tensor, wanted: torch.Tensor = wanted) -> torch.Tensor:
                flat = functional.cross_entropy(
                    logits.flatten(0, 1),
                    wanted.flatten(),
                    ignore_index=PAD,
                    reduction="none",
                    label_smoothing=recipe.smoothing,
                )
                return flat.view_as(wanted)

            logits = head(states).float()
            with_text = cost(logits[:n])
            plain.append(float((with_text.detach() * there).sum() / there.sum()))
            costs = with_text
            if guide is not None:
                given, free = logits[:n], logits[n:]
                both = cost(free + guide * (given - free))
                costs = 0.35 * with_text + 0.15 * cost(free) + 0.5 * both
                apply_guidance.append(float((both.detach() * there).sum() / there.sum()))
            losses.append((costs * weight).sum() / weight.sum())
        nothing = [math.nan] * codes.STREAMS
        return torch.stack(losses).mean(), torch.tensor([*plain, *(apply_guidance or nothing)])

    def _report(self, heard: torch.Tensor, pace_s: float) -> None:
        plain, apply_guidance = heard[: codes.STREAMS].tolist(), heard[codes.STREAMS :].tolist()
        left = timedelta(seconds=round(pace_s * (self._recipe.steps - self.step)))
        shown = " ".join(f"{loss:.3f}" for loss in plain)
        also = "" if math.isnan(apply_guidance[0]) else "  guided " + " ".join(f"{loss:.3f}" for loss in apply_guidance)
        self._tell(f"{self.step}/{self._recipe.steps}  nats a frame {shown}{also}  {pace_s:.2f} s a step, {left} left")
        if self._rank == 0:
            record = {"step": self.step, "pace_s": round(pace_s, 3), "loss": [round(x, 4) for x in plain]}
            if also:
                record["guided"] = [round(x, 4) for x in apply_guidance]
            with (self._run / LOG).open("a") as log:
                log.write(json.dumps(record) + "\n")

    def _tell(self, text: str) -> None:
        if self._rank == 0:
            print(text, flush=True)

    def save(self) -> None:
        """Replace the state; it is whole at every moment."""
        state = {
            "model": learned(self.model),
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
        }
        path = self._run / STATE
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)


def hidden(
    model: MusicgenForConditionalGeneration, read: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """
    Return the language model's last states.

    Args:
        read: Codes, shape ``(pieces, STREAMS, frames)``.
        ids: Of concepts, shape ``(pieces, words)``.
        mask: Of words that are seen; a row of zeros is a piece without text, as transformers has it.
    """
    told = model.text_encoder(input_ids=ids, attention_mask=mask.clamp(min=0)).last_hidden_state
    told = model.enc_to_dec_proj(told) * mask[..., None]
    states: torch.Tensor = model.decoder.model(
        input_ids=read.reshape(-1, read.shape[2]),
        encoder_hidden_states=told,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    return states
