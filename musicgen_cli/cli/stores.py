"""The store that a command works on, and the argument that names takes in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

_TAKES = "Takes: ids, unique starts of ids, `last` for the newest, or ids of variation sets."

TakeIds = Annotated[list[str], typer.Argument(metavar="ID...", help=_TAKES)]
TakeIdsOrLast = Annotated[
    list[str] | None, typer.Argument(metavar="[ID...]", help=f"{_TAKES} [last]", show_default=False)
]


def open_store(path: Path | None, out: Output) -> Store:
    """
    Open the store that `--store` or the settings name; its warnings are printed.

    Raises:
        InvalidValueError: A setting is wrong.
    """
    from musicgen_cli import settings
    from musicgen_cli.store import Store

    return Store(settings.load({"store": path}).store, warn=out.warn)
