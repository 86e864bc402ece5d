from __future__ import annotations

from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.engine import calibrate  # noqa: E402  # after what may skip it
from musicgen_cli.engine.quantize import BLOCK, quantize  # noqa: E402


def test_each_weight_is_within_half_a_step() -> None:
    """But for what is as large as the largest and of the other sign: it may be a step off."""
    weight = np.random.default_rng(0).standard_normal((5, 3 * BLOCK)).astype(np.float32)
    codes, scales = quantize(weight)

    back = (codes.astype(np.float32) - 128) * scales[..., None]
    assert codes.shape == (5, 3, BLOCK)
    assert scales.shape == (5, 3)
    off = np.abs(back.reshape(weight.shape) - weight).reshape(codes.shape) / np.abs(scales)[..., None]
    assert np.quantile(off, 0.99) <= 0.5
    assert off.max() <= 1


def test_a_block_of_zeros_stays_zeros() -> None:
    """No scale is needed, and none divides by zero."""
    codes, scales = quantize(np.zeros((2, BLOCK), np.float32))

    assert not scales.any()
    assert (codes == 128).all()


@pytest.mark.parametrize("width", [16, 48, BLOCK, 192])
def test_the_runtime_multiplies_what_was_quantized(tmp_path: Path, width: int) -> None:
    """Of any inner dimension; a row is the same to the bit alone and in company."""
    ort = pytest.importorskip("onnxruntime", reason="needs the extra local")
    pytest.importorskip("onnx", reason="needs the extra local")
    from musicgen_cli.engine.graphs import FLOAT, Graph

    chance = np.random.default_rng(width)
    weight, x = (chance.standard_normal(size).astype(np.float32) for size in ((40, width), (7, width)))
    with Graph(tmp_path, "product", bits=8) as graph:
        product = graph.linear(graph.input("x", FLOAT, ["R", width]), weight)
        graph.node("Identity", product, to="y")
        graph.output("y", ["R", 40])
    session = ort.InferenceSession(tmp_path / "product.onnx", providers=["CPUExecutionProvider"])
    (together,) = session.run(["y"], {"x": x})

    assert np.abs(together - x @ weight.T).mean() <= 0.02 * np.abs(x @ weight.T).mean()
    for rows in (slice(0, 1), slice(3, 5), slice(2, 7)):
        assert np.array_equal(session.run(["y"], {"x": x[rows]})[0], together[rows])


def test_scales_leave_room_beyond_what_came_up() -> None:
    """Half as much again, and never more than the weights allow."""
    widest = np.full((1, 2, 1, 3), 127.0, np.float32)  # so that a coarse step is 1
    peaks = np.array([[[[0.0, 10.0, 127.0]], [[1.0, 2.0, 3.0]]]], np.float32)
    scales = calibrate.fine(widest, peaks)

    assert np.allclose(scales[0, 0, 0] * 127, [0.75, 15.75, 127])
    assert (scales <= calibrate.coarse(widest)).all()
