"""
Check the local engine on this hardware against its bounds: accuracy, determinism, speed, memory and latency.

    python -m benchmarks.engine [--quick] [--engine native] [--precision int8] [--cache FOLDER]

The model is random and has exactly the shape of musicgen-small, as a step costs the same as with trained weights. It is
made once and stays in the cache (2.4 GB, and the engine's graphs). The engine is compared with `generate()` of
transformers in float32 ("transformers"), with the same after `torch.ao.quantization.quantize_dynamic` made its
decoder's matrices int8 ("quantize_dynamic"), and with OpenVINO in int8 (`openvino_peer`); the native engine also with
the engine on ONNX Runtime, with itself on one thread while another process keeps a core busy, and with each instruction
set of the processor. The time of a clip goes from the prompt to the samples. Everything that is measured runs in a
process of its own. Rounds are interleaved, ratios are taken within a round, and the median, the least and the largest
of the rounds are printed (`engine_checks`). Needs the extras local and torch, for OpenVINO the packages openvino and
nncf, and 12 GB of memory; comparisons with what isn't installed are left out. Takes less than 15 minutes on two cores,
and 4 more with OpenVINO; with --quick, which makes shorter clips, less than 4.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import platformdirs

from benchmarks.engine_checks import BITS, Rounds, Titles, report
from benchmarks.engine_worker import build_model, kl_divergence
from musicgen_cli.engine.native import library

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
STEPS = 40  # that are timed one by one
POSITION = 125  # at which they are: the middle of a 5 s clip
STAGGER_S = 0.15  # between the starts of clips that join others
IMPORTS = "import torch; from transformers import MusicgenForConditionalGeneration"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    short_s: float  # duration of a short clip
    long_s: float
    batch_s: float  # duration of each of several clips at once
    nano_s: float
    logit_steps: int


FULL = Plan(rounds=3, short_s=5, long_s=30, batch_s=3, nano_s=10, logit_steps=200)
QUICK = Plan(rounds=1, short_s=2, long_s=10, batch_s=1, nano_s=10, logit_steps=50)


class Worker:
    """A process of `engine_worker`, or of a module like it, which has loaded one subject of the measurements."""

    def __init__(
        self, *arguments: str, module: str = "benchmarks.engine_worker", env: Mapping[str, str] | None = None
    ) -> None:
        self._arguments = arguments
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call a method of the subject and return its answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"method": method, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process for {' '.join(self._arguments)} failed at {method!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.engine", description="Check the local engine on this hardware against its bounds."
    )
    parser.add_argument("--quick", action="store_true", help="one round of shorter clips")
    parser.add_argument("--engine", choices=("native", "onnx"), default="native", help="the one to check [native]")
    parser.add_argument("--precision", choices=BITS, default="int8", help="of the engine [int8]")
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_cache(),
        help="folder for the random model and its graphs",
    )
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    has_torch = _has_torch()
    model = random_model(options.cache)
    os.environ["XDG_CACHE_HOME"] = str(model.parent)  # the workers' graphs go there
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
    if not has_torch:
        log("torch and transformers aren't installed: the comparisons with them are left out")
    started = time.monotonic()
    figures: Rounds = defaultdict(list)
    engine = ("musicgen", str(model), options.precision, options.engine)
    measure_accuracy(figures, model, engine, plan.logit_steps, has_torch=has_torch)
    measure_clips(figures, model, engine, plan, has_torch=has_torch)
    if plan is QUICK:
        print("--quick: one round, shorter clips; the bounds are meant for the full run")
    report(figures, model, options.precision, Titles(plan.short_s, plan.long_s, plan.nano_s, len(PROMPTS)))
    print(f"\n{time.monotonic() - started:.0f} s in all")


def default_cache() -> Path:
    """Return the folder in which the random model is kept."""
    return Path(platformdirs.user_cache_dir("musicgen", appauthor=False)) / "benchmark"


def random_model(cache: Path) -> Path:
    """Return the folder of the random model, which is made if it isn't there."""
    model = cache.absolute() / "random-small"
    if not model.exists():
        if not _has_torch():
            raise SystemExit("making the random model needs transformers: install the extra torch")
        log("making a random model of musicgen-small's shape, once")
        build_model(model, {word for prompt in PROMPTS for word in re.findall(r"\w+|[^\w\s]+", prompt)})
    return model


