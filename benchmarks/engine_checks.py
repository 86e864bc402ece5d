"""What `benchmarks.engine` checks: each figure with its bound, and the table that is printed."""

from __future__ import annotations

import datetime as dt
import json
import platform
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine import hardware

BITS = {"fp32": 32, "bf16": 16, "int8": 8}  # of a weight

Rounds = dict[str, list[float]]  # the name of a figure → its value in each round

BUSY, BUSY_ONE_THREAD = "native, beside a busy core, s", "native, one thread beside a busy core, s"
ONNX_STEP, AVX2_STEP = ({rows: f"{name}, step of {rows} rows, s" for rows in (2, 16)} for name in ("onnx", "avx2"))


@dataclass(frozen=True)
class Titles:
    """What the names of the figures say: the durations of clips in seconds, and how many there are at once."""

    short_s: float
    long_s: float
    nano_s: float
    at_once: int


@dataclass(frozen=True)
class Check:
    """A row of the table; it is left out if it has no values, as there was nothing to compare with."""

    topic: str
    what: str
    values: list[float]  # one of each round
    bound: float
    goal: float | None = None  # better than the bound
    higher_is_better: bool = False

    def verdict(self) -> str:
        """Say whether the median reaches the bound and the goal."""

        def reaches(limit: float) -> bool:
            value = statistics.median(self.values)
            return value >= limit if self.higher_is_better else value <= limit

        if not reaches(self.bound):
            return "MISSED"
        return "ok" if self.goal is None or reaches(self.goal) else "bound, not goal"


def checks(figures: Rounds, titles: Titles, bytes_per_step: float) -> list[Check]:
    """
    Compare the figures with their bounds.

    Args:
        bytes_per_step: Weights that a step reads.
    """

    def ratio(name: str, base: str) -> list[float]:
        return [value / other for value, other in zip(figures[name], figures[base], strict=False)]

    def gb(name: str) -> list[float]:
        return [size / 1e9 for size in figures[name]]

    max_rates = [bandwidth / bytes_per_step for bandwidth in figures["bandwidth"]]
    rates = figures["musicgen, decoder alone, steps/s"]
    share = [rate / most for rate, most in zip(rates, max_rates, strict=True)]
    short, long, nano = (f"{seconds:g} s clip" for seconds in (titles.short_s, titles.long_s, titles.nano_s))
    at_once = f"{titles.at_once} at once"
    higher = [  # is better
        ("1 exact", f"same WAV alone and {at_once}", figures["same bytes"], 1, None),
        ("1 exact", f"same WAVs when {titles.at_once} join one by one", figures["same bytes when they join"], 1, None),
        ("1 exact", "same WAV with one thread", figures["same bytes with one thread"], 1, None),
        ("1 exact", "same WAV, each instruction set", figures["same bytes with each instruction set"], 1, None),
        ("2 one clip", f"{short}, x transformers", ratio("transformers, s", "musicgen, s"), 15, 20),
        ("2 one clip", f"{short}, x quantize_dynamic", ratio("quantize_dynamic, s", "musicgen, s"), 2, 3),
        ("2 one clip", f"{short}, decoder, share of the bandwidth", share, 0.75, 0.85),
        (
            "2 one clip",
            "x OpenVINO int8",
            ratio("openvino, one of the batch, s", "musicgen, one of the batch, s"),
            1,
            None,
        ),
        ("3 long clip", f"{long}, steps/s with sound", figures["musicgen, long, steps/s"], 50, 65),
        ("3 long clip", f"share of the {short}'s", ratio("musicgen, long, steps/s", "musicgen, steps/s"), 0.8, 0.95),
        ("4 many clips", f"{at_once}, x transformers", ratio("transformers, batch, s", "musicgen, batch, s"), 5, 8),
        ("4 many clips", f"{at_once}, x OpenVINO int8", ratio("openvino, batch, s", "musicgen, batch, s"), 1, None),
        ("5 busy core", "x one thread beside the same", ratio(BUSY_ONE_THREAD, BUSY), 0.8, None),
        ("5 busy core", "x one thread on a free machine", ratio("native, one thread, s", BUSY), 0.8, None),
        ("6 AVX2", "step of 2 rows, x ONNX Runtime", ratio(ONNX_STEP[2], AVX2_STEP[2]), 1.8, None),
        ("6 AVX2", "step of 16 rows, x ONNX Runtime", ratio(ONNX_STEP[16], AVX2_STEP[16]), 1.2, None),
    ]
    lower = [
        ("1 exact", "logits in fp32, largest error / spread", figures["logits"], 1e-3),
        ("1 exact", "mean KL from fp32, guided, nats", figures["KL"], 0.010),
        ("1 exact", "samples by chunks, largest error / peak", figures["samples"], 1e-3),
        ("7 memory", f"{long}, peak, GB", gb("musicgen, long, peak"), 0.9),
        ("7 memory", f"{at_once}, peak, GB", gb("musicgen, batch, peak"), 1.5),
        ("7 latency", "first half second, in steps' time", figures["musicgen, first half second, steps"], 45),
        ("7 latency", f"nano, {nano}, start to stored take, s", figures["nano, s"], 2.5),
        ("7 latency", f"nano, {nano}, x the time on ONNX Runtime", ratio("nano, s", "nano on onnx, s"), 1),
    ]
    found = [Check(*row, higher_is_better=True) for row in higher] + [Check(*row) for row in lower]
    return sorted(found, key=lambda check: check.topic[0])


def report(figures: Rounds, model: Path, precision: str, titles: Titles) -> None:
    """Print the hardware, the table, and the figures behind it."""
    decoder = Shape.of(json.loads((model / "config.json").read_bytes())).decoder
    layer = 6 * decoder.width**2 + 2 * decoder.width * decoder.ffn  # cross-attention: query and output alone
    weights = decoder.layers * layer + decoder.codebooks * decoder.vocab * decoder.width
    bytes_per_step = weights * BITS[precision] / 8
    print(f"\n{processor()}, {hardware.cores()} cores, {dt.datetime.now():%Y-%m-%d %H:%M}, {platform.platform()}")
    print(
        f"engine in {precision}: a step reads {bytes_per_step / 1e6:.0f} MB of weights (keys and values, which it also "
        f"reads, aren't counted); the memory is read at {spread([b / 1e9 for b in figures['bandwidth']])} GB/s"
    )
    print(f"\n{'':14}{'':46}{'median (least-most)':>26}{'bound':>9}{'goal':>7}")
    for check in checks(figures, titles, bytes_per_step):
        if check.values:
            bounds = f"{check.bound:>9g}{'' if check.goal is None else check.goal:>7}"
            print(f"{check.topic:14}{check.what:46}{spread(check.values):>26}{bounds}  {check.verdict()}")
    print("\ncomputed from:")
    for name, values in figures.items():
        if values:
            print(f"  {name:40}{spread(values):>34}")


def spread(values: list[float]) -> str:
    """Format the median, the least and the largest of some values."""
    middle = f"{statistics.median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g}-{max(values):.3g})"


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return name[1] if name else platform.processor()
