"""Says what was different when a take was made again."""

from __future__ import annotations

from typing import Any

from musicgen_cli.actions.library.made_from import CONTINUE, MELODY, OVERLAP
from musicgen_cli.actions.library.takes import fields_of
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import REPRODUCIBILITY
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.store import Artifact

_ORIGIN = ("model", "engine", "precision", "device")


def other_sound(source: Artifact, again: Artifact) -> str | None:
    """
    Say that a take which was made from the prompt, parameters and seed of another one sounds different, and why.

    Returns:
        None if it has the same sound, if something else was asked for, or if a seed isn't known.
    """
    if again.content_hash == source.content_hash or None in {source.seed, again.seed}:
        return None
    if _request(source) != _request(again):
        return None
    before, now = _conditions(source), _conditions(again)
    known = before.keys() & now.keys()
    changed = [name for name in before if name in known and before[name] != now[name]]
    unknown = [name for name in (*_ORIGIN, *REPRODUCIBILITY) if name not in known]
    if changed:
        reason = "it was made with " + "; ".join(f"{name} {before[name]}, now {now[name]}" for name in changed)
    elif unknown:
        reason = f"its record doesn't tell what was different ({', '.join(unknown)})"
    else:
        reason = "the records are the same"
    return f"{again.id} doesn't sound like {source.id}, although the request is the same: {reason}"


def _conditions(take: Artifact) -> dict[str, Any]:
    """Return what a record says of the things that a sound depends on, beside the request."""
    values = {name: take.origin.get(name) for name in _ORIGIN}
    values |= {name: (take.extra or {}).get(name) for name in REPRODUCIBILITY}
    return {name: value for name, value in values.items() if value is not None}


def _request(take: Artifact) -> tuple[Any, ...] | None:
    """Return what a take was made from: the request, and the sounds of other takes."""
    extra = take.extra or {}
    sounds = [source.get("content_hash") for name in (CONTINUE, MELODY) if isinstance(source := extra.get(name), dict)]
    try:
        return GenerateRequest.checked(fields_of(take)), CONTINUE in extra, sounds, extra.get(OVERLAP)
    except InvalidValueError:
        return None
