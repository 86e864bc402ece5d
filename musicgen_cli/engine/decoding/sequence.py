"""
One request while it is being decoded.

A `Sequence` holds its sampling parameters, its position and its codes so far, and is independent of other requests. So
one clip, a batch and a service run the same decoding loop over one or more sequences.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, IntArray
from musicgen_cli.engine.decoding.sampling import Sampling, apply_guidance, probabilities, sample, uniforms
from musicgen_cli.errors import EngineError

_MAX_LOGIT = 1e30  # no model's logits get so large, and arithmetic with it doesn't overflow float32


class Step(Protocol):
    """One step of the decoder."""

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """
        Advance each row by one position.

        Args:
            tokens: The newest token of each codebook, shape ``(rows, codebooks)``.
            positions: The position of each row, shape ``(rows,)``; a row at position 0 starts over.

        Returns:
            Logits of the next codes, shape ``(rows, codebooks, vocabulary)``. The array may be reused by the next call.
        """


class Sequence:
    """
    One request while it is being decoded: its delay pattern, its position and its codes so far.

    It may begin with given codes. They are laid into the delay pattern as if they had been generated; the first step at
    which a codebook's code isn't known is the first one that is generated, and codes that are known stay. The steps
    before it are read into the KV cache (prefill) and need no logits. Before the codes it may read a prefix of vectors,
    which takes the decoder's first positions.

    Source:
        `LMModel.generate` of audiocraft with `prompt_tokens`.
    """

    def __init__(
        self,
        pattern: DelayPattern,
        sampling: Sampling,
        *,
        vocab: int,
        given: IntArray | None = None,
        first_frame: int = 0,
        prefix: FloatArray | None = None,
    ) -> None:
        """
        Start before the first step.

        Args:
            vocab: The number of codes in a codebook; the token `vocab` itself is the start and padding token.
            given: The codes of the first frames, shape ``(codebooks, n)``; None for none.
            first_frame: The number of the first frame in the whole clip, if this is a part of it. It decides which of
                the seed's random numbers are used, so that no two parts of a clip share any.
            prefix: What the conditional and the unconditional row read before the codes, shape ``(2, n, width)``; None
                for nothing.
        """
        self.pattern = pattern
        self.position = 0  # the next step
        self._prefix = np.empty((2, 0, 0), np.float32) if prefix is None else prefix
        self._prefix_read = 0  # of its positions
        self.given = 0 if given is None else given.shape[1]  # frames, and as many steps
        self._sampling = sampling
        self._start_token = vocab
        self._tokens = np.full((pattern.codebooks, pattern.steps), vocab, np.int64)
        for k, codes in enumerate(() if given is None else given):
            self._tokens[k, pattern.delay(k) :][: self.given] = codes
        self._uniforms = uniforms(sampling.seed, first_frame + pattern.steps, pattern.codebooks)[first_frame:]

    @property
    def rows(self) -> int:
        """Rows of the decoder batch: 2 with guidance (conditional, then unconditional), else 1."""
        return 2 if self._sampling.guidance_scale > 1 else 1

    @property
    def done(self) -> bool:
        """Whether every code has been generated."""
        return self.position == self.pattern.steps

    @property
    def decoder_position(self) -> int:
        """The next position of the decoder: those of the prefix that were read, and the steps so far."""
        return self._prefix_read + self.position

    @property
    def is_reading(self) -> bool:
        """Whether there is something of the prefix, or a given step, that was not read."""
        return self._prefix_read < self._prefix.shape[1] or self.position < self.given

    @property
    def codes(self) -> IntArray:
        """The codes of the frames that are complete so far, shape ``(codebooks, frames)``."""
        return self.pattern.align(self._tokens[:, : self.position])

    @property
    def tokens(self) -> IntArray:
        """The input of the next decoder step, shape ``(rows, codebooks)``."""
        return np.tile(self._inputs(1), (self.rows, 1))

    def read_prefix(self, most: int) -> FloatArray:
        """
        Go over the next positions of the prefix, and return what the decoder reads at them.

        Args:
            most: Of the positions.

        Returns:
            Vectors, shape ``(rows, positions, width)``; there are none once all were read.
        """
        vectors = self._prefix[: self.rows, self._prefix_read : self._prefix_read + most]
        self._prefix_read += vectors.shape[1]
        return vectors

    def read_given(self, most: int) -> IntArray:
        """
        Go over the next given steps, after the prefix, and return what the decoder reads at them.

        Args:
            most: Of the steps.

        Returns:
            Tokens, shape ``(steps, codebooks)``, the same for each row; there are none once all were read.
        """
        tokens = self._inputs(max(0, min(most, self.given - self.position)))
        self.position += len(tokens)
        return tokens

    def _inputs(self, steps: int) -> IntArray:
        """Return the tokens that the next steps read, shape ``(steps, codebooks)``: those of the step before each."""
        start = np.full((1, self.pattern.codebooks), self._start_token, np.int64)
        newest = self._tokens[:, max(0, self.position - 1) : self.position + steps - 1].T
        return newest if self.position else np.concatenate([start, newest])[:steps]

    def advance(self, logits: FloatArray) -> None:
        """
        Choose the codes of this step and go to the next position.

        Args:
            logits: Of this sequence's rows, shape ``(rows, codebooks, vocabulary)``.

        Raises:
            EngineError: A logit is NaN, infinite or larger than `_MAX_LOGIT`.
        """
        assert self.position >= self.given, "given steps are read, not generated"
        if not (np.abs(logits) < _MAX_LOGIT).all():
            raise EngineError("the model's output is NaN or infinite", hint="its weights may be damaged")
        codebooks = self.pattern.codebooks_at(self.position, first=self.given)
        guided = apply_guidance(logits, self._sampling.guidance_scale)[codebooks]
        if self._sampling.do_sample:
            codes = sample(probabilities(guided, self._sampling), self._uniforms[self.position, codebooks])
        else:
            codes = guided.argmax(-1)  # the first among equals, as in torch
        self._tokens[codebooks, self.position] = codes
        self.position += 1
