"""
Trains text encoder and language model. It can be interrupted at any time; the result is the same to the bit.

The state is one file, replaced every two minutes: weights, their running average, the optimizer and the step. The
pieces of a step follow from the seed and the step alone, and so does the schedule.

Five things keep the training short, or make it robust:

- Loss weights. The style of a piece is decided in its first frames, so they weigh more.
- Short pieces. Most batches have openings of half a second or first bars alone, and so many more captions. They teach
  what a caption means; longer pieces teach how a piece continues.
- Windows that begin anywhere. Half of the longer ones start in the middle of a piece, so that the model goes on from
  given codes; the loss leaves out their first second, so that a new piece still begins with its first bar.
- Jingles at last. In some further steps, with a lower learning rate, jingles are frequent and most pieces are long. An
  ending is a few frames in which all voices agree, and the rest of a piece tells the model nothing about it.
- Corrupted histories. Some codes of the input are wrong, so that the model learns to recover from a bad sample.

Processors with bfloat16 instructions use them, which halves the time; what the optimizer stores stays float32.

**Why guided logits are trained.** At generation the logits are `u + s (c - u)`: c with the text, u without, s the
guidance scale. Most codes here are almost certain. Then c and u are both right, but s multiplies the noise in their
difference, and the clock goes wrong. So in the later part of the training each batch runs with and without its text,
and the guided logits are trained as well, for s from 1.5 to 4.5.
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

STATE, LOG, RENDEZVOUS = "state.pt", "log.jsonl", "meeting"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings that determine the result."""

    steps: int = 30_000  # before the finishing ones
    finishing: int = 6_000  # further steps, with more jingles
    finishing_rate: float = 0.3  # the learning rate with which they begin, as a share of the highest one
    seed: int = 1
    processes: int = 2
    positions: int = 3000  # frames a step, in all processes together
    warm_up: int = 300  # steps of the text encoder alone
    rate: float = 2e-3  # the highest learning rate
    last_rate: float = 0.03  # the last one, as a share of it
    clip: float = 0.15  # of the gradient norm: long pieces would dominate Adam's averages
    average: float = 0.999  # decay of the running average of weights, for a step
    guided_from: float = 0.55  # the share of steps after which guided logits are trained
    emphasize_from: float = 0.25  # the share of steps after which captions name more of what is learned last
    unguided: float = 0.15  # the share of captions that are dropped until guided logits are trained
    openings: float = 0.25  # the share of batches of OPENING frames
    short: float = 0.35  # of SHORT frames
    long: float = 0.08  # of LONG frames
    wrong: float = 0.008  # the share of wrong codes in the input of a random half of the pieces
    smoothing: float = 0.002  # of labels

    @property
    def all_steps(self) -> int:
        """The number of steps with the finishing ones."""
        return self.steps + self.finishing


OPENING, SHORT, MIDDLE, LONG = 24, 100, 500, 1500  # frames
GIVEN = 50  # frames at the beginning of a window in the middle of a piece that aren't learned


def train(run: Path, recipe: Recipe, *, save_s: float = 120) -> None:
    """
    Train, continuing from the state in the folder if there is one.

    Args:
        save_s: Seconds after which the state is saved again.
    """
    run.mkdir(parents=True, exist_ok=True)
    if recipe.processes == 1:
        _worker(0, run, recipe, save_s)
        return
    # gloo's processes find each other by a file; one of an earlier run would mislead them.
    (run / RENDEZVOUS).unlink(missing_ok=True)
    torch.multiprocessing.spawn(_worker, (run, recipe, save_s), nprocs=recipe.processes)


def _worker(rank: int, run: Path, recipe: Recipe, save_s: float) -> None:
    torch.set_num_threads(1)
    if recipe.processes > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group(
            "gloo",
            init_method=f"file://{(run / RENDEZVOUS).resolve()}",
            rank=rank,
            world_size=recipe.processes,
            timeout=timedelta(days=1),  # all processes may be suspended for a while
        )
    trainer = Trainer(run, recipe, rank)
    trainer.resume()
    trainer.run(save_s)
    if recipe.processes > 1:
        dist.destroy_process_group()


