"""
Time how soon the command line answers: `--help` and `list` against `python -c "import typer"`, in one interleaved run.

The ratio is what counts; wanted are at most 1.3 for `--help` and 1.6 for `list`. Run it as
`python benchmarks/startup.py [ROUNDS]` in an environment where musicgen-cli is installed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from musicgen_cli.store import Draft, Store
from musicgen_cli.wav import pcm16_wav

COMMANDS = {
    "import typer": ["-c", "import typer"],
    "--help": ["-m", "musicgen_cli", "--help"],
    "list": ["-m", "musicgen_cli", "list"],
}
WANTED = {"--help": 1.3, "list": 1.6}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    with tempfile.TemporaryDirectory() as folder:
        # An installed program has its bytecode: let the first, uncounted round write it.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env |= {"MUSICGEN_STORE": folder, "XDG_CONFIG_HOME": folder}
        fill(Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for i in range(rounds + 1):
            for name, words in COMMANDS.items():
                started = time.perf_counter()
                subprocess.run([sys.executable, *words], env=env, check=True, stdout=subprocess.DEVNULL)
                if i:
                    seconds[name].append(time.perf_counter() - started)
    base = seconds["import typer"]
    print(f"{rounds} rounds, Python {sys.version.split()[0]}, {os.cpu_count()} processors")
    print(f"{'':14}{'median s':>10}{'min':>8}{'max':>8}{'ratio':>8}{'wanted':>8}")
    for name, times in seconds.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(times, base, strict=True))
        wanted = f"{WANTED[name]:>8}" if name in WANTED else ""
        print(f"{name:14}{statistics.median(times):10.3f}{min(times):8.3f}{max(times):8.3f}{ratio:8.2f}{wanted}")


def fill(folder: Path) -> None:
    """Make a store with a screenful of takes."""
    store = Store(folder)
    for i in range(100):
        sound = pcm16_wav(i.to_bytes(2, "little") * 1000, sample_rate=32_000, channels=1)
        store.put(sound, Draft(tags=("type:audio",), prompt=f"take {i}", params={}, creator="me", origin={}))


if __name__ == "__main__":
    main()
