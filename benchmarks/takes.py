"""
Compare four ways to make the same takes from the shell: `batch` and a loop around `generate`, locally and by a service.

    python -m benchmarks.takes [--takes 300] [--rounds 3] [--duration 2] [--model nano]

The service is a `musicgen serve` on the same machine whose model is loaded; `batch` sends it four requests at once.
Each way has a store of its own. The takes are divided over the rounds, and in each round the ways take turns. Printed
are the takes a minute (median, least and largest of the rounds) and the ratio to a loop around `generate --local`. Ends
with an error unless all ways made the same sound for each prompt and seed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.processes import MUSICGEN, running_server
from musicgen_cli.store import Store

PROMPTS = ("calm ambient piano", "energetic techno beat with synthesizers", "ambient electronic with soft pads")


Row = dict[str, object]  # of a batch
Way = Callable[[Sequence[Row], Path], None]  # makes takes in a store


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.takes", description="Compare ways to make many takes.")
    parser.add_argument("--takes", type=int, default=300, help="[300]")
    parser.add_argument("--rounds", type=int, default=3, help="[3]")
    parser.add_argument("--duration", type=float, default=2.0, help="of each take, in seconds [2]")
    parser.add_argument("--model", default="nano", help="[nano]")
    options = parser.parse_args()
    takes_per_round = options.takes // options.rounds
    serve = ("-m", "musicgen_cli", "serve", "--model", options.model, "--port", "0")
    with tempfile.TemporaryDirectory() as scratch, running_server(*serve) as server:
        top = Path(scratch)
        local, remote = ("--local", "--model", options.model), ("--url", server.url)
        ways: dict[str, Way] = {
            "generate --local, in a loop": partial(generate_each, local),
            "generate --url, in a loop": partial(generate_each, remote),
            "batch --url --jobs 4": partial(batch, (*remote, "--jobs", "4")),
            "batch --local": partial(batch, local),
        }
        stores = {name: top / str(number) for number, name in enumerate(ways)}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(options.rounds):
            rows: list[Row] = [
                {"prompt": PROMPTS[i % len(PROMPTS)], "seed": i, "duration": options.duration}
                for i in range(number * takes_per_round, (number + 1) * takes_per_round)
            ]
            for name, make in ways.items():
                started = time.perf_counter()
                make(rows, stores[name])
                seconds[name].append(time.perf_counter() - started)
                print(f"round {number + 1}: {name}: {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
        first, *others = (sounds(store) for store in stores.values())
        if len(first) != takes_per_round * options.rounds or any(other != first for other in others):
            sys.exit("the ways made different takes")
    print(f"{len(first)} takes of {options.model}, {options.duration:g} s each, {os.cpu_count()} processors")
    report(seconds, takes_per_round)


def report(seconds: dict[str, list[float]], takes_per_round: int) -> None:
    """Print the table; ratios are to the first way."""
    base = statistics.median(next(iter(seconds.values())))
    print(f"{'':32}{'takes a minute':>16}{'min':>8}{'max':>8}{'x':>7}")
    for name, times in seconds.items():
        rates = sorted(60 * takes_per_round / taken for taken in times)
        print(
            f"{name:32}{statistics.median(rates):>16.0f}{rates[0]:>8.0f}{rates[-1]:>8.0f}"
            f"{base / statistics.median(times):>7.1f}"
        )


def generate_each(engine: Sequence[str], rows: Sequence[Row], store: Path) -> None:
    """Start a process for each take, as a loop in the shell does."""
    for row in rows:
        parameters = ("--seed", str(row["seed"]), "-d", str(row["duration"]))
        run([*MUSICGEN, "generate", str(row["prompt"]), *parameters, *engine, "-q", "--store", str(store)])


def batch(engine: Sequence[str], rows: Sequence[Row], store: Path) -> None:
    """Make all takes in one process."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    run([*MUSICGEN, "batch", "-", *engine, "-q", "--store", str(store)], lines)


def run(command: Sequence[str], stdin: str = "") -> None:
    """Run a command; raise an error if it fails."""
    subprocess.run(command, check=True, input=stdin, text=True, stdout=subprocess.DEVNULL)


def sounds(store: Path) -> dict[tuple[str, int | None], str]:
    """Return the digest of each take's sound, by prompt and seed."""
    return {(take.prompt, take.seed): take.content_hash for take in Store(store).newest(None)}


if __name__ == "__main__":
    main()
