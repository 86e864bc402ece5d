"""`musicgen list`: what is stored, newest first."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.errors import InvalidValueError, UsageError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def command(
    number: Annotated[int | None, typer.Option("-n", help="So many. [20]", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    tag: Annotated[
        list[str] | None, typer.Option("-t", "--tag", help="With this tag (repeat: with all).", show_default=False)
    ] = None,
    creator: Annotated[str | None, typer.Option(help="By this creator.", show_default=False)] = None,
    variation_set: Annotated[
        str | None, typer.Option("--set", metavar="ID", help="Of this variation set.", show_default=False)
    ] = None,
    parent: Annotated[str | None, typer.Option(metavar="ID", help="Made from this take.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option(help="Made by this model.", show_default=False)] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With this in the prompt, in any case.", show_default=False)
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="2026-11-22, 2d, 3h.", show_default=False)] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="The same; a day counts to its end.", show_default=False)
    ] = None,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what is stored, newest first."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Filter, Store

    if number is not None and every:
        raise UsageError("-n and --all contradict each other")
    if number is not None and number < 1:
        raise InvalidValueError(f"n must be 1 or more, got {number}")
    out = Output(as_json=json_, quiet=quiet)
    kept = Store(settings.load({"store": store}).store, warn=out.warn)
    where = Filter(
        tags=tuple(tag or ()),
        creator=creator,
        variation_set_id=variation_set,
        parent_id=parent and kept.get(parent).id,
        model=model,
        search=search,
        since=moment(since) if since else None,
        until=moment(until, end=True) if until else None,
    )
    out.artifacts(kept.newest(None if every else number or 20, where))


def moment(text: str, *, end: bool = False) -> datetime:
    """
    Read `2026-11-22`, `2026-11-22T10:00`, or an age such as `2d` and `3h`.

    Args:
        text: A day or a time without a zone is local.
        end: A day means its end, not its start.

    Raises:
        InvalidValueError: It is none of these.
    """
    try:
        if age := re.fullmatch(r"(\d{1,6})([smhdw])", text):
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        when = datetime.fromisoformat(text)
        if end and re.fullmatch(r"[\d-]+|\d{4}-?W.*", text):
            when += timedelta(days=1, microseconds=-1)
        return when.astimezone(UTC)
    except (ValueError, OverflowError) as err:
        raise InvalidValueError(f"a time must be like 2026-11-22, 2d or 3h, got {text[:40]!r}") from err
