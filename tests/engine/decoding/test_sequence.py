from __future__ import annotations

from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.errors import EngineError
from tests.support.decoding import sampling

VOCAB = 16


class FakeStep:
    """Logits that depend on the row's token sum and position alone; keeps what it was given."""

    def __init__(self, codebooks: int = 4) -> None:
        self.codebooks = codebooks
        self.tokens: list[Any] = []
        self.positions: list[Any] = []

    def __call__(self, tokens: Any, positions: Any) -> Any:
        self.tokens.append(tokens.copy())
        self.positions.append(positions.copy())
        rows = [
            np.random.default_rng([int(row.sum()), int(at)]).normal(size=(self.codebooks, VOCAB)) * 3
            for row, at in zip(tokens, positions, strict=True)
        ]
        return np.stack(rows).astype(np.float32)


def run(take: Sequence, step: Any) -> Any:
    while not take.done:
        take.advance(step(take.tokens, np.full(take.rows, take.position)))
    return take.codes


def test_a_frame_is_told_when_its_last_code_is_made() -> None:
    """Three steps after its first; what was told stays."""
    take = Sequence(DelayPattern(4, 1, 5), sampling(), vocab=VOCAB)
    told = []
    step = FakeStep()
    while not take.done:
        take.advance(step(take.tokens, np.full(take.rows, take.position)))
        told.append(take.codes)

    assert [codes.shape for codes in told] == [(4, frames) for frames in (0, 0, 0, 1, 2, 3, 4, 5)]
    assert all(np.array_equal(codes, take.codes[:, : codes.shape[1]]) for codes in told)


def test_the_step_reads_what_was_made_and_else_the_special_code() -> None:
    """Before a codebook's first code and after its last there is the code that no model can make."""
    step, take = FakeStep(), Sequence(DelayPattern(4, 1, 3), sampling(), vocab=VOCAB)
    codes = run(take, step)

    read = np.stack([tokens[0] for tokens in step.tokens], axis=1)
    assert (read == VOCAB).tolist() == [
        [True, False, False, False, True, True],
        [True, True, False, False, False, True],
        [True, True, True, False, False, False],
        [True, True, True, True, False, False],
    ]
    assert [int(p[0]) for p in step.positions] == list(range(6))
    assert codes.shape == (4, 3)
    assert codes.max() < VOCAB
    assert codes[1].tolist() == read[1, 2:5].tolist()


def test_a_guided_take_has_two_rows_with_the_same_codes() -> None:
    """With the text and without; a request without a prompt isn't guided at all."""
    guided_take = Sequence(DelayPattern(4, 1, 3), sampling(guidance_scale=3.0), vocab=VOCAB)
    step = FakeStep()
    run(guided_take, step)

    assert all(tokens.shape == (2, 4) and (tokens[0] == tokens[1]).all() for tokens in step.tokens)
    assert (
        Sequence(DelayPattern(4, 1, 3), Sampling.of(GenerateRequest(prompt="", guidance_scale=5.0), 1), vocab=9).rows
        == 1
    )
    assert (
        Sequence(DelayPattern(4, 1, 3), Sampling.of(GenerateRequest(prompt="a", guidance_scale=1.0), 1), vocab=9).rows
        == 1
    )
    assert (
        Sequence(DelayPattern(4, 1, 3), Sampling.of(GenerateRequest(prompt="a", guidance_scale=1.1), 1), vocab=9).rows
        == 2
    )


def test_takes_that_share_steps_are_what_they_are_alone() -> None:
    """A take that joins later, with other parameters and another length, changes nothing for either."""

    def begin() -> list[Sequence]:
        return [
            Sequence(DelayPattern(4, 1, 6), sampling(seed=5, guidance_scale=2.0), vocab=VOCAB),
            Sequence(DelayPattern(4, 1, 9), sampling(seed=6, top_k=4), vocab=VOCAB),
        ]

    alone = [run(take, FakeStep()) for take in begin()]
    together, step, round_ = begin(), FakeStep(), 0
    while not all(take.done for take in together):
        running = [take for join, take in enumerate(together) if round_ >= 2 * join and not take.done]
        logits = step(
            np.concatenate([take.tokens for take in running]),
            np.concatenate([np.full(take.rows, take.position) for take in running]),
        )
        at = 0
        for take in running:
            take.advance(logits[at : at + take.rows])
            at += take.rows
        round_ += 1

    assert all(np.array_equal(a, b.codes) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_logits_that_are_no_numbers_are_an_error(bad: float) -> None:
    """Nothing is drawn from what isn't a distribution."""
    logits = np.zeros((1, 4, VOCAB), np.float32)
    logits[0, 3, 2] = bad

    with pytest.raises(EngineError, match="not a number"):
        Sequence(DelayPattern(4, 1, 3), sampling(), vocab=VOCAB).advance(logits)


def test_greedy_takes_the_first_of_equals_and_no_seed_matters() -> None:
    """As torch's argmax does on the CPU."""
    logits = np.zeros((1, 1, VOCAB), np.float32)
    logits[0, 0, [5, 9]] = 2
    for seed in (1, 2):
        take = Sequence(
            DelayPattern(1, 1, 1), sampling(do_sample=False, seed=seed, top_k=1, temperature=0.01), vocab=VOCAB
        )
        take.advance(logits)
        assert take.codes.tolist() == [[5]]
