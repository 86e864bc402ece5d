"""Data to stdout as a table, tab-separated lines, JSON Lines or ids; talk to stderr."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from musicgen_cli.errors import MusicgenError, UsageError
from musicgen_cli.limits import TAGS
from musicgen_cli.text import escaped_json, number, one_line, printable, size

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from musicgen_cli.actions.library.lineage import Branch
    from musicgen_cli.engine.base import ProgressListener
    from musicgen_cli.store import Artifact

    Rate = Callable[[float, int, int], str]  # steps a second, steps made and their total → words

_ROOM_FOR_SEEDS, _ROOM_FOR_WAVES_AND_SEEDS = 100, 120  # columns of a terminal on which prompts still have some, too


class Output:
    """Where a command's data and talk go, and in which form."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.is_table = not as_json and not quiet and _is_terminal(sys.stdout)
        self.has_bars = not quiet and _is_terminal(sys.stderr)
        self._bars: _Bars | None = None
        self._making_bars = Lock()
        self._told: set[str] = set()

    def artifacts(self, artifacts: Iterable[Artifact], *, wave: Callable[[Artifact], str] | None = None) -> None:
        """Show takes: a table on a terminal, which can have a `wave` of each, else one a line as each comes."""
        if self.is_table:
            _table(artifacts, wave)
        else:
            for artifact in artifacts:
                self.artifact(artifact, flush=False)
            self.line("", end="")

    def ids(self, ids: Iterable[str]) -> None:
        """Show ids, one a line."""
        for name in ids:
            self.line(name, flush=False)
        self.line("", end="")

    def artifact(self, artifact: Artifact, *, flush: bool = True, **more: str | int | None) -> None:
        """Show one take as one line, at once unless more follow; JSON says `more` than its record, if there is more."""
        if self.as_json:
            said = {name: value for name, value in more.items() if value is not None}
            self.line(as_json(as_object(artifact) | said), flush=flush)
        elif self.quiet:
            self.line(artifact.id, flush=flush)
        else:
            self.line("\t".join(one_line(field) for field in _fields(artifact)), flush=flush)

    def json(self, value: Mapping[str, Any]) -> None:
        """Print one JSON object on one line."""
        self.line(as_json(value))

    def models(self, models: Iterable[Mapping[str, Any]]) -> None:
        """Show models as a table."""
        _models(models)

    def line(self, text: str, *, end: str = "\n", flush: bool = True) -> None:
        """Print one line of data, and let it go at once, for the reader may be a loop."""
        try:
            print(text, end=end, file=sys.stdout, flush=flush)  # noqa: T201
        except BrokenPipeError:
            raise
        except OSError as err:
            raise MusicgenError(f"can't write to standard output: {err.strerror}") from err

    def pairs(self, values: Mapping[str, Any]) -> None:
        """Print names with their values, one a line."""
        width = max(map(len, values)) + 1 if _is_terminal(sys.stdout) else 0
        for key, value in values.items():
            name = one_line(key)  # a record's may be foreign, too
            text = one_line(number(value) if isinstance(value, float) else str(value))
            self.line(f"{name + ':':<{max(width, 20)}} {text}" if width else f"{name}\t{text}")

    def drawing(self, drawn: Callable[[int], list[str]]) -> None:
        """Show lines as wide as the terminal, if there is one and it has their characters."""
        if not self.is_table:
            return
        lines = drawn(shutil.get_terminal_size().columns)
        if _can_show("".join(lines)):
            for line in lines:
                self.line(line)

    def details(self, artifact: Artifact) -> None:
        """Show all that is known of one take: on a terminal a field a line, else as a list does."""
        if not self.is_table:
            self.artifact(artifact)
            return
        self.pairs(flat(artifact.record))

    def tree(self, top: Branch) -> None:
        """Show a take's lineage: a tree on a terminal, else a take a line, forebears first."""
        if self.is_table:
            _tree(top)
            return
        branches = [top]
        while branches:
            branch = branches.pop()
            self.artifact(branch.artifact)
            branches.extend(reversed(branch.children))

    def exported(self, artifact: Artifact, path: Path) -> None:
        """Tell which file a take became."""
        if self.as_json:
            self.json({"status": "success", "artifact_id": artifact.id, "output_hash": artifact.content_hash,
                       "path": str(path)})  # fmt: skip
        else:
            self.path(path)

    def path(self, path: Path) -> None:
        """Print a path."""
        self.line(printable(str(path)))

    def check_sound(self, *, many: bool) -> None:
        """
        Check that one sound can go to stdout, before it is made.

        Raises:
            UsageError: More than one take, another kind of data is wanted there too, or a person is looking.
        """
        if many:
            raise UsageError("-o - takes one sound", hint="`-o FOLDER/` takes many")
        if self.as_json or self.quiet:
            raise UsageError("-o - puts the sound on stdout; --json and --quiet want it for something else")
        if _is_terminal(sys.stdout):
            raise UsageError("-o - would put sound on the terminal", hint="pipe it or send it to a file")

    def sound(self, wav: bytes) -> None:
        """Write WAV bytes to stdout."""
        if sys.stdout is None:
            raise MusicgenError("there is no standard output")
        try:
            sys.stdout.buffer.write(wav)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as err:
            raise MusicgenError(f"can't write to standard output: {err.strerror}") from err

    def note(self, text: str) -> None:
        """Say something on stderr, unless quiet."""
        if not self.quiet:
            self.say("note", text)

    def insist(self, text: str) -> None:
        """Say something on stderr even when quiet: a silent hour helps nobody."""
        self.say("note", text)

    def warn(self, text: str) -> None:
        """Say on stderr what the user must know, once however often it happens; quiet doesn't silence it."""
        if text not in self._told:
            self._told.add(text)
            self.say("warning", text)

    def error(self, err: MusicgenError) -> None:
        """Show a failure as one line and one hint, or as one JSON object."""
        if self.as_json:
            _stderr(as_json({"error": _as_error(err)}))
            return
        self.say("error", str(err))
        if err.hint:
            self.say("hint", err.hint)

    def failed(self, line: int, err: MusicgenError) -> None:
        """Tell of one row of many that failed: with `--json` as data in the take's place, else on stderr."""
        if self.as_json:
            self.json({"line": line, "error": _as_error(err)})
        else:
            self.say("error", f"line {line}: {err}")

    def console(self) -> Console:
        """Return a console for bars."""
        from rich.console import Console

        return Console(stderr=True)

    @contextmanager
    def progress(self, what: str, duration: float) -> Iterator[ProgressListener]:
        """
        Show how one take is getting on: real steps where the engine tells them, else the time that passes.

        Args:
            what: Stands before the bar.
            duration: Seconds of sound that were asked for.
        """
        if not self.has_bars:
            yield Notes(self.insist)
            return
        with self._bar(what, lambda speed, _, total: f"{speed * duration / total:.1f} x real time") as listener:
            yield listener

    @contextmanager
    def transfer(self, what: str) -> Iterator[ProgressListener]:
        """
        Show how a transfer is getting on, whose steps are bytes.

        Args:
            what: Stands before the bar.
        """
        if not self.has_bars:
            yield Notes(self.note)
            return

        def rate(speed: float, done: int, total: int) -> str:
            return f"{size(done)} of {size(total)}, {size(round(speed))}/s"

        with self._bar(what, rate) as listener:
            yield listener

    def _bar(self, what: str, rate: Rate) -> AbstractContextManager[ProgressListener]:
        with self._making_bars:
            if self._bars is None:
                self._bars = _Bars(self)
        return self._bars.bar(what, rate)

    def say(self, kind: str, text: str, **more: Any) -> None:
        """Put a line on stderr; with `--json` each is an object, so that a reader of stderr needs one parser."""
        if self.as_json:
            _stderr(as_json({kind: {"message": text, **more}}))
        else:
            _stderr(one_line(text if kind == "note" else f"{kind}: {text}"))


