"""`musicgen mcp`: the actions as tools for assistants, over stdio."""

from musicgen_cli.cli import engine_options, options
from musicgen_cli.extras import needs


def command(
    local: engine_options.LocalOptions, service: engine_options.ServiceOptions, store: options.StoreOption = None
) -> None:
    """Serve MCP on standard input and output until the client leaves."""
    from musicgen_cli.actions.engines import for_jobs, prepare
    from musicgen_cli.cli.output import Output

    with needs("mcp"):
        from musicgen_cli import mcp_server

    out = Output()
    settings = local.load_settings(store=store, **service.settings)
    config = local.configure(settings)
    prepare(config, out)
    mcp_server.serve(settings, for_jobs(config), out.warn)
