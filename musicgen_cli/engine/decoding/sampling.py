"""From logits to codes: classifier-free guidance, temperature, top-k, top-p, and random numbers that a seed fixes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.decoding.delay_pattern import IntArray

SAMPLER_VERSION = 3  # raised whenever a seed's bytes change, by sampling or by arithmetic; part of every record


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling parameters of one request, named as in the HTTP contract."""

    temperature: float
    top_k: int  # 0 = off
    top_p: float  # 1 = off
    guidance_scale: float  # 1 = off
    do_sample: bool
    seed: int

    @classmethod
    def of(cls, request: GenerateRequest, seed: int, *, has_tune: bool = False) -> Sampling:
        """
        Take the parameters from a request.

        Without a prompt and a tune there is no guidance, as there is nothing to follow.
        """
        return cls(
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            guidance_scale=request.guidance_scale if request.prompt or has_tune else 1.0,
            do_sample=request.do_sample,
            seed=seed,
        )


def apply_guidance(logits: FloatArray, scale: float) -> FloatArray:
    """
    Apply classifier-free guidance: uncond + scale * (cond - uncond).

    Args:
        logits: Shape ``(1 or 2, codebooks, vocabulary)``: conditional, then unconditional.
        scale: How far to go beyond the conditional logits; not used where there is one row.

    Returns:
        Shape ``(codebooks, vocabulary)``.

    Source:
        ClassifierFreeGuidanceLogitsProcessor in transformers.
    """
    conditional: FloatArray = logits[0]
    if len(logits) == 1:
        return conditional
    unconditional: FloatArray = logits[1]
    return unconditional + (conditional - unconditional) * np.float32(scale)


def probabilities(logits: FloatArray, sampling: Sampling) -> NDArray[np.float64]:
    """
    Apply temperature, top-k and top-p, in this order.

    Args:
        logits: After guidance, shape ``(codebooks, vocabulary)``.

    Returns:
        Unnormalised probabilities of the same shape; 0 for a code that was filtered out.

    Source:
        TemperatureLogitsWarper, TopKLogitsWarper and TopPLogitsWarper in transformers. A code equal to the k-th most
        likely one stays. Top-p removes the least likely codes whose total is at most 1 - top_p, but never the most
        likely one; among equals the last counts as the most likely.
    """
    scaled = logits / np.float32(sampling.temperature)
    weights: NDArray[np.float64] = np.exp(scaled.astype(np.float64) - scaled.max(-1, keepdims=True))
    vocab = scaled.shape[-1]
    if 0 < sampling.top_k < vocab:
        kth = vocab - sampling.top_k
        weights *= scaled >= np.partition(scaled, kth)[:, kth, None]
    if sampling.top_p < 1:
        for row in weights:
            (kept,) = row.nonzero()  # far fewer than all, after top-k
            ascending = kept[np.argsort(row[kept], kind="stable")]
            cumulative = np.cumsum(row[ascending])
            removed = cumulative <= (1 - sampling.top_p) * cumulative[-1]
            removed[-1] = False
            row[ascending[removed]] = 0
    return weights


def sample(weights: NDArray[np.float64], uniforms: NDArray[np.float64]) -> IntArray:
    """
    Sample one code per codebook by inverse CDF.

    Args:
        weights: Unnormalised probabilities, shape ``(codebooks, vocabulary)``.
        uniforms: Numbers in [0, 1), shape ``(codebooks,)``.

    Returns:
        Shape ``(codebooks,)``.
    """
    cumulative = np.cumsum(weights, -1)
    total = cumulative[:, -1]
    threshold = np.minimum(uniforms * total, np.nextafter(total, 0))  # the product can be rounded up to the total
    codes: IntArray = (cumulative <= threshold[:, None]).sum(-1)
    return codes


def uniforms(seed: int, steps: int, codebooks: int) -> NDArray[np.float64]:
    """
    Return the uniform random numbers of a seed, in [0, 1), shape ``(steps, codebooks)``.

    Number n of a seed is made from the n-th 64-bit word of Philox4x64-10 (Salmon et al. 2011), keyed by the seed. The
    algorithm is published and fixed, so no version of numpy can change it. The word depends on step and codebook alone.
    """
    words = np.random.Philox(key=seed).random_raw(steps * codebooks)
    return (words >> np.uint64(11)).reshape(steps, codebooks).astype(np.float64) * 2.0**-53
