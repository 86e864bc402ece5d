"""Tables and trees for people at a terminal. Imports Rich, so import it only where one is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from rich.tree import Tree

from musicgen_cli.cli.forms import take_fields
from musicgen_cli.limits import TAGS
from musicgen_cli.text import one_line, size

if TYPE_CHECKING:
    from musicgen_cli.actions.library.lineage import Branch
    from musicgen_cli.store import Artifact

# Terminal widths, in columns, from which seeds are shown: on narrower ones the prompts would have too little room.
_COLUMNS_FOR_SEEDS, _COLUMNS_FOR_WAVES_AND_SEEDS = 100, 120


def print_table(columns: Iterable[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings, or nothing if there are no rows; cells are foreign text and are made safe."""
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    if table.row_count:
        Console().print(table)


def short(heading: str) -> Column:
    """Make a column whose cells are never folded."""
    return Column(heading, no_wrap=True)


def numeric(heading: str, *, max_width: int | None = None) -> Column:
    """Make a column of numbers, aligned at the right."""
    return Column(heading, justify="right", no_wrap=True, max_width=max_width)


def folding(heading: str, *, min_width: int | None = None) -> Column:
    """Make a column whose long cells go on in the next line."""
    return Column(heading, overflow="fold", min_width=min_width)


def local_time(timestamp: str) -> str:
    """Write an ISO 8601 timestamp as a local time to the minute."""
    return datetime.fromisoformat(timestamp).astimezone().strftime("%Y-%m-%d %H:%M")


def print_takes(artifacts: Iterable[Artifact], draw_wave: Callable[[Artifact], str] | None = None) -> None:
    """
    Print takes as a table: without the tags that every take has, and with seeds where there is room.

    Args:
        draw_wave: Draws the waveform of a take in a few characters; None leaves that column out.
    """
    has_seeds = Console().width >= (_COLUMNS_FOR_WAVES_AND_SEEDS if draw_wave else _COLUMNS_FOR_SEEDS)
    columns = [
        short("id"),
        short("created"),
        numeric("s"),
        *([short("wave")] if draw_wave else []),
        *([numeric("seed", max_width=16)] if has_seeds else []),
        folding("model"),
        folding("tags"),
        folding("prompt", min_width=20),
    ]

    def cells(artifact: Artifact) -> list[str]:
        _, created, duration, seed, model, _, prompt = take_fields(artifact)
        return [
            short_id(artifact),
            local_time(created),
            duration,
            *([draw_wave(artifact)] if draw_wave else []),
            *([seed] if has_seeds else []),
            model,
            ", ".join(tag for tag in artifact.tags if tag not in TAGS),
            prompt,
        ]

    print_table(columns, map(cells, artifacts))


def print_models(models: Iterable[Mapping[str, Any]]) -> None:
    """Print models as a table."""
    columns = [short("name"), numeric("size"), folding("ready in"), folding("licence"), folding("from")]
    print_table(
        columns,
        (
            (
                model["name"],
                size(model["size_bytes"]),
                ", ".join(model["precisions"]),
                model["license"] or "unknown",
                model["source"],
            )
            for model in models
        ),
    )


def print_tree(root: Branch) -> None:
    """Print takes as a tree, each above those that were made from it."""

    def label(branch: Branch) -> Text:
        artifact = branch.artifact
        return Text(one_line(f"{short_id(artifact)}  {artifact.duration:g} s  {artifact.prompt}"))

    tree = Tree(label(root))
    todo = [(root, tree)]
    while todo:
        branch, node = todo.pop()
        todo.extend((child, node.add(label(child))) for child in branch.children)
    Console().print(tree)


def short_id(artifact: Artifact) -> str:
    """Return a take's id without the prefix that all ids share."""
    return artifact.id.removeprefix("artifact_")
