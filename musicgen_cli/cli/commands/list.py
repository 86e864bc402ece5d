"""`musicgen list`: lists stored takes, newest first."""

from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import filters, options
from musicgen_cli.cli.stores import open_store
from musicgen_cli.errors import DamagedError, InvalidWavError, UsageError

if TYPE_CHECKING:
    from musicgen_cli.store import Artifact

_DEFAULT_NUMBER = 20
_WAVE_CHARS = 16


def command(
    *,
    number: Annotated[
        int | None,
        typer.Option("-n", metavar="N", help=f"Show at most N takes. [{_DEFAULT_NUMBER}]", show_default=False),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show all takes.")] = False,
    filter_options: filters.FilterOptions,
    wave: Annotated[bool, typer.Option("--wave", help="Draw each waveform, if stdout is a terminal.")] = False,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List stored takes, newest first."""
    from musicgen_cli.cli.output import Output

    if number is not None and show_all:
        raise UsageError("-n and --all contradict each other")
    filters.check_number(number)
    out = Output(as_json=json_, quiet=quiet)
    store = open_store(store_path, out)
    filter_ = filter_options.to_filter(store)
    limit = None if show_all else number or _DEFAULT_NUMBER
    if quiet and not json_:
        out.ids(store.newest_ids(limit, filter_))
        return
    takes = store.newest(limit, filter_)
    first = next(takes, None)
    if first is None:
        from musicgen_cli.store import Filter

        is_empty = filter_ == Filter()
        out.note(f"no takes in {store.root}: `musicgen generate` makes one" if is_empty else "no take matches")
        return
    takes = chain([first], takes)
    if not wave or not out.is_table:
        out.artifacts(takes)
        return
    from musicgen_cli.audio.waveform import bars, peaks

    failures: list[DamagedError | InvalidWavError] = []

    def draw(artifact: "Artifact") -> str:
        try:
            return bars(peaks(store.read_blob(artifact), _WAVE_CHARS))
        except (DamagedError, InvalidWavError) as err:
            failures.append(err)
            return "damaged"

    out.artifacts(takes, wave=draw)
    if failures:
        raise failures[0]
