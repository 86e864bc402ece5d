"""`musicgen serve`: the HTTP service."""

from typing import Annotated

import typer

from musicgen_cli import limits
from musicgen_cli.cli import options


def command(
    host: Annotated[str, typer.Option(help="Where to listen; other machines reach it only with a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.")] = limits.DEFAULT_PORT,
    model: options.ModelOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    precision: options.Precision = None,
    slots: Annotated[
        int | None,
        typer.Option(min=1, help="Clips made side by side.", show_default="up to 4, as memory allows"),
    ] = None,
    queue: Annotated[int, typer.Option(help="Requests that may wait; one more is answered 429.")] = limits.QUEUE,
    api_key: Annotated[
        str | None, typer.Option(help="What clients must send; better in MUSICGEN_API_KEY.", show_default=False)
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name clients may call it by.", show_default=False)
    ] = None,
    max_duration: Annotated[float, typer.Option(help="The longest clip in seconds.")] = limits.DURATION.high,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Prompts in the log, too.")] = False,
) -> None:
    """Serve the model over HTTP until stopped."""
    from musicgen_cli import settings
    from musicgen_cli.cli.maker import ensure
    from musicgen_cli.cli.output import Output
    from musicgen_cli.engine.registry import open_local
    from musicgen_cli.extras import needs

    with needs("serve"):
        from musicgen_cli.service import server

    out = Output()
    chosen = settings.load({"model": model, "api_key": api_key})
    ensure(chosen.model, out, engine=engine, device=device, precision=precision)
    server.serve(
        lambda: open_local(
            chosen.model,
            engine=engine,
            device=device,
            precision=precision,
            slots=slots,
            note=out.note,
        ),
        host=host,
        port=port,
        queue_limit=queue,
        api_key=chosen.api_key,
        allow_hosts=tuple(allow_host or ()),
        max_duration=max_duration,
        log_prompts=log_prompts,
        on_ready=lambda url: out.note(f"serving on {url}"),
    )