class Notes:
    """A listener without a terminal: notes are told, steps are not."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self.note = told

    def step(self, done: int, total: int) -> None:
        """Ignore a step."""

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Ignore samples."""


class _Bars:
    """Progress bars on stderr, one for each thing under way, with elapsed time, time left and the rate."""

    def __init__(self, output: Output) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            console=output.console(),
            transient=True,
            redirect_stdout=False,  # data goes where it was sent
        )
        self._shown = 0
        self._changing = Lock()

    @contextmanager
    def bar(self, what: str, rate: Rate) -> Iterator[ProgressListener]:
        """Show one more; with the last one the display goes, for a terminal has room for one."""
        with self._changing:
            if not self._shown:
                self._progress.start()
            self._shown += 1
            task = self._progress.add_task(one_line(what)[:40], total=None, rate="")
        try:
            yield _Bar(self._progress, task, rate)
        finally:
            with self._changing:
                self._progress.remove_task(task)
                self._shown -= 1
                if not self._shown:
                    self._progress.stop()


class _Bar:
    """A listener that moves its bar."""

    def __init__(self, progress: Progress, task: TaskID, rate: Rate) -> None:
        self._progress = progress
        self._task = task
        self._rate = rate
        self._first: tuple[float, int] | None = None

    def step(self, done: int, total: int) -> None:
        """Move the bar; the rate is measured from the first step, so that loading doesn't count."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        passed, made = now - self._first[0], done - self._first[1]
        rate = ""
        if made > 0 and passed > 0.2:
            speed = made / passed
            left = (total - done) / speed
            rate = f"{left:.0f} s left, {self._rate(speed, done, total)}"
        self._progress.update(self._task, completed=done, total=total, rate=rate)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        from rich.text import Text

        self._progress.console.print(Text(one_line(text)))

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Ignore samples."""


