"""`musicgen batch`: the rows of a file become stored takes, and those that are there already don't."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from musicgen_cli.cli import options
from musicgen_cli.errors import InvalidValueError, MusicgenError, TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from musicgen_cli.actions.batch.batch import Tally
    from musicgen_cli.actions.batch.worklist import Worklist
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

_JOBS = 256


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The rows; -: from stdin.")],
    input_format: Annotated[
        str | None, typer.Option(metavar="jsonl|csv|text", help="[found out]", show_default=False)
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUES",
            help="Each row with each value: guidance_scale=3,5,7, seed=1..4 (repeatable).",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="Under another name all is made anew.", show_default=False)
    ] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Make also what is in the store.")] = False,
    skip_invalid: Annotated[bool, typer.Option("--skip-invalid", help="Leave out rows that are wrong.")] = False,
    jobs: Annotated[int | None, typer.Option(help="Requests at once. [one for each --url]", show_default=False)] = None,
    retry: Annotated[
        int, typer.Option(metavar="N", help="Try a request again that failed. [1]", show_default=False)
    ] = 1,
    max_failures: Annotated[
        int | None, typer.Option(metavar="N", help="Begin no more after so many.", show_default=False)
    ] = None,
    failed: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Gets the rows that failed, ready to run again.", show_default=False),
    ] = None,
    duration: options.Duration = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    guidance_scale: options.GuidanceScale = None,
    do_sample: options.DoSample = None,
    seed: options.Seed = None,
    variations: options.Variations = 1,
    tag: options.Tag = None,
    creator: options.Creator = None,
    parent: options.Parent = None,
    variation_set: options.VariationSet = None,
    from_: options.From = None,
    local: options.Local = None,
    model: options.ModelOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    precision: options.Precision = None,
    url: Annotated[
        list[str] | None, typer.Option(help="A service (repeatable); else MUSICGEN_URL.", show_default=False)
    ] = None,
    timeout: options.Timeout = None,
    max_wait: options.MaxWait = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="PATH", help="Export each, too: a folder.", show_default=False),
    ] = None,
    force: options.Force = False,
    store: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Make a take of each row: JSON Lines, CSV with a header, or one prompt a line.

    The same command again makes what is missing. Other options are defaults for every row.
    """
    from musicgen_cli.actions.batch.batch import Batch
    from musicgen_cli.actions.batch.rows import FORMS
    from musicgen_cli.actions.batch.sweep import Sweep
    from musicgen_cli.actions.batch.worklist import Worklist
    from musicgen_cli.actions.generate import parameters_of
    from musicgen_cli.api import open_engine
    from musicgen_cli.cli.batch_view import BatchView
    from musicgen_cli.cli.maker import choose, ensure
    from musicgen_cli.cli.output import Output
    from musicgen_cli.store import Store

    out = Output(as_json=json_, quiet=quiet)
    loading = {"engine": engine, "device": device, "precision": precision}
    chosen = choose(
        {
            "url": url[0] if url else None,
            "store": store,
            "model": model,
            "local": local,
            "creator": creator,
            "timeout": timeout,
            "max_wait": max_wait,
        },
        loading,
    )
    if input_format is not None and input_format not in FORMS:
        raise InvalidValueError(f"--input-format must be one of {', '.join(FORMS)}, got {input_format[:40]!r}")
    for name, number, least, most in (
        ("--jobs", jobs, 1, _JOBS),
        ("--retry", retry, 0, 1000),
        ("--max-failures", max_failures, 1, None),
    ):
        if number is not None and (number < least or (most is not None and number > most)):
            raise InvalidValueError(f"{name} must be {least}{'-' + str(most) if most else ' or more'}, got {number}")
    if chosen.local and (jobs or url):
        raise UsageError("--jobs and --url are for services", hint="with --local the model's own slots are used")
    kept = Store(chosen.store, warn=out.warn)
    given: dict[str, Any] = {
        "duration": duration,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "guidance_scale": guidance_scale,
        "do_sample": do_sample,
        "seed": seed,
        "variations": variations,
        "tags": tag,
        "creator": chosen.creator,
        "parent_id": parent and kept.get(parent).id,
        "variation_set_id": variation_set,
        "output": output,
    }
    defaults = {name: value for name, value in given.items() if value is not None}
    if from_:
        origin = kept.get(from_)
        defaults = parameters_of(origin) | {"parent_id": origin.id} | defaults
    work = Worklist(defaults, Sweep(sweep or ()))
    parents = _read(file, input_format, work, kept, out, skip_invalid=skip_invalid)
    if failed is not None:
        _check_failures(failed, file)
    if chosen.local:
        ensure(chosen.model, out, **loading)
    maker = open_engine(chosen, url or (), note=out.note, warn=out.warn, **loading)
    batch = Batch(work, kept, model=maker.origin.model, run=run, parents=parents, redo=redo, force=force)
    view = BatchView(out, batch.tally)
    with closing(maker), batch.exclusive_lock(), _failures(failed) as note_failure, view:
        for outcome in batch.run(maker, view, jobs=jobs or maker.slots, retry=retry, max_failures=max_failures):
            view.ended(outcome)
            if outcome.error is not None:
                note_failure(batch.row_of(outcome.wanted))
    _conclude(batch.tally, work.takes, max_failures, out)


