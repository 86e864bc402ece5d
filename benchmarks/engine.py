"""
Show what the local engine promises, on this hardware, in one run: exact, faithful, reproducible, fast, small, soon.

    python benchmarks/engine.py [--quick] [--precision int8] [--cache FOLDER]

The model is a random one of exactly musicgen-small's shape, made once (2.4 GB in the cache, and its graphs); a step
costs the same as with real weights. Compared with it are `generate()` of transformers in float32 ("reference"), and the
same with its decoder's matrices made int8 by `torch.ao.quantization.quantize_dynamic` ("one-liner"). A clip's time is
from prompt to samples, all included. Each measured thing has a process of its own; rounds are interleaved, ratios are
taken within a round, and of both the median, the least and the most are printed. Needs the extras local and torch, and
12 GB of memory. Full: less than 15 minutes on two cores; --quick, with shorter clips: less than 4.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import platformdirs
from engine_worker import build, divergence

from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine import hardware

PROMPTS = (
    "calm ambient piano",
    "energetic techno with heavy drums and a fast bass line",
    "jazz",
    "a slow sad guitar, alone in a large room, with long pauses between its notes",
    "bright strings over a steady march",
    "lo-fi beat to study to",
    "an old church organ that plays a fugue in three voices while rain falls on the roof and bells ring far away",
    "happy rock",
)
BITS = {"fp32": 32, "bf16": 16, "int8": 8}  # of a weight
IMPORTS = "import torch; from transformers import MusicgenForConditionalGeneration"
WORKER = Path(__file__).with_name("engine_worker.py")


@dataclass(frozen=True)
class Plan:
    """How much is measured; durations in seconds."""

    rounds: int
    short: float
    long: float
    batch: float
    nano: float
    logits: int  # steps


FULL = Plan(rounds=3, short=5, long=30, batch=3, nano=10, logits=200)
QUICK = Plan(rounds=1, short=2, long=10, batch=1, nano=10, logits=50)


class Worker:
    """A process that has loaded one part."""

    def __init__(self, *words: str) -> None:
        self._words = words
        command = [sys.executable, str(WORKER), *words]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process for {' '.join(self._words)} failed at {do!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer


Rounds = dict[str, list[float]]  # a figure's name → its value in each round


def main() -> None:
    words = argparse.ArgumentParser(description="Show what the local engine promises.")
    words.add_argument("--quick", action="store_true", help="one round of shorter clips")
    words.add_argument("--precision", choices=BITS, default="int8", help="of the engine (default: int8)")
    words.add_argument(
        "--cache",
        type=Path,
        default=Path(platformdirs.user_cache_dir("musicgen", appauthor=False)) / "benchmark",
        help="where the model is made and kept",
    )
    asked = words.parse_args()
    plan = QUICK if asked.quick else FULL
    torch = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
    model = asked.cache.absolute() / "random-small"
    if not model.exists():
        if not torch:
            raise SystemExit("the random model is made by transformers, which isn't here: install the extra torch")
        say("making a random model of musicgen-small's shape, once")
        build(model, {word for text in PROMPTS for word in re.findall(r"\w+|[^\w\s]+", text)})
    os.environ["XDG_CACHE_HOME"] = str(model.parent)  # where the workers keep its graphs
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
    if not torch:
        say("torch and transformers aren't here: what compares with them is left out")
    started = time.monotonic()
    figures: Rounds = defaultdict(list)
    measure_logits(figures, model, asked.precision, plan.logits, torch=torch)
    measure_clips(figures, model, asked.precision, plan, torch=torch)
    report(figures, plan, asked.precision, model)
    print(f"\n{time.monotonic() - started:.0f} s in all")


def measure_logits(figures: Rounds, model: Path, precision: str, steps: int, *, torch: bool) -> None:
    """Compare logits and sound, all from the same tokens: those of a take that the engine samples in float32."""
    with tempfile.TemporaryDirectory() as folder:
        codes, tokens = f"{folder}/codes.npy", f"{folder}/tokens.npy"
        np.save(codes, np.random.default_rng(0).integers(0, 2048, (4, 150)))
        kinds = {"fp32": ("ours", "fp32"), precision: ("ours", precision)}
        if torch:
            kinds["torch"] = ("reference", "fp32")
        for name, (part, kind) in kinds.items():
            say(f"logits of {part}, {kind}")
            with Worker(part, str(model), kind) as worker:
                worker.ask("logits", prompt=PROMPTS[1], steps=steps, tokens=tokens, to=f"{folder}/{name}.npy")
                worker.ask("sound", codes=codes, to=f"{folder}/{name}-sound.npy")
        figures["KL"].append(divergence(f"{folder}/fp32.npy", f"{folder}/{precision}.npy"))
        if torch:
            ours, theirs = np.load(f"{folder}/fp32.npy"), np.load(f"{folder}/torch.npy")
            figures["logits"].append(float(np.abs(ours - theirs).max() / theirs.std()))
            ours, theirs = np.load(f"{folder}/fp32-sound.npy"), np.load(f"{folder}/torch-sound.npy")
            figures["seam"].append(float(np.abs(ours - theirs).max() / np.abs(theirs).max()))


def measure_clips(figures: Rounds, model: Path, precision: str, plan: Plan, *, torch: bool) -> None:
    """Measure time and memory; the first clip of each process isn't counted."""
    with ExitStack() as stack:

        def begin(*words: str) -> Worker:
            worker = stack.enter_context(Worker(*words))
            worker.ask("clips", prompts=PROMPTS[:1], duration=0.5)
            return worker

        memory = stack.enter_context(Worker("memory"))
        ours = begin("ours", str(model), precision)
        others = {name: begin("reference", str(model), name) for name in ("reference", "one-liner") if torch}
        start_nano(plan.nano)
        for number in range(plan.rounds):
            say(f"round {number + 1} of {plan.rounds}")
            figures["bandwidth"].append(memory.ask("read")["bytes_s"])
            for name, worker in others.items():
                figures[f"{name}, s"].append(worker.ask("clips", prompts=PROMPTS[:1], duration=plan.short)["seconds"])
            clip = ours.ask("clips", prompts=PROMPTS[:1], duration=plan.short)
            figures["ours, s"].append(clip["seconds"])
            figures["ours, steps/s"].append(clip["steps"] / clip["seconds"])
            figures["ours, loop alone, steps/s"].append(1 / clip["step_s"])
            figures["ours, first half second, steps"].append(clip["soon_s"] / clip["step_s"])
            with Worker("ours", str(model), precision) as fresh:
                fresh.ask("clips", prompts=PROMPTS[:1], duration=0.5)
                clip = fresh.ask("clips", prompts=PROMPTS[:1], duration=plan.long)
                figures["ours, long, steps/s"].append(clip["steps"] / clip["seconds"])
                figures["ours, long, peak"].append(fresh.ask("peak")["bytes"])
            alone = ours.ask("clips", prompts=PROMPTS[:1], duration=plan.batch)
            batch = ours.ask("clips", prompts=PROMPTS, duration=plan.batch)
            figures["same bytes"].append(alone["sha256"] == batch["sha256"])
            figures["ours, batch, s"].append(batch["seconds"])
            if torch:
                answer = others["reference"].ask("clips", prompts=PROMPTS, duration=plan.batch)
                figures["reference, batch, s"].append(answer["seconds"])
                figures["imports of the reference, s"].append(timed("-c", IMPORTS))
            figures["nano, s"].append(start_nano(plan.nano))


