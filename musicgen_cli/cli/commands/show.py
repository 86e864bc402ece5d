"""`musicgen show`: shows a take, or a variation set."""

from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.cli.stores import open_store
from musicgen_cli.errors import UsageError

if TYPE_CHECKING:
    from musicgen_cli.cli.output import Output

_DRAWING_ROWS = 6


def command(
    id_: Annotated[
        str,
        typer.Argument(
            metavar="[ID]",
            help="A take's id or a unique start of it, `last`, or a variation set's id. [last]",
            show_default=False,
        ),
    ] = "last",
    path: Annotated[bool, typer.Option("--path", help="Print only the path of the stored WAV.")] = False,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show the takes that it was made from, and those made from it.")
    ] = False,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Show a take, or list the takes of a variation set.

    The record of a take is followed by what it was made from, by the levels of its audio, and on a terminal by its
    waveform. With --json or --quiet these are left out.
    """
    from musicgen_cli.actions.library.made_from import story
    from musicgen_cli.actions.library.takes import takes_named
    from musicgen_cli.cli.output import Output

    if path and tree:
        raise UsageError("--path and --tree contradict each other")
    out = Output(as_json=json_, quiet=quiet)
    store = open_store(store_path, out)
    takes = takes_named(id_, store)
    if len(takes) > 1 or takes[0].variation_set_id == id_:
        if path or tree:
            raise UsageError("--path and --tree are for one take, and that is a set")
        out.artifacts(takes)
        return
    (take,) = takes
    if path:
        out.path(store.blob_path(take))
    elif tree:
        from musicgen_cli.actions.library.lineage import lineage

        out.tree(lineage(take, store))
    else:
        out.details(take)
        if not json_ and not quiet:
            out.pairs(story(take))
            _show_sound(store.read_blob(take), out)


def _show_sound(wav: bytes, out: "Output") -> None:
    from musicgen_cli.audio.waveform import braille, levels, peaks

    out.drawing(lambda width: braille(peaks(wav, 2 * width), _DRAWING_ROWS))
    measured = levels(wav)
    out.pairs(
        {
            "peak": f"{measured.peak_dbfs:.1f} dBFS",
            "rms": f"{measured.rms_dbfs:.1f} dBFS",
            "clipped": f"{measured.clipped} samples",
            "silence": f"{100 * measured.silence:.0f} %",
        }
    )
