"""The lineage of a take: its parents, and the takes that were derived from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from musicgen_cli.errors import ArtifactNotFoundError
from musicgen_cli.store import Artifact, Store


@dataclass(slots=True)
class Branch:
    """A take with the takes that were derived from it."""

    artifact: Artifact
    children: list[Branch] = field(default_factory=list)


def lineage(artifact: Artifact, store: Store) -> Branch:
    """
    Return the oldest known ancestor of a take, with the line down to the take and all of the take's descendants.

    A parent that is no longer stored ends the line. Reads the whole index once.
    """
    children: dict[str, list[Artifact]] = {}
    for take in store.newest(None):
        if take.parent_id is not None:
            children.setdefault(take.parent_id, []).insert(0, take)  # oldest first
    seen = {artifact.id}  # records that another program wrote may form a cycle
    top = Branch(artifact)
    pending = [top]
    while pending:
        branch = pending.pop()
        for take in children.get(branch.artifact.id, ()):
            if take.id not in seen:
                seen.add(take.id)
                branch.children.append(Branch(take))
        pending.extend(branch.children)
    parent_id = artifact.parent_id
    while parent_id is not None and parent_id not in seen:
        seen.add(parent_id)
        try:
            parent = store.get(parent_id)
        except ArtifactNotFoundError:
            break
        top = Branch(parent, [top])
        parent_id = parent.parent_id
    return top