def start_nano(duration: float) -> float:
    """Return the seconds from a process's start to its end, a clip of the bundled model being stored."""
    with tempfile.TemporaryDirectory() as folder:
        command = ("-m", "musicgen_cli", "generate", "--local", "--model", "nano", "-q", "-d", str(duration))
        return timed(*command, PROMPTS[0], MUSICGEN_STORE=folder)


def timed(*words: str, **env: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], env=os.environ | env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


@dataclass(frozen=True)
class Promise:
    """A line of the table; without values, because nothing was there to compare with, it is left out."""

    line: str
    what: str
    values: list[float]  # one of each round
    must: float
    aim: float | None = None
    more: bool = False  # is better

    def verdict(self) -> str:
        def reaches(bound: float) -> bool:
            value = statistics.median(self.values)
            return value >= bound if self.more else value <= bound

        if not reaches(self.must):
            return "MISS"
        return "ok" if self.aim is None or reaches(self.aim) else "must, not aim"


def promises(figures: Rounds, plan: Plan, limit: float) -> list[Promise]:
    """
    Put the figures against what they must show.

    Args:
        limit: Bytes of weights that a step reads.
    """

    def ratio(name: str, base: str) -> list[float]:
        return [value / other for value, other in zip(figures[name], figures[base], strict=False)]

    allowed = [bandwidth / limit for bandwidth in figures["bandwidth"]]
    share = [steps / most for steps, most in zip(figures["ours, loop alone, steps/s"], allowed, strict=True)]
    slower = ratio("ours, long, steps/s", "ours, steps/s")
    short, at_once = f"{plan.short:g} s clip", f"{len(PROMPTS)} prompts at once"
    return [
        Promise("exact", "logits in fp32, largest error / spread", figures["logits"], 1e-3),
        Promise("faithful", "mean KL to fp32, guided, nats", figures["KL"], 0.010),
        Promise("reproducible", f"same WAV alone and among {at_once}", figures["same bytes"], 1, more=True),
        Promise("fast", f"{short}, x the reference", ratio("reference, s", "ours, s"), 10, 14, more=True),
        Promise("fast", f"{short}, x the one-liner", ratio("one-liner, s", "ours, s"), 1.4, 1.8, more=True),
        Promise("fast", f"{short}'s loop, share of the bandwidth's", share, 0.6, 0.8, more=True),
        Promise("fast", f"{plan.long:g} s clip, share of the {short}'s steps/s", slower, 0.8, 0.95, more=True),
        Promise("fast", at_once + ", x the reference", ratio("reference, batch, s", "ours, batch, s"), 4, 8, more=True),
        Promise("small", f"{plan.long:g} s clip, peak memory, GB", [b / 1e9 for b in figures["ours, long, peak"]], 1.2),
        Promise("small", f"nano, {plan.nano:g} s clip, start to stored take, s", figures["nano, s"], 2.5),
        Promise("soon", "first half second, in steps' time", figures["ours, first half second, steps"], 50),
        Promise("soon", "chunks to one piece, largest error / peak", figures["seam"], 1e-3),
    ]