class Trainer:
    """One process of training."""

    def __init__(self, run: Path, recipe: Recipe, rank: int) -> None:
        """Make an untrained model."""
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
            {"params": text, "weight_decay": 0.01, "share": 2.0},  # a model learns late to use its text
        ]
        self._parameters = [p for group in groups for p in group["params"]]
        self._optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), eps=1e-8)
        self._bfloat16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        self._valid = torch.tensor([len(stream) for stream in codes.names()])

    def resume(self) -> None:
        """Load the state if there is one, and warm up the text encoder otherwise."""
        path = self._run / STATE
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"], strict=False)
            self._optimizer.load_state_dict(state["optimizer"])
            self.step, self._average = state["step"], state["average"]
            self._print(f"continuing after step {self.step}")
        elif self._recipe.warm_up:
            steps = self._recipe.warm_up

            def on_step(step: int) -> None:
                if step % 100 == 0:
                    self._print(f"text encoder: {step} of {steps}")

            warm_up(self.model, steps=steps, seed=self._recipe.seed, on_step=on_step)
        if not self._average:
            self._average = {name: value.clone() for name, value in learned(self.model).items()}

    def run(self, save_s: float) -> None:
        """Train to the end."""
        self.model.train()
        saved_at = reported_at = time.monotonic()
        reported_step = self.step
        losses: list[torch.Tensor] = []
        while self.step < self._recipe.all_steps:
            losses.append(self.advance())
            now = time.monotonic()
            if self.step % 25 == 0:
                pace_s = (now - reported_at) / (self.step - reported_step)
                reported_at, reported_step = now, self.step
                self._report(torch.stack(losses).nanmean(0), pace_s)
                losses = []
            if self._rank == 0 and now - saved_at > save_s:
                self.save()
                saved_at = now
        if self._rank == 0:
            self.save()

    @property
    def _is_finishing(self) -> bool:
        return self.step >= self._recipe.steps

    def advance(self) -> torch.Tensor:
        """Take one step; return the losses of each stream, then those of the guided logits (NaN if not trained)."""
        recipe, share = self._recipe, min(1.0, self.step / self._recipe.steps)
        rng = Random(f"{recipe.seed} {self.step} {self._rank}")
        frames = self._frames(share)
        scale = Random(f"{recipe.seed} {self.step}").uniform(1.5, 4.5) if share >= recipe.guided_from else None
        count = max(1, recipe.positions // frames // recipe.processes // (1 if scale is None else 2))
        torch.manual_seed(recipe.seed * 10**6 + self.step * recipe.processes + self._rank)
        seeds = [rng.randrange(2 * 10**9, 3 * 10**9) for _ in range(count)]
        tokens, captions, whole = data.pieces(
            seeds,
            frames,
            emphasize_hard=share >= recipe.emphasize_from,
            emphasize_jingles=self._is_finishing,
            cut=frames >= MIDDLE,
        )
        self._set_rate(share)
        # sdpa saves memory with long pieces, but takes twice as long as eager with short ones.
        self.model.decoder.set_attn_implementation("sdpa" if frames > MIDDLE else "eager")
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            loss, losses = self._loss(tokens, captions, whole, scale)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self._parameters, recipe.clip)
        self._optimizer.step()
        with torch.no_grad():
            decay = min(recipe.average, (self.step + 1) / (self.step + 20))
            for name, value in learned(self.model).items():
                self._average[name].lerp_(value, 1 - decay)
        self.step += 1
        return losses

    def _set_rate(self, share: float) -> None:
        """Set the learning rate: a linear rise over 60 steps, then a cosine down to `last_rate`; and once more."""
        recipe, step, rate, last = self._recipe, self.step, self._recipe.rate, self._recipe.last_rate
        if self._is_finishing:
            step -= recipe.steps
            share, rate, last = step / recipe.finishing, rate * recipe.finishing_rate, last / recipe.finishing_rate
        rate *= min(1.0, (step + 1) / 60)
        rate *= last + (1 - last) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["share"]

    def _frames(self, share: float) -> int:
        """Return the length of the pieces of this step; it is the same in all processes."""
        recipe = self._recipe
        draw = Random(f"{recipe.seed} {self.step} frames").random()
        part = 0.5 if self._is_finishing else 1.0
        if draw < part * recipe.openings:
            return OPENING
        if draw < part * (recipe.openings + recipe.short):
            return SHORT
        return LONG if share > 0.3 and draw > 1 - recipe.long else MIDDLE

    def _average_gradients(self) -> None:
        """Average the gradients of all processes."""
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
        self, tokens: torch.Tensor, captions: list[list[str]], whole: torch.Tensor, scale: float | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Compute the losses of a batch.

        Args:
            tokens: As of `data.pieces`.
            captions: As concepts.
            whole: Whether a piece begins with the window; otherwise its first codes are given, and not learned.
            scale: Of the guidance that is trained; None for none.

        Returns:
            The loss to minimize; and in nats the unweighted losses of each stream, with the text, then guided.
        """
        n, recipe = len(tokens), self._recipe
        ids, mask = data.ids(captions)
        if scale is None:
            mask = mask * (torch.rand(n, 1) > recipe.unguided)
        inputs = self._corrupted(tokens[:, :, :-1])
        if scale is not None:
            inputs = torch.cat([inputs, inputs])
            ids, mask = torch.cat([ids, ids]), torch.cat([mask, torch.zeros_like(mask)])
        states = hidden_states(self.model, inputs, ids, mask)
        losses, plain, guided = [], [], []
        for stream, head in enumerate(self.model.decoder.lm_heads):
            targets = tokens[:, stream, 1:]
            present = (targets != PAD).float()
            weight = present * (1 + 5 * torch.exp(-torch.arange(present.shape[1]) / 50))
            weight[:, stream] += 15  # the first code of the stream
            weight = torch.where(whole[:, None], weight, present * (torch.arange(present.shape[1]) >= GIVEN))
            logits = head(states).float()
            with_text = self._cross_entropy(logits[:n], targets)
            plain.append(_masked_mean(with_text, present))
            costs = with_text
            if scale is not None:
                cond, uncond = logits[:n], logits[n:]
                guided_costs = self._cross_entropy(uncond + scale * (cond - uncond), targets)
                costs = 0.35 * with_text + 0.15 * self._cross_entropy(uncond, targets) + 0.5 * guided_costs
                guided.append(_masked_mean(guided_costs, present))
            losses.append((costs * weight).sum() / weight.sum())
        untrained = [math.nan] * codes.STREAMS
        return torch.stack(losses).mean(), torch.tensor([*plain, *(guided or untrained)])

    def _corrupted(self, inputs: torch.Tensor) -> torch.Tensor:
        """Replace a few codes in about half of the pieces by random ones."""
        wrong = torch.rand(inputs.shape) < self._recipe.wrong * (torch.rand(len(inputs), 1, 1) < 0.5)
        return torch.where(wrong & (inputs != PAD), (torch.rand(inputs.shape) * self._valid[:, None]).long(), inputs)

    def _cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of each code, shape ``(pieces, frames)``."""
        flat = functional.cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=PAD,
            reduction="none",
            label_smoothing=self._recipe.smoothing,
        )
        return flat.view_as(targets)

    def _report(self, losses: torch.Tensor, pace_s: float) -> None:
        plain, guided = losses[: codes.STREAMS].tolist(), losses[codes.STREAMS :].tolist()
        left = timedelta(seconds=round(pace_s * (self._recipe.all_steps - self.step)))
        text = f"nats a frame {_formatted(plain)}"
        record: dict[str, Any] = {"step": self.step, "pace_s": round(pace_s, 3), "loss": [round(x, 4) for x in plain]}
        if not math.isnan(guided[0]):
            text += f"  guided {_formatted(guided)}"
            record["guided"] = [round(x, 4) for x in guided]
        self._print(f"{self.step}/{self._recipe.all_steps}  {text}  {pace_s:.2f} s a step, {left} left")
        if self._rank == 0:
            with (self._run / LOG).open("a") as log:
                log.write(json.dumps(record) + "\n")

    def _print(self, text: str) -> None:
        if self._rank == 0:
            print(text, flush=True)

    def save(self) -> None:
        """Replace the state file atomically."""
        state = {
            "model": learned(self.model),
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
        }
        path = self._run / STATE
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)


def _masked_mean(values: torch.Tensor, mask: torch.Tensor) -> float:
    return float((values.detach() * mask).sum() / mask.sum())


def _formatted(losses: list[float]) -> str:
    return " ".join(f"{loss:.3f}" for loss in losses)


def hidden_states(
    model: MusicgenForConditionalGeneration, inputs: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """
    Return the last hidden states of the language model.

    Args:
        inputs: Codes, shape ``(pieces, STREAMS, frames)``.
        ids: Of concepts, shape ``(pieces, words)``.
        mask: The attention mask of the words; a row of zeros is a piece without text, as in transformers.
    """
    text = model.text_encoder(input_ids=ids, attention_mask=mask.clamp(min=0)).last_hidden_state
    text = model.enc_to_dec_proj(text) * mask[..., None]
    states: torch.Tensor = model.decoder.model(
        input_ids=inputs.reshape(-1, inputs.shape[2]),
        encoder_hidden_states=text,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    return states
