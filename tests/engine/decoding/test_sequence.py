from __future__ import annotations

from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.errors import EngineError
from tests.support.decoding import decode, sampling

VOCAB = 16


class FakeStep:
    """A step whose logits depend on a row's position and the sum of its tokens alone; it records its inputs."""

    def __init__(self, codebooks: int = 4) -> None:
        self.codebooks = codebooks
        self.tokens: list[Any] = []
        self.positions: list[Any] = []
        self.read: list[tuple[int, list[int]]] = []  # positions and their tokens

    def prefill(self, row: int, start: int, *, tokens: Any = None, inputs: Any = None) -> None:
        self.read += [(start + i, newest.tolist()) for i, newest in enumerate(inputs if tokens is None else tokens)]

    def __call__(self, tokens: Any, positions: Any) -> Any:
        self.tokens.append(tokens.copy())
        self.positions.append(positions.copy())
        rows = [
            np.random.default_rng([int(row.sum()), int(position)]).normal(size=(self.codebooks, VOCAB)) * 3
            for row, position in zip(tokens, positions, strict=True)
        ]
        return np.stack(rows).astype(np.float32)


def new_sequence(frames: int, **parameters: Any) -> Sequence:
    return Sequence(DelayPattern(4, 1, frames), sampling(**parameters), vocab=VOCAB)


def test_a_frame_is_complete_with_its_last_code() -> None:
    """Three steps after its first code; the codes of a complete frame don't change any more."""
    sequence = new_sequence(5)
    codes_by_step = []
    step = FakeStep()
    while not sequence.done:
        sequence.advance(step(sequence.tokens, np.full(sequence.rows, sequence.position)))
        codes_by_step.append(sequence.codes)

    assert [codes.shape for codes in codes_by_step] == [(4, frames) for frames in (0, 0, 0, 1, 2, 3, 4, 5)]
    assert all(np.array_equal(codes, sequence.codes[:, : codes.shape[1]]) for codes in codes_by_step)


def test_a_step_reads_the_codes_generated_so_far_and_else_the_special_token() -> None:
    """A codebook's token before its first code and after its last one is `vocab`, which is no code."""
    step, sequence = FakeStep(), new_sequence(3)
    codes = decode(sequence, step)

    tokens = np.stack([tokens[0] for tokens in step.tokens], axis=1)
    assert (tokens == VOCAB).tolist() == [
        [True, False, False, False, True, True],
        [True, True, False, False, False, True],
        [True, True, True, False, False, False],
        [True, True, True, True, False, False],
    ]
    assert [int(positions[0]) for positions in step.positions] == list(range(6))
    assert codes.shape == (4, 3)
    assert codes.max() < VOCAB
    assert codes[1].tolist() == tokens[1, 2:5].tolist()


def test_a_guided_sequence_has_two_rows_with_the_same_tokens() -> None:
    """A conditional and an unconditional row."""
    step = FakeStep()
    decode(new_sequence(3, guidance_scale=3.0), step)

    assert all(tokens.shape == (2, 4) and (tokens[0] == tokens[1]).all() for tokens in step.tokens)


@pytest.mark.parametrize(("prompt", "scale", "rows"), [("", 5.0, 1), ("a", 1.0, 1), ("a", 1.1, 2)])
def test_a_request_is_guided_by_its_prompt_and_its_scale(prompt: str, scale: float, rows: int) -> None:
    """There is no guidance without a prompt, nor with a scale of 1."""
    request = GenerateRequest(prompt=prompt, guidance_scale=scale)

    assert Sequence(DelayPattern(4, 1, 3), Sampling.of(request, 1), vocab=9).rows == rows


