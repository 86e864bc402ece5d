from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.contract import GenerateRequest  # noqa: E402  # after what may skip it
from musicgen_cli.engine.decoding.sequence import (  # noqa: E402
    Pattern,
    Sampling,
    Take,
    chances,
    draw,
    frames_of,
    guided,
    samples_of,
    weights,
)
from musicgen_cli.errors import EngineError  # noqa: E402

VOCAB = 16


def sampling(**values: Any) -> Sampling:
    plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "guidance_scale": 1.0, "do_sample": True, "seed": 1}
    return Sampling(**{**plain, **values})


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


def run(take: Take, step: Any) -> Any:
    while not take.done:
        take.advance(step(take.tokens, np.full(take.rows, take.position)))
    return take.codes


@pytest.mark.parametrize(
    ("codebooks", "channels", "delays", "steps"),
    [(4, 1, [0, 1, 2, 3], 13), (8, 2, [0, 0, 1, 1, 2, 2, 3, 3], 13), (4, 2, [0, 0, 1, 1], 11), (1, 1, [0], 10)],
)
def test_codebooks_are_delayed(codebooks: int, channels: int, delays: list[int], steps: int) -> None:
    """One step for each codebook, or for each pair of a stereo model."""
    pattern = Pattern(codebooks, channels, 10)

    assert [pattern.delay(k) for k in range(codebooks)] == delays
    assert pattern.steps == steps
    assert sum(len(pattern.makes(step)) for step in range(steps)) == codebooks * 10


def test_aligned_codes_of_a_frame_stand_in_one_column() -> None:
    """Code k of frame t was made at step t + delay."""
    made = np.arange(4)[:, None] * 100 + np.arange(8)

    assert Pattern(4, 1, 5).align(made)[:, 2].tolist() == [2, 103, 204, 305]


def test_a_frame_is_told_when_its_last_code_is_made() -> None:
    """Three steps after its first; what was told stays."""
    take = Take(Pattern(4, 1, 5), sampling(), vocab=VOCAB)
    told = []
    step = FakeStep()
    while not take.done:
        take.advance(step(take.tokens, np.full(take.rows, take.position)))
        told.append(take.codes)

    assert [codes.shape for codes in told] == [(4, frames) for frames in (0, 0, 0, 1, 2, 3, 4, 5)]
    assert all(np.array_equal(codes, take.codes[:, : codes.shape[1]]) for codes in told)


def test_the_step_reads_what_was_made_and_else_the_special_code() -> None:
    """Before a codebook's first code and after its last there is the code that no model can make."""
    step, take = FakeStep(), Take(Pattern(4, 1, 3), sampling(), vocab=VOCAB)
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
    guided_take = Take(Pattern(4, 1, 3), sampling(guidance_scale=3.0), vocab=VOCAB)
    step = FakeStep()
    run(guided_take, step)

    assert all(tokens.shape == (2, 4) and (tokens[0] == tokens[1]).all() for tokens in step.tokens)
    assert Take(Pattern(4, 1, 3), Sampling.of(GenerateRequest(prompt="", guidance_scale=5.0), 1), vocab=9).rows == 1
    assert Take(Pattern(4, 1, 3), Sampling.of(GenerateRequest(prompt="a", guidance_scale=1.0), 1), vocab=9).rows == 1
    assert Take(Pattern(4, 1, 3), Sampling.of(GenerateRequest(prompt="a", guidance_scale=1.1), 1), vocab=9).rows == 2


