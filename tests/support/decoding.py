"""Sampling parameters for the tests of the decoding loop."""

from __future__ import annotations

from typing import Any

from musicgen_cli.engine.decoding.sampling import Sampling


def sampling(**values: Any) -> Sampling:
    plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "guidance_scale": 1.0, "do_sample": True, "seed": 1}
    return Sampling(**{**plain, **values})
