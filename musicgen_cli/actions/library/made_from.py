"""
What a record tells of the sounds that a take was made from.

Its `extra` has `continue` for the take that it goes on from and `melody` for the one whose tune it follows, each with
`id`, `content_hash` and `duration`, and `overlap` in seconds. The engine adds `context_s` to the former, how much of it
the model read, and `windows` if there were several. A record may come from another program, and hold anything there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from musicgen_cli import limits
from musicgen_cli.store import Artifact
from musicgen_cli.store.digest import is_id
from musicgen_cli.text import number

CONTINUE, MELODY, OVERLAP = "continue", "melody", "overlap"


def sound_names(take: Artifact) -> dict[str, Any]:
    """Return, as fields by the names of `SOUND_FIELDS`, from which takes a take was made; none where there are none."""
    extra = take.extra or {}
    ids = {name: extra[name].get("id") for name in (CONTINUE, MELODY) if isinstance(extra.get(name), Mapping)}
    fields: dict[str, Any] = {name: id_ for name, id_ in ids.items() if is_id(id_)}
    overlap = overlap_in(extra)
    return fields if overlap is None else {**fields, OVERLAP: overlap}


def overlap_in(extra: Mapping[str, Any]) -> float | None:
    """Return the overlap that the `extra` of a record has, in seconds; None if it has none that can be used."""
    overlap = extra.get(OVERLAP)
    return float(overlap) if overlap is not None and overlap in limits.OVERLAP else None


def with_ids(extra: Mapping[str, Any], ids: Mapping[str | None, str]) -> dict[str, Any]:
    """Return the `extra` of a record in which the takes that it was made from have the ids that `ids` names."""
    changed = dict(extra)
    for name in (CONTINUE, MELODY):
        if isinstance(sound := extra.get(name), Mapping) and isinstance(id_ := sound.get("id"), str):
            changed[name] = {**sound, "id": ids.get(id_, id_)}
    return changed


def story(take: Artifact) -> dict[str, str]:
    """Return what a person may want to know of what a take was made from, and in which windows, by words for it."""
    names, extra = sound_names(take), take.extra or {}
    lines = {}
    if CONTINUE in names:
        read, seconds = extra[CONTINUE].get("context_s"), source_s(extra)
        heard = f", of which the model read the last {number(read)} s" if isinstance(read, int | float) else ""
        if heard and read > seconds - 1 / limits.FRAMES_PER_SECOND:
            heard = ", all of which the model read"
        lines["goes on from"] = f"{names[CONTINUE]}, {number(seconds)} s{heard}"
    if MELODY in names:
        lines["follows the tune of"] = names[MELODY]
    if isinstance(windows := extra.get("windows"), int):
        lines["windows"] = f"{windows}, each but the first with {number(names.get(OVERLAP, 0.0))} s of the one before"
    return lines


def source_s(extra: Mapping[str, Any] | None) -> float:
    """Return how many seconds of a take, by the `extra` of its record, are the sound that it goes on from."""
    source = (extra or {}).get(CONTINUE)
    seconds = source.get("duration") if isinstance(source, Mapping) else None  # another program may have written it
    return float(seconds) if isinstance(seconds, int | float) else 0.0
