"""`musicgen generate`: a prompt becomes one or more stored takes."""

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli import limits
from musicgen_cli.cli import engine_options, options, take_options
from musicgen_cli.errors import MusicgenError, PartlyMadeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from musicgen_cli.actions.engines import EngineConfig
    from musicgen_cli.actions.generate import GenerateOptions, PlannedTake
    from musicgen_cli.actions.library.export import ExportTarget
    from musicgen_cli.actions.playback.live import LivePlayback
    from musicgen_cli.cli.output import Output
    from musicgen_cli.engine.base import Engine, ProgressListener
    from musicgen_cli.settings import Settings
    from musicgen_cli.store import Artifact, Store

_STDIN_BYTES = 1024 * 1024  # a longer text can't be a prompt


def command(
    request: take_options.RequestOptions,
    sounds: take_options.SoundOptions,
    record: take_options.RecordOptions,
    local: engine_options.LocalOptions,
    service: engine_options.ServiceOptions,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROMPT]",
            help="What it should sound like. Without one: unconditional; -: read from standard input.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Export as well: to a file, a folder, or - for standard output.",
            show_default=False,
        ),
    ] = None,
    force: options.Force = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Make takes in the background; print a job's id for each at once.")
    ] = False,
    play: Annotated[
        bool,
        typer.Option("--play", help="Play each take once it is stored; with --local while it is made, if fast enough."),
    ] = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make one or more takes and store each."""
    from musicgen_cli.actions.engines import open_engine
    from musicgen_cli.actions.generate import expected_bytes, plan
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_, quiet=quiet)
    settings = local.load_settings(store=store, creator=record.creator, **service.settings)
    options_ = _options(_prompt(prompt or []), request, sounds, record, settings)
    archive = Store(settings.store, warn=out.warn)
    config = local.configure(settings)
    if detach:
        _check_detached(has_output=output is not None, play=play)
    target = _target(output, has_several=record.variations > 1, force=force, out=out)
    planned_takes = plan(options_, archive, note=out.note)  # last, as it imports a file that takes go on from
    archive.check_free_space(sum(map(expected_bytes, planned_takes)))
    if detach:
        _detach(planned_takes, config, archive, out)
        return
    playback = _playback(archive, out) if play else None
    with closing(open_engine(config, out, api_key=settings.api_key, clips=len(planned_takes))) as engine:
        _make(planned_takes, engine, archive, out, playback, target, to_stdout=output == "-")
    if playback is not None:
        playback.finish()


def _options(
    text: str | None,
    request: take_options.RequestOptions,
    sounds: take_options.SoundOptions,
    record: take_options.RecordOptions,
    settings: "Settings",
) -> "GenerateOptions":
    """Collect the options of the command."""
    from musicgen_cli.actions.generate import GenerateOptions
    from musicgen_cli.actions.source_finder import sound_options
    from musicgen_cli.settings import label

    return GenerateOptions(
        fields=request.fields if text is None else {"prompt": text, **request.fields},
        creator=settings.creator,
        tags=record.tag or (),
        variations=record.variations,
        parent_id=record.parent,
        variation_set_id=None if (name := record.variation_set) is None else label("variation_set", name),
        from_id=record.from_,
        sounds=sound_options(sounds.fields),
    )


def _prompt(words: "Sequence[str]") -> str | None:
    """Return the prompt that was given, if any; `-` stands for standard input."""
    if len(words) > 1:
        from musicgen_cli.actions.library.quoting import quote

        text = quote(" ".join(words))
        raise UsageError(
            f"a prompt is one argument, got {len(words)}: {', '.join(map(repr, words))}",
            hint=f"quote the prompt: musicgen generate {text}",
        )
    if not words or words[0] != "-":
        return words[0] if words else None
    if sys.stdin is None:
        raise UsageError("there is no standard input to read the prompt from")
    data = sys.stdin.buffer.read(_STDIN_BYTES + 1)
    if len(data) > _STDIN_BYTES:
        raise UsageError(f"a prompt has at most {limits.PROMPT_CHARS} characters, standard input has far more")
    try:
        read = data.decode("utf-8-sig").replace("\r\n", "\n").strip("\n")  # without the BOM of Windows programs
    except UnicodeDecodeError as err:
        raise UsageError("the prompt on standard input is not UTF-8") from err
    if not read.strip():
        raise UsageError("there is no prompt on standard input", hint="without `-`, music is made without a prompt")
    return read


def _make(
    planned_takes: "Sequence[PlannedTake]",
    engine: "Engine",
    archive: "Store",
    out: "Output",
    playback: "LivePlayback | None",
    target: "ExportTarget | None",
    *,
    to_stdout: bool,
) -> None:
    """Make the takes, and show, play and export each as it is stored."""
    from musicgen_cli.actions.generate import make_all

    count = len(planned_takes)
    artifacts: list[Artifact] = []
    exported: set[Path] = set()

    def listener_of(i: int, planned: "PlannedTake") -> "AbstractContextManager[ProgressListener]":
        shown = out.progress(f"{i + 1}/{count}" if count > 1 else "generating", planned.request.duration)
        return shown if playback is None or count > 1 else playback.listener(shown, planned.duration)

    takes = make_all(planned_takes, engine, archive, listener_of, jobs=engine.slots)
    try:
        for take in takes:
            artifacts.append(take.artifact)
            if playback is not None:
                playback.play_stored(take.artifact)
            for text in take.warnings:
                out.warn(text)
            if to_stdout:
                out.sound(archive.read_blob(take.artifact))
                out.note(f"stored as {take.artifact.id}")
                continue
            if not out.is_table:
                out.artifact(take.artifact)
            if target is not None:
                from musicgen_cli.actions.library.export import export

                out.note(f"wrote {export(take.artifact, archive, target, exported)}")
    except MusicgenError as err:
        if not artifacts or len(artifacts) == count:
            raise
        raise PartlyMadeError(len(artifacts), count, err) from err
    finally:
        out.stop_bars()
        takes.close()  # after Ctrl-C, too, what has been made is stored
        if playback is not None and sys.exc_info()[0] is not None:
            playback.stop()
        if out.is_table:  # one table for all takes, also after Ctrl-C
            out.artifacts(artifacts)


def _target(output: str | None, *, has_several: bool, force: bool, out: "Output") -> "ExportTarget | None":
    """Check `-o`, so that a mistake is reported before anything is made."""
    if output is None:
        return None
    if output == "-":
        out.check_sound(many=has_several)
        return None
    from musicgen_cli.actions.library.export import resolve_target

    return resolve_target(output, many=has_several, force=force)


def _check_detached(*, has_output: bool, play: bool) -> None:
    """Refuse options that need the take at once."""
    if has_output or play:
        option, later = ("--play", "play") if play else ("--output", "export")
        raise UsageError(
            f"--detach and {option} contradict each other", hint=f"`musicgen {later} ID` once the take is made"
        )


def _detach(planned_takes: "Sequence[PlannedTake]", config: "EngineConfig", archive: "Store", out: "Output") -> None:
    """Queue the takes as jobs, and print their ids."""
    from musicgen_cli import settings
    from musicgen_cli.actions.engines import for_jobs, prepare
    from musicgen_cli.actions.jobs.jobs import Jobs

    prepare(config, out)
    for job in Jobs(archive, settings.state_dir()).add(planned_takes, for_jobs(config)):
        if out.as_json:
            out.json({"job_id": job.id, "status": job.state})
        else:
            out.line(job.id)


def _playback(archive: "Store", out: "Output") -> "LivePlayback":
    """Find a player, so that its absence is reported before anything is made."""
    from musicgen_cli.actions.playback.live import LivePlayback
    from musicgen_cli.audio import player

    return LivePlayback(player.find(), archive, warn=out.warn)
