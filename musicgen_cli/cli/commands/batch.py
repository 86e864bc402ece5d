"""`musicgen batch`: the rows of a file become stored takes; takes that are stored already are not made again."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from musicgen_cli import foreign
from musicgen_cli.cli import engine_options, options, take_options
from musicgen_cli.cli.option_groups import OptionGroup
from musicgen_cli.errors import (
    InvalidRowsError,
    InvalidValueError,
    MusicgenError,
    PartlyFailedError,
    TargetError,
    UsageError,
    system_reason,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from musicgen_cli.actions.batch.batch import Batch
    from musicgen_cli.actions.batch.outcome import Tally
    from musicgen_cli.actions.batch.worklist import Worklist
    from musicgen_cli.cli.output import Output
    from musicgen_cli.engine.base import Engine
    from musicgen_cli.settings import Settings
    from musicgen_cli.store import Store

_INHERITED = re.compile(r"/dev/(?:null|stdin|fd/\d+)$|/proc/self/fd/\d+$")  # the shell's <(COMMAND) is /dev/fd/63


@dataclass(frozen=True)
class RowOptions(OptionGroup):
    """How the rows are read, and which of their takes are made."""

    input_format: Annotated[
        str | None,
        typer.Option(
            metavar="jsonl|csv|text",
            help="Format of the rows. [that of the file's ending, else detected]",
            show_default=False,
        ),
    ] = None
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUES",
            help="Make each row with each value: guidance_scale=3,5,7, seed=1..4 (repeatable).",
            show_default=False,
        ),
    ] = None
    run: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of this run; a run with another name makes all takes again.", show_default=False
        ),
    ] = None
    redo: Annotated[bool, typer.Option("--redo", help="Make takes again even if they are stored.")] = False
    skip_invalid: Annotated[bool, typer.Option("--skip-invalid", help="Skip invalid rows.")] = False

    def check(self) -> None:
        """
        Check the form.

        Raises:
            InvalidValueError: There is no such form.
        """
        from musicgen_cli.actions.batch.rows import FORMS

        if self.input_format is not None and self.input_format not in FORMS:
            raise InvalidValueError(f"--input-format must be one of {', '.join(FORMS)}, got {self.input_format[:40]!r}")


@dataclass(frozen=True)
class RunOptions(OptionGroup):
    """How the takes are made, and what happens when one fails."""

    jobs: Annotated[int | None, typer.Option(help="Requests at once. [one for each --url]", show_default=False)] = None
    retry: Annotated[
        int,
        typer.Option(metavar="N", help="Retry a failed request up to N times. [1]", show_default=False),
    ] = 1
    max_failures: Annotated[
        int | None, typer.Option(metavar="N", help="Begin no more takes after N failures.", show_default=False)
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be made, and change nothing.")] = False
    failed: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the rows that failed to FILE, ready to run again.", show_default=False
        ),
    ] = None

    def check(self) -> None:
        """
        Check the numbers.

        Raises:
            InvalidValueError: One is out of its range.
        """
        from musicgen_cli.actions.batch.batch import checked_numbers

        checked_numbers(self.jobs, self.retry, self.max_failures)


@dataclass(frozen=True)
class FileOptions(OptionGroup):
    """Where takes are exported to, and how."""

    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Export each take as well, to a folder; outputs of rows are below it.",
            show_default=False,
        ),
    ] = None
    loop: Annotated[
        bool,
        typer.Option("--loop", help="Cut each exported file into a loop: of --bars, or of all whole bars that fit."),
    ] = False
    force: options.Force = False


@dataclass(frozen=True)
class ServicesOptions(OptionGroup):
    """How to reach one or more services."""

    url: Annotated[
        list[str] | None,
        typer.Option(help="A service's address (repeatable); else MUSICGEN_URL.", show_default=False),
    ] = None
    timeout: options.Timeout = None
    max_wait: options.MaxWait = None

    @property
    def settings(self) -> dict[str, object]:
        """The options by the names of their settings."""
        return {"url": self.url[0] if self.url else None, "timeout": self.timeout, "max_wait": self.max_wait}


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file of rows; -: standard input.")],
    rows: RowOptions,
    run: RunOptions,
    request: take_options.RequestOptions,
    sounds: take_options.SoundOptions,
    record: take_options.RecordOptions,
    local: engine_options.LocalOptions,
    services: ServicesOptions,
    files: FileOptions,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Make a take of each row of a file: JSON Lines, CSV with a header, or one prompt a line.

    The same command again makes what is missing. The options of a take are defaults for every row.
    """
    from musicgen_cli.actions.batch.batch import Batch
    from musicgen_cli.actions.batch.sweep import Sweep
    from musicgen_cli.actions.batch.worklist import Worklist
    from musicgen_cli.actions.engines import model_name, open_fleet
    from musicgen_cli.actions.source_finder import SourceFinder
    from musicgen_cli.cli.batch_view import PreparationView, preview
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_, quiet=quiet)
    settings = local.load_settings(store=store, creator=record.creator, **services.settings)
    rows.check()
    run.check()
    if settings.local and (run.jobs or services.url):
        raise UsageError("--jobs and --url are for services", hint="with --local the model's own slots are used")
    archive = Store(settings.store, warn=out.warn)
    defaults = _defaults({**request.fields, **sounds.fields}, record, settings, archive, files)
    finder = SourceFinder(archive, creator=settings.creator, note=out.note)
    sweep = Sweep(rows.sweep or ())
    with ExitStack() as stack:
        with PreparationView(out) as view:
            worklist = stack.enter_context(closing(Worklist(defaults, sweep, finder, view.added)))
            parents = _read(file, rows.input_format, worklist, archive, out, skip_invalid=rows.skip_invalid)
        if run.failed is not None:
            _check_failures(run.failed, file)
        config = local.configure(settings)
        batch_of = partial(Batch, worklist, archive, run=rows.run, parents=parents, redo=rows.redo, force=files.force)
        if run.dry_run:
            model = model_name(config, out, api_key=settings.api_key, urls=services.url or ())
            preview(batch_of(model=model), worklist.takes, out)
            return
        engine = open_fleet(config, out, api_key=settings.api_key, urls=services.url or (), clips=worklist.takes)
        stack.enter_context(closing(engine))
        batch = batch_of(model=engine.origin.model)
        _run(batch, engine, run, out)
    _conclude(batch.tally, worklist.takes, run.max_failures, out)


