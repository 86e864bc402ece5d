"""`python -m benchmarks.gpu`, which few can run, with a tiny model on the CPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("transformers", reason="needs the extra torch")
pytest.importorskip("onnxruntime", reason="needs the extra local")

from tests.support.programs import environment

TIMEOUT_S = 500.0

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(560)]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "benchmarks.gpu", *options]
    env = environment() | {"OMP_NUM_THREADS": "1"}  # test processes share the cores
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=env)


def test_it_prints_a_table_in_markdown() -> None:
    """A row for each number of clips at once, under a line that names the device and the versions."""
    done = run("--device", "cpu", "--quick", "--no-tests")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    header = next(at for at, line in enumerate(lines) if line.startswith("| clips at once |"))
    rows = [line.strip("| ").split(" | ") for line in lines[header + 2 :]]

    assert lines[0].startswith(f"**the processor, no GPU**, torch {torch.__version__}, Python 3.")
    assert [row[0] for row in rows] == ["1", "2"]
    assert all(float(value) >= 0 for row in rows for value in row[:-1])
    assert all(float(row[1]) > 0 and float(row[4]) > 0 for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_a_line() -> None:
    """Before anything is made or measured."""
    done = run()

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"torch {torch.__version__} finds no cuda on this machine"
