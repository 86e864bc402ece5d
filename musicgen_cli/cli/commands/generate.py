"""`musicgen generate`: a prompt becomes one or more stored takes."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musicgen_cli import limits
from musicgen_cli.cli import options
from musicgen_cli.errors import MusicgenError, UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from musicgen_cli.actions.generate import PlannedTake
    from musicgen_cli.actions.library.export import Target
    from musicgen_cli.actions.playback.live import Sounding
    from musicgen_cli.cli.output import Output
    from musicgen_cli.engine.base import Engine, ProgressListener
    from musicgen_cli.settings import Settings
    from musicgen_cli.store import Artifact, Store

_STDIN_BYTES = 1024 * 1024  # more is no prompt in any case


def command(
    prompt: Annotated[
        str | None, typer.Argument(help="What it should sound like; none: unconditional; -: read from stdin.")
    ] = None,
    duration: options.Duration = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    guidance_scale: options.GuidanceScale = None,
    do_sample: options.DoSample = None,
    seed: options.Seed = None,
    variations: options.Variations = 1,
    tag: options.Tag = None,
    creator: options.Creator = None,
    parent: options.Parent = None,
    variation_set: options.VariationSet = None,
    from_: options.From = None,
    local: options.Local = None,
    model: options.ModelOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    precision: options.Precision = None,
    url: options.Url = None,
    timeout: options.Timeout = None,
    max_wait: options.MaxWait = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="PATH", help="Export, too: a file, a folder, or - for stdout.", show_default=False
        ),
    ] = None,
    force: options.Force = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="In the background: prints a job's id for each take at once.")
    ] = False,
    play: Annotated[
        bool, typer.Option("--play", help="Play each when it is stored; with --local while it is made, if fast enough.")
    ] = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make one or more takes and keep each."""
    from musicgen_cli import settings
    from musicgen_cli.actions.generate import GenerateOptions, expected_bytes, make_all, plan
    from musicgen_cli.cli.maker import choose
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_, quiet=quiet)
    loading = {"engine": engine, "device": device, "precision": precision}
    chosen = choose(
        {
            "url": url,
            "store": store,
            "model": model,
            "local": local,
            "creator": creator,
            "timeout": timeout,
            "max_wait": max_wait,
        },
        loading,
    )
    values: dict[str, Any] = {
        "prompt": _prompt(prompt),
        "duration": duration,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "guidance_scale": guidance_scale,
        "do_sample": do_sample,
        "seed": seed,
    }
    wish = GenerateOptions(
        values={name: value for name, value in values.items() if value is not None},
        creator=chosen.creator,
        tags=tag or (),
        variations=variations,
        parent_id=parent,
        variation_set_id=variation_set and settings.label("variation_set", variation_set),
        from_id=from_,
    )
    kept = Store(chosen.store, warn=out.warn)
    planned_takes = plan(wish, kept)
    kept.check_room(sum(expected_bytes(planned) for planned in planned_takes))
    if detach:
        if output is not None or play:
            option, later = ("--play", "play") if play else ("--output", "export")
            raise UsageError(
                f"--detach and {option} contradict each other", hint=f"`musicgen {later}` takes what was made"
            )
        _detach(planned_takes, chosen, loading, kept, out)
        return
    where = _target(output, many=variations > 1, force=force, out=out)
    sounding = _sounding(kept, out) if play else None
    maker = _open(chosen, loading, out)
    made: list[Artifact] = []
    taken: set[Path] = set()

    def heard(i: int, planned: "PlannedTake") -> "AbstractContextManager[ProgressListener]":
        shown = out.progress(f"{i + 1}/{variations}" if variations > 1 else "generating", planned.request.duration)
        if sounding is None or variations > 1:
            return shown
        return sounding.live(shown, planned.request.duration)

    try:
        for take in make_all(planned_takes, maker, kept, heard, jobs=maker.slots):
            made.append(take.artifact)
            if sounding is not None:
                sounding.stored(take.artifact)
            for text in take.warnings:
                out.warn(text)
            if output == "-":
                out.sound(kept.read_blob(take.artifact))
                out.note(f"stored as {take.artifact.id}")
                continue
            if not out.is_table:
                out.artifact(take.artifact)
            if where is not None:
                from musicgen_cli.actions.library.export import export

                out.note(f"wrote {export(take.artifact, kept, where, taken)}")
    except MusicgenError as err:
        if not made or len(made) == variations:
            raise
        raise PartlyMadeError(len(made), variations, err) from err
    finally:
        if sounding is not None and sys.exc_info()[0] is not None:
            sounding.stop()
        maker.close()
        if out.is_table:  # one for all, also after Ctrl-C
            out.artifacts(made)
    if sounding is not None:
        sounding.finish()


class PartlyMadeError(MusicgenError):
    """Some variations were made and are stored, then one failed."""

    code = "partly-made"

    def __init__(self, made: int, wanted: int, err: MusicgenError) -> None:
        super().__init__(f"made {made} of {wanted}, then: {err}", hint=err.hint)


def _prompt(text: str | None) -> str | None:
    """Read the prompt from stdin where `-` stands for it."""
    if text != "-":
        return text
    if sys.stdin is None:
        raise UsageError("there is no standard input to read the prompt from")
    data = sys.stdin.buffer.read(_STDIN_BYTES + 1)
    if len(data) > _STDIN_BYTES:
        raise UsageError(f"a prompt has at most {limits.PROMPT_CHARS} characters, standard input has far more")
    try:
        return data.decode().replace("\r\n", "\n").strip("\n")
    except UnicodeDecodeError as err:
        raise UsageError("the prompt on standard input is not UTF-8") from err


def _target(output: str | None, *, many: bool, force: bool, out: "Output") -> "Target | None":
    """Check `-o` before anything is made."""
    if output is None:
        return None
    if output == "-":
        out.check_sound(many=many)
        return None
    from musicgen_cli.actions.library.export import target

    return target(output, many=many, force=force)


def _detach(
    planned_takes: "list[PlannedTake]", chosen: "Settings", loading: "dict[str, Any]", kept: "Store", out: "Output"
) -> None:
    from musicgen_cli import settings
    from musicgen_cli.actions.jobs.jobs import Jobs
    from musicgen_cli.api import engine_config_of
    from musicgen_cli.cli.maker import ensure

    if chosen.local:
        ensure(chosen.model, out, **loading)
    engine_config = engine_config_of(chosen, **loading)
    for job in Jobs(kept, settings.state_dir()).add(planned_takes, engine_config):
        if out.as_json:
            out.json({"job_id": job.id, "status": job.state})
        else:
            out.line(job.id)


def _sounding(kept: "Store", out: "Output") -> "Sounding":
    """Look for a player before anything is made."""
    from musicgen_cli.actions.playback.live import Sounding
    from musicgen_cli.audio import player

    return Sounding(player.find(), kept, warn=out.warn)


def _open(chosen: "Settings", loading: "dict[str, Any]", out: "Output") -> "Engine":
    from musicgen_cli.cli.maker import ensure
    from musicgen_cli.engine import registry

    if not chosen.local:
        return registry.open_remote(chosen)
    ensure(chosen.model, out, **loading)
    return registry.open_local(chosen.model, note=out.note, **loading)
