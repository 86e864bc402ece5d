"""`musicgen play`: takes are heard."""

from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options

if TYPE_CHECKING:
    from musicgen_cli.store import Artifact


def command(
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID…", help="Takes, by id or the start of it, or `last`; heard one after the other."),
    ],
    loop: Annotated[
        bool,
        typer.Option("--loop", help="Again and again, until Ctrl-C; without a gap where the player takes samples."),
    ] = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Play takes, one after the other; Ctrl-C stops the sound.

    Plays through the first that works of pw-play, paplay, aplay, afplay, ffplay, mpv, PowerShell; where there is none,
    through the extra audio.
    """
    from musicgen_cli import settings
    from musicgen_cli.actions.playback.play import Players
    from musicgen_cli.actions.pool import as_done
    from musicgen_cli.audio import player
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_, quiet=quiet)
    kept = Store(settings.load({"store": store}).store, warn=out.warn)
    artifacts = [kept.get(wanted) for wanted in ids]
    players = Players(player.find(), warn=out.warn)

    def play(artifact: "Artifact") -> None:
        out.note(f"{artifact.id}, {artifact.duration:g} s: {artifact.prompt or 'unconditional'}")
        players.play(artifact, kept)

    work = (lambda _: players.repeat(artifacts, kept)) if loop else play
    try:
        # In a thread, for Ctrl-C could otherwise come between the start of a player and our knowing of it.
        for _, failure in as_done(artifacts[:1] if loop else artifacts, work, jobs=1):
            if failure is not None:
                raise failure
    finally:
        players.stop()
