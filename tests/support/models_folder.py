"""What is in the models directory, as the tests of pulling look at it."""

from __future__ import annotations

import os
import subprocess
import sys

from musicgen_cli.settings import models_dir

SMALL = "facebook/musicgen-small"
FILES = ["config.json", "tokenizer.json", "model.safetensors"]  # of a pulled model, in the order of their download


def installed() -> list[str]:
    """Return the names of the models that are complete."""
    where = models_dir()
    return sorted(path.name for path in where.iterdir() if path.name != ".pulling") if where.is_dir() else []


def staged() -> list[str]:
    """Return the files that unfinished pulls left, except their locks."""
    return sorted(
        path.name for path in (models_dir() / ".pulling").rglob("*") if path.is_file() and path.suffix != ".lock"
    )


def start_musicgen(*words: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own, with changes to the environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "musicgen_cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
