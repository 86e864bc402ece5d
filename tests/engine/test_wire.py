"""The inputs of a request as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from musicgen_cli.engine import wire
from musicgen_cli.engine.base import NO_INPUTS, Inputs, Recipe
from musicgen_cli.engine.wire import members, read_inputs
from musicgen_cli.errors import InvalidValueError
from tests.support import clips

FIRST = Recipe(clips.request(prompt="ä", duration=40.0, seed=1), Inputs(overlap=3.0), "a")
SECOND = Recipe(clips.request(duration=1.0, seed=2), Inputs(recipe=FIRST), "b")


@pytest.mark.parametrize(
    "inputs",
    [
        NO_INPUTS,
        Inputs(overlap=1.0),
        Inputs(continue_wav=b"RIFF", continue_offset_s=7, melody_wav=b""),
        Inputs(continue_sha256="a" * 64, recipe=SECOND),
    ],
)
def test_inputs_come_back_as_they_were(inputs: Inputs) -> None:
    """Defaults aren't sent, and members that are null or unknown count for nothing."""
    body = json.loads(json.dumps(members(inputs)))
    nulls = dict.fromkeys(("continue_base64", "melody_base64", "overlap", "continue_request", "continue_sha256"))

    assert read_inputs({**nulls, **body, "unknown": {"continue_base64": 1}}) == inputs
    assert (body == {}) == (inputs == NO_INPUTS)


def nested(depth: int) -> dict[str, Any]:
    recipe = Recipe(clips.request(seed=1), NO_INPUTS, "a")
    for _ in range(depth - 1):
        recipe = Recipe(recipe.request, Inputs(recipe=recipe), "a")
    return members(Inputs(continue_sha256="0" * 64, recipe=recipe))


def test_recipes_have_a_bounded_depth() -> None:
    """As many as an engine makes again."""
    inputs = read_inputs(nested(64))
    depth = 0
    while inputs.recipe is not None:
        inputs, depth = inputs.recipe.inputs, depth + 1

    assert depth == 64
    with pytest.raises(InvalidValueError, match="continue_request must have at most 64 in each other"):
        read_inputs(nested(65))


GOOD = {"seed": 1, "checkpoint": "a"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"continue_base64": 5}, "continue_base64 must be a WAV as base64, got 5"),
        ({"continue_base64": ["UklGRg=="]}, "continue_base64 must be a WAV as base64, got a list"),
        ({"melody_base64": "UklGRg"}, "melody_base64 is not base64"),
        ({"melody_base64": "UklG\nRg=="}, "melody_base64 is not base64"),
        ({"melody_base64": "ÄÄÄÄ"}, "melody_base64 is not base64"),
        ({"overlap": 0.5}, "overlap must be 1-25 s, got 0.5"),
        ({"overlap": True}, "overlap must be 1-25 s, got True"),
        ({"overlap": "2"}, "overlap must be 1-25 s, got '2'"),
        ({"overlap": 10**400}, "overlap must be 1-25 s, got 1000"),
        ({"continue_offset_s": 1.5}, "continue_offset_s must be a whole number, 0-600 s, got 1.5"),
        ({"continue_offset_s": -1}, "continue_offset_s must be a whole number, 0-600 s, got -1"),
        ({"continue_offset_s": 5}, "continue_offset_s needs continue_base64"),
        ({"continue_sha256": "A" * 64}, "continue_sha256 must be 64 hexadecimal digits"),
        ({"continue_sha256": "a" * 64}, "continue_sha256 needs continue_request"),
        ({"continue_request": GOOD}, "continue_request needs continue_sha256"),
        ({"continue_request": [GOOD]}, "continue_request must be an object, got a list"),
        ({"continue_request": {"checkpoint": "a"}}, "continue_request.seed is missing"),
        ({"continue_request": {"seed": 1}}, "continue_request.checkpoint must be the digest of a model, got null"),
        ({"continue_request": {"seed": 1, "checkpoint": "a" * 129}}, "continue_request.checkpoint must be"),
        ({"continue_request": {**GOOD, "duration": 601}}, "continue_request.duration must be 0.5-600 s, got 601"),
        ({"continue_request": {**GOOD, "prompt": "\0"}}, "continue_request.prompt must not contain control"),
        ({"continue_request": {**GOOD, "overlap": 0}}, "continue_request.overlap must be 1-25 s, got 0"),
        (
            {"continue_request": {**GOOD, "continue_request": {**GOOD, "seed": -1}}},
            "continue_request.continue_request.seed must be a whole number",
        ),
    ],
)
def test_a_bad_member_is_named(body: dict[str, Any], message: str) -> None:
    """In a line that says what it must be."""
    with pytest.raises(InvalidValueError) as caught:
        read_inputs(body)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_sound_may_come_with_its_recipe() -> None:
    """Then a model of either kind can go on from it."""
    body = {**members(Inputs(continue_wav=b"RIFF")), wire.RECIPE: {**GOOD}}
    inputs = read_inputs(body)

    assert inputs.continue_wav == b"RIFF"
    assert inputs.recipe is not None
    assert replace(inputs, recipe=None) == Inputs(continue_wav=b"RIFF")