class InvalidRowsError(UsageError):
    """Rows of a batch are wrong."""

    code = "invalid-rows"

    def __init__(self, count: int) -> None:
        rows = "1 row is" if count == 1 else f"{count} rows are"
        super().__init__(f"{rows} wrong, nothing was made", hint="--skip-invalid makes the others")


class PartlyFailedError(MusicgenError):
    """Some takes of a batch could not be made; the others are stored."""

    code = "partly-failed"

    def __init__(self, failed: int, takes: int, *, is_stopped: bool) -> None:
        stopped = ", no more were begun" if is_stopped else ""
        super().__init__(f"{failed} of {takes} failed{stopped}", hint="the same command again makes what is missing")


def _read(
    file: str, form: str | None, work: "Worklist", kept: "Store", out: "Output", *, skip_invalid: bool
) -> dict[str, str]:
    """Put every row on the list, telling each that is wrong; return the parents that rows name."""
    from musicgen_cli.actions.batch.batch import find_parents
    from musicgen_cli.actions.batch.rows import read_rows

    wrong = 0

    def tell(line: int, err: MusicgenError) -> None:
        nonlocal wrong
        wrong += 1
        out.failed(line, err)

    with _opened(file) as source:
        for line, row in read_rows(source, form):
            if isinstance(row, InvalidValueError):
                tell(line, row)
                continue
            try:
                work.add(line, row)
            except InvalidValueError as err:
                tell(line, err)
    parents, lost = find_parents(work, kept)
    for name, why in lost.items():
        for line in work.drop(name):
            tell(line, why)
    if wrong and not skip_invalid:
        raise InvalidRowsError(wrong)
    if not work.takes:
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
        source = Path(file).open("rb")  # noqa: SIM115  # what fails later is no failure to open it
    except (OSError, ValueError) as err:  # a ValueError for NUL in the name
        reason = err.strerror if isinstance(err, OSError) else None
        raise UsageError(f"can't read {file[:200]!r}: {(reason or str(err)).lower()}") from err
    with source:
        yield source


@contextmanager
def _failures(path: Path | None) -> Iterator["Callable[[Mapping[str, Any]], None]"]:
    """Open the file for the rows that failed; what an earlier batch wrote there goes."""
    if path is None:
        yield lambda _: None
        return
    import json

    with _writing(path):
        file = path.open("w", encoding="utf-8")

    def note(row: "Mapping[str, Any]") -> None:
        with _writing(path):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()

    with file:
        yield note


def _check_failures(path: Path, batch: str) -> None:
    """
    Look whether the rows that failed may be written to `path`.

    Raises:
        TargetError: It can't be written, holds something else than rows, or is the batch's own file.
    """
    from musicgen_cli.actions.batch.rows import FIELDS, read_rows

    with _writing(path):
        if not path.is_file():  # nothing there, or nothing that keeps anything, such as a pipe
            return
        if batch != "-" and path.samefile(batch):
            raise TargetError(f"{path} is the batch itself", hint="`--failed` names another file")
        with path.open("rb") as old:
            _, row = next(read_rows(old, "jsonl"), (0, {}))
    if not isinstance(row, dict) or not row.keys() <= set(FIELDS):
        raise TargetError(f"{path} exists already, and doesn't hold rows", hint="`--failed` names another file")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise TargetError(f"can't write {path}: {(err.strerror or str(err)).lower()}") from err


def _conclude(tally: "Tally", takes: int, max_failures: int | None, out: "Output") -> None:
    failed = tally.failed.total()
    if failed:
        is_stopped = max_failures is not None and failed >= max_failures
        raise PartlyFailedError(failed, takes, is_stopped=is_stopped)
    if not tally.made:
        out.note("nothing is left to do; --redo makes all again, --run NAME makes it anew under a name")


def _named(file: str) -> str:
    return "standard input" if file == "-" else repr(file[:200])
