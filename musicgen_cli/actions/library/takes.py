"""Finds the takes that a command works on, by ids of takes and of variation sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from musicgen_cli.errors import AmbiguousIdError, ArtifactNotFoundError, NotFoundError
from musicgen_cli.request_fields import PARAMETERS
from musicgen_cli.store import Artifact, Filter, Store
from musicgen_cli.store.digest import parse_id
from musicgen_cli.store.names import is_name, name_tag


def find_takes(refs: Iterable[str], store: Store) -> list[Artifact]:
    """
    Return the takes that some ids name, in the order of the ids.

    Args:
        refs: Each in a form that `Store.get` takes, or the id of a variation set, which stands for its takes.
        store: Where they are.

    Raises:
        ArtifactNotFoundError, AmbiguousIdError: An id matches no take and no set, or several takes.
    """
    ids = [*take_ids(refs, store)]
    takes = {take.id: take for take in store.get_many(ids)}
    return [takes[name] for ref in ids if (name := _complete(ref)) is not None]


def find_take(ref: str, store: Store) -> Artifact:
    """
    Return the take that an id names; the id of a variation set will do if the set has one take.

    Raises:
        ArtifactNotFoundError, AmbiguousIdError: The id matches no take, or several.
    """
    takes = takes_named(ref, store)
    if len(takes) > 1:
        raise AmbiguousIdError(ref, [take.id for take in takes], hint="it is a variation set: name one of its takes")
    return takes[0]


def takes_named(ref: str, store: Store) -> list[Artifact]:
    """
    Return the take with an id, else the takes of the variation set with this id, in the order of their indices.

    Raises:
        ArtifactNotFoundError, AmbiguousIdError: The id matches no take and no set, or several takes.
    """
    try:
        return [store.get(ref)]
    except ArtifactNotFoundError:
        if takes := takes_of_set(ref, store):
            return takes
        raise


def takes_of_set(set_id: str, store: Store) -> list[Artifact]:
    """Return the takes of a variation set, in the order of their indices; there are none if there is no such set."""
    takes = [*store.newest(None, Filter(variation_set_id=set_id))]
    takes.reverse()
    return sorted(takes, key=lambda take: take.variation_index or 0)


def take_ids(refs: Iterable[str], store: Store) -> Iterator[str]:
    """
    Yield complete ids in place of all others, and for the id of a variation set those of its takes.

    A complete id is not looked up: the store looks up all of them at once.

    Raises:
        ArtifactNotFoundError, AmbiguousIdError: As `takes_named`.
    """
    for ref in refs:
        if _complete(ref) is not None:
            yield ref
        else:
            yield from (take.id for take in takes_named(ref, store))


def restored(refs: Iterable[str], store: Store) -> Iterator[Artifact]:
    """
    Restore removed takes, and yield each.

    Args:
        refs: In a form that `Store.restore` takes, or the id of a variation set, which stands for its removed takes.
        store: Where they were.

    Raises:
        NotFoundError, AmbiguousIdError, DamagedError, StoreBusyError: As `Store.restore`; what was yielded is restored.
    """
    for ref in refs:
        try:
            yield store.restore(ref)
        except NotFoundError:
            removed = [take for take in store.removed() if take.variation_set_id == ref]
            if not removed:
                raise
            removed.sort(key=lambda take: take.variation_index or 0)
            yield from (store.restore(take.id) for take in removed)


def rename(ref: str, name: str, store: Store) -> Artifact:
    """
    Give a take another name, or none if `name` is empty.

    Raises:
        ArtifactNotFoundError, AmbiguousIdError: The id matches no take, or several.
        InvalidValueError: The text can't be a name, or the take has too many tags.
        StoreBusyError: Another process kept the store locked.
    """
    new = [name_tag(name)] if name else []
    take = find_take(ref, store)
    old = [tag for tag in take.tags if is_name(tag) and tag not in new]
    (renamed,) = store.tag([take.id], add=new, rm=old)
    return renamed


def _complete(ref: str) -> str | None:
    """Return the whole of a complete id that may be written without its prefix; None if it is not complete."""
    prefix, is_complete = parse_id(ref) or ("", False)
    return prefix if is_complete else None


def fields_of(artifact: Artifact) -> dict[str, Any]:
    """Return the prompt and the parameters of a take as fields of a request."""
    fields = {field.name: artifact.params[field.name] for field in PARAMETERS if field.name in artifact.params}
    fields["prompt"] = artifact.prompt
    if artifact.seed is not None:
        fields["seed"] = artifact.seed
    return fields
