"""
Check what long takes and continuations cost, against a take of 30 s.

    python -m benchmarks.long_takes [--model nano | PATH] [--rounds 3]

A take of 120 s has six windows, which read 12 of their 30 s again. So it should take at most 4.4 times the time of a
take of 30 s, and at most 1.1 times its memory; and to read 12 s that were given should take less than a second. Each
take is made by a process of its own, which loads the model before the time is taken. Rounds are interleaved; ratios are
taken within a round, and the median, the least and the largest are printed. Without a path the bundled model is
measured; `benchmarks.engine` makes one of the size of `musicgen-small`, with which this takes five minutes.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.engine import log
from benchmarks.engine_checks import processor
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import hardware
from musicgen_cli.engine.base import NullListener
from musicgen_cli.engine.registry import open_local

PROMPT = "calm ambient piano"
SHORT_S, LONG_S, CONTEXT_S = 30.0, 120.0, 12.0
MOST_TIME, MOST_MEMORY, MOST_PREFILL_S = 4.4, 1.1, 1.0


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.long_takes", description="Check what long takes cost.")
    parser.add_argument("--model", default="nano", help="a name or a folder [nano]")
    parser.add_argument("--rounds", type=int, default=3, help="[3]")
    parser.add_argument("--take", type=float, help=argparse.SUPPRESS)  # in a process of its own: make one
    options = parser.parse_args()
    if options.take is not None:
        _make(options.model, options.take)
        return
    times, memory, prefills = list[float](), list[float](), list[float]()
    for number in range(options.rounds + 1):
        log(f"round {number} of {options.rounds}" if number else "the first takes, which aren't counted")
        short, long = (_in_a_process(options.model, seconds) for seconds in (SHORT_S, LONG_S))
        if number:
            times.append(long["seconds"] / short["seconds"])
            memory.append(long["peak_bytes"] / short["peak_bytes"])
            prefills.append(short["prefill_s"])
    print(f"{options.model}, {processor()}, {hardware.cores()} cores, {dt.datetime.now(dt.UTC):%Y-%m-%d}\n")
    print("| | measured: median (least-largest) | bound | |\n| --- | --- | --- | --- |")
    _row(f"time of {LONG_S:g} s / time of {SHORT_S:g} s", times, MOST_TIME)
    _row(f"memory of {LONG_S:g} s / memory of {SHORT_S:g} s", memory, MOST_MEMORY)
    _row(f"to read {CONTEXT_S:g} s of given codes, with and without the prompt, s", prefills, MOST_PREFILL_S)


def _row(name: str, values: list[float], bound: float) -> None:
    median = statistics.median(values)
    spread = f"{median:.2f} ({min(values):.2f}-{max(values):.2f})"
    print(f"| {name} | {spread} | {bound:g} | {'met' if median <= bound else 'missed'} |")


def _in_a_process(model: str, seconds: float) -> dict[str, float]:
    command = (sys.executable, "-m", "benchmarks.long_takes", "--model", model, "--take", str(seconds))
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)  # our own arguments
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _make(model: str, seconds: float) -> None:
    """Load a model, make one take, and print what it took as JSON."""
    engine = open_local(model, note=log)
    request = GenerateRequest.checked({"prompt": PROMPT, "duration": seconds, "seed": 1})
    started = time.perf_counter()
    engine.generate(request, NullListener())
    took = time.perf_counter() - started
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {"seconds": took, "peak_bytes": peak, "prefill_s": _prefill_s(engine)}
    print(json.dumps(figures))


def _prefill_s(engine: object) -> float:
    """Return the seconds in which both rows of one clip read the codes of CONTEXT_S; the least of three."""
    loaded: Any = engine
    shape = loaded.shape
    count = round(CONTEXT_S * shape.codec.rate / shape.codec.hop)
    tokens = np.random.default_rng(1).integers(0, shape.decoder.vocab, (count, shape.decoder.codebooks))
    decoder = loaded.model.decoder(rows=2, steps=2 * count)
    decoder.set_conditioning(0, loaded.model.encode_text(loaded.tokenize(PROMPT)))
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for row in (0, 1):
            decoder.prefill(row, 0, tokens=tokens)
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
