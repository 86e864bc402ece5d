"""How much memory packing weights takes."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from tests.support.outliers import CODEBOOKS, FFN, VOCAB, WIDTH, write_config

LAYERS = 8
MOST_BYTES = 200_000_000  # beside what Python and numpy take; the weights are more than twice as much
TIMEOUT_S = 100.0

# The limit counts private memory that can be written, and so neither mapped weights nor the page cache.
PACK = """
import resource, sys
from pathlib import Path
from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.native.weights import write_weights
checkpoint = find_checkpoint(sys.argv[1], Path(sys.argv[1]))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
before = int(status["VmData"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (before + int(sys.argv[3]),) * 2)
write_weights(Path(sys.argv[2]), Shape.of(checkpoint.config).decoder, checkpoint.tensors(), positions=9)
"""


def decoder_tensors() -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a decoder of musicgen-small's width."""
    name = "decoder.model.decoder"
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.embed_tokens.{k}.weight": (VOCAB + 1, WIDTH) for k in range(CODEBOOKS)
    }
    shapes |= {f"decoder.lm_heads.{k}.weight": (VOCAB, WIDTH) for k in range(CODEBOOKS)}
    norms = [f"{name}.layer_norm"]
    for layer in (f"{name}.layers.{i}" for i in range(LAYERS)):
        for attention in ("self_attn", "encoder_attn"):
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes[f"{layer}.{attention}.{part}.weight"] = (WIDTH, WIDTH)
        shapes |= {f"{layer}.fc1.weight": (FFN, WIDTH), f"{layer}.fc2.weight": (WIDTH, FFN)}
        norms += [f"{layer}.{norm}" for norm in ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")]
    return shapes | {f"{norm}.{part}": (WIDTH,) for norm in norms for part in ("weight", "bias")}


def write_zeros(folder: Path, nano: Checkpoint) -> int:
    """Write a checkpoint whose weights are all 0, and take no room on most disks; return their bytes."""
    write_config(folder, LAYERS, nano.directory)
    header, size = {}, 0
    for name, shape in decoder_tensors().items():
        end = size + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [size, end]}
        size = end
    content = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(content)) + content)
        file.truncate(8 + len(content) + size)
    return size


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_packing_takes_the_memory_of_a_few_matrices(tmp_path: Path, nano: Checkpoint) -> None:
    """However many layers there are: one tensor is in memory at a time."""
    weights_bytes = write_zeros(tmp_path, nano)
    assert weights_bytes > 2 * MOST_BYTES
    words = [sys.executable, "-c", PACK, str(tmp_path), str(tmp_path / "step.weights"), str(MOST_BYTES)]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each of its threads would reserve memory
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=env)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "step.weights").stat().st_size > weights_bytes / 4
