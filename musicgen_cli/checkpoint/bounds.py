"""The most bytes that each file of a model can have; what is larger is no such file, whoever says so."""

from __future__ import annotations

CONFIG_BYTES = 1 << 20  # config.json; those of MusicGen have a few kB
TOKENIZER_BYTES = 8 << 20  # tokenizer.json; that of T5 has 2.4 MB
JSON_BYTES = 4 << 20  # an index of shards, a manifest, and what else describes a model
CARD_BYTES = 16 << 20  # README.md, of which only the beginning is read
FRONT_MATTER_BYTES = 1 << 16
WEIGHTS_BYTES = 100_000_000_000
MOST_SHARDS = 1000

_BY_NAME = {"config.json": CONFIG_BYTES, "tokenizer.json": TOKENIZER_BYTES, "README.md": CARD_BYTES}


def most_bytes(name: str) -> int:
    """Return the most bytes that a model's file of this name can have."""
    return _BY_NAME.get(name, JSON_BYTES if name.endswith(".json") else WEIGHTS_BYTES)
