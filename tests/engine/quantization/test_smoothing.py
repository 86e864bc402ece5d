from __future__ import annotations

from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("threadpoolctl", reason="needs the extra local")

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.quantization.float_decoder import forward
from musicgen_cli.engine.quantization.observers import Errors, Peaks, product_error
from musicgen_cli.engine.quantization.smoothing import SmoothedTensors, smoothing_factors


def tokens_and_text(nano: Checkpoint) -> tuple[Any, list[Any]]:
    """Return random tokens for two rows of nano, and a random text for the first one."""
    rng = np.random.default_rng(0)
    shape = Shape.of(nano.config).decoder
    text = {}
    for i in range(shape.layers):
        text[f"cross_key.{i}"] = rng.standard_normal((1, shape.heads, shape.head_width, 5), np.float32)
        text[f"cross_value.{i}"] = rng.standard_normal((1, shape.heads, 5, shape.head_width), np.float32)
    return rng.integers(0, shape.vocab, (2, shape.codebooks, 40)), [text, None]


def test_a_smoothed_decoder_computes_the_same(nano: Checkpoint) -> None:
    """In float32, up to rounding, though its norms and its matrices are others."""
    shape, tensors = Shape.of(nano.config).decoder, nano.tensors()
    tokens, texts = tokens_and_text(nano)
    peaks = Peaks()
    logits = forward(shape, tensors, tokens, texts, peaks)
    smoothed = SmoothedTensors(tensors, shape, peaks)
    smoother = Peaks()

    assert np.abs(forward(shape, smoothed, tokens, texts, smoother) - logits).max() <= 1e-5 * logits.std()
    for name in ("self_attn.q_proj", "self_attn.out_proj", "encoder_attn.q_proj", "fc1"):
        assert not np.array_equal(smoother.inputs[0, name], peaks.inputs[0, name])


def test_only_the_layers_norms_and_their_readers_change(nano: Checkpoint) -> None:
    """And names, shapes and sizes are those of the checkpoint."""
    shape, tensors = Shape.of(nano.config).decoder, nano.tensors()
    peaks = Peaks()
    forward(shape, tensors, *tokens_and_text(nano), peaks)
    smoothed = SmoothedTensors(tensors, shape, peaks)
    layer = "decoder.model.decoder.layers."
    readers = ("q_proj", "k_proj", "v_proj", "self_attn.out_proj", "fc1", "layer_norm")
    for name, dims in tensors.shapes.items():
        same = np.array_equal(smoothed.read(name, *dims), tensors.read(name, *dims))
        untouched = not (name.startswith(layer) and name.rpartition(".")[0].endswith(readers))
        assert same or not untouched, name

    assert smoothed.shapes == tensors.shapes
    assert smoothed.float32_bytes("decoder.") == tensors.float32_bytes("decoder.")
    assert f"{layer}0.fc1.weight" in smoothed
    assert f"{layer}9.fc1.weight" not in smoothed


def test_factors_are_roots_of_ratios_relative_to_the_median() -> None:
    """As powers of two; a channel of zeros, and one that nothing reads, are left alone."""
    inputs = np.array([1, 1, 1, 64, 1, 0, 9], np.float32)
    columns = np.array([1, 1, 1, 1, 16, 1, 0], np.float32)

    assert smoothing_factors(inputs, columns).tolist() == [1, 1, 1, 8, 0.25, 1, 1]
    assert smoothing_factors(np.zeros(2, np.float32), np.ones(2, np.float32)).tolist() == [1, 1]


def test_the_estimated_error_is_that_of_the_product() -> None:
    """Within a tenth, for normal values, for heavy tails and for what a GELU gives."""
    rng = np.random.default_rng(0)
    for weights, minimum in (
        (rng.standard_normal((64, 1024)), None),
        (rng.standard_t(3, (64, 1024)), None),
        (rng.standard_normal((64, 1024)), -0.17),
    ):
        matrix = weights.astype(np.float32)
        inputs = rng.standard_normal((50, 1024)).astype(np.float32)
        if minimum is not None:
            inputs = np.maximum(inputs, minimum)
        low = np.zeros((50, 1)) if minimum is None else np.full((50, 1), minimum)
        steps = (inputs.max(1, keepdims=True) - low) / 255 if minimum else np.abs(inputs).max(1, keepdims=True) / 127
        rounded_inputs = np.rint((inputs - low) / steps) * steps + low
        steps = np.abs(matrix).max(1, keepdims=True) / 127
        rounded = rounded_inputs @ (np.rint(matrix / steps) * steps).T
        exact = inputs @ matrix.T
        error = np.sqrt(np.square(rounded - exact).mean() / np.square(exact).mean())

        assert product_error(inputs, matrix, exact, minimum) == pytest.approx(error, rel=0.1)


def test_heavy_tails_and_outliers_want_blocks() -> None:
    """Normal values don't, whatever their size."""
    rng = np.random.default_rng(1)
    inputs, matrix = (rng.standard_normal((size, 1024)).astype(np.float32) for size in (50, 64))
    heavy = rng.standard_t(3, (64, 1024)).astype(np.float32)
    outlying = inputs.copy()
    outlying[:, :8] *= 20
    errors = Errors("gelu")
    for layer, (x, w) in enumerate(((inputs, matrix), (inputs, matrix * 100), (inputs, heavy), (outlying, matrix))):
        errors(layer, "fc1", x, w, x @ w.T)

    assert errors.in_blocks() == {(2, "fc1"), (3, "fc1")}
