"""`musicgen list`: what is stored, newest first."""

from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import filters, options
from musicgen_cli.errors import DamagedError, InvalidWavError, UsageError

if TYPE_CHECKING:
    from musicgen_cli.store import Artifact

_WAVE = 16  # characters of a drawing


def command(
    number: Annotated[int | None, typer.Option("-n", help="So many. [20]", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    tag: filters.Tag = None,
    creator: filters.Creator = None,
    variation_set: filters.VariationSet = None,
    parent: filters.Parent = None,
    model: filters.Model = None,
    search: filters.Search = None,
    since: filters.Since = None,
    until: filters.Until = None,
    wave: Annotated[bool, typer.Option("--wave", help="Draw each, on a terminal; ignored elsewhere.")] = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what is stored, newest first."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    if number is not None and every:
        raise UsageError("-n and --all contradict each other")
    filters.check_number(number)
    out = Output(as_json=json_, quiet=quiet)
    kept = Store(settings.load({"store": store}).store, warn=out.warn)
    passing = filters.where(
        kept,
        tag=tag,
        creator=creator,
        variation_set=variation_set,
        parent=parent,
        model=model,
        search=search,
        since=since,
        until=until,
    )
    limit = None if every else number or 20
    if quiet and not json_:
        out.ids(kept.newest_ids(limit, passing))
        return
    takes = kept.newest(limit, passing)
    if not wave or not out.is_table:
        out.artifacts(takes)
        return
    from musicgen_cli.audio.waveform import bars, peaks

    damaged: list[DamagedError | InvalidWavError] = []

    def drawn(artifact: "Artifact") -> str:
        try:
            return bars(peaks(kept.read_blob(artifact), _WAVE))
        except (DamagedError, InvalidWavError) as err:
            damaged.append(err)
            return "damaged"

    out.artifacts(takes, wave=drawn)
    if damaged:
        raise damaged[0]
