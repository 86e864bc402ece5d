"""
From logits to codes.

A `Take` is one request on its way through the decoder. It knows its rows, its position and its codes so far, and
nothing of other requests, so that one clip, a batch and a service are the same loop over more or fewer of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import EngineError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

SAMPLER_VERSION = 2  # raised with every change of what a seed means, by sampling or by arithmetic

_LARGEST = 1e30  # of a logit: beyond any model, and so far from float32's end that nothing below overflows


class Step(Protocol):
    """One step of the decoder."""

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """
        Take each row one position further.

        Args:
            tokens: The newest codes, shape ``(rows, codebooks)``.
            positions: Where each row is, shape ``(rows,)``; a row at 0 begins anew.

        Returns:
            Shape ``(rows, codebooks, vocabulary)``, for the codes that come next. The array may be reused.
        """


@dataclass(frozen=True, slots=True)
class Pattern:
    """
    Which code is made at which step: the delay pattern.

    Codebook k of frame t is made at step t + delay(k); before and after, its token is the special one.

    Source:
        MusicgenForCausalLM.build_delay_pattern_mask; a stereo model's codebooks alternate left and right, and each pair
        has one delay.
    """

    codebooks: int  # of all channels together
    channels: int
    frames: int

    @property
    def steps(self) -> int:
        """Steps until the last code of the last frame."""
        return self.frames + self.codebooks // self.channels - 1

    def delay(self, codebook: int) -> int:
        """Return how many steps after the first codebook this one comes."""
        return codebook // self.channels

    def makes(self, step: int) -> list[int]:
        """Return the codebooks that get a code at that step."""
        return [k for k in range(self.codebooks) if 0 <= step - self.delay(k) < self.frames]

    def align(self, tokens: IntArray) -> IntArray:
        """Turn (codebooks, steps) as they were made so far into (codebooks, frames): those that are whole."""
        whole = max(0, tokens.shape[1] - self.delay(self.codebooks - 1))
        return np.stack([row[self.delay(k) :][:whole] for k, row in enumerate(tokens)])


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a code is chosen; meanings and names as in the contract."""

    temperature: float
    top_k: int
    top_p: float
    guidance_scale: float  # 1 = off
    do_sample: bool
    seed: int

    @classmethod
    def of(cls, request: GenerateRequest, seed: int) -> Sampling:
        """Take the parameters from a request."""
        return cls(
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            guidance_scale=request.guidance_scale if request.prompt else 1.0,  # nothing to be guided to
            do_sample=request.do_sample,
            seed=seed,
        )


class Take:
    """One request on its way through the decoder."""

    def __init__(self, pattern: Pattern, sampling: Sampling, *, vocab: int) -> None:
        """
        Begin.

        Args:
            vocab: Codes of a codebook; the code `vocab` itself is start and padding.
        """
        self.pattern = pattern
        self.position = 0
        self._sampling = sampling
        self._special = vocab
        self._made = np.full((pattern.codebooks, pattern.steps), vocab, np.int64)
        self._chances = chances(sampling.seed, pattern.steps, pattern.codebooks)

    @property
    def rows(self) -> int:
        """2 if guided: with the text, then without; else 1."""
        return 2 if self._sampling.guidance_scale > 1 else 1

    @property
    def done(self) -> bool:
        """Whether every code is made."""
        return self.position == self.pattern.steps

    @property
    def codes(self) -> IntArray:
        """The codes of the frames that are whole so far, shape ``(codebooks, frames)``."""
        return self.pattern.align(self._made[:, : self.position])

    @property
    def tokens(self) -> IntArray:
        """What the step reads next, shape ``(rows, codebooks)``."""
        newest = self._made[:, self.position - 1] if self.position else np.full_like(self._made[:, 0], self._special)
        return np.tile(newest, (self.rows, 1))

    def advance(self, logits: FloatArray) -> None:
        """
        Choose the codes of this step.

        Args:
            logits: Of this take's rows, shape ``(rows, codebooks, vocabulary)``.

        Raises:
            EngineError: A logit is not a number, or beyond any model's.
        """
        if not (np.abs(logits) < _LARGEST).all():
            raise EngineError("the model's output is not a number", hint="its weights may be damaged")
        due = self.pattern.makes(self.position)
        scores = guided(logits, self._sampling.guidance_scale)[due]
        if self._sampling.do_sample:
            codes = draw(weights(scores, self._sampling), self._chances[self.position, due])
        else:
            codes = scores.argmax(-1)  # of equals the first, as torch does
        self._made[due, self.position] = codes
        self.position += 1