def _defaults(
    fields: dict[str, Any],
    record: take_options.RecordOptions,
    settings: "Settings",
    archive: "Store",
    files: FileOptions,
) -> dict[str, Any]:
    """Collect the options of a take as the defaults of rows."""
    from musicgen_cli.actions.bars import overridden
    from musicgen_cli.actions.batch.outputs import as_folder
    from musicgen_cli.actions.generate import fields_from
    from musicgen_cli.actions.library.made_from import sound_names
    from musicgen_cli.actions.library.takes import find_take

    if files.output == "-":
        raise UsageError("-o of a batch is a folder, got '-'", hint="`-q` puts the ids of the takes on stdout")
    columns: dict[str, Any] = {
        "variations": record.variations,
        "tags": record.tag,
        "creator": settings.creator,
        "parent_id": record.parent and find_take(record.parent, archive).id,
        "variation_set_id": record.variation_set,
        "output": None if files.output is None else as_folder(files.output),
        "loop": files.loop or None,
    }
    defaults = fields | {name: value for name, value in columns.items() if value is not None}
    if record.from_:
        source = find_take(record.from_, archive)
        inherited = fields_from(source, variations=record.variations)
        if "continue" not in fields:
            inherited["parent_id"] = source.id
        if fields.keys().isdisjoint({"continue", "melody"}):
            inherited |= sound_names(source)
        defaults = overridden(inherited, defaults)
    return defaults


def _run(batch: "Batch", engine: "Engine", run: RunOptions, out: "Output") -> None:
    """Make the missing takes, show each outcome, and write down the rows that failed."""
    from musicgen_cli.cli.batch_view import BatchView

    view = BatchView(out, batch.tally)
    with batch.exclusive_lock(), _failures(run.failed) as write_failure, view:
        for outcome in batch.run(
            engine, view, jobs=run.jobs or engine.slots, retry=run.retry, max_failures=run.max_failures
        ):
            view.ended(outcome)
            if outcome.error is not None:
                write_failure(batch.row_of(outcome.item))


