"""
Make the same takes three ways, each from the shell: a batch, a loop of `generate --local`, and calls of the service.

    python benchmarks/takes.py [--takes 300] [--rounds 3] [--duration 2] [--model nano]

In each round every way makes its share of the takes in turn, so that all have the same weather; each has a store of its
own. The service is a `musicgen serve` with its model loaded, asked by one `musicgen generate` after the other, and by
`musicgen batch` with four requests at once. Prints takes a minute (median, min, max of the rounds) and the ratio to the
loop of `generate --local`. Stops with an error if a way made other sound than the first for a prompt and seed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from musicgen_cli.store import Store

MUSICGEN = (sys.executable, "-m", "musicgen_cli")
PROMPTS = ("calm ambient piano", "energetic techno beat with synthesizers", "ambient electronic with soft pads")


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--takes", type=int, default=300)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--duration", type=float, default=2.0)
    words.add_argument("--model", default="nano")
    asked = words.parse_args()
    each = asked.takes // asked.rounds
    local = ("--local", "--model", asked.model)
    with tempfile.TemporaryDirectory() as scratch, serving(asked.model) as url:
        top = Path(scratch)
        ways = {
            "generate --local, in a loop": lambda rows, store: loop(rows, store, local),
            "generate --url, in a loop": lambda rows, store: loop(rows, store, ("--url", url)),
            "batch --url --jobs 4": lambda rows, store: batch(rows, store, ("--url", url, "--jobs", "4")),
            "batch --local": lambda rows, store: batch(rows, store, local),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(asked.rounds):
            rows = [
                {"prompt": PROMPTS[i % len(PROMPTS)], "seed": i, "duration": asked.duration}
                for i in range(number * each, (number + 1) * each)
            ]
            for place, (way, run) in enumerate(ways.items()):
                started = time.perf_counter()
                run(rows, top / str(place))
                seconds[way].append(time.perf_counter() - started)
                print(f"round {number + 1}: {way}: {seconds[way][-1]:.1f} s", file=sys.stderr, flush=True)
        first, *others = (sounds(top / str(place)) for place in range(len(ways)))
        if len(first) != each * asked.rounds or any(other != first for other in others):
            sys.exit("the ways made different takes")
    base = statistics.median(next(iter(seconds.values())))
    print(f"{each * asked.rounds} takes of {asked.model}, {asked.duration:g} s each, {os.cpu_count()} processors")
    print(f"{'':32}{'takes a minute':>16}{'min':>8}{'max':>8}{'x':>7}")
    for way, of_way in seconds.items():
        rates = sorted(60 * each / took for took in of_way)
        print(
            f"{way:32}{statistics.median(rates):>16.0f}{rates[0]:>8.0f}{rates[-1]:>8.0f}"
            f"{base / statistics.median(of_way):>7.1f}"
        )


def loop(rows: Sequence[dict[str, object]], store: Path, means: Sequence[str]) -> None:
    """Start a process for each take, as a shell's loop does."""
    for row in rows:
        shape = ("--seed", str(row["seed"]), "-d", str(row["duration"]))
        run([*MUSICGEN, "generate", str(row["prompt"]), *shape, *means, "-q", "--store", str(store)])


def batch(rows: Sequence[dict[str, object]], store: Path, means: Sequence[str]) -> None:
    """Make all by one process."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    run([*MUSICGEN, "batch", "-", *means, "-q", "--store", str(store)], text)


def run(words: Sequence[str], text: str = "") -> None:
    subprocess.run(words, check=True, input=text, text=True, stdout=subprocess.DEVNULL)


def sounds(store: Path) -> dict[tuple[str, int | None], str]:
    """Return the hash of each take's sound by prompt and seed."""
    return {(take.prompt, take.seed): take.content_hash for take in Store(store).newest(None)}


@contextmanager
def serving(model: str) -> Iterator[str]:
    """Run a service; yields its address."""
    words = [*MUSICGEN, "serve", "--model", model, "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as service:
        try:
            assert service.stderr is not None
            url = next(line.split()[-1] for line in service.stderr if "serving on" in line)
            threading.Thread(target=service.stderr.read, daemon=True).start()  # its log must not fill the pipe
            yield url
        finally:
            service.terminate()


if __name__ == "__main__":
    main()
