"""The names of models, and which of them are in the models directory, without opening any."""

from __future__ import annotations

import re
from pathlib import Path

NANO = "nano"
MELODY = ("melody", "melody-large", "stereo-melody", "stereo-melody-large")  # these can follow a tune
TEXT_ONLY = ("small", "medium", "large", "stereo-small", "stereo-medium", "stereo-large")
PUBLISHED = (*TEXT_ONLY, *MELODY)  # facebook/musicgen-…
NAMES = ("auto", NANO, *PUBLISHED)
MANIFEST = "manifest.json"  # only a model that was pulled has one
NAME_PATTERN = r"[A-Za-z0-9_][\w.-]*"  # of an owner, a repository, and a model's folder


def is_valid_name(name: str) -> bool:
    """Tell whether a model's folder can have this name."""
    return re.fullmatch(NAME_PATTERN, name, re.ASCII) is not None


def installed_names(models_dir: Path) -> list[str]:
    """Return the names of the models in a models directory, the published ones first; some may be damaged."""
    folders = [path.name for path in models_dir.iterdir() if path.is_dir()] if models_dir.is_dir() else []
    models = [
        name
        for name in folders
        if name in PUBLISHED or (is_valid_name(name) and (models_dir / name / MANIFEST).is_file())
    ]
    return sorted(models, key=lambda name: (PUBLISHED.index(name) if name in PUBLISHED else len(PUBLISHED), name))