def _read(
    file: str, form: str | None, worklist: "Worklist", archive: "Store", out: "Output", *, skip_invalid: bool
) -> dict[str, str]:
    """Read every row and show what is wrong; return the ids of the parents that rows name."""
    from musicgen_cli.actions.batch.parents import find_parents
    from musicgen_cli.actions.batch.rows import read_rows

    wrong = 0

    def refuse(line: int, err: MusicgenError) -> None:
        nonlocal wrong
        wrong += 1
        out.failed(line, err)

    with _opened(file) as source:
        for line, row in read_rows(source, form, name=file):
            if isinstance(row, InvalidValueError):
                refuse(line, row)
                continue
            try:
                worklist.add(line, row)
            except InvalidValueError as err:
                refuse(line, err)
    parents, errors = find_parents(worklist, archive)
    for name, error in errors.items():
        for line in worklist.drop(name):
            refuse(line, error)
    if wrong and not skip_invalid:
        raise InvalidRowsError(wrong, has_valid=worklist.takes > 0)
    if not worklist.takes:
        raise UsageError(f"there is no {'good ' if wrong else ''}row in {_named(file)}")
    if wrong:
        out.note(f"{wrong} left out")
    return parents


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        if sys.stdin is None:
            raise UsageError("there is no standard input to read rows from")
        yield sys.stdin.buffer
        return
    try:
        # Errors in the block below must not be caught here.
        source = Path(file).open("rb") if _INHERITED.match(file) else foreign.open_file(Path(file))  # noqa: SIM115
    except (OSError, ValueError) as err:  # a ValueError for NUL in the name
        reason = err.strerror if isinstance(err, OSError) else None
        hint = "`musicgen batch -` reads rows from a pipe" if reason == "not a regular file" else None
        raise UsageError(f"can't read {file[:200]!r}: {(reason or str(err)).lower()}", hint=hint) from err
    with source:
        yield source


@contextmanager
def _failures(path: Path | None) -> Iterator["Callable[[Mapping[str, Any]], None]"]:
    """Open the file for the rows that failed; what an earlier batch wrote there is replaced."""
    if path is None:
        yield lambda _: None
        return
    import json

    with _writing(path):
        file = open(path, "w", encoding="utf-8", opener=_without_waiting)  # noqa: SIM115

    def write(row: "Mapping[str, Any]") -> None:
        with _writing(path):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()

    with file:
        yield write


def _check_failures(path: Path, batch: str) -> None:
    """
    Check that the rows that failed may be written to `path`.

    Raises:
        TargetError: It can't be written, has other content than rows, or is the batch's own file.
    """
    from musicgen_cli.actions.batch.checked_row import COLUMNS
    from musicgen_cli.actions.batch.rows import read_rows

    with _writing(path):
        if not path.is_file():  # absent, or without content that could be lost, such as a pipe
            return
        if batch != "-" and path.samefile(batch):
            raise TargetError(f"{path} is the file of the batch itself", hint="`--failed` names another file")
        with path.open("rb") as old:
            _, row = next(read_rows(old, "jsonl"), (0, {}))
    if not isinstance(row, dict) or not row.keys() <= set(COLUMNS):
        raise TargetError(f"{path} exists already, and doesn't hold rows", hint="`--failed` names another file")


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody reads is an error."""
    fd = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(fd, True)
    return fd


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise TargetError(f"can't write {path}: {system_reason(err)}") from err


def _conclude(tally: "Tally", takes: int, max_failures: int | None, out: "Output") -> None:
    failed = tally.failed.total()
    if failed:
        is_stopped = max_failures is not None and failed >= max_failures
        raise PartlyFailedError(
            failed,
            takes,
            is_stopped=is_stopped,
            unwritable=tally.failed["target"],
            in_the_way=tally.in_the_way,
            refused=tally.refused,
        )
    if not tally.made and not tally.exported and not tally.foreign:
        out.note("nothing is left to do; --redo or --run NAME makes all takes again")


def _named(file: str) -> str:
    return "standard input" if file == "-" else repr(file[:200])