def _as_error(err: MusicgenError) -> dict[str, Any]:
    return {"code": err.code, "message": str(err), "hint": err.hint, "exit_code": err.exit_code}


def as_object(artifact: Artifact) -> dict[str, Any]:
    """Return a take as the service's tool result has it, and its whole record."""
    return {
        "status": "success",
        "artifact_id": artifact.id,
        "output_hash": artifact.content_hash,
        **artifact.record,
    }


def flat(known: Mapping[str, Any]) -> dict[str, Any]:
    """Name what is nested by a path of words, and leave out what isn't known."""
    values: dict[str, Any] = {}
    for name, value in known.items():
        if isinstance(value, Mapping):
            values |= {f"{name}.{inner}": of_inner for inner, of_inner in flat(value).items()}
        elif value is not None:
            values[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return values


def as_json(value: Mapping[str, Any]) -> str:
    """Write compact JSON that is safe on a terminal."""
    import json  # costs a tenth of a start that may not need it

    return escaped_json(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _fields(artifact: Artifact) -> tuple[str, ...]:
    return (
        artifact.id,
        artifact.created,
        number(artifact.duration),
        "" if artifact.seed is None else str(artifact.seed),
        str(artifact.origin.get("model") or ""),
        ",".join(artifact.tags),
        artifact.prompt,
    )


def _table(artifacts: Iterable[Artifact], wave: Callable[[Artifact], str] | None) -> None:
    """Print a table for people: local time, the tags that not every take has, and seeds where there is room."""
    from datetime import datetime

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    has_seeds = console.width >= (_ROOM_FOR_WAVES_AND_SEEDS if wave else _ROOM_FOR_SEEDS)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("id", "created"):
        table.add_column(name, no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    if wave:
        table.add_column("wave", no_wrap=True)
    if has_seeds:
        table.add_column("seed", justify="right", no_wrap=True, max_width=16)
    for name in ("model", "tags"):
        table.add_column(name, overflow="fold")
    table.add_column("prompt", overflow="fold", min_width=20)
    for artifact in artifacts:
        _, _, duration, seed, model, _, prompt = _fields(artifact)
        when = datetime.fromisoformat(artifact.created).astimezone().strftime("%Y-%m-%d %H:%M")
        drawn = [wave(artifact)] if wave else []
        cells = [
            artifact.id.removeprefix("artifact_"),
            when,
            duration,
            *(each if _can_show(each) else "" for each in drawn),
            *([seed] if has_seeds else []),
            model,
            ", ".join(tag for tag in artifact.tags if tag not in TAGS),
            prompt,
        ]
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    if table.row_count:
        console.print(table)


def _models(models: Iterable[Mapping[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for name in ("ready in", "licence", "from"):
        table.add_column(name, overflow="fold")
    for model in models:
        cells = (
            model["name"],
            size(model["size_bytes"]),
            ", ".join(model["precisions"]),
            model["license"] or "unknown",
            model["source"],
        )
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    Console().print(table)


def _tree(top: Branch) -> None:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    def named(branch: Branch) -> Text:
        artifact = branch.artifact
        return Text(one_line(f"{artifact.id.removeprefix('artifact_')}  {artifact.duration:g} s  {artifact.prompt}"))

    root = Tree(named(top))
    todo = [(top, root)]
    while todo:
        branch, node = todo.pop()
        todo.extend((child, node.add(named(child))) for child in branch.children)
    Console().print(root)


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _stderr(text: str) -> None:
    try:
        print(printable(text), file=sys.stderr, flush=True)  # noqa: T201
    except (OSError, ValueError):
        return  # nobody is listening; the exit code still tells
