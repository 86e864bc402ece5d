"""
Measure how soon the command line answers.

    python -m benchmarks.startup [--rounds 25] [--takes 100000]

`--help` and `list` are compared with `python -c "import typer"`, and the completion of ids with `--version`; the store
has 100,000 takes. All commands run once in each round. What counts is the ratio, whose bounds are in BOUNDS.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.store import ArtifactDraft, Store
from musicgen_cli.store.digest import make_id
from musicgen_cli.store.journal import INDEX
from musicgen_cli.store.lines import encode

COMMANDS = {
    "import typer": ["-c", "import typer"],
    "--help": ["-m", "musicgen_cli", "--help"],
    "list": ["-m", "musicgen_cli", "list"],
    "--version": ["-m", "musicgen_cli", "--version"],
    "complete ids": ["-m", "musicgen_cli", "show", "artifact_"],
}
ENVIRONMENT = {"complete ids": {"_MUSICGEN_COMPLETE": "takes"}}
BASELINES = {"complete ids": "--version"}  # else "import typer"
BOUNDS = {"--help": 1.15, "list": 1.5, "complete ids": 1.3}


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.startup", description="Measure how soon the command line answers."
    )
    parser.add_argument("--rounds", type=int, default=25, help="[25]")
    parser.add_argument("--takes", type=int, default=100_000, help="in the store [100000]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # An installed program has its bytecode: let the first, uncounted round write it.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env |= {"MUSICGEN_STORE": folder, "XDG_CONFIG_HOME": folder}
        fill(Path(folder), options.takes)
        seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for i in range(options.rounds + 1):
            for name, arguments in COMMANDS.items():
                command_env = env | ENVIRONMENT.get(name, {})
                started = time.perf_counter()
                subprocess.run([sys.executable, *arguments], env=command_env, check=True, stdout=subprocess.DEVNULL)
                if i:
                    seconds[name].append(time.perf_counter() - started)
    print(
        f"{options.rounds} rounds, {options.takes} takes, Python {sys.version.split()[0]}, {os.cpu_count()} processors"
    )
    print(f"{'':14}{'median s':>10}{'min':>8}{'max':>8}{'ratio':>8}{'bound':>8}")
    for name, times in seconds.items():
        baseline = seconds[BASELINES.get(name, "import typer")]
        ratio = statistics.median(own / base for own, base in zip(times, baseline, strict=True))
        bound = f"{BOUNDS[name]:>8}" if name in BOUNDS else ""
        print(f"{name:14}{statistics.median(times):10.3f}{min(times):8.3f}{max(times):8.3f}{ratio:8.2f}{bound}")


def fill(folder: Path, takes: int) -> None:
    """Make a store of one sound and many takes; its index has the lines that putting them one by one would append."""
    store = Store(folder)
    sound = pcm16_wav(bytes(2000), sample_rate=32_000, channels=1)
    first = store.put(sound, ArtifactDraft(tags=("type:audio",), prompt="take", params={}, creator="me", origin={}))
    with (folder / INDEX).open("ab") as index:
        for i in range(1, takes):
            digest = hashlib.sha256(i.to_bytes(4, "little")).hexdigest()
            record = {**first.record, "id": make_id(digest[:12], 1), "content_hash": digest, "prompt": f"take {i}"}
            index.write(encode({"op": "put", **record}))


if __name__ == "__main__":
    main()