def _has_torch() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def measure_accuracy(figures: Rounds, model: Path, engine: tuple[str, ...], steps: int, *, has_torch: bool) -> None:
    """Compare logits for the same tokens, which the engine samples in float32, and samples for the same codes."""
    with tempfile.TemporaryDirectory() as folder:
        codes, tokens = f"{folder}/codes.npy", f"{folder}/tokens.npy"
        np.save(codes, np.random.default_rng(0).integers(0, 2048, (4, 150)))
        subjects = {"fp32": ("musicgen", str(model), "fp32", "onnx"), "engine": engine}
        if has_torch:
            subjects["torch"] = ("transformers", str(model), "fp32")
        for name, arguments in subjects.items():
            log(f"logits of {' '.join((arguments[0], *arguments[2:]))}")
            with Worker(*arguments) as worker:
                worker.call("logits", prompt=PROMPTS[1], steps=steps, tokens=tokens, to=f"{folder}/{name}.npy")
                worker.call("samples", codes=codes, to=f"{folder}/{name}-samples.npy")
        figures["KL"].append(kl_divergence(f"{folder}/fp32.npy", f"{folder}/engine.npy"))
        if has_torch:
            ours, theirs = np.load(f"{folder}/fp32.npy"), np.load(f"{folder}/torch.npy")
            figures["logits"].append(float(np.abs(ours - theirs).max() / theirs.std()))
            ours, theirs = np.load(f"{folder}/fp32-samples.npy"), np.load(f"{folder}/torch-samples.npy")
            figures["samples"].append(float(np.abs(ours - theirs).max() / np.abs(theirs).max()))


def measure_clips(
    figures: Rounds, model: Path, engine_arguments: tuple[str, ...], plan: Plan, *, has_torch: bool
) -> None:
    """Measure time and memory; the first clip of each process isn't counted."""
    prompt = PROMPTS[:1]
    with ExitStack() as stack:

        def start(*arguments: str) -> Worker:
            worker = stack.enter_context(Worker(*arguments))
            worker.call("clips", prompts=prompt, duration=0.5)
            return worker

        memory = stack.enter_context(Worker("memory"))
        engine = start(*engine_arguments)
        is_native = engine_arguments[-1] == "native"
        onnx = start(*engine_arguments[:-1], "onnx") if is_native else None
        names = ("transformers", "quantize_dynamic") if has_torch else ()
        references = {name: start("transformers", str(model), name) for name in names}
        openvino = start_openvino(stack, model, plan.batch_s) if has_torch else None
        for name in ("native", "onnx") if is_native else ("onnx",):
            time_nano(plan.nano_s, name)
        for number in range(plan.rounds):
            log(f"round {number + 1} of {plan.rounds}")
            figures["bandwidth"].append(memory.call("bandwidth")["bytes_s"])
            for name, worker in references.items():
                answer = worker.call("clips", prompts=prompt, duration=plan.short_s)
                figures[f"{name}, s"].append(answer["seconds"])
            clip = engine.call("clips", prompts=prompt, duration=plan.short_s)
            figures["musicgen, s"].append(clip["seconds"])
            figures["musicgen, steps/s"].append(clip["steps"] / clip["seconds"])
            figures["musicgen, decoder alone, steps/s"].append(1 / clip["step_s"])
            figures["musicgen, first half second, steps"].append(clip["latency_s"] / clip["step_s"])
            with Worker(*engine_arguments) as fresh:
                fresh.call("clips", prompts=prompt, duration=0.5)
                clip = fresh.call("clips", prompts=prompt, duration=plan.long_s)
                figures["musicgen, long, steps/s"].append(clip["steps"] / clip["seconds"])
                figures["musicgen, long, peak"].append(fresh.call("peak")["bytes"])
            alone = engine.call("clips", prompts=prompt, duration=plan.batch_s)
            batch = engine.call("clips", prompts=PROMPTS, duration=plan.batch_s)
            figures["same bytes"].append(alone["sha256"] == batch["sha256"][:1])
            joining = engine.call("clips", prompts=PROMPTS, duration=plan.batch_s, stagger=STAGGER_S)
            figures["same bytes when they join"].append(joining["sha256"] == batch["sha256"])
            figures["musicgen, one of the batch, s"].append(alone["seconds"])
            figures["musicgen, batch, s"].append(batch["seconds"])
            if openvino:
                figures["openvino, one of the batch, s"].append(openvino.call("clips", prompts=prompt)["seconds"])
                figures["openvino, batch, s"].append(openvino.call("clips", prompts=PROMPTS)["seconds"])
            with Worker(*engine_arguments) as fresh:
                fresh.call("clips", prompts=PROMPTS, duration=plan.batch_s)
                figures["musicgen, batch, peak"].append(fresh.call("peak")["bytes"])
            if onnx:
                measure_native(figures, engine, onnx, engine_arguments, plan)
            if has_torch:
                answer = references["transformers"].call("clips", prompts=PROMPTS, duration=plan.batch_s)
                figures["transformers, batch, s"].append(answer["seconds"])
                figures["imports of transformers, s"].append(time_python("-c", IMPORTS))
            figures["nano, s"].append(time_nano(plan.nano_s, engine_arguments[-1]))
            if is_native:
                figures["nano on onnx, s"].append(time_nano(plan.nano_s, "onnx"))


