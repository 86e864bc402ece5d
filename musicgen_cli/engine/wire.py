"""
The sounds that a clip is made from, as members of a request's JSON.

`continue_base64` and `melody_base64` are WAVs. A model without an audio encoder makes the sound that it goes on from
again: for it there are `continue_request`, which says how the sound was made, with a `continue_request` of its own if
it went on from another one, and `continue_sha256`, the digest of the sound's file.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from musicgen_cli import limits
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Inputs, Recipe
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.request_fields import PARAMETERS
from musicgen_cli.text import number

SOUND, MELODY, OVERLAP = "continue_base64", "melody_base64", "overlap"
OFFSET = "continue_offset_s"
RECIPE, SHA256 = "continue_request", "continue_sha256"

_RECIPE_FIELDS = frozenset({"prompt", *(field.name for field in PARAMETERS)})
_CHECKPOINT_CHARS = 128


def members(inputs: Inputs) -> dict[str, Any]:
    """Return the members of a request's JSON for its inputs; those that have their default are left out."""
    body: dict[str, Any] = {}
    for name, wav in ((SOUND, inputs.continue_wav), (MELODY, inputs.melody_wav)):
        if wav is not None:
            body[name] = base64.b64encode(wav).decode()
    if inputs.continue_offset_s:
        body[OFFSET] = inputs.continue_offset_s
    if inputs.continue_sha256 is not None:
        body[SHA256] = inputs.continue_sha256
    if inputs.recipe is not None:
        body[RECIPE] = _recipe_members(inputs.recipe)
    if inputs.overlap != limits.OVERLAP.default:
        body[OVERLAP] = inputs.overlap
    return body


def read_inputs(body: Mapping[str, Any]) -> Inputs:
    """
    Read the inputs in the JSON of a request; null is as good as absent. The sounds themselves aren't looked at.

    Raises:
        InvalidValueError: A member has a wrong type, or members don't go together; the message names one.
    """
    inputs = Inputs(
        continue_wav=_sound(body, SOUND),
        continue_offset_s=_offset(body),
        continue_sha256=_digest(body),
        recipe=_recipe(body),
        melody_wav=_sound(body, MELODY),
        overlap=_overlap(body, OVERLAP),
    )
    if inputs.recipe is not None and not inputs.is_continuation:
        raise InvalidValueError(f"{RECIPE} needs {SHA256}, the digest of the sound's WAV")
    if inputs.continue_sha256 is not None and inputs.recipe is None:
        raise InvalidValueError(f"{SHA256} needs {RECIPE}, which says how the sound was made")
    if inputs.continue_offset_s and inputs.continue_wav is None:
        raise InvalidValueError(f"{OFFSET} needs {SOUND}")
    return inputs


def _recipe_members(recipe: Recipe) -> dict[str, Any]:
    request, inputs = recipe.request, recipe.inputs
    body: dict[str, Any] = {"prompt": request.prompt, **request.params, "checkpoint": recipe.checkpoint}
    if inputs.overlap != limits.OVERLAP.default:
        body[OVERLAP] = inputs.overlap
    if inputs.recipe is not None:
        body[RECIPE] = _recipe_members(inputs.recipe)
    return body


def _sound(body: Mapping[str, Any], name: str) -> bytes | None:
    text = body.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidValueError(f"{name} must be a WAV as base64, got {_kind(text)}")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as err:  # also for characters that aren't ASCII
        raise InvalidValueError(f"{name} is not base64") from err


def _offset(body: Mapping[str, Any]) -> int:
    offset = body.get(OFFSET)
    if offset is None:
        return 0
    allowed = limits.Range(0, limits.SOURCE_MOST_S, default=0, unit="s")
    if type(offset) is not int or offset not in allowed:
        raise InvalidValueError(f"{OFFSET} must be a whole number, {allowed}, got {_kind(offset)}")
    return offset


def _digest(body: Mapping[str, Any]) -> str | None:
    digest = body.get(SHA256)
    if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise InvalidValueError(f"{SHA256} must be 64 hexadecimal digits, got {_kind(digest)}")
    return digest


def _overlap(body: Mapping[str, Any], path: str) -> float:
    overlap = body.get(OVERLAP)
    if overlap is None:
        return limits.OVERLAP.default
    if isinstance(overlap, bool) or not isinstance(overlap, int | float) or overlap not in limits.OVERLAP:
        raise InvalidValueError(f"{path} must be {limits.OVERLAP}, got {_kind(overlap)}")
    return float(overlap)


def _recipe(body: Mapping[str, Any]) -> Recipe | None:
    """Read a recipe and those in it, the innermost first."""
    bodies: list[Mapping[str, Any]] = []
    while (body_of_recipe := body.get(RECIPE)) is not None:
        path = _path(len(bodies) + 1)
        if not isinstance(body_of_recipe, dict):
            raise InvalidValueError(f"{path} must be an object, got {_kind(body_of_recipe)}")
        if len(bodies) == limits.RECIPES:
            raise InvalidValueError(f"{RECIPE} must have at most {limits.RECIPES} in each other")
        bodies.append(body_of_recipe)
        body = body_of_recipe
    recipe: Recipe | None = None
    for depth in range(len(bodies), 0, -1):
        recipe = _one_recipe(bodies[depth - 1], _path(depth), recipe)
    return recipe


def _one_recipe(body: Mapping[str, Any], path: str, source: Recipe | None) -> Recipe:
    values = {name: value for name, value in body.items() if name in _RECIPE_FIELDS}
    try:
        request = GenerateRequest.checked(values)
    except InvalidValueError as err:
        raise InvalidValueError(f"{path}.{err}") from err
    if request.seed is None:
        raise InvalidValueError(f"{path}.seed is missing")
    checkpoint = body.get("checkpoint")
    if not (isinstance(checkpoint, str) and 0 < len(checkpoint) <= _CHECKPOINT_CHARS):
        raise InvalidValueError(f"{path}.checkpoint must be the digest of a model, got {_kind(checkpoint)}")
    return Recipe(request, Inputs(recipe=source, overlap=_overlap(body, f"{path}.{OVERLAP}")), checkpoint)


def _path(depth: int) -> str:
    """Return what messages call a recipe inside others; a deep one by its number."""
    return ".".join([RECIPE] * depth) if depth <= 3 else f"{RECIPE} number {depth}"


def _kind(value: object) -> str:
    """Return a value as messages show it."""
    if isinstance(value, str):
        return repr(value[:20])
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        return f"{value}"[:20]
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else "null"
