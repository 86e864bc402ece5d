"""
Compare the local engine with MusicGen on OpenVINO: one clip, and eight at once.

    pip install openvino nncf
    python -m benchmarks.peers [--engine native] [--rounds 3] [--seconds 3] [--cache FOLDER]

OpenVINO is what came closest in a comparison with other ways to run the model on these processors; see
`openvino_peer`. The model is the random one of `benchmarks.engine`, which makes it; the conversion for OpenVINO is kept
beside it. Each engine runs in a process of its own, rounds are interleaved, and the ratios are taken within a round.
Needs the extras local and torch, and 12 GB of memory. Takes ten minutes on two cores, the first time.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from benchmarks.engine import PROMPTS, Worker, default_cache, log, random_model
from benchmarks.engine_checks import Rounds, processor, spread
from musicgen_cli.engine import hardware

COUNTS = (1, len(PROMPTS))  # clips at once


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.peers", description="Compare the local engine with MusicGen on OpenVINO."
    )
    parser.add_argument("--rounds", type=int, default=3, help="[3]")
    parser.add_argument("--seconds", type=float, default=3, help="duration of a clip [3]")
    parser.add_argument("--engine", choices=("native", "onnx"), default="native", help="the one to compare [native]")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder for the models and their graphs")
    options = parser.parse_args()
    model = random_model(options.cache)
    os.environ["XDG_CACHE_HOME"] = str(model.parent)  # the workers' graphs go there
    figures: Rounds = defaultdict(list)
    with ExitStack() as stack:
        engine = stack.enter_context(Worker("musicgen", str(model), "int8", options.engine))
        peer = stack.enter_context(
            Worker(
                *("openvino", str(model), str(model.parent / "openvino"), str(options.seconds)),
                module="benchmarks.openvino_peer",
            )
        )
        for number in range(options.rounds + 1):
            log(f"round {number} of {options.rounds}" if number else "the first clips, which aren't counted")
            for count in COUNTS:
                ours = engine.call("clips", prompts=PROMPTS[:count], duration=options.seconds)
                theirs = peer.call("clips", prompts=PROMPTS[:count])
                if number:
                    figures[f"musicgen, {count} at once, s"].append(ours["seconds"])
                    figures[f"OpenVINO, {count} at once, s"].append(theirs["seconds"])
                    figures[f"OpenVINO's time / musicgen's, {count} at once"].append(
                        theirs["seconds"] / ours["seconds"]
                    )
        for name, worker in (("musicgen", engine), ("OpenVINO", peer)):
            figures[f"{name}, peak memory, GB"].append(worker.call("peak")["bytes"] / 1e9)
    print(f"\n{processor()}, {hardware.cores()} cores, {dt.datetime.now():%Y-%m-%d %H:%M}, {platform.platform()}")
    print(f"clips of {options.seconds:g} s; the median of {options.rounds} rounds, the least and the largest")
    for name, values in figures.items():
        print(f"{name:50}{spread(values):>30}")


if __name__ == "__main__":
    main()
