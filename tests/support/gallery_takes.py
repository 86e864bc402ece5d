"""Takes and galleries of them, made without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musicgen_cli.actions.gallery.gallery import build
from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.store import Artifact, ArtifactDraft, Store
from tests.support import fakes

SECONDS = 120  # of each sound, so that none ends while a slow machine tests it
_HZ = 4000
SOUNDS = [
    pcm16_wav(fakes.tone(1, seed=seed, rate=_HZ)[44:] * SECONDS, sample_rate=_HZ, channels=1) for seed in range(8)
]


def put(store: Store, prompt: str, *, seed: int = 1, tags: Sequence[str] = (), **more: Any) -> Artifact:
    """Store a take as if a service had made it."""
    fields: dict[str, Any] = {
        "params": {"duration": 20.0, "temperature": 1.0, "seed": seed},
        "origin": {"kind": "http", "model": "nano", "url": "http://127.0.0.1:2006"},
        "creator": "me",
        "seed": seed,
    } | more
    return store.put(SOUNDS[seed % len(SOUNDS)], ArtifactDraft(tags=("type:audio", *tags), prompt=prompt, **fields))


def build_gallery(store: Store, folder: Path, *, embed: bool = False) -> Path:
    """Build a gallery of all takes and return its page."""
    takes = list(store.newest(None))
    return build(folder, takes, store, embed=embed, on_damaged=_fail, on_progress=lambda *_: None).page


def _fail(take: Artifact, err: Exception) -> None:
    raise AssertionError(f"{take.id}: {err}")
