"""
Test and measure the torch engine on a GPU, and print a table in Markdown that can be pasted into a report.

    pip install -e '.[torch,dev]'
    python -m benchmarks.gpu [--device cuda] [--quick] [--model PATH] [--no-tests]

The tests are those marked `cuda`, run by pytest. Then, in bfloat16 with a random model of exactly musicgen-small's
size: steps a second with 1, 8 and 32 guided clips at once, the share of what the memory's bandwidth allows, the time of
the same clips with `generate()` of transformers, and the peak of the device's memory. The bandwidth is that of a copy
from the device to itself. The first clips aren't counted, and a device is waited for before a time is taken.

Everything runs on the device that is named; with `--device cpu --quick` the same code is tried out without a GPU, on a
tiny random model and in float32. Takes less than five minutes on a GPU; the random model needs 2.4 GB of disk space,
the first time.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engine import PROMPTS, default_cache, log, random_model

if TYPE_CHECKING:
    import torch

CLIPS = (1, 8, 32)  # at once
GUIDANCE = 3.0
TESTS_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    clips: tuple[int, ...]
    seconds: float  # of a clip
    copied: int  # bytes of each copy from the device to itself
    rounds: int


FULL = Plan(CLIPS, seconds=5, copied=1 << 30, rounds=3)
QUICK = Plan((1, 2), seconds=0.5, copied=1 << 24, rounds=1)


@dataclass(frozen=True)
class Row:
    """What was measured with some clips at once."""

    clips: int
    steps_s: float
    seconds: float
    theirs_s: float  # transformers
    share: float  # of the steps a second that reading the weights allows
    peak_bytes: int | None


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description="Test and measure the engine on a GPU.")
    parser.add_argument("--device", choices=("cuda", "mps", "cpu"), default="cuda", help="[cuda]")
    parser.add_argument("--quick", action="store_true", help="a tiny model, short clips: only whether it works")
    parser.add_argument("--model", type=Path, help="folder of a model with its weights, instead of a random one")
    parser.add_argument("--no-tests", action="store_true", help="leave out the tests")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder for the random model")
    options = parser.parse_args()
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        raise SystemExit("torch and transformers aren't installed: pip install -e '.[torch]'")
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[options.device]:
        raise SystemExit(f"torch {torch.__version__} finds no {options.device} on this machine")
    tests = "" if options.no_tests else run_tests(options.device)
    with tempfile.TemporaryDirectory() as folder:
        if options.model:
            model = options.model
        elif options.quick:
            model = tiny_model(Path(folder) / "tiny")
        else:
            model = random_model(options.cache)
        plan = QUICK if options.quick else FULL
        print(report(model, options.device, plan, tests))


def run_tests(device: str) -> str:
    """
    Run the engine's tests on a device; return pytest's last line.

    Raises:
        SystemExit: One failed.
    """
    marker, what = ("cuda", ["tests/engine"]) if device == "cuda" else ("oracle", ["tests/engine/torch/test_engine.py"])
    log(f"tests marked {marker}")
    words = [sys.executable, "-m", "pytest", "-q", "-m", marker, "-p", "no:cacheprovider", *what]
    root = Path(__file__).parent.parent
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False, timeout=TESTS_TIMEOUT_S)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\nthe engine's tests failed on {device}")
    return done.stdout.strip().splitlines()[-1]


def report(model: Path, device: str, plan: Plan, tests: str) -> str:
    """Measure everything; return the table."""
    import torch

    precision = "bf16" if device == "cuda" else "fp32"
    bandwidth = copy_bandwidth(torch.device(device), plan.copied)
    rows = [measure(model, device, precision, plan, clips, bandwidth) for clips in plan.clips]
    versions = f"{driver(device)}torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}"
    what = f"{model.name}, clips of {plan.seconds:g} s in {precision}, the best of {plan.rounds} rounds"
    lines = [
        f"**{device_name(device)}**, {versions}, {dt.date.today():%Y-%m-%d}",
        "",
        f"`python -m benchmarks.gpu`: {what}; the memory copies {bandwidth / 1e9:.0f} GB/s (read and written).",
        *(["", f"Tests: {tests.strip('= ')}"] if tests else []),
        "",
        "| clips at once | steps/s | share of the bandwidth | seconds of sound a second | x transformers | peak |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.2f} GB"
        lines.append(
            f"| {row.clips} | {row.steps_s:.0f} | {row.share:.2f} | {row.clips * plan.seconds / row.seconds:.1f} "
            f"| {row.theirs_s / row.seconds:.1f} | {peak} |"
        )
    return "\n".join(lines)


def measure(model: Path, device: str, precision: str, plan: Plan, clips: int, bandwidth: float) -> Row:
    """Make some clips at once, with the engine and with transformers, which are loaded one after the other."""
    log(f"{clips} at once")
    with opened(model, device, precision, clips) as engine:
        steps, weights = engine_steps(engine, plan.seconds), weight_bytes(engine, precision)
        seconds, peak = timed(lambda: make_clips(engine, clips, plan.seconds), device, plan.rounds)
    theirs = reference(model, device, precision)
    theirs_s, _ = timed(lambda: theirs(clips, steps), device, plan.rounds)
    blocks = -(-2 * clips // 8)  # a block of eight rows reads the weights once
    return Row(clips, steps / seconds, seconds, theirs_s, steps / seconds * blocks * weights / bandwidth, peak)


def timed(run: Callable[[], None], device: str, rounds: int) -> tuple[float, int | None]:
    """Run once uncounted, then some times; return the least time, and the peak of the device's memory if it has any."""
    import torch

    run()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    best = float("inf")
    for _ in range(rounds):
        wait_for(device)
        started = time.perf_counter()
        run()
        wait_for(device)
        best = min(best, time.perf_counter() - started)
    return best, torch.cuda.max_memory_allocated() if device == "cuda" else None


