"""Music from text in the shell: every take kept, with everything that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from musicgen_cli._version import __version__

if TYPE_CHECKING:
    from musicgen_cli.api import batch, generate
    from musicgen_cli.store import Store

__all__ = ["Store", "__version__", "batch", "generate"]


def __getattr__(name: str) -> Any:
    """Load what other programs use when they use it: the command line starts through here, too."""
    if name in {"batch", "generate"}:
        from musicgen_cli import api

        return getattr(api, name)
    if name == "Store":
        from musicgen_cli.store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
