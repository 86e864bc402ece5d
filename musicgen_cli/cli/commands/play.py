"""`musicgen play`: plays stored takes."""

from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.cli.stores import TakeIdsOrLast, open_store
from musicgen_cli.errors import StoppedError

if TYPE_CHECKING:
    from musicgen_cli.store import Artifact


def command(
    ids: TakeIdsOrLast = None,
    loop: Annotated[
        bool,
        typer.Option("--loop", help="Repeat until Ctrl-C, without gaps if the player can read raw samples."),
    ] = False,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Play takes one after the other; Ctrl-C stops.

    The first player that works is used: pw-play, paplay, aplay, afplay, ffplay, mpv or PowerShell; without one, the
    extra `audio`.
    """
    from musicgen_cli.actions.library.takes import find_takes
    from musicgen_cli.actions.playback.play import Players
    from musicgen_cli.actions.pool import as_done
    from musicgen_cli.audio import player
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import LAST

    out = Output(as_json=json_, quiet=quiet)
    store = open_store(store_path, out)
    artifacts = find_takes(ids or [LAST], store)
    players = Players(player.find(), warn=out.warn)

    def play(artifact: "Artifact") -> None:
        out.note(f"{artifact.id}, {artifact.duration:g} s: {artifact.title or 'unconditional'}")
        players.play(artifact, store)

    work = (lambda _: players.repeat(artifacts, store)) if loop else play
    try:
        # In a thread, as Ctrl-C could otherwise interrupt between the start of a player and the record of its process.
        for _, failure in as_done(artifacts[:1] if loop else artifacts, work, jobs=1):
            if failure is not None:
                raise failure
    except KeyboardInterrupt as err:  # the way to stop that the help names: no error, and the end of an endless loop
        raise typer.Exit(0 if loop else StoppedError.exit_code) from err
    finally:
        players.stop()
