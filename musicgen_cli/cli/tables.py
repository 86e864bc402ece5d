"""Tables and trees for people at a terminal. Imports Rich, so import it only where one is shown."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from rich.tree import Tree

from musicgen_cli.cli.forms import take_fields
from musicgen_cli.limits import TAGS
from musicgen_cli.store.names import without_names
from musicgen_cli.text import encodable, one_line, size

if TYPE_CHECKING:
    from musicgen_cli.actions.library.lineage import Branch
    from musicgen_cli.store import Artifact

_GAP, _EDGES = 3, 2  # of a table in columns: between two of its columns, and at both sides


def console(*, stderr: bool = False) -> Console:
    """Return a console for a stream. COLUMNS=0, and a terminal that doesn't know its width, stand for 80 columns."""
    made = Console(stderr=stderr)
    return made if made.width > 0 else Console(stderr=stderr, width=shutil.get_terminal_size().columns)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, optional: Sequence[str] = ()) -> None:
    """
    Print rows under headings, or nothing if there are no rows; cells are foreign text and are made safe.

    Args:
        optional: The headings of columns that are left out where the terminal is too narrow, the first one first.
    """
    out = console()
    cells = [[encodable(one_line(cell), out.encoding) for cell in row] for row in rows]
    if not cells:
        return
    texts = [(str(column.header), *(row[i] for row in cells)) for i, column in enumerate(columns)]
    wanted = [max(map(cell_len, each)) for each in texts]
    least = [
        min(width, column.min_width or _longest_word(each)) if column.overflow == "fold" else width
        for column, width, each in zip(columns, wanted, texts, strict=True)
    ]
    shown = list(range(len(columns)))
    for heading in optional:
        if _table_width([least[i] for i in shown]) <= out.width:
            break
        shown = [i for i in shown if columns[i].header != heading]
    widths = {i: least[i] for i in shown}
    while _table_width(widths.values()) < out.width and (cut := [i for i in shown if widths[i] < wanted[i]]):
        widths[min(cut, key=widths.__getitem__)] += 1
    table = Table(*(replace(columns[i], width=widths[i]) for i in shown), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in cells:
        table.add_row(*(Text(row[i]) for i in shown))
    out.width = max(out.width, _table_width(widths.values()))  # on a narrower terminal, lines go on in the next one
    out.print(table)


def _table_width(widths: Collection[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1) + _EDGES


def _longest_word(texts: Iterable[str]) -> int:
    return max((cell_len(word) for text in texts for word in text.split()), default=0)


def short(heading: str) -> Column:
    """Make a column whose cells are never folded."""
    return Column(heading, no_wrap=True)


def numeric(heading: str) -> Column:
    """Make a column of numbers, aligned at the right."""
    return Column(heading, justify="right", no_wrap=True)


def folding(heading: str, *, min_width: int | None = None) -> Column:
    """Make a column whose long cells go on in the next line."""
    return Column(heading, overflow="fold", min_width=min_width)


def local_time(timestamp: str) -> str:
    """Write an ISO 8601 timestamp as a local time to the minute."""
    return datetime.fromisoformat(timestamp).astimezone().strftime("%Y-%m-%d %H:%M")


def print_takes(artifacts: Iterable[Artifact], draw_wave: Callable[[Artifact], str] | None = None) -> None:
    """
    Print takes as a table: names with the prompts, no tags that every take has; id and prompt are always shown.

    Args:
        draw_wave: Draws the waveform of a take in a few characters; None leaves that column out.
    """
    columns = [
        short("id"),
        short("created"),
        numeric("s"),
        *([short("wave")] if draw_wave else []),
        numeric("seed"),
        folding("model"),
        folding("tags"),
        folding("prompt", min_width=20),
    ]

    def cells(artifact: Artifact) -> list[str]:
        _, created, duration, seed, model, _, _ = take_fields(artifact)
        return [
            short_id(artifact),
            local_time(created),
            duration,
            *([draw_wave(artifact)] if draw_wave else []),
            seed,
            model,
            ", ".join(tag for tag in without_names(artifact.tags) if tag not in TAGS),
            artifact.title,
        ]

    optional = ("seed", "model", "created", "tags", "s", "wave")
    print_table(columns, map(cells, artifacts), optional=optional)


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
        optional=("from", "licence", "size"),
    )


def print_tree(root: Branch) -> None:
    """Print takes as a tree, each above those that were made from it."""
    out = console()

    def label(branch: Branch) -> Text:
        artifact = branch.artifact
        text = one_line(f"{short_id(artifact)}  {artifact.duration:g} s{_origin_of(artifact)}  {artifact.title}")
        return Text(encodable(text, out.encoding))

    tree = Tree(label(root))
    todo = [(root, tree)]
    while todo:
        branch, node = todo.pop()
        todo.extend((child, node.add(label(child))) for child in branch.children)
    out.print(tree)


def _origin_of(artifact: Artifact) -> str:
    """Say in a few words where the sound of a take comes from, if not from its prompt alone."""
    from musicgen_cli.actions.library.made_from import CONTINUE, MELODY, sound_names, source_s

    sounds = sound_names(artifact)
    if CONTINUE in sounds:
        return f", {artifact.duration - source_s(artifact.extra):g} s of them new"
    if MELODY in sounds:
        return ", on a tune"
    return ", imported" if artifact.origin.get("kind") == "import" else ""


def short_id(artifact: Artifact) -> str:
    """Return a take's id without the prefix that all ids share."""
    return artifact.id.removeprefix("artifact_")
