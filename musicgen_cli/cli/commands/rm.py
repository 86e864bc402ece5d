"""`musicgen rm`: removes stored takes, or restores removed ones."""

from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.cli.stores import TakeIds, open_store
from musicgen_cli.errors import UsageError
from musicgen_cli.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable

    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store


def command(
    ids: TakeIds,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; otherwise only list what would be removed.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Restore removed takes.")] = False,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Remove takes, or restore removed ones.

    The audio of a removed take stays in the store until `musicgen store gc`, so that `--undo` can restore the take.
    """
    from musicgen_cli.actions.library.takes import take_ids
    from musicgen_cli.cli.output import Output

    if undo and yes:
        raise UsageError("--undo and --yes contradict each other")
    out = Output(as_json=json_, quiet=quiet)
    store = open_store(store_path, out)
    if undo:
        restore(ids, store, out)
        return
    complete_ids = [*take_ids(ids, store)]
    if yes:
        out.artifacts(store.remove(complete_ids))
        return
    takes = store.get_many(complete_ids)
    out.artifacts(takes)
    count = plural(len(takes), "take")
    out.note_always(f"{count} would be removed: `--yes` removes, and `musicgen undo ID` restores a take")


def restore(ids: "Iterable[str]", store: "Store", out: "Output") -> None:
    """Restore removed takes and print each."""
    from musicgen_cli.actions.library.takes import restored

    take = None
    for take in restored(ids, store):
        out.artifact(take)
    if take is not None:
        out.note(f"{take.id} is the newest take now, for which `last` stands")
