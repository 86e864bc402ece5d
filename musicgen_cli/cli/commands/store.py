"""`musicgen store`: care of the store."""

from dataclasses import asdict

from musicgen_cli.cli import options


def path(store: options.StoreOption = None, json_: options.Json = False) -> None:
    """Print the store's folder."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_)
    where = settings.load({"store": store}).store
    if json_:
        out.json({"path": str(where)})
    else:
        out.path(where)


def stats(store: options.StoreOption = None, json_: options.Json = False) -> None:
    """Count what is stored."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_)
    where = settings.load({"store": store}).store
    counted = {"path": str(where), **asdict(Store(where, warn=out.warn).stats())}
    if json_:
        out.json(counted)
    else:
        out.pairs(counted)


commands = {"path": path, "stats": stats}
