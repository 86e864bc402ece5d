"""
Reads the sounds that a take is made from, so that it can be made now, or as a job, and made again.

A record tells them by the members of its `extra` that `library/made_from.py` describes; `source_finder` makes these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from musicgen_cli import limits
from musicgen_cli.actions.library.made_from import CONTINUE, MELODY, overlap_in
from musicgen_cli.actions.library.takes import fields_of
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Inputs, Recipe
from musicgen_cli.errors import ArtifactNotFoundError, InvalidValueError, SourceGoneError
from musicgen_cli.store import Artifact, Store
from musicgen_cli.store.digest import is_id


def inputs_of(extra: Mapping[str, Any], store: Store) -> Inputs:
    """
    Read the sounds that a take is to be made from.

    Args:
        extra: Of its record.

    Raises:
        SourceGoneError: One of them isn't in the store any more.
        DamagedError: The audio of one is damaged.
    """
    inputs = _without_sounds(extra)
    if CONTINUE in extra:
        source = recorded_take(extra[CONTINUE], store)
        inputs = replace(inputs, continue_wav=store.read_blob(source), recipe=_recipe(source, store))
    if MELODY in extra:
        inputs = replace(inputs, melody_wav=store.read_blob(recorded_take(extra[MELODY], store)))
    return inputs


def with_context(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `extra` of a finished take, in which what the model has read of its source stands beside its id."""
    merged = dict(extra)
    if (context_s := merged.pop("context_s", None)) is not None and CONTINUE in merged:
        merged[CONTINUE] = {**merged[CONTINUE], "context_s": context_s}
    return merged


def _without_sounds(extra: Mapping[str, Any]) -> Inputs:
    overlap = overlap_in(extra)
    return Inputs() if overlap is None else Inputs(overlap=overlap)


def recorded_take(member: object, store: Store) -> Artifact:
    """
    Return the take that a member of `extra` names.

    Raises:
        SourceGoneError: It isn't in the store any more, or has another sound.
    """
    values = member if isinstance(member, Mapping) else {}
    id_ = values.get("id")
    if not isinstance(id_, str) or not is_id(id_):  # another program may have written it
        raise SourceGoneError("the record doesn't tell what the take is made from")
    try:
        take = store.get(id_)
    except ArtifactNotFoundError as err:
        raise SourceGoneError(
            f"{id_}, which the take is made from, was removed",
            hint="`musicgen undo` brings back what was removed last",
        ) from err
    if take.content_hash != values.get("content_hash"):
        raise SourceGoneError(f"{id_}, which the take is made from, has another sound now")
    return take


def _recipe(take: Artifact, store: Store, left: int = limits.RECIPES) -> Recipe | None:
    """
    Return how a take was made, without its sounds; None if its record doesn't tell, as that of an import.

    Args:
        left: The most takes that may have gone on from each other.
    """
    extra = take.extra or {}
    if take.seed is None or "checkpoint" not in extra or MELODY in extra or not left:
        return None
    inputs = _without_sounds(extra)
    if CONTINUE in extra:
        try:
            source = _recipe(recorded_take(extra[CONTINUE], store), store, left - 1)
        except SourceGoneError:
            source = None
        if source is None:
            return None
        inputs = replace(inputs, recipe=source)
    try:
        request = GenerateRequest.checked({**fields_of(take), "seed": take.seed})
    except InvalidValueError:  # of another version, or of a service that takes more
        return None
    return Recipe(request, inputs, str(extra["checkpoint"]))
