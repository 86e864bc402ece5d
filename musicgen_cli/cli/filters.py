"""The filters of commands that work on many takes: their options, and how these become a Filter."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli.option_groups import OptionGroup
from musicgen_cli.errors import InvalidValueError

if TYPE_CHECKING:
    from musicgen_cli.store import Filter, Store

_LOCAL_YEARS = range(1971, 3000)  # Windows knows the local time of no others; no take comes from one, either
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class FilterOptions(OptionGroup):
    """Which takes a command works on."""

    tag: Annotated[
        list[str] | None,
        typer.Option(
            "-t", "--tag", help="Only takes with this tag (repeatable: with all of them).", show_default=False
        ),
    ] = None
    creator: Annotated[str | None, typer.Option(help="Only takes by this creator.", show_default=False)] = None
    variation_set: Annotated[
        str | None, typer.Option("--set", metavar="ID", help="Only takes of this variation set.", show_default=False)
    ] = None
    parent: Annotated[
        str | None, typer.Option(metavar="ID", help="Only takes made from this take.", show_default=False)
    ] = None
    model: Annotated[str | None, typer.Option(help="Only takes made by this model.", show_default=False)] = None
    search: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Only takes with this text in prompt or name; ignores case.", show_default=False
        ),
    ] = None
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only takes since this day or age: 2026-11-22, 2d, 3h.", show_default=False),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only takes up to this time; a day includes its end.", show_default=False),
    ] = None

    def to_filter(self, store: "Store") -> "Filter":
        """
        Turn the options into a filter.

        Raises:
            InvalidValueError: `since` or `until` is not a time.
            ArtifactNotFoundError, AmbiguousIdError: `parent` matches no take, or several.
        """
        from musicgen_cli.actions.library.takes import find_take
        from musicgen_cli.store import Filter

        return Filter(
            tags=tuple(self.tag or ()),
            creator=self.creator,
            variation_set_id=self.variation_set,
            parent_id=self.parent and find_take(self.parent, store).id,
            model=self.model,
            search=self.search,
            since=moment(self.since) if self.since else None,
            until=moment(self.until, end=True) if self.until else None,
        )


def check_number(number: int | None) -> None:
    """
    Check the value of `-n`.

    Raises:
        InvalidValueError: It is less than 1.
    """
    if number is not None and number < 1:
        raise InvalidValueError(f"n must be 1 or more, got {number}")


def moment(text: str, *, end: bool = False) -> datetime:
    """
    Read a time such as `2026-11-22` or `2026-11-22T10:00`, or an age such as `2d` or `3h`.

    Args:
        text: A day or a time without a zone is local.
        end: A day means its end instead of its start.

    Returns:
        The time in UTC.

    Raises:
        InvalidValueError: It is neither a time nor an age.
    """
    try:
        if age := re.fullmatch(r"(\d{1,6})([smhdw])", text):
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        time = datetime.fromisoformat(text)
        if end and re.fullmatch(r"[\d-]+|\d{4}-?W.*", text):
            time += timedelta(days=1, microseconds=-1)
        if time.tzinfo is None and time.year not in _LOCAL_YEARS:
            return time.replace(tzinfo=UTC)
        return time.astimezone(UTC)
    except (ValueError, OverflowError) as err:
        raise InvalidValueError(f"a time must be like 2026-11-22, 2d or 3h, got {text[:40]!r}") from err
