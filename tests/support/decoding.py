"""Helpers for the tests of the decoding loop: sampling parameters, a sequence decoded by hand, and waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from musicgen_cli.engine.decoding.sampling import Sampling

if TYPE_CHECKING:
    from musicgen_cli.engine.decoding.sequence import Sequence, Step


def sampling(**values: Any) -> Sampling:
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "guidance_scale": 1.0, "do_sample": True, "seed": 1}
    return Sampling(**{**defaults, **values})


def decode(sequence: Sequence, step: Step, *, chunk: int = 128) -> Any:
    """
    Decode a sequence to its end without a scheduler, and return its codes.

    Args:
        step: A decoder, if the sequence has a prefix or given codes.
        chunk: How many positions or given steps are read at once.
    """
    import numpy as np

    decoder: Any = step
    while sequence.is_reading:
        position = sequence.decoder_position
        vectors = sequence.read_prefix(chunk)
        tokens = sequence.read_given(chunk) if not vectors.shape[1] else None
        for row in range(sequence.rows):
            if tokens is None:
                decoder.prefill(row, position, inputs=vectors[row])
            else:
                decoder.prefill(row, position, tokens=tokens)
    while not sequence.done:
        sequence.advance(step(sequence.tokens, np.full(sequence.rows, sequence.decoder_position)))
    return sequence.codes
