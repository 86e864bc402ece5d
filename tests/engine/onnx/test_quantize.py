from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.engine import hardware
from musicgen_cli.engine.onnx import calibrate
from musicgen_cli.engine.onnx.quantize import ZERO, quantize, unsigned

Run = Callable[[np.ndarray], np.ndarray]


def test_each_weight_is_within_half_a_step() -> None:
    weight = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    codes, scales = quantize(weight)

    assert codes.shape == weight.shape
    assert scales.shape == (5,)
    off = np.abs(codes.astype(np.float32) * scales - weight) / scales
    assert off.max() <= 0.5 + 1e-5
    assert (np.abs(codes.astype(int)).max(axis=0) == 127).all()
    assert np.array_equal(unsigned(codes).astype(int) - ZERO, codes)


def test_a_column_of_zeros_stays_zeros() -> None:
    """No scale is needed, and none divides by zero."""
    codes, scales = quantize(np.zeros((64, 2), np.float32))

    assert not scales.any()
    assert not codes.any()


def product(
    folder: Path, weight: np.ndarray, x: np.ndarray, activation: str | None = None, *, signed: bool = False
) -> tuple[Run, np.ndarray]:
    """Return what multiplies rows in 8 bits, behind an activation if there is one, and what is right."""
    ort = pytest.importorskip("onnxruntime", reason="needs the extra local")
    pytest.importorskip("onnx", reason="needs the extra local")
    from musicgen_cli.engine.onnx.graph_builder import FLOAT, Graph

    def write(name: str, bits: int) -> Run:
        with Graph(folder, name, bits=bits, signed=signed) as graph:
            rows = graph.input("x", FLOAT, ["R", x.shape[1]])
            rows = graph.activation(activation, rows) if activation else rows
            graph.node("Identity", graph.linear(rows, weight, after=activation), to="y")
            graph.output("y", ["R", len(weight)])
        options = ort.SessionOptions()
        if not hardware.prefers_signed():  # as the engine has it
            options.add_session_config_entry("session.x64quantprecision", "1")
        session = ort.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
        return lambda rows: session.run(["y"], {"x": rows})[0]

    return write("small", 8), write("exact", 32)(x)


def far(found: np.ndarray, right: np.ndarray) -> float:
    """Return the share that is wrong, by the root of the mean square."""
    return float(np.sqrt(np.square(found - right).mean() / np.square(right).mean()))


@pytest.mark.parametrize("width", [16, 48, 64, 192])
def test_a_row_is_the_same_alone_and_in_company(tmp_path: Path, width: int) -> None:
    """To the bit, of any inner dimension, however much larger another row is; and it is about right."""
    chance = np.random.default_rng(width)
    weight, x = (chance.standard_normal(size).astype(np.float32) for size in ((40, width), (7, width)))
    x *= np.float32(10) ** np.arange(-3, 4, dtype=np.float32)[:, None]
    run, right = product(tmp_path, weight, x)
    together = run(x)

    assert all(far(*rows) <= 0.02 for rows in zip(together, right, strict=True))
    for some in (slice(0, 1), slice(3, 5), slice(2, 7)):
        assert np.array_equal(run(x[some]), together[some])


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
def test_weights_with_a_sign_make_the_same(tmp_path: Path, activation: str | None) -> None:
    """To the bit, on any hardware, with values so large that sums of pairs need more than 16 bits."""
    chance = np.random.default_rng(2)
    weight = np.sign(chance.standard_normal((64, 1024))).astype(np.float32)
    x = np.abs(chance.standard_normal((5, 1024))).clip(2).astype(np.float32)
    counted, right = product(tmp_path, weight, x, activation)
    signed, _ = product(tmp_path, weight, x, activation, signed=True)

    assert np.array_equal(signed(x), counted(x))
    assert far(signed(x), right) <= 0.02


def test_a_row_of_zeros_gives_zeros(tmp_path: Path) -> None:
    """As behind an activation that lets nothing through; the rows beside it are what they are."""
    chance = np.random.default_rng(0)
    weight, x = (chance.standard_normal(size).astype(np.float32) for size in ((8, 32), (2, 32)))
    x[0] = 0
    run, right = product(tmp_path, weight, x)

    assert not run(x)[0].any()
    assert far(run(x)[1], right[1]) <= 0.02
    run, _ = product(tmp_path, weight, -np.abs(x), "relu")
    assert not run(-np.abs(x)).any()


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_new"])
def test_what_comes_from_an_activation_is_finer(tmp_path: Path, activation: str) -> None:
    """All codes are for what can come up: it goes far above zero, and hardly below."""
    chance = np.random.default_rng(1)
    weight, x = (chance.standard_normal(size).astype(np.float32) for size in ((64, 1024), (16, 1024)))
    run, right = product(tmp_path, weight, x, activation)

    assert far(run(x), right) <= 0.0105  # 0.0112 (relu) and 0.0143 if half of the codes were for what is below zero


def test_scales_leave_room_beyond_what_came_up() -> None:
    """Half as much again, and never more than the weights allow."""
    kv_bounds = np.full((1, 2, 1, 3), 127.0, np.float32)  # so that a coarse step is 1
    peaks = np.array([[[[0.0, 10.0, 127.0]], [[1.0, 2.0, 3.0]]]], np.float32)
    scales = calibrate.fine(kv_bounds, peaks)

    assert np.allclose(scales[0, 0, 0] * 127, [0.75, 15.75, 127])
    assert (scales <= calibrate.coarse(kv_bounds)).all()
