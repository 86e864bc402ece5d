"""Mutated files of every kind are read or refused with a sentence, in bounded time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bounded import MOST_BYTES, run_bounded
from tests.support.fuzz import CASE_S, TARGETS, inputs
from tests.support.programs import environment

SEED = os.environ.get("FUZZ_SEED", "musicgen")
# Together they take half a minute on an idle machine; each import of a take waits for the disk.
COUNTS = dict.fromkeys(TARGETS, 400) | {"sidecar": 40, "wav": 80, "index": 300}
_LONGER = float(os.environ.get("FUZZ_FACTOR", "1"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TARGETS)
def test_a_mutated_file_does_no_harm(name: str, tmp_path: Path) -> None:
    """Neither a traceback, nor a hang, nor more memory than reading a file may take."""
    count = round(COUNTS[name] * _LONGER)
    words = [sys.executable, "-m", "tests.support.fuzz", name, SEED, str(count), str(tmp_path)]

    done = run_bounded(words, timeout_s=CASE_S + count, env=environment() | {"HOME": str(tmp_path)})

    shown = f"the input is {(tmp_path / 'input').read_bytes()[:5000]!r}"
    assert done.code == 0, f"{done.err[-3000:]}\n{shown}"
    assert "panicked" not in done.err, f"{done.err[:500]}\n{shown}"
    assert done.peak_bytes < MOST_BYTES, shown


@pytest.mark.parametrize("name", TARGETS)
def test_the_inputs_of_a_seed_are_always_the_same(name: str) -> None:
    """So a failure can be repeated; and another seed has others."""
    first = [*inputs(TARGETS[name], SEED, 3)]

    if name != "job":  # whose sample has the time in it
        assert [*inputs(TARGETS[name], SEED, 3)] == first
    assert [*inputs(TARGETS[name], f"{SEED} 2", 3)] != first


def test_a_bug_would_be_found(tmp_path: Path) -> None:
    """What reads a file with an error of its own ends with it, and leaves the input."""
    program = (
        "import sys; from pathlib import Path; from tests.support import fuzz\n"
        "def read(folder, data):\n    data.decode('ascii')\n    1 / (len(data) % 7)\n"
        "fuzz.TARGETS['card'] = fuzz.Target(lambda: b'abc', False, read)\n"
        "fuzz.main('card', 'x', 100, Path(sys.argv[1]))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment(), capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "Error" in done.stderr
    assert (tmp_path / "input").exists()
