"""
Measures int8 on random decoders that have what trained ones have: a few channels tens of times larger than the others.

The decoders have musicgen-small's width and four of its layers. With one scale a row and a column, and no smoothing,
they get 0.14 (norms by 20), 0.92 (norms by 60), 0.095 (residual by 40), 0.11 (values by 40) and 0.044 (hidden by 20).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from musicgen_cli.actions.models.fidelity import mean_kl
from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.engine.onnx.engine import OnnxEngine
from tests.support.outliers import enlarge, random_decoder, write_checkpoint

LAYERS = 4


def divergence(
    folder: Path, tensors: Mapping[str, Any], layers: int, nano: Checkpoint, parts: Mapping[str, Any]
) -> float:
    """Return the mean KL divergence of int8 from float32."""
    write_checkpoint(folder, dict(tensors), layers, nano.directory, parts)
    checkpoint = find_checkpoint(str(folder), folder)
    OnnxEngine(checkpoint, cache_dir=folder, threads=1, slots=1).close()
    return mean_kl(checkpoint, prepared_graphs(checkpoint, folder)["int8"].directory, threads=1)


def test_int8_holds_with_outliers_of_all_kinds(
    tmp_path: Path, nano: Checkpoint, nano_tensors: Mapping[str, Any]
) -> None:
    """With one layer, where it is 0.27 without smoothing and blocks."""
    tensors = random_decoder(1)
    enlarge(tensors, 1, norms=60, values=40, hidden=20)

    assert 0 < divergence(tmp_path / "mine", tensors, 1, nano, nano_tensors) <= 0.01


@pytest.mark.grid
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("freedom", "channels", "bound"),
    [
        pytest.param(None, {}, 0.010, id="normal"),
        pytest.param(None, {"norms": 10}, 0.010, id="norms by 10"),
        pytest.param(None, {"norms": 20}, 0.010, id="norms by 20"),
        pytest.param(None, {"norms": 60}, 0.010, id="norms by 60"),
        pytest.param(None, {"residual": 40}, 0.030, id="residual by 40"),
        pytest.param(None, {"values": 40}, 0.010, id="values by 40"),
        pytest.param(None, {"hidden": 20}, 0.015, id="hidden by 20"),
        pytest.param(3, {}, 0.030, id="t(3)"),
        pytest.param(4, {"norms": 20, "hidden": 10}, 0.030, id="t(4), norms by 20, hidden by 10"),
    ],
)
def test_int8_holds_with_outliers(
    tmp_path: Path,
    nano: Checkpoint,
    nano_tensors: Mapping[str, Any],
    freedom: float | None,
    channels: Mapping[str, Any],
    bound: float,
) -> None:
    """Within these bounds of the mean KL divergence, in nats."""
    tensors = random_decoder(LAYERS, freedom=freedom)
    enlarge(tensors, LAYERS, **channels)
    measured = divergence(tmp_path / "mine", tensors, LAYERS, nano, nano_tensors)
    print(f"{measured:.4f}")  # noqa: T201

    assert measured <= bound
