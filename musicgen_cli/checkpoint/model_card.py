"""The licence that a model card names in its front matter: `README.md` of a model on the hub."""

from __future__ import annotations

import re
from pathlib import Path

from musicgen_cli import foreign
from musicgen_cli.checkpoint.bounds import FRONT_MATTER_BYTES

_ENTRY = re.compile(r"license:[ \t]*[\"']?([\w.+-]{1,100})")
_FENCE = "---"


def license_of(card: Path) -> str | None:
    """Return the licence that a card's front matter names; None if there is none, or no card."""
    try:
        with foreign.open_file(card) as file:
            text = file.read(FRONT_MATTER_BYTES).decode("utf-8", "ignore")
    except OSError:
        return None
    first, *lines = text.split("\n")
    if first.rstrip() != _FENCE:
        return None
    found = None
    for line in lines:
        if line.rstrip() == _FENCE:
            return found
        if found is None and (entry := _ENTRY.match(line)):
            found = entry[1]
    return None
