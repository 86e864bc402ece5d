"""
Time how soon the command line answers, in one interleaved run.

`--help` and `list` are held against `python -c "import typer"`, and the completion of ids, with 100,000 takes in the
store, against `--version`. The ratios count, and WANTED are the most they may be. Run it as
`python benchmarks/startup.py [ROUNDS [TAKES]]` in an environment where musicgen-cli is installed.
"""

from __future__ import annotations

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
AGAINST = {"complete ids": "--version"}  # else the first
WANTED = {"--help": 1.3, "list": 1.6, "complete ids": 1.3}
TAKES = 100_000


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    takes = int(sys.argv[2]) if len(sys.argv) > 2 else TAKES
    with tempfile.TemporaryDirectory() as folder:
        # An installed program has its bytecode: let the first, uncounted round write it.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env |= {"MUSICGEN_STORE": folder, "XDG_CONFIG_HOME": folder}
        fill(Path(folder), takes)
        seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for i in range(rounds + 1):
            for name, words in COMMANDS.items():
                own = env | ENVIRONMENT.get(name, {})
                started = time.perf_counter()
                subprocess.run([sys.executable, *words], env=own, check=True, stdout=subprocess.DEVNULL)
                if i:
                    seconds[name].append(time.perf_counter() - started)
    print(f"{rounds} rounds, {takes} takes, Python {sys.version.split()[0]}, {os.cpu_count()} processors")
    print(f"{'':14}{'median s':>10}{'min':>8}{'max':>8}{'ratio':>8}{'wanted':>8}")
    for name, times in seconds.items():
        base = seconds[AGAINST.get(name, next(iter(COMMANDS)))]
        ratio = statistics.median(mine / theirs for mine, theirs in zip(times, base, strict=True))
        wanted = f"{WANTED[name]:>8}" if name in WANTED else ""
        print(f"{name:14}{statistics.median(times):10.3f}{min(times):8.3f}{max(times):8.3f}{ratio:8.2f}{wanted}")


def fill(folder: Path, takes: int) -> None:
    """Make a store of one sound and so many takes; the lines are those that putting them one by one would append."""
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
