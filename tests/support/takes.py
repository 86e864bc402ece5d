"""Takes in a store, without an engine."""

from __future__ import annotations

from typing import Any

from musicgen_cli.store import Artifact, Store
from tests.support import fakes
from tests.support.index_lines import draft


def put_take(store: Store, prompt: str = "x", *, seed: int = 1, tags: tuple[str, ...] = (), **more: Any) -> Artifact:
    """Store a take of half a second whose pitch tells its seed; `more` are further fields of its draft."""
    return store.put(fakes.tone(seed=seed), draft(prompt, ("type:audio", *tags), seed=seed, **more))


def damage(store: Store, take: Artifact) -> None:
    """Change the last byte of a take's audio."""
    blob = store.blob_path(take)
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
