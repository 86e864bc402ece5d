"""`musicgen mcp`: the actions as tools for assistants, over stdio."""

from musicgen_cli.cli import options
from musicgen_cli.extras import needs


def command(
    local: options.Local = None,
    model: options.ModelOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    precision: options.Precision = None,
    url: options.Url = None,
    timeout: options.Timeout = None,
    max_wait: options.MaxWait = None,
    store: options.StoreOption = None,
) -> None:
    """Serve MCP on stdin and stdout until the client leaves."""
    from musicgen_cli.api import engine_config_of
    from musicgen_cli.cli.maker import choose, ensure
    from musicgen_cli.cli.output import Output

    with needs("mcp"):
        from musicgen_cli import mcp_server

    out = Output()
    loading = {"engine": engine, "device": device, "precision": precision}
    chosen = choose(
        {"url": url, "store": store, "model": model, "local": local, "timeout": timeout, "max_wait": max_wait}, loading
    )
    if chosen.local:
        ensure(chosen.model, out, **loading)
    mcp_server.serve(chosen, engine_config_of(chosen, **loading), out.warn)
