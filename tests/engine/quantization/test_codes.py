from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.engine import hardware
from musicgen_cli.engine.quantization.codes import (
    BLOCK,
    UINT8_ZERO_POINT,
    as_uint8,
    quantize_blocks,
    quantize_per_channel,
)

Multiply = Callable[[Any], Any]  # activations, (rows, in) → products, (rows, out)


def test_each_weight_is_within_half_a_step() -> None:
    """The largest of each column has the code 127 or -127."""
    weight = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    codes, scales = quantize_per_channel(weight)

    assert codes.shape == weight.shape
    assert scales.shape == (5,)
    error_steps = np.abs(codes.astype(np.float32) * scales - weight) / scales
    assert error_steps.max() <= 0.5 + 1e-5
    assert (np.abs(codes.astype(int)).max(axis=0) == 127).all()
    assert np.array_equal(as_uint8(codes).astype(int) - UINT8_ZERO_POINT, codes)


def test_a_column_of_zeros_stays_zero() -> None:
    """Its scale is zero, and nothing is divided by it."""
    codes, scales = quantize_per_channel(np.zeros((64, 2), np.float32))

    assert not scales.any()
    assert not codes.any()


def test_blocks_have_scales_of_their_own() -> None:
    """So a large weight costs no accuracy outside its block; the end of a column is filled with zeros."""
    weight = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    weight[0] *= 1000
    codes, scales = quantize_blocks(weight)

    assert (codes.shape, scales.shape) == ((3, 2, BLOCK), (3, 2))
    values = (codes * scales[..., None]).reshape(3, -1).T
    assert not values[100:].any()
    assert np.abs(values[BLOCK:100] - weight[BLOCK:]).max() <= np.abs(weight[BLOCK:]).max() / 254 * 1.001


def int8_and_exact(
    folder: Path,
    weight: Any,
    x: Any,
    activation: str | None = None,
    *,
    signed_weights: bool = False,
    in_blocks: bool = False,
) -> tuple[Multiply, Any]:
    """Return a function that multiplies rows in 8 bits, after an activation if one is named; and float32's products."""
    ort = pytest.importorskip("onnxruntime", reason="needs the extra local")
    pytest.importorskip("onnx", reason="needs the extra local")
    from musicgen_cli.engine.onnx.graph_builder import FLOAT, Graph

    def build(name: str, weight_bits: int) -> Multiply:
        with Graph(folder, name, weight_bits=weight_bits, signed_weights=signed_weights) as graph:
            rows = graph.input("x", FLOAT, ["R", x.shape[1]])
            rows = graph.activation(activation, rows) if activation else rows
            graph.node("Identity", graph.linear(rows, weight, input_activation=activation, in_blocks=in_blocks), to="y")
            graph.output("y", ["R", len(weight)])
        options = ort.SessionOptions()
        if not hardware.has_vnni():  # as the engine does
            options.add_session_config_entry("session.x64quantprecision", "1")
        session = ort.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
        return lambda rows: session.run(["y"], {"x": rows})[0]

    return build("int8", 8), build("float32", 32)(x)


def relative_error(actual: Any, exact: Any) -> float:
    """Return the root mean square of the error, relative to that of the exact result."""
    return float(np.sqrt(np.square(actual - exact).mean() / np.square(exact).mean()))


@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize("width", [16, 48, 64, 192])
def test_a_row_is_the_same_in_any_batch(tmp_path: Path, width: int, in_blocks: bool) -> None:
    """To the bit, with any inner dimension, however much larger another row is; and it is accurate."""
    rng = np.random.default_rng(width)
    weight, x = (rng.standard_normal(size).astype(np.float32) for size in ((40, width), (7, width)))
    x *= np.float32(10) ** np.arange(-3, 4, dtype=np.float32)[:, None]
    multiply, exact = int8_and_exact(tmp_path, weight, x, in_blocks=in_blocks)
    together = multiply(x)

    assert all(relative_error(*rows) <= 0.02 for rows in zip(together, exact, strict=True))
    for rows in (slice(0, 1), slice(3, 5), slice(2, 7)):
        assert np.array_equal(multiply(x[rows]), together[rows])


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
def test_signed_weights_give_the_same_products(tmp_path: Path, activation: str | None) -> None:
    """To the bit, on any hardware, with values so large that sums of pairs need more than 16 bits."""
    rng = np.random.default_rng(2)
    weight = np.sign(rng.standard_normal((64, 1024))).astype(np.float32)
    x = np.abs(rng.standard_normal((5, 1024))).clip(2).astype(np.float32)
    unsigned, exact = int8_and_exact(tmp_path, weight, x, activation)
    signed, _ = int8_and_exact(tmp_path, weight, x, activation, signed_weights=True)

    assert np.array_equal(signed(x), unsigned(x))
    assert relative_error(signed(x), exact) <= 0.02


def test_a_row_of_zeros_gives_zeros(tmp_path: Path) -> None:
    """Such as the output of a relu all of whose inputs are negative; other rows are not affected."""
    rng = np.random.default_rng(0)
    weight, x = (rng.standard_normal(size).astype(np.float32) for size in ((8, 32), (2, 32)))
    x[0] = 0
    multiply, exact = int8_and_exact(tmp_path, weight, x)

    assert not multiply(x)[0].any()
    assert relative_error(multiply(x)[1], exact[1]) <= 0.02
    multiply, _ = int8_and_exact(tmp_path, weight, -np.abs(x), "relu")
    assert not multiply(-np.abs(x)).any()


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_new"])
def test_the_output_of_an_activation_is_quantized_more_finely(tmp_path: Path, activation: str) -> None:
    """All codes are spent on values that can occur: large positive ones, and hardly any negative ones."""
    rng = np.random.default_rng(1)
    weight, x = (rng.standard_normal(size).astype(np.float32) for size in ((64, 1024), (16, 1024)))
    multiply, exact = int8_and_exact(tmp_path, weight, x, activation)

    assert relative_error(multiply(x), exact) <= 0.0105  # symmetric codes give 0.0112 (relu) and 0.0143 (gelu)
