"""A request for a short clip, for the tests of the engines."""

from __future__ import annotations

from typing import Any

from musicgen_cli.contract import GenerateRequest


def request(**parameters: Any) -> GenerateRequest:
    defaults: dict[str, Any] = {"prompt": "calm ambient piano", "duration": 1.0, "seed": 1}
    return GenerateRequest(**defaults | parameters)
