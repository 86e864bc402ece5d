"""The filters that every command over many takes has: the options, and what they mean."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.errors import InvalidValueError

if TYPE_CHECKING:
    from musicgen_cli.store import Filter, Store

Tag = Annotated[
    list[str] | None, typer.Option("-t", "--tag", help="With this tag (repeat: with all).", show_default=False)
]
Creator = Annotated[str | None, typer.Option(help="By this creator.", show_default=False)]
VariationSet = Annotated[
    str | None, typer.Option("--set", metavar="ID", help="Of this variation set.", show_default=False)
]
Parent = Annotated[str | None, typer.Option(metavar="ID", help="Made from this take.", show_default=False)]
Model = Annotated[str | None, typer.Option(help="Made by this model.", show_default=False)]
Search = Annotated[
    str | None, typer.Option(metavar="TEXT", help="With this in the prompt, in any case.", show_default=False)
]
Since = Annotated[str | None, typer.Option(metavar="WHEN", help="2026-11-22, 2d, 3h.", show_default=False)]
Until = Annotated[
    str | None, typer.Option(metavar="WHEN", help="The same; a day counts to its end.", show_default=False)
]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def where(
    kept: "Store",
    *,
    tag: list[str] | None,
    creator: str | None,
    variation_set: str | None,
    parent: str | None,
    model: str | None,
    search: str | None,
    since: str | None,
    until: str | None,
) -> "Filter":
    """
    Turn the options into a filter.

    Raises:
        InvalidValueError: A time is none.
        ArtifactNotFoundError, AmbiguousIdError: The parent answers to none, or to several.
    """
    from musicgen_cli.store import Filter

    return Filter(
        tags=tuple(tag or ()),
        creator=creator,
        variation_set_id=variation_set,
        parent_id=parent and kept.get(parent).id,
        model=model,
        search=search,
        since=moment(since) if since else None,
        until=moment(until, end=True) if until else None,
    )


def check_number(number: int | None) -> None:
    """
    Check `-n`.

    Raises:
        InvalidValueError: It is no number of takes.
    """
    if number is not None and number < 1:
        raise InvalidValueError(f"n must be 1 or more, got {number}")


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
