"""The native decoder with random models: against numpy, and against itself in other company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")

from musicgen_cli.engine.native import library
from musicgen_cli.engine.native.decoder import NativeDecoder

try:
    library.load()
except library.UnavailableError as err:
    pytest.skip(f"{err}: `python -m native.compile` builds it", allow_module_level=True)

from tests.support.native import Reference, Sample, isas, random_text, small_shape

ISAS = isas()
STEPS = 40


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Write a random model."""
    return Sample(tmp_path_factory.mktemp("model"), small_shape())


def advance(decoder: NativeDecoder, tokens: Any, *, start: int = 0) -> Any:
    """Advance the first rows over tokens, shape ``(rows, steps, codebooks)``; return the logits of all steps."""
    rows, steps, _ = tokens.shape
    return np.stack([decoder(tokens[:, at], np.full(rows, start + at)).copy() for at in range(steps)], axis=1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"activation": "gelu_new", "width": 64, "heads": 1},
        {"activation": "relu", "width": 80, "heads": 5},
        {"width": 528, "heads": 3, "ffn": 1104, "layers": 1},
        {"melody_frames": 3},
    ],
    ids=["gelu", "gelu_new, one head", "relu, odd sizes", "several blocks", "no cross-attention"],
)
def test_each_instruction_set_computes_what_numpy_does(tmp_path: Path, isa: str, values: dict[str, Any]) -> None:
    """With the same rounding to 8 bits, a step differs by a few codes that were close to the middle between two."""
    shape = small_shape(**values)
    sample = Sample(tmp_path, shape)
    tokens = sample.tokens(2, STEPS)
    actual = advance(sample.decoder(rows=2, isa=isa), tokens)

    for row, text in enumerate((random_text(shape) if shape.has_cross_attention else None, None)):
        reference = Reference(shape, text, positions=STEPS)
        expected = np.stack([reference.step(tokens[row, at], at) for at in range(STEPS)])
        assert np.sqrt(np.square(actual[row] - expected).mean()) <= 1e-2 * expected.std()
        assert np.abs(actual[row, 0] - expected[0]).max() <= 2e-2 * expected.std()


def test_all_instruction_sets_give_the_same_bits(sample: Sample) -> None:
    """So a seed means the same on every processor, as far as the decoder is concerned."""
    if len(ISAS) == 1:
        pytest.skip(f"this processor has {ISAS[0]} alone")
    tokens = sample.tokens(3, STEPS)
    first, *others = (advance(sample.decoder(rows=3, isa=isa), tokens) for isa in ISAS)

    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("threads", "patient"), [(1, False), (2, True), (3, False)])
def test_a_row_is_the_same_in_any_company(sample: Sample, isa: str, threads: int, patient: bool) -> None:
    """To the bit, among up to 20 rows, however many threads compute them, whether or not they leave a step."""
    steps = 6
    tokens = sample.tokens(20, steps)
    tokens[1] = tokens[0]
    expected = advance(sample.decoder(rows=2), tokens[:2])

    for rows in (1, 2, 3, 5, 8, 13, 20):
        decoder = sample.decoder(rows=rows, isa=isa, threads=threads, patient=patient)
        actual = advance(decoder, tokens[:rows])
        assert np.array_equal(actual[:2], expected[:rows])


def test_rows_join_at_any_step(sample: Sample) -> None:
    """Each row is at its own position; a row at position 0 starts over."""
    tokens = sample.tokens(2, STEPS)
    expected = advance(sample.decoder(rows=2), tokens)
    decoder = sample.decoder(rows=2, threads=2)
    for at in range(STEPS):
        late = max(at - 17, 0)
        logits = decoder(np.stack([tokens[0, at], tokens[1, late]]), np.array([at, late]))
        assert np.array_equal(logits[0], expected[0, at])
        assert np.array_equal(logits[1], expected[1, late])


@pytest.mark.parametrize("moved_at", [1, 15, 16, 33])
def test_a_moved_row_continues_to_the_bit(sample: Sample, moved_at: int) -> None:
    """It takes its KV cache and its text along."""
    tokens = sample.tokens(1, STEPS)
    expected = advance(sample.decoder(rows=1), tokens)
    decoder = sample.decoder(rows=4)
    advance(decoder, np.repeat(tokens[:, :moved_at], 3, axis=0))
    decoder.move(2, 1, positions=moved_at)
    rest = advance(decoder, np.repeat(tokens[:, moved_at:], 2, axis=0), start=moved_at)

    assert np.array_equal(rest[1], expected[0, moved_at:])