def samples_of(duration: float, rate: int) -> int:
    """Return how many samples a clip of `duration` seconds has, at `rate` Hz."""
    return round(duration * rate)


def frames_of(samples: int, hop: int) -> int:
    """Return how many frames of `hop` samples hold so many; whole numbers, for 0.07 s at 100 Hz is more than 7."""
    return -(-samples // hop)


def guided(logits: FloatArray, scale: float) -> FloatArray:
    """
    Go from the rows of a take to one: away from what comes without the text.

    Args:
        logits: Shape ``(1 or 2, codebooks, vocabulary)``; the first row is with the text, the second without.

    Source:
        ClassifierFreeGuidanceLogitsProcessor.
    """
    given: FloatArray = logits[0]
    if len(logits) == 1:
        return given
    free: FloatArray = logits[1]
    return free + (given - free) * np.float32(scale)


def weights(scores: FloatArray, sampling: Sampling) -> NDArray[np.float64]:
    """
    Return how likely each code is to be drawn, next to the others of its codebook; 0 is never.

    Args:
        scores: Guided, shape ``(codebooks, vocabulary)``, as is what is returned.

    Source:
        TemperatureLogitsWarper, TopKLogitsWarper and TopPLogitsWarper, in this order. What is equal to the k-th best
        stays; what together has at most 1 - top_p goes, but for the best; of equals the last counts as the best.
    """
    scores = scores / np.float32(sampling.temperature)
    found: NDArray[np.float64] = np.exp(scores.astype(np.float64) - scores.max(-1, keepdims=True))
    vocab = scores.shape[-1]
    if 0 < sampling.top_k < vocab:
        least = vocab - sampling.top_k
        found *= scores >= np.partition(scores, least)[:, least, None]
    if sampling.top_p < 1:
        order = np.argsort(found, kind="stable")
        cumulated = np.cumsum(np.take_along_axis(found, order, -1), -1)
        goes = cumulated <= (1 - sampling.top_p) * cumulated[:, -1:]
        goes[:, -1] = False
        np.put_along_axis(found, order, np.where(goes, 0, np.take_along_axis(found, order, -1)), -1)
    return found


def draw(weights: NDArray[np.float64], chances: NDArray[np.float64]) -> IntArray:
    """
    Invert the cumulative distribution of each codebook: its first code at which it is above a chance.

    Args:
        weights: Shape ``(codebooks, vocabulary)``; they needn't sum to 1.
        chances: In [0, 1), shape ``(codebooks,)``.
    """
    cumulated = np.cumsum(weights, -1)
    total = cumulated[:, -1]
    below = np.minimum(chances * total, np.nextafter(total, 0))  # the product can be rounded up to the total
    codes: IntArray = (cumulated <= below[:, None]).sum(-1)
    return codes


def chances(seed: int, steps: int, codebooks: int) -> NDArray[np.float64]:
    """
    Return numbers in [0, 1), shape ``(steps, codebooks)``.

    Number n of a seed is made of the n-th 64-bit word of Philox4x64-10 (Salmon et al. 2011), keyed by the seed: a
    published function, of which no part may change with a version of numpy. Step and codebook alone say which word.
    """
    words = np.random.Philox(key=seed).random_raw(steps * codebooks)
    return (words >> np.uint64(11)).reshape(steps, codebooks).astype(np.float64) * 2.0**-53