def test_sequences_in_one_batch_are_what_they_are_alone() -> None:
    """Although one joins later, with other parameters and another length."""

    def both() -> list[Sequence]:
        return [new_sequence(6, seed=5, guidance_scale=2.0), new_sequence(9, seed=6, top_k=4)]

    alone = [decode(sequence, FakeStep()) for sequence in both()]
    together, step, round_ = both(), FakeStep(), 0
    while not all(sequence.done for sequence in together):
        running = [each for join, each in enumerate(together) if round_ >= 2 * join and not each.done]
        logits = step(
            np.concatenate([sequence.tokens for sequence in running]),
            np.concatenate([np.full(sequence.rows, sequence.position) for sequence in running]),
        )
        row = 0
        for sequence in running:
            sequence.advance(logits[row : row + sequence.rows])
            row += sequence.rows
        round_ += 1

    assert all(np.array_equal(a, b.codes) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    """No code is sampled from them."""
    logits = np.zeros((1, 4, VOCAB), np.float32)
    logits[0, 3, 2] = bad

    with pytest.raises(EngineError, match="NaN or infinite"):
        new_sequence(3).advance(logits)


def test_greedy_decoding_takes_the_first_of_equal_codes_whatever_the_seed() -> None:
    """As torch's argmax does on the CPU."""
    logits = np.zeros((1, 1, VOCAB), np.float32)
    logits[0, 0, [5, 9]] = 2
    for seed in (1, 2):
        parameters = sampling(do_sample=False, seed=seed, top_k=1, temperature=0.01)
        sequence = Sequence(DelayPattern(1, 1, 1), parameters, vocab=VOCAB)
        sequence.advance(logits)
        assert sequence.codes.tolist() == [[5]]


@pytest.mark.parametrize(("codebooks", "channels"), [(4, 1), (8, 2)])
@pytest.mark.parametrize("given", [1, 2, 5, 11])
def test_a_sequence_goes_on_from_given_codes_as_from_its_own(codebooks: int, channels: int, given: int) -> None:
    """
    Given its first frames, it makes the others again.

    It begins with the first step at which a codebook's code isn't known, and codes that are known stay.
    """
    pattern = DelayPattern(codebooks, channels, 12)

    def decoded(step: FakeStep, given: Any) -> Any:
        return decode(Sequence(pattern, sampling(seed=3), vocab=VOCAB, given=given), step, chunk=4)

    whole, again = FakeStep(codebooks), FakeStep(codebooks)
    codes = decoded(whole, None)

    assert np.array_equal(decoded(again, codes[:, :given]), codes)
    assert [int(positions[0]) for positions in again.positions] == list(range(given, pattern.steps))
    assert again.read == [(i, whole.tokens[i][0].tolist()) for i in range(given)]


def test_parts_of_a_clip_share_no_random_number() -> None:
    """The first frame of a part is counted from the clip's beginning: with it, a part has the whole's numbers."""
    seed = sampling(seed=3)
    flat = np.zeros((1, 4, VOCAB), np.float32)

    def generated(sequence: Sequence) -> Any:
        while sequence.is_reading:
            sequence.read_given(3)
        while not sequence.done:
            sequence.advance(flat)
        return sequence.codes

    whole = generated(Sequence(DelayPattern(4, 1, 40), seed, vocab=VOCAB))
    part = Sequence(DelayPattern(4, 1, 20), seed, vocab=VOCAB, given=whole[:, 20:25], first_frame=20)

    assert np.array_equal(generated(part), whole[:, 20:])


@pytest.mark.parametrize(("scale", "rows"), [(1.0, 1), (3.0, 2)])
def test_a_prefix_is_read_before_given_codes_and_shifts_the_positions(scale: float, rows: int) -> None:
    """Of each row its own, in parts; positions go on from its end, while steps are counted without it."""
    prefix = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)
    given = np.arange(8).reshape(4, 2)
    sequence = Sequence(DelayPattern(4, 1, 6), sampling(guidance_scale=scale), vocab=VOCAB, given=given, prefix=prefix)
    parts, positions = [], []
    while (vectors := sequence.read_prefix(2)).shape[1]:
        assert sequence.is_reading
        assert sequence.position == 0
        parts.append(vectors)
        positions.append(sequence.decoder_position)

    assert np.array_equal(np.concatenate(parts, axis=1), prefix[:rows])
    assert positions == [2, 4, 5]
    step = FakeStep()
    codes = decode(sequence, step)
    assert [position for position, _ in step.read] == [5, 6] * rows
    assert [int(at[0]) for at in step.positions] == [7, 8, 9, 10, 11, 12, 13]
    assert np.array_equal(codes[:, :2], given)
