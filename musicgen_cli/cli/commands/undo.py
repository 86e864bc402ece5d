"""`musicgen undo`: restores removed takes."""

from musicgen_cli.cli import options
from musicgen_cli.cli.commands.rm import restore
from musicgen_cli.cli.stores import TakeIdsOrLast, open_store


def command(
    ids: TakeIdsOrLast = None,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Restore removed takes, the same as `musicgen rm --undo`.

    Without an ID, the take that was removed last.
    """
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import LAST

    out = Output(as_json=json_, quiet=quiet)
    restore(ids or [LAST], open_store(store_path, out), out)
