"""The bundled checkpoint `nano`, for tests that compare it with the recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import musicgen_cli
from training.nano import codes


def shipped() -> Path:
    """Return the folder of the bundled checkpoint; skip the test if the recipe has moved on since."""
    folder = Path(musicgen_cli.__file__).parent / "models" / "nano"
    if json.loads((folder / "config.json").read_text())["decoder"]["vocab_size"] != codes.CODES:
        pytest.skip("the shipped weights are of an earlier recipe; see training/nano/NOTES.md")
    return folder
