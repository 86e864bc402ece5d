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
    Open the store of `find_store`; its warnings are printed.

    Raises:
        UsageError: As `find_store`.
    """
    from musicgen_cli.store import Store

    return Store(find_store(path, out), warn=out.warn)


def find_store(path: Path | None, out: Output) -> Path:
    """
    Return the folder of the store that `--store` or the settings name, for a command that doesn't create it.

    One that was named but is no store is a warning, as the name may be misspelt: nothing else tells it from an empty
    store. At the default place there is none before the first take.

    Raises:
        UsageError: A setting is wrong.
    """
    from musicgen_cli import settings

    loaded = settings.load({"store": path})
    source = loaded.sources["store"]
    if source != "default" and (problem := _no_store(loaded.store)):
        out.warn(f"{problem} ({'--store' if source == 'option' else source})")
    return loaded.store


def _no_store(folder: Path) -> str | None:
    """Say why a folder is no store; None if it is one, may become one, or can't be read, which its reader reports."""
    from musicgen_cli.store.journal import INDEX

    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return f"there is no folder {folder}"
    except OSError:
        return None
    return None if INDEX in names or not names else f"{folder} is no store: it has no {INDEX}"