def test_takes_that_share_steps_are_what_they_are_alone() -> None:
    """A take that joins later, with other parameters and another length, changes nothing for either."""

    def begin() -> list[Take]:
        return [
            Take(Pattern(4, 1, 6), sampling(seed=5, guidance_scale=2.0), vocab=VOCAB),
            Take(Pattern(4, 1, 9), sampling(seed=6, top_k=4), vocab=VOCAB),
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
        Take(Pattern(4, 1, 3), sampling(), vocab=VOCAB).advance(logits)


def test_greedy_takes_the_first_of_equals_and_no_seed_matters() -> None:
    """As torch's argmax does on the CPU."""
    logits = np.zeros((1, 1, VOCAB), np.float32)
    logits[0, 0, [5, 9]] = 2
    for seed in (1, 2):
        take = Take(Pattern(1, 1, 1), sampling(do_sample=False, seed=seed, top_k=1, temperature=0.01), vocab=VOCAB)
        take.advance(logits)
        assert take.codes.tolist() == [[5]]


def test_guidance_goes_away_from_what_comes_without_the_text() -> None:
    """Without + scale (with - without); one row is left as it is."""
    logits = np.float32([[[1.0, 2.0]], [[0.0, 4.0]]])

    assert guided(logits, 3.0).tolist() == [[3.0, -2.0]]
    assert guided(logits[:1], 3.0).tolist() == [[1.0, 2.0]]


def drawable(scores: Sequence[float], **values: Any) -> list[int]:
    """Return the codes that may be drawn."""
    (found,) = weights(np.float32([scores]), sampling(**values))
    return np.flatnonzero(found).tolist()


def test_top_k_keeps_what_equals_the_last_one_kept() -> None:
    """And 0, or as many as there are, is off."""
    scores = [1, 3, 2, 2, 0]

    assert drawable(scores, top_k=2) == [1, 2, 3]
    assert drawable(scores, top_k=1) == [1]
    for off in (0, 5, 1000):
        assert drawable(scores, top_k=off) == [0, 1, 2, 3, 4]


def test_top_p_keeps_the_likeliest_that_reach_it() -> None:
    """1 is off; 0 keeps one, of equals the last."""
    scores = np.log([0.1, 0.4, 0.3, 0.2]).tolist()

    assert drawable(scores, top_p=0.65) == [1, 2]
    assert drawable(scores, top_p=0.75) == [1, 2, 3]
    assert drawable(scores, top_p=1.0) == [0, 1, 2, 3]
    assert drawable(scores, top_p=0.0) == [1]
    assert drawable([0, 0, 0, 0], top_p=0.0) == [3]


def test_a_low_temperature_sharpens() -> None:
    """The lowest that is allowed leaves one code of any that differ, and no infinity."""
    assert weights(np.float32([[0, 1, 400]]), sampling(temperature=0.01)).tolist() == [[0, 0, 1]]


def test_codebooks_dont_disturb_each_other() -> None:
    """Each has its own best, its own k-th best and its own sum."""
    scores = (np.random.default_rng(0).normal(size=(4, 50)) * [[1], [5], [0.1], [20]]).astype(np.float32)
    for values in ({"top_k": 7}, {"top_p": 0.8}, {"top_k": 20, "top_p": 0.5, "temperature": 0.3}):
        together = weights(scores, sampling(**values))
        alone = [weights(row[None], sampling(**values))[0] for row in scores]
        assert np.array_equal(together, alone)


def test_drawing_inverts_the_distribution() -> None:
    """The bounds belong to the code above; what has no chance is never drawn."""
    given = np.array([0.0, 2.0, 0.0, 6.0, 0.0])
    asked = np.array([0.0, 0.2499, 0.25, 0.5, 1 - 2.0**-53])

    assert draw(np.tile(given, (5, 1)), asked).tolist() == [1, 1, 3, 3, 3]


def test_draws_follow_the_probabilities() -> None:
    """20,000 of them, to three standard deviations."""
    found = weights(np.log(np.float32([[1, 2, 3, 4]])), sampling())
    drawn = draw(np.tile(found, (20_000, 1)), chances(7, 5000, 4).ravel())

    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert np.abs(shares - [0.1, 0.2, 0.3, 0.4]).max() < 3 * (0.25 / 20_000) ** 0.5


def philox(key: int, counter: int) -> list[int]:
    """Philox4x64-10, written down from Salmon et al. 2011, section 4.2 (constants of the Random123 library)."""
    mask, keys, words = 2**64 - 1, [key, 0], [counter, 0, 0, 0]
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [(b >> 64) ^ words[1] ^ keys[0], b & mask, (a >> 64) ^ words[3] ^ keys[1], a & mask]
        keys = [(keys[0] + 0x9E3779B97F4A7C15) & mask, (keys[1] + 0xBB67AE8584CAA73B) & mask]
    return words


@pytest.mark.parametrize("seed", [0, 1, 2**53 - 1])
def test_chances_are_a_published_function_of_the_seed(seed: int) -> None:
    """Computed here from the paper, so that no version of numpy can change what a seed means."""
    words = [word for counter in range(1, 7) for word in philox(seed, counter)]

    assert chances(seed, 6, 4).ravel().tolist() == [(word >> 11) * 2.0**-53 for word in words]


def test_a_chance_depends_on_step_and_codebook_alone() -> None:
    """A longer clip begins as a shorter one does."""
    assert np.array_equal(chances(3, 500, 4)[:20], chances(3, 20, 4))


@pytest.mark.parametrize(
    ("duration", "rate", "hop", "samples", "frames"),
    [
        (0.5, 32_000, 640, 16_000, 25),
        (0.51, 32_000, 640, 16_320, 26),
        (0.58, 32_000, 640, 18_560, 29),
        (1 / 3, 32_000, 640, 10_667, 17),
        (9.99, 32_000, 640, 319_680, 500),
        (30.0, 32_000, 640, 960_000, 1500),
        (0.07, 10_000, 100, 700, 7),  # 0.07 * 100 is 7.000000000000001
        (1.1, 24_000, 320, 26_400, 83),
    ],
)
def test_a_duration_is_whole_samples_and_just_enough_frames(
    duration: float, rate: int, hop: int, samples: int, frames: int
) -> None:
    """The last frame is the first that reaches the end."""
    assert samples_of(duration, rate) == samples
    assert frames_of(samples, hop) == frames