def report(figures: Rounds, plan: Plan, precision: str, model: Path) -> None:
    """Print the hardware, the table, and the figures that it was made of."""
    decoder = Shape.of(json.loads((model / "config.json").read_bytes())).decoder
    layer = 6 * decoder.width**2 + 2 * decoder.width * decoder.ffn  # of cross-attention only query and output
    weights = decoder.layers * layer + decoder.codebooks * decoder.vocab * decoder.width
    limit = weights * BITS[precision] / 8
    print(f"\n{processor()}, {hardware.cores()} cores, {dt.datetime.now():%Y-%m-%d %H:%M}, {platform.platform()}")
    print(
        f"engine in {precision}: a step reads {limit / 1e6:.0f} MB of weights (keys and values come on top, and aren't "
        f"counted); the memory is read at {spread([b / 1e9 for b in figures['bandwidth']])} GB/s"
    )
    if plan is QUICK:
        print("--quick: one round, shorter clips; the bounds are meant for the full run")
    print(f"\n{'':14}{'':46}{'median (least-most)':>26}{'must':>9}{'aim':>7}")
    for promise in promises(figures, plan, limit):
        if promise.values:
            bounds = f"{promise.must:>9g}{'' if promise.aim is None else promise.aim:>7}"
            figure = spread(promise.values)
            print(f"{promise.line:14}{promise.what:46}{figure:>26}{bounds}  {promise.verdict()}")
    print("\nmade of:")
    for name, values in figures.items():
        if values:
            print(f"  {name:40}{spread(values):>34}")


def spread(values: list[float]) -> str:
    middle = f"{statistics.median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g}-{max(values):.3g})"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()


def say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
