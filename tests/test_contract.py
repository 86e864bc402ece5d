from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.request_fields import RANGES


def test_a_value_out_of_range_is_named_with_its_range() -> None:
    """The message is the one users are promised."""
    with pytest.raises(InvalidValueError) as caught:
        GenerateRequest.checked({"duration": 601})

    assert str(caught.value) == "duration must be 0.5-600 s, got 601"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("name", "allowed"), RANGES.items())
def test_a_range_includes_its_bounds_and_nothing_beyond(name: str, allowed: Any) -> None:
    """Values beyond it, NaN, infinity and other types are refused by name."""
    for value in (allowed.low, allowed.high):
        assert getattr(GenerateRequest.checked({name: value}), name) == value
    beyond = 1 if name in {"top_k", "seed"} else 0.001
    for value in (allowed.low - beyond, allowed.high + beyond, math.nan, math.inf, -math.inf, "1", None, True):
        if value is None and name == "seed":
            continue
        with pytest.raises(InvalidValueError, match=name):
            GenerateRequest.checked({name: value})


@pytest.mark.parametrize("name", ["seed", "top_k"])
@pytest.mark.parametrize("build", [GenerateRequest.checked, lambda values: GenerateRequest.clamped(values)[0]])
def test_a_whole_number_may_be_written_with_a_point(name: str, build: Callable[..., GenerateRequest]) -> None:
    """1.0 is 1, as JSON and spreadsheets write it; only a fraction is refused, and the message shows it."""
    assert getattr(build({name: 1.0}), name) == 1
    assert isinstance(getattr(build({name: 1.0}), name), int)
    with pytest.raises(InvalidValueError, match=rf"{name} must be a whole number, .*, got 1\.5"):
        build({name: 1.5})


@pytest.mark.parametrize("prompt", ["a\0b", "\x1b[31m", "a\rb", "\ud800", "x" * 2001, "x" * 100_000, None, 5, "\x0b"])
def test_forbidden_prompts_are_refused(prompt: Any) -> None:
    """Control characters, lone surrogates and 2,001 characters."""
    with pytest.raises(InvalidValueError, match="prompt") as caught:
        GenerateRequest.checked({"prompt": prompt})
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("prompt", ["", "x" * 2000, "tab\tand\nline", "élan 🎹 \u202e", "[verse]"])
def test_other_prompts_pass_unchanged(prompt: str) -> None:
    """A prompt is data."""
    assert GenerateRequest.checked({"prompt": prompt}).prompt == prompt


@pytest.mark.parametrize("job", ["", "a b", "a\n", "x" * 257, "ä"])
def test_a_job_id_must_match_as_a_whole(job: str) -> None:
    """A line feed at the end is refused, too."""
    with pytest.raises(InvalidValueError, match="client_job_id"):
        GenerateRequest.checked({"client_job_id": job})


def test_the_service_clamps_and_returns_the_original_values() -> None:
    """Numbers out of range become the nearest bound."""
    body = {"duration": 999, "temperature": 0, "top_k": -1, "top_p": 1.5, "guidance_scale": 0.5, "seed": 2**60}

    request, originals = GenerateRequest.clamped(body)

    assert originals == body
    assert request.params == {
        "duration": 600.0, "temperature": 0.01, "top_k": 0, "top_p": 1.0, "guidance_scale": 1.0, "do_sample": True,
        "seed": 2**53 - 1,
    }  # fmt: skip


def test_the_service_takes_null_and_whole_floats() -> None:
    """`prompt: null` is unconditional, `250.0` is 250, and unknown fields are ignored."""
    request, originals = GenerateRequest.clamped({"prompt": None, "top_k": 250.0, "seed": None, "melody": "x"})

    assert (request.prompt, request.top_k, request.seed, originals) == ("", 250, None, {})


@pytest.mark.parametrize(
    "body",
    [
        [], None, "x", 5, {"duration": "10"}, {"duration": None}, {"duration": True}, {"top_k": 2.5},
        {"do_sample": "yes"}, {"do_sample": 1}, {"prompt": 5}, {"prompt": "\0"}, {"client_job_id": "a b"},
        {"duration": math.nan}, {"temperature": math.inf}, json.loads('{"top_p": 1e999}'),
    ],
)  # fmt: skip
def test_the_service_refuses_what_it_cannot_clamp(body: Any) -> None:
    """Wrong types, NaN and infinity are the caller's mistake."""
    with pytest.raises(InvalidValueError):
        GenerateRequest.clamped(body)