@contextmanager
def opened(model: Path, device: str, precision: str, clips: int) -> Iterator[Any]:
    """Load the engine."""
    from musicgen_cli.engine.registry import open_local

    engine: Any = open_local(str(model), engine="torch", device=device, precision=precision, slots=clips, note=log)
    try:
        yield engine
    finally:
        engine.close()


def make_clips(engine: Any, clips: int, seconds: float) -> None:
    """Make some clips at once, from prompts to samples."""
    from musicgen_cli.contract import GenerateRequest
    from musicgen_cli.engine.base import NullListener

    requests = [
        GenerateRequest(prompt=PROMPTS[seed % len(PROMPTS)], duration=seconds, seed=seed, guidance_scale=GUIDANCE)
        for seed in range(clips)
    ]
    with ThreadPoolExecutor(clips) as pool:
        list(pool.map(lambda request: engine.generate(request, NullListener()), requests))


def engine_steps(engine: Any, seconds: float) -> int:
    """Return the decoder steps of a clip."""
    from musicgen_cli.engine.decoding.delay_pattern import num_frames, num_samples

    codec, decoder = engine.shape.codec, engine.shape.decoder
    delayed: int = decoder.codebooks // decoder.channels - 1
    return num_frames(num_samples(seconds, codec.rate), codec.hop) + delayed


def weight_bytes(engine: Any, precision: str) -> int:
    """Return the weights that a step reads; keys and values aren't counted."""
    shape = engine.shape.decoder
    layer = 6 * shape.width**2 + 2 * shape.width * shape.ffn  # cross-attention: query and output alone
    weights: int = shape.layers * layer + shape.codebooks * shape.vocab * shape.width
    return weights * (2 if precision == "bf16" else 4)


def reference(model: Path, device: str, precision: str) -> Callable[[int, int], None]:
    """Load the model into transformers; return a function that makes so many clips of so many steps."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer

    hf.utils.logging.set_verbosity_error()
    hf.utils.logging.disable_progress_bar()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    loaded: Any = hf.MusicgenForConditionalGeneration.from_pretrained(model, dtype=dtype).eval().to(device)
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.enable_padding()

    def make(clips: int, steps: int) -> None:
        texts = tokenizer.encode_batch([PROMPTS[number % len(PROMPTS)] for number in range(clips)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded.generate(
                input_ids=torch.tensor([text.ids for text in texts], device=device),
                attention_mask=torch.tensor([text.attention_mask for text in texts], device=device),
                do_sample=True,
                guidance_scale=GUIDANCE,
                max_new_tokens=steps,
            )

    return make


def copy_bandwidth(device: torch.device, size: int) -> float:
    """Return the bytes a second that the device's memory reads and writes while it copies, the best of ten."""
    import torch

    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(11):
        wait_for(device.type)
        started = time.perf_counter()
        target.copy_(source)
        wait_for(device.type)
        best = min(best, time.perf_counter() - started)
    return 2 * size / best


def wait_for(device: str) -> None:
    """Wait until a device has done what it was given."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def device_name(device: str) -> str:
    import torch

    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        return f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
    return {"cpu": "the processor, no GPU"}.get(device, device)


def driver(device: str) -> str:
    """Return the version of the driver, as the beginning of a list; nothing if there is none."""
    if device != "cuda":
        return ""
    import torch

    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
        version = done.stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        version = "unknown"
    return f"driver {version}, CUDA {torch.version.cuda}, "


def tiny_model(folder: Path) -> Path:
    """Make a tiny random model with the shape of a published one, and a tokenizer that knows the prompts' words."""
    from benchmarks.engine_worker import save_model
    from tests.support.oracle import MODELS, random_model

    words = {word for prompt in PROMPTS for word in prompt.replace(",", " ,").split()}
    text, decoder, codec = MODELS["as published"]
    save_model(random_model(0, {**text, "vocab_size": len(words) + 3}, decoder, codec), folder, words)
    return folder


if __name__ == "__main__":
    main()
