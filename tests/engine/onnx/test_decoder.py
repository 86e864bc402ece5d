"""The decoder and the text encoder on ONNX Runtime, with the bundled model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("tokenizers", reason="needs the extra local")

from musicgen_cli.actions.models.fidelity import kl_divergence
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.engine.base import NullListener
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.decoder import OnnxDecoder
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.engine.onnx.graph_cache import GRAPH_FORMAT
from tests.support.clips import request
from tests.support.decoding import sampling


@pytest.mark.parametrize(("words", "length"), [(1, 64), (60, 64), (61, 128), (330, 384)])
def test_a_prompt_of_any_length_is_encoded_completely(engine: OnnxEngine, words: int, length: int) -> None:
    """Its mask is padded to a multiple of 64 tokens and shows three hues, the words and the end of the prompt."""
    prompt = "piano " * words
    conditioning = engine.model.encode_text(engine.tokenize(prompt))

    assert conditioning.mask.ravel().tolist() == [0.0] * (words + 4) + [-np.inf] * (length - words - 4)
    assert engine.generate(request(prompt=prompt), NullListener()).info.frames == 32_000


def test_rows_at_different_positions_are_what_they_are_alone(engine: OnnxEngine) -> None:
    """To the bit, so that sequences can join and leave the batch at any step."""
    model = engine.model
    conditioning = model.encode_text(engine.tokenize("calm ambient piano"))
    tokens = np.random.default_rng(0).integers(0, 512, (2, 12, 4))
    guided, unguided = (
        Sequence(DelayPattern(4, 1, 20), sampling(guidance_scale=scale), vocab=512) for scale in (3.0, 1.0)
    )
    alone = []
    for row, of_row in ((0, conditioning), (1, None)):
        decoder = model.decoder_for(unguided, of_row)
        alone.append([decoder(tokens[row, at : at + 1], np.array([at])).copy() for at in range(12)])

    decoder = model.decoder_for(guided, conditioning)
    for at in range(12):  # the second row starts over at position 0 until it joins five steps later
        late = max(at - 5, 0)
        logits = decoder(np.stack([tokens[0, at], tokens[1, late]]), np.array([at, late]))
        assert np.array_equal(logits[0], alone[0][at][0])
        assert np.array_equal(logits[1], alone[1][late][0])


def test_a_moved_row_continues_to_the_bit(engine: OnnxEngine) -> None:
    """It takes its KV cache and its conditioning along."""
    model = engine.model
    short, long = (model.encode_text(engine.tokenize(prompt)) for prompt in ("calm ambient piano", "drums " * 70))
    tokens = np.random.default_rng(0).integers(0, 512, (12, 1, 4))

    def advance(decoder: OnnxDecoder, steps: range) -> list[Any]:
        return [decoder(np.repeat(tokens[at], 2, axis=0), np.full(2, at)).copy() for at in steps]

    unmoved, moved = (model.decoder(rows=3, steps=20) for _ in range(2))
    unmoved.set_conditioning(1, long)
    expected = advance(unmoved, range(12))[6:]
    moved.set_conditioning(0, short)
    moved.set_conditioning(1, long)
    advance(moved, range(6))
    moved.move(1, 0, positions=6)
    actual = advance(moved, range(6, 12))

    assert all(np.array_equal(a[0], b[1]) for a, b in zip(actual, expected, strict=True))
    assert not any(np.array_equal(a[0], b[0]) for a, b in zip(actual, expected, strict=True))


def test_int8_is_smaller_than_fp32_and_predicts_alike(
    nano: Checkpoint, session_cache: Path, engine: OnnxEngine
) -> None:
    """
    Its decoder step is at most two thirds of fp32's, and its mean KL divergence from fp32 is at most 0.01.

    The output layers, float32 in both, are a fifth of nano's.
    """
    fp32 = OnnxEngine(nano, cache_dir=session_cache, threads=1, precision="fp32")
    int8_size, fp32_size = (
        (session_cache / f"graphs/{nano.digest}-{precision}-v{GRAPH_FORMAT}/step.data").stat().st_size
        for precision in ("int8", "fp32")
    )
    tokens = np.random.default_rng(0).integers(0, 752, (4, 60))
    sequence = Sequence(DelayPattern(4, 1, 57), sampling(guidance_scale=3.0), vocab=752)
    logits = []
    for each in (fp32, engine):
        conditioning = each.model.encode_text(each.tokenize("calm ambient piano"))
        decoder = each.model.decoder_for(sequence, conditioning)
        steps = [decoder(np.tile(tokens[:, at], (2, 1)), np.full(2, at)).copy() for at in range(60)]
        logits.append(np.stack(steps)[:, 0])
    fp32.close()

    assert int8_size < 0.67 * fp32_size
    assert 0 < kl_divergence(*logits).mean() < 0.01
