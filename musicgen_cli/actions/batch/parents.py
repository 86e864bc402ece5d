"""Finds the takes that the rows of a batch name as their parents."""

from __future__ import annotations

from musicgen_cli.actions.batch.worklist import Worklist
from musicgen_cli.errors import AmbiguousIdError, ArtifactNotFoundError, MusicgenError
from musicgen_cli.store import Store
from musicgen_cli.store.digest import parse_id
from musicgen_cli.store.store import LAST

_SHORTEST, _WHOLE = 4, 12  # digits of an id that a row may name


def find_parents(worklist: Worklist, store: Store) -> tuple[dict[str, str], dict[str, MusicgenError]]:
    """
    Find the takes that rows name as their parents, in one pass over the store.

    Returns:
        The ids by the names that rows give them, and the errors by the names that can't be resolved.
    """
    names = worklist.parents()
    starts = {name: parse_id(name) for name in names}
    matches: dict[str, list[str]] = {start[0]: [] for start in starts.values() if start}
    last = None
    if names:
        prefix = len("artifact_")
        for artifact in store.newest(None):
            last = last or artifact.id
            for start in (artifact.id, *(artifact.id[: prefix + n] for n in range(_SHORTEST, _WHOLE))):
                if start in matches:
                    matches[start].append(artifact.id)
    ids: dict[str, str] = {}
    errors: dict[str, MusicgenError] = {}
    for name, parsed in starts.items():
        candidates = [last] if name == LAST and last else matches[parsed[0]] if parsed else []
        if len(candidates) == 1:
            ids[name] = candidates[0]
        else:
            errors[name] = AmbiguousIdError(name, candidates) if candidates else ArtifactNotFoundError(name)
    return ids, errors
