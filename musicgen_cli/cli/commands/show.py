"""`musicgen show`: one take, or a variation set."""

from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.errors import ArtifactNotFoundError, UsageError

if TYPE_CHECKING:
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Artifact, Store

_ROWS = 6  # of the drawing


def command(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A take's id or the start of it, `last`, or a set.")],
    path: Annotated[bool, typer.Option("--path", help="Print the path of the stored sound alone.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Its parents and children, too.")] = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Show everything that is known of a take, or the takes of a set.

    Below a take's record stand its levels, on a terminal with a drawing; --json and --quiet give the record alone.
    """
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    if path and tree:
        raise UsageError("--path and --tree contradict each other")
    out = Output(as_json=json_, quiet=quiet)
    kept = Store(settings.load({"store": store}).store, warn=out.warn)
    found = _find(kept, id_)
    if isinstance(found, list):
        if path or tree:
            raise UsageError("--path and --tree are for one take, and that is a set")
        out.artifacts(found)
    elif path:
        out.path(kept.blob_path(found))
    elif tree:
        from musicgen_cli.actions.library.lineage import lineage

        out.tree(lineage(found, kept))
    else:
        out.details(found)
        if not json_ and not quiet:
            _show_sound(kept.read_blob(found), out)


def _show_sound(wav: bytes, out: "Output") -> None:
    from musicgen_cli.audio.waveform import braille, levels, peaks

    out.drawing(lambda width: braille(peaks(wav, 2 * width), _ROWS))
    found = levels(wav)
    out.pairs(
        {
            "peak": f"{found.peak_dbfs:.1f} dBFS",
            "rms": f"{found.rms_dbfs:.1f} dBFS",
            "clipped": f"{found.clipped} samples",
            "silence": f"{100 * found.silence:.0f} %",
        }
    )


def _find(kept: "Store", wanted: str) -> "Artifact | list[Artifact]":
    """Return the take of that id, else the takes of that set in their order."""
    from musicgen_cli.store import Filter

    try:
        return kept.get(wanted)
    except ArtifactNotFoundError:
        found = list(kept.newest(None, Filter(variation_set_id=wanted)))
        if not found:
            raise
        return sorted(found, key=lambda take: take.variation_index or 0)
