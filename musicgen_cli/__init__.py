"""Music from text: `generate`, `batch` and `Store` are the public API; `musicgen` is the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from musicgen_cli._version import __version__

if TYPE_CHECKING:
    from musicgen_cli.api import batch, generate
    from musicgen_cli.store import Store

__all__ = ["Store", "__version__", "batch", "generate"]


def __getattr__(name: str) -> Any:
    """Import the public API on first use, because the command line imports this package at every start."""
    if name in {"batch", "generate"}:
        from musicgen_cli import api

        return getattr(api, name)
    if name == "Store":
        from musicgen_cli.store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
