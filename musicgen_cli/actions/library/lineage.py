"""Which takes a take came from, and which came from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from musicgen_cli.errors import ArtifactNotFoundError
from musicgen_cli.store import Artifact, Store


@dataclass(slots=True)
class Branch:
    """A take with what came from it."""

    artifact: Artifact
    children: list[Branch] = field(default_factory=list)


def lineage(artifact: Artifact, store: Store) -> Branch:
    """
    Return the oldest known forebear, and below it the line down to `artifact` and all that came from that.

    A parent that is gone ends the line. Costs one pass over the store.
    """
    children: dict[str, list[Artifact]] = {}
    for take in store.newest(None):
        if take.parent_id is not None:
            children.setdefault(take.parent_id, []).insert(0, take)  # oldest first
    seen = {artifact.id}  # foreign records may hold a circle
    top = Branch(artifact)
    todo = [top]
    while todo:
        branch = todo.pop()
        for take in children.get(branch.artifact.id, ()):
            if take.id not in seen:
                seen.add(take.id)
                branch.children.append(Branch(take))
        todo.extend(branch.children)
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
