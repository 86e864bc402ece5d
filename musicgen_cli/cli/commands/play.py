"""`musicgen play`: takes are heard."""

from typing import Annotated

import typer

from musicgen_cli.cli import options


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
    from musicgen_cli import player, settings
    from musicgen_cli.actions.play import Speakers
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_, quiet=quiet)
    kept = Store(settings.load({"store": store}).store, warn=out.warn)
    artifacts = [kept.get(wanted) for wanted in ids]
    speakers = Speakers(player.find(), warn=out.warn)
    try:
        if loop:
            speakers.repeat(artifacts, kept)
            return
        for artifact in artifacts:
            out.note(f"{artifact.id}, {artifact.duration:g} s: {artifact.prompt or 'unconditional'}")
            speakers.play(artifact, kept)
    finally:
        speakers.stop()
