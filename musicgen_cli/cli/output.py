"""Where a command prints: data to stdout as a table, lines, JSON Lines or ids; everything else to stderr."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from musicgen_cli.cli.forms import as_json, error_object, flat, take_fields, take_object
from musicgen_cli.errors import MusicgenError, UsageError
from musicgen_cli.text import is_encodable, number, one_line, printable

if TYPE_CHECKING:
    from pathlib import Path

    from musicgen_cli.actions.library.lineage import Branch
    from musicgen_cli.cli.progress import Bars
    from musicgen_cli.engine.base import ProgressListener
    from musicgen_cli.store import Artifact

_KEY_COLUMNS = 20


class Output:
    """
    Prints the data of a command in the form its options ask for, and its notes, warnings, errors and progress.

    Attributes:
        as_json: Data is JSON Lines, and every line on stderr is a JSON object, too (`--json`).
        quiet: Data is ids alone, and notes are not printed (`--quiet`).
        is_table: Data is shown as tables, as stdout is a terminal and no other form was asked for.
        has_bars: Progress is shown as bars, as stderr is a terminal.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.is_table = not as_json and not quiet and _is_terminal(sys.stdout)
        self.has_bars = not quiet and _is_terminal(sys.stderr)
        self._bars: Bars | None = None
        self._bars_lock = Lock()
        self._warnings: set[str] = set()

    # Data.

    def line(self, text: str, *, end: str = "\n", flush: bool = True) -> None:
        """
        Print one line of data, by default at once, as the reader may wait for it.

        Raises:
            MusicgenError: It can't be written, for instance because the disk is full.
        """
        with _to_stdout():
            print(text, end=end, file=sys.stdout, flush=flush)  # noqa: T201

    def json(self, value: Mapping[str, Any]) -> None:
        """Print one JSON object on one line."""
        self.line(as_json(value, sys.stdout))

    def pairs(self, values: Mapping[str, Any]) -> None:
        """Print names with their values, one pair a line."""
        width = max((_KEY_COLUMNS, *(len(key) + 1 for key in values))) if _is_terminal(sys.stdout) else 0
        for key, value in values.items():
            name = one_line(key)  # a record's keys may be foreign, too
            text = one_line(number(value) if isinstance(value, float) else str(value))
            self.line(f"{name + ':':<{width}} {text}" if width else f"{name}\t{text}")

    def path(self, path: Path) -> None:
        """Print a path."""
        self.line(printable(str(path)))

    def ids(self, ids: Iterable[str]) -> None:
        """Print ids, one a line."""
        for id_ in ids:
            self.line(id_, flush=False)
        self.line("", end="")

    def artifacts(self, artifacts: Iterable[Artifact], *, wave: Callable[[Artifact], str] | None = None) -> None:
        """
        Print takes: as a table on a terminal, else one a line as each comes.

        Args:
            wave: Draws the waveform of a take for the table.
        """
        if self.is_table:
            from musicgen_cli.cli.tables import print_takes

            print_takes(artifacts, wave and (lambda artifact: _if_encodable(wave(artifact))))
            return
        for artifact in artifacts:
            self.artifact(artifact, flush=False)
        self.line("", end="")

    def artifact(self, artifact: Artifact, *, flush: bool = True, **more: str | int | None) -> None:
        """
        Print one take on one line.

        Args:
            flush: Print it at once, not together with later ones.
            more: Further fields of the JSON object; those that are None are left out.
        """
        if self.as_json:
            extra = {name: value for name, value in more.items() if value is not None}
            self.line(as_json(take_object(artifact) | extra, sys.stdout), flush=flush)
        elif self.quiet:
            self.line(artifact.id, flush=flush)
        else:
            self.line("\t".join(one_line(field) for field in take_fields(artifact)), flush=flush)

    def details(self, artifact: Artifact) -> None:
        """Print a whole record: on a terminal one field a line, else as `artifact` does."""
        if self.is_table:
            self.pairs(flat({"name": artifact.name, **artifact.record}))
        else:
            self.artifact(artifact)

    def tree(self, root: Branch) -> None:
        """Print the takes of a lineage: as a tree on a terminal, else one a line, parents first."""
        if self.is_table:
            from musicgen_cli.cli.tables import print_tree

            print_tree(root)
            return
        branches = [root]
        while branches:
            branch = branches.pop()
            self.artifact(branch.artifact)
            branches.extend(reversed(branch.children))

    def models(self, models: Iterable[Mapping[str, Any]]) -> None:
        """Print models as a table."""
        from musicgen_cli.cli.tables import print_models

        print_models(models)

    def exported(self, artifact: Artifact, path: Path) -> None:
        """Print the path of the file to which a take was exported."""
        if self.as_json:
            self.json({"status": "success", "artifact_id": artifact.id, "output_hash": artifact.content_hash,
                       "path": str(path)})  # fmt: skip
        else:
            self.path(path)

    def drawing(self, draw: Callable[[int], list[str]]) -> None:
        """Print a drawing on a terminal that has its characters; `draw` makes lines of a given width."""
        if not self.is_table:
            return
        lines = draw(shutil.get_terminal_size().columns)
        if _if_encodable("".join(lines)):
            for line in lines:
                self.line(line)

    def check_sound(self, *, many: bool) -> None:
        """
        Check that sound may be written to stdout, before it is made.

        Raises:
            UsageError: There are several takes, or other data goes to stdout, or stdout is a terminal.
        """
        if many:
            raise UsageError("-o - can write only one take", hint="`-o FOLDER/` writes several")
        if self.as_json:
            raise UsageError("-o - writes the audio to stdout, where --json writes other data")
        if _is_terminal(sys.stdout):
            raise UsageError("-o - would write audio to the terminal", hint="pipe it or send it to a file")

    def sound(self, wav: bytes) -> None:
        """
        Write the bytes of a WAV to stdout.

        Raises:
            MusicgenError: They can't be written.
        """
        if sys.stdout is None:
            raise MusicgenError("there is no standard output")
        with _to_stdout():
            sys.stdout.buffer.write(wav)
            sys.stdout.buffer.flush()

    # Everything else.

    def note(self, text: str) -> None:
        """Print a note on stderr, unless `--quiet`."""
        if not self.quiet:
            self.note_always(text)

    def note_always(self, text: str) -> None:
        """Print a note on stderr even with `--quiet`, such as what a request waits for."""
        self._message("note", text)

    def warn(self, text: str) -> None:
        """Print a warning on stderr even with `--quiet`, but each text only once."""
        if text not in self._warnings:
            self._warnings.add(text)
            self._message("warning", text)

    def error(self, err: MusicgenError) -> None:
        """Print a failure on stderr: as one line and one hint, or as one JSON object."""
        if self.as_json:
            _print_to_stderr(as_json({"error": error_object(err)}, sys.stderr))
            return
        self._message("error", str(err))
        if err.hint:
            self._message("hint", err.hint)

    def failed(self, line: int, err: MusicgenError) -> None:
        """Print the failure of one row of a batch: on stderr, or with `--json` as data in place of the take."""
        if self.as_json:
            self.json({"line": line, "error": error_object(err)})
        else:
            self._message("error", f"line {line}: {err}")

    def _message(self, kind: str, text: str) -> None:
        """Print one line on stderr; with `--json` each is an object, so that a reader of stderr needs one parser."""
        if self.as_json:
            _print_to_stderr(as_json({kind: {"message": text}}, sys.stderr))
        else:
            _print_to_stderr(one_line(text if kind == "note" else f"{kind}: {text}"))

    # Progress.

    def progress(self, title: str, duration: float) -> AbstractContextManager[ProgressListener]:
        """
        Show the progress of one take: its steps where the engine reports them, else the time that passes.

        Args:
            title: The words before the bar.
            duration: The requested length in seconds.
        """
        from musicgen_cli.cli.progress import as_real_time, follow

        return follow(self.bars(), title, note=self.note_always, describe_rate=as_real_time(duration))

    def transfer(self, title: str) -> AbstractContextManager[ProgressListener]:
        """
        Show the progress of a transfer, whose steps are bytes.

        Args:
            title: The words before the bar.
        """
        from musicgen_cli.cli.progress import as_transfer, follow

        return follow(self.bars(), title, note=self.note, describe_rate=as_transfer)

    def stop_bars(self) -> None:
        """Remove the bars, for a command that ends while threads still show progress: Ctrl-C waits for none of them."""
        if self._bars is not None:
            self._bars.stop()

    def bars(self) -> Bars | None:
        """Return the progress bars of this command, or None if it shows none."""
        if not self.has_bars:
            return None
        with self._bars_lock:
            if self._bars is None:
                from musicgen_cli.cli.progress import Bars

                self._bars = Bars()
        return self._bars


def unwritable(err: OSError) -> MusicgenError:
    """Return the error that standard output can't be written."""
    return MusicgenError(f"can't write to standard output: {err.strerror}")


def is_reader_gone(err: OSError) -> bool:
    """Tell whether standard output can't be written because nobody reads it any more; Windows says EINVAL then."""
    return isinstance(err, BrokenPipeError) or (sys.platform == "win32" and err.errno == errno.EINVAL)


@contextmanager
def _to_stdout() -> Iterator[None]:
    """
    Raise `MusicgenError` if the block can't write to standard output.

    Raises:
        BrokenPipeError: Nobody reads it any more.
    """
    try:
        yield
    except OSError as err:
        if is_reader_gone(err):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from err
        raise unwritable(err) from err


def _if_encodable(text: str) -> str:
    """Return `text`, or "" if stdout's encoding lacks one of its characters."""
    return text if is_encodable(text, sys.stdout.encoding) else ""


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _print_to_stderr(text: str) -> None:
    try:
        print(printable(text), file=sys.stderr, flush=True)  # noqa: T201
    except (OSError, ValueError):
        return  # stderr is closed; the exit code is still the right one
