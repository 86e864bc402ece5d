"""
Measures int8 on random decoders that have what trained ones have: a few channels tens of times larger than the others.

The decoders have musicgen-small's width and four of its layers. With one scale a row and a column, and no smoothing,
they get 0.14 (norms by 20), 0.92 (norms by 60), 0.095 (residual by 40), 0.11 (values by 40) and 0.044 (hidden by 20).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from musicgen_cli.actions.models.fidelity import mean_kl
from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.engine.native.engine import NativeEngine
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.engine.onnx.graph_cache import NATIVE_VARIANT
from musicgen_cli.errors import NativeUnsuitedError
from tests.support.outliers import enlarge, random_decoder, write_checkpoint
from tests.support.variants import int8_variant

LAYERS = 4


def divergences(
    folder: Path, tensors: Mapping[str, Any], layers: int, nano: Checkpoint, parts: Mapping[str, Any]
) -> dict[str, float]:
    """Return the mean KL divergence of int8 from float32, on ONNX Runtime and, if it suits the model, natively."""
    write_checkpoint(folder, dict(tensors), layers, nano.directory, parts)
    checkpoint = find_checkpoint(str(folder), folder)
    OnnxEngine(checkpoint, cache_dir=folder, threads=1, slots=1).close()
    if int8_variant() == NATIVE_VARIANT:
        with suppress(NativeUnsuitedError):
            NativeEngine(checkpoint, cache_dir=folder, threads=1, slots=1).close()
    return {
        variant: mean_kl(checkpoint, graphs.directory, threads=1)
        for variant, graphs in prepared_graphs(checkpoint, folder).items()
    }


def native_variants() -> set[str]:
    """Return what a model that needs no blocks is prepared as, on this machine."""
    return {"int8", int8_variant()}


def test_int8_holds_with_outliers_of_all_kinds(
    tmp_path: Path, nano: Checkpoint, nano_tensors: Mapping[str, Any]
) -> None:
    """With one layer, where it is 0.27 without smoothing and blocks; those are ONNX Runtime's."""
    tensors = random_decoder(1)
    enlarge(tensors, 1, norms=60, values=40, hidden=20)
    measured = divergences(tmp_path / "mine", tensors, 1, nano, nano_tensors)

    assert measured.keys() == {"int8"}
    assert 0 < measured["int8"] <= 0.01


def test_outliers_that_smoothing_removes_suit_the_native_decoder(
    tmp_path: Path, nano: Checkpoint, nano_tensors: Mapping[str, Any]
) -> None:
    """With one layer; both engines hold."""
    tensors = random_decoder(1)
    enlarge(tensors, 1, norms=60, values=40)
    measured = divergences(tmp_path / "mine", tensors, 1, nano, nano_tensors)

    assert measured.keys() == native_variants()
    assert all(0 < divergence <= 0.005 for divergence in measured.values())


@pytest.mark.grid
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("freedom", "channels", "bound", "suits_native"),
    [
        pytest.param(None, {}, 0.010, True, id="normal"),
        pytest.param(None, {"norms": 10}, 0.010, True, id="norms by 10"),
        pytest.param(None, {"norms": 20}, 0.010, True, id="norms by 20"),
        pytest.param(None, {"norms": 60}, 0.010, True, id="norms by 60"),
        pytest.param(None, {"residual": 40}, 0.030, True, id="residual by 40"),
        pytest.param(None, {"values": 40}, 0.010, True, id="values by 40"),
        pytest.param(None, {"hidden": 20}, 0.015, False, id="hidden by 20"),
        pytest.param(3, {}, 0.030, False, id="t(3)"),
        pytest.param(4, {"norms": 20, "hidden": 10}, 0.030, False, id="t(4), norms by 20, hidden by 10"),
    ],
)
def test_int8_holds_with_outliers(
    tmp_path: Path,
    nano: Checkpoint,
    nano_tensors: Mapping[str, Any],
    freedom: float | None,
    channels: Mapping[str, Any],
    bound: float,
    suits_native: bool,
) -> None:
    """Within these bounds of the mean KL divergence, in nats, with each decoder that computes the model."""
    tensors = random_decoder(LAYERS, freedom=freedom)
    enlarge(tensors, LAYERS, **channels)
    measured = divergences(tmp_path / "mine", tensors, LAYERS, nano, nano_tensors)
    print({variant: round(divergence, 4) for variant, divergence in measured.items()})  # noqa: T201

    assert measured.keys() == (native_variants() if suits_native else {"int8"})
    assert max(measured.values()) <= bound
