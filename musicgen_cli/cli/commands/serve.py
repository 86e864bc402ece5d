"""`musicgen serve`: the HTTP service."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli import limits
from musicgen_cli.cli import engine_options
from musicgen_cli.errors import InvalidValueError, UsageError

if TYPE_CHECKING:
    from musicgen_cli.cli.output import Output


def command(
    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines can reach it only with an API key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")] = limits.DEFAULT_PORT,
    model: engine_options.ModelOption = None,
    engine: engine_options.EngineOption = None,
    device: engine_options.Device = None,
    precision: engine_options.Precision = None,
    slots: Annotated[
        int | None,
        typer.Option(help="Clips that are made at once.", show_default="up to 8, as memory allows"),
    ] = None,
    queue: Annotated[
        int, typer.Option(help="Requests that may wait; further ones are answered with 429.")
    ] = limits.QUEUE,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="Key that clients must send. Other users can see it in the list of processes; MUSICGEN_API_KEY or "
            "--api-key-file keeps it to yourself.",
            show_default=False,
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File with the keys of clients, one a line; each is one client.", show_default=False
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Further host name that clients may use (repeatable); *: any.", show_default=False
        ),
    ] = None,
    max_duration: Annotated[
        float, typer.Option(help=f"The longest clip in seconds, up to {limits.DURATION.high:g}.")
    ] = limits.CONTEXT_S,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Write prompts to the log, too.")] = False,
) -> None:
    """Serve the model over HTTP until stopped."""
    from musicgen_cli import settings
    from musicgen_cli.actions.engines import ANY_CLIPS, configure_local, open_engine, prepare
    from musicgen_cli.cli.output import Output
    from musicgen_cli.extras import needs

    with needs("serve"):
        from musicgen_cli.service import server

    _check_host(host)
    if slots is not None and slots < 1:
        raise InvalidValueError(f"--slots must be 1 or more, got {slots}")
    out = Output()
    keys = _keys(api_key, api_key_file, out)
    loaded = settings.load({"model": model, "api_key": api_key})
    config = configure_local(loaded.model, engine=engine, device=device, precision=precision)
    prepare(config, out)
    server.serve(
        lambda: open_engine(config, out, slots=slots, clips=ANY_CLIPS),
        server.ServeOptions(
            host=host,
            port=port,
            queue_limit=queue,
            api_keys=keys or ([loaded.api_key] if loaded.api_key else []),
            allow_hosts=tuple(allow_host or ()),
            max_duration=max_duration,
            log_prompts=log_prompts,
        ),
        on_ready=lambda url: out.note(f"serving on {url}"),
    )


def _keys(api_key: str | None, api_key_file: Path | None, out: "Output") -> list[str]:
    """
    Return the keys in a file; warn of what shows keys to others.

    Raises:
        UsageError: The file can't be used, or there is a key besides it.
        InvalidValueError: A line in it is no key.
    """
    from musicgen_cli import settings

    if api_key is not None:
        if api_key_file is not None:
            raise UsageError("--api-key and --api-key-file exclude each other", hint="write all keys to the file")
        out.warn(
            "other users of this machine can see --api-key in the list of processes: "
            "set MUSICGEN_API_KEY, or use --api-key-file"
        )
    if api_key_file is None:
        return []
    keys = settings.read_keys(api_key_file)
    if os.name == "posix" and api_key_file.is_file() and api_key_file.stat().st_mode & 0o077:
        out.warn(f"other users of this machine may read {api_key_file}: `chmod 600` keeps the keys to yourself")
    return keys


def _check_host(host: str) -> None:
    """Refuse what the system's resolver would not even look up."""
    try:
        host.encode("idna")
    except UnicodeError as err:
        raise InvalidValueError(f"--host must be an address or a host's name, got {host[:40]!r}") from err
