from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from musicgen_cli.actions.models.fidelity import _kl, _Led, fidelity_of, mean_kl
from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.engine import registry
from musicgen_cli.settings import cache_dir

FRAMES = 60


def graphs(folder: Path) -> tuple[Checkpoint, Path]:
    """Prepare a checkpoint in float32."""
    registry.open_local(str(folder), precision="fp32", note=lambda _: None).close()
    checkpoint = find_checkpoint(str(folder), folder)
    return checkpoint, prepared_graphs(checkpoint, cache_dir())["fp32"].directory


def rounded(values: Any, bits: int) -> Any:
    """Round the rows of a matrix to so many bits."""
    if values.ndim < 2:
        return values
    step = np.abs(values.astype(np.float32)).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    return (np.round(values / np.maximum(step, 1e-12)) * step).astype(np.float32)


def test_fewer_bits_are_farther_away(write: Any, nano_tensors: Mapping[str, Any]) -> None:
    """A model is 0 from itself, a little from its 8 bits, and more from its 4."""
    exact, at = graphs(write("exact"))
    found = []
    for bits in (8, 4):
        decoder = {
            name: rounded(values, bits) if name.startswith("decoder.model.decoder.layers") else values
            for name, values in nano_tensors.items()
        }
        _, other = graphs(write(f"bits{bits}", tensors=decoder))
        found.append(mean_kl(exact, at, other, threads=1, frames=FRAMES))

    assert mean_kl(exact, at, at, threads=1, frames=FRAMES) == 0
    assert 0 < found[0] < 0.01
    assert found[0] * 10 < found[1]


def test_the_same_two_models_give_the_same_number(write: Any, nano_tensors: Mapping[str, Any]) -> None:
    """To the last bit: the take has a fixed seed."""
    exact, at = graphs(write("exact"))
    name = "decoder.lm_heads.0.weight"
    _, other = graphs(write("other", tensors={**nano_tensors, name: nano_tensors[name] * np.float16(1.01)}))

    assert mean_kl(exact, at, other, threads=1, frames=9) == mean_kl(exact, at, other, threads=1, frames=9) > 0


def test_the_divergence_is_the_textbooks() -> None:
    """Sum of p · ln(p / q), whatever is added to all logits."""
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])

    assert _kl(np.log(p) + 5, np.log(q) - 3) == pytest.approx((p * np.log(p / q)).sum())


def test_what_is_compared_is_guided() -> None:
    """Three times as far from the row without the text as the row with it; the take itself gets both rows."""
    rows = np.float32([[[1, 2]], [[5, 5]]])
    led = _Led(lambda tokens, positions: rows)

    assert led(np.zeros((2, 1), np.int64), np.zeros(2, np.int64)) is rows
    assert led.logits[0].tolist() == [[5 - 3 * 4, 5 - 3 * 3]]


def test_float32_is_no_distance_from_itself(nano: Checkpoint, tmp_path: Path) -> None:
    """By definition, and without loading anything."""
    assert fidelity_of(nano, "fp32", tmp_path, lambda _: None) == 0
    assert list(tmp_path.iterdir()) == []
