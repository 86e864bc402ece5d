from __future__ import annotations

from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.tensors import WrappedTensors
from musicgen_cli.engine import hardware
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.engine.quantization import calibration
from musicgen_cli.engine.quantization.calibration import calibrate
from musicgen_cli.engine.quantization.float_decoder import forward
from musicgen_cli.engine.quantization.observers import Peaks
from tests.support.decoding import sampling


def texts(engine: OnnxEngine) -> list[Any]:
    return [engine.model.encode_text(engine.tokenize(prompt)).values for prompt in calibration.PROMPTS]


def test_any_number_of_cores_gives_the_same_bits(
    nano: Checkpoint, engine: OnnxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the same seed gives the same take, wherever the graphs were made."""
    shape = engine.shape.decoder
    results = []
    for cores in (1, 3):
        monkeypatch.setattr(hardware, "cores", lambda cores=cores: cores)
        results.append(calibrate(shape, nano.tensors(), texts(engine)))
    name = "decoder.model.decoder.layers.1.fc1.weight"

    assert np.array_equal(results[0].kv_scales, results[1].kv_scales)
    assert results[0].in_blocks == results[1].in_blocks
    assert np.array_equal(*(result.tensors.read(name, shape.ffn, shape.width) for result in results))


def test_the_scales_of_keys_and_values_fit_natural_clips(nano: Checkpoint, engine: OnnxEngine) -> None:
    """Of another prompt: hardly a channel goes beyond its range, none far, and on average half of the range is used."""
    shape = engine.shape.decoder
    result = calibrate(shape, nano.tensors(), texts(engine))
    pattern = DelayPattern(shape.codebooks, shape.channels, 150)
    sequence = Sequence(pattern, sampling(guidance_scale=3.0, seed=77), vocab=shape.vocab)
    conditioning = engine.model.encode_text(engine.tokenize("happy rock with drums"))
    step = engine.model.decoder_for(sequence, conditioning)
    tokens = []
    while not sequence.done:
        tokens.append(sequence.tokens)
        sequence.advance(step(sequence.tokens, np.full(2, sequence.position)))
    peaks = Peaks()
    forward(shape, result.tensors, np.stack(tokens, axis=2), [conditioning.values, None], peaks)
    largest = [[peaks.outputs[i, f"self_attn.{part}_proj"] for part in "kv"] for i in range(shape.layers)]
    used = np.array(largest) / (127 * result.kv_scales.reshape(shape.layers, 2, shape.width))

    assert (used > 1).mean() < 0.03
    assert used.max() < 2
    assert 0.4 < used.mean() < 0.8


def test_a_channel_that_is_always_zero_has_a_scale(nano: Checkpoint, engine: OnnxEngine) -> None:
    """Nothing is divided by zero where it is rounded."""
    shape = engine.shape.decoder
    silent = "decoder.model.decoder.layers.0.self_attn.k_proj.weight"

    class Silent(WrappedTensors):
        def read(self, name: str, *dims: int) -> Any:
            values = super().read(name, *dims)
            if name == silent:
                values[5] = 0
            return values

    result = calibrate(shape, Silent(nano.tensors()), texts(engine))

    assert result.kv_scales[0, 0].ravel()[5] == 1
    assert np.isfinite(result.kv_scales).all()