@pytest.mark.parametrize(("count", "wanted"), [(1, 1), (16, 0), (17, 3), (40, 16), (33, 1)])
def test_a_prefill_gives_what_single_steps_give(sample: Sample, count: int, wanted: int) -> None:
    """To the bit: its logits, and those of the steps after it."""
    tokens = sample.tokens(1, STEPS + 4)
    expected = advance(sample.decoder(rows=1), tokens)[0]
    decoder = sample.decoder(rows=3, threads=2)
    decoder.set_conditioning(0, None)
    decoder.set_conditioning(1, sample.text)
    logits = decoder.prefill(1, 0, tokens=tokens[0, :count], wanted=wanted)

    assert np.array_equal(logits, expected[count - wanted : count])
    decoder.move(1, 0, positions=count)
    assert np.array_equal(advance(decoder, tokens[:, count:], start=count)[0], expected[count:])


def test_given_vectors_replace_embedded_tokens(sample: Sample) -> None:
    """As the prefix of a model that has no cross-attention; positions are added to them, too."""
    from tests.support.native import RandomTensors

    shape = sample.shape
    tokens = sample.tokens(1, STEPS)
    inputs = np.zeros((20, shape.width), np.float32)
    for k in range(shape.codebooks):
        name = f"decoder.model.decoder.embed_tokens.{k}.weight"
        inputs += RandomTensors().read(name, shape.vocab + 1, shape.width)[tokens[0, :20, k]]
    decoder = sample.decoder(rows=1)
    first = decoder.prefill(0, 0, inputs=inputs, wanted=1)[0].copy()
    rest = advance(decoder, tokens[:, 20:], start=20)

    expected = advance(sample.decoder(rows=1), tokens)
    assert np.array_equal(first, expected[0, 19])
    assert np.array_equal(rest, expected[:, 20:])


def test_a_decoder_without_cross_attention_reads_a_prefix(tmp_path: Path) -> None:
    """Chunk by chunk in any row, as the scheduler has it read, it is to the bit what one step for each would be."""
    sample = Sample(tmp_path, small_shape(melody_frames=20), positions=300)
    vectors = np.random.default_rng(8).standard_normal((200, sample.shape.width)).astype(np.float32)
    tokens = sample.tokens(1, 10)
    results = []
    for row, chunk, threads in ((0, 200, 1), (1, 128, 2), (2, 7, 3), (0, 1, 1)):
        decoder = sample.decoder(rows=3, threads=threads)
        for first in range(0, 200, chunk):
            decoder.prefill(row, first, inputs=vectors[first : first + chunk])
        decoder.move(row, 0, positions=200)
        results.append(advance(decoder, tokens, start=200))

    assert np.isfinite(results[0]).all()
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_positions_up_to_30_seconds(tmp_path: Path) -> None:
    """Single steps at the end of a long prefill are the same with other threads and in company."""
    sample = Sample(tmp_path, small_shape(layers=1), positions=1503)
    tokens = sample.tokens(1, 1503)
    results = []
    for rows, threads in ((1, 1), (3, 2)):
        decoder = sample.decoder(rows=rows, threads=threads)
        decoder.prefill(0, 0, tokens=tokens[0, :1490])
        results.append(advance(decoder, np.repeat(tokens[:, 1490:], rows, axis=0), start=1490)[0])

    assert np.array_equal(*results)
    assert np.isfinite(results[0]).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda decoder, tokens: decoder(tokens[:, 0, :3], np.zeros(2, int)),
        lambda decoder, tokens: decoder(tokens[:, 0], np.zeros(3, int)),
        lambda decoder, tokens: decoder(tokens[:, 0] * 0 + 34, np.zeros(2, int)),
        lambda decoder, tokens: decoder(tokens[:, 0] * 0 - 1, np.zeros(2, int)),
        lambda decoder, tokens: decoder(tokens[:, 0], np.full(2, 64)),
        lambda decoder, tokens: decoder(np.repeat(tokens[:, 0], 2, axis=0), np.zeros(4, int)),
        lambda decoder, tokens: decoder.prefill(2, 0, tokens=tokens[0]),
        lambda decoder, tokens: decoder.prefill(0, 60, tokens=tokens[0]),
        lambda decoder, tokens: decoder.prefill(0, 0, tokens=tokens[0], wanted=30),
        lambda decoder, tokens: decoder.prefill(0, 0),
        lambda decoder, tokens: decoder.prefill(0, 0, inputs=np.zeros((2, 95), np.float32)),
        lambda decoder, tokens: decoder.move(0, 2, positions=1),
        lambda decoder, tokens: decoder.move(0, 1, positions=65),
        lambda decoder, tokens: decoder.set_conditioning(2, None),
    ],
)
def test_a_call_of_wrong_sizes_is_refused(sample: Sample, call: Any) -> None:
    """Before anything is computed; the decoder goes on as if nothing had happened."""
    tokens = sample.tokens(2, 20)
    decoder = sample.decoder(rows=2)
    with pytest.raises(ValueError, match=r"out of range|needs"):
        call(decoder, tokens)

    assert np.array_equal(advance(decoder, tokens), advance(sample.decoder(rows=2), tokens))