def start_openvino(stack: ExitStack, model: Path, seconds: float) -> Worker | None:
    """Start OpenVINO for clips of this duration, if it is installed; the converted model is kept beside the other."""
    if not all(importlib.util.find_spec(name) for name in ("openvino", "nncf")):
        log("openvino and nncf aren't installed: the comparison with them is left out")
        return None
    arguments = ("openvino", str(model), str(model.parent / "openvino"), str(seconds))
    worker = stack.enter_context(Worker(*arguments, module="benchmarks.openvino_peer"))
    for prompts in (PROMPTS[:1], PROMPTS):
        worker.call("clips", prompts=prompts)
    return worker


def measure_native(figures: Rounds, engine: Worker, onnx: Worker, arguments: tuple[str, ...], plan: Plan) -> None:
    """Compare the native engine with ONNX Runtime, with one thread beside a busy core, and its instruction sets."""
    for rows in (2, 16):
        for name, worker in (("onnx", onnx), ("native", engine)):
            seconds = worker.call("step", rows=rows, position=POSITION, count=STEPS)["seconds"]
            figures[f"{name}, step of {rows} rows, s"].append(seconds)
    figures["onnx, s"].append(onnx.call("clips", prompts=PROMPTS[:1], duration=plan.short_s)["seconds"])
    figures["onnx, batch, s"].append(onnx.call("clips", prompts=PROMPTS, duration=plan.batch_s)["seconds"])
    clip = {"prompts": PROMPTS[:1], "duration": plan.short_s}
    with Worker(*arguments, "1") as single:
        single.call("clips", prompts=PROMPTS[:1], duration=0.5)
        alone = single.call("clips", **clip)
        figures["native, one thread, s"].append(alone["seconds"])
        figures["native, one thread beside a busy core, s"].append(single.call("busy_clip", **clip)["seconds"])
    figures["native, beside a busy core, s"].append(engine.call("busy_clip", **clip)["seconds"])
    figures["same bytes with one thread"].append(alone["sha256"] == engine.call("clips", **clip)["sha256"])
    expected = engine.call("clips", prompts=PROMPTS[:1], duration=0.5)["sha256"]
    for isa, number in library.INSTRUCTION_SETS.items():
        if not library.load().mg_has_isa(number):
            continue
        with Worker(*arguments, env={library.ISA_VARIABLE: isa}) as worker:
            made = worker.call("clips", prompts=PROMPTS[:1], duration=0.5)["sha256"]
            figures["same bytes with each instruction set"].append(made == expected)
            for rows in (2, 16):
                seconds = worker.call("step", rows=rows, position=POSITION, count=STEPS)["seconds"]
                figures[f"{isa}, step of {rows} rows, s"].append(seconds)


def time_nano(duration: float, engine: str) -> float:
    """Return the seconds that `musicgen generate` takes to make and store a clip of the bundled model."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--model", "nano", "--engine", engine, "-q", "-d", str(duration))
        command = ("-m", "musicgen_cli", "generate", "--local", *options)
        return time_python(*command, PROMPTS[0], MUSICGEN_STORE=folder)


def time_python(*arguments: str, **env: str) -> float:
    """Return the seconds that a Python process takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=os.environ | env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def log(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
