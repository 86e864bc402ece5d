"""Shows progress on stderr: bars on a terminal, elsewhere the notes alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from musicgen_cli.engine.base import LogListener, ProgressListener
from musicgen_cli.text import encodable, one_line, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# From the steps per second, the steps done and their total to the words beside a bar.
DescribeRate = Callable[[float, int, int], str]

_TITLE_CHARS = 40
_BAR_COLUMNS = 24
_RATE_AFTER_S = 0.2  # a rate that is measured over less time is noise


def as_real_time(duration_s: float) -> DescribeRate:
    """Describe the rate of a take as a multiple of real time."""

    def describe(rate: float, done: int, total: int) -> str:
        return f"{(total - done) / rate:.0f} s left, {rate * duration_s / total:.1f} x real time"

    return describe


def as_transfer(rate: float, done: int, total: int) -> str:
    """Describe the rate of a transfer whose steps are bytes."""
    return f"{(total - done) / rate:.0f} s left, {size(done)} of {size(total)}, {size(round(rate))}/s"


@contextmanager
def follow(
    bars: Bars | None,
    title: str,
    *,
    note: Callable[[str], None],
    text: str = "",
    describe_rate: DescribeRate | None = None,
) -> Iterator[ProgressListener]:
    """
    Show the progress of one request as a bar, or without bars its notes alone.

    Args:
        bars: Where bars are shown, None where they are not.
        title: The words before the bar.
        note: Prints one note.
        text: The words beside the bar until there is a rate.
        describe_rate: Describes the rate; None leaves `text` beside the bar.

    Yields:
        The request's listener.
    """
    if bars is None:
        yield LogListener(note)
        return
    with bars.bar(title, text=text) as bar:
        yield BarListener(bar, note, describe_rate)


class BarListener(LogListener):
    """A progress listener that moves a bar with each step."""

    def __init__(self, bar: Bar, note: Callable[[str], None], describe_rate: DescribeRate | None) -> None:
        super().__init__(note)
        self._bar = bar
        self._describe_rate = describe_rate
        self._first: tuple[float, int] | None = None

    def step(self, done: int, total: int) -> None:
        """Move the bar; the rate is measured from the first step, so that loading a model doesn't count."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        elapsed_s, steps = now - self._first[0], done - self._first[1]
        text = None
        if self._describe_rate is not None and steps > 0 and elapsed_s > _RATE_AFTER_S:
            text = self._describe_rate(steps / elapsed_s, done, total)
        self._bar.update(done, total, text=text)


class Bars:
    """Progress bars on stderr, one for each activity, with the elapsed time; shown while there is at least one."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from musicgen_cli.cli.tables import console

        out = console(stderr=True)
        self._encoding = out.encoding
        self._progress = Progress(
            SpinnerColumn("line" if out.options.ascii_only else "dots"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR_COLUMNS),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=out,
            transient=True,
            redirect_stdout=False,  # data goes to stdout untouched; what is printed to stderr appears above the bars
        )
        self._count = 0
        self._is_stopped = False
        self._lock = Lock()

    def stop(self) -> None:
        """Remove all bars; none is shown any more."""
        with self._lock:
            self._is_stopped = True
            self._progress.stop()

    @contextmanager
    def bar(self, title: str, *, total: int | None = None, text: str = "") -> Iterator[Bar]:
        """
        Add a bar, and remove it at the end.

        Args:
            title: The words before the bar.
            total: How many steps there will be, None while that is unknown.
            text: The words beside the bar.
        """
        with self._lock:
            if not self._count and not self._is_stopped:
                self._progress.start()
            self._count += 1
            task = self._progress.add_task(encodable(_title(title), self._encoding), total=total, text=text)
        try:
            yield Bar(self._progress, task)
        finally:
            with self._lock:
                self._progress.remove_task(task)
                self._count -= 1
                if not self._count:
                    self._progress.stop()


class Bar:
    """One bar of Bars."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def update(self, done: int, total: int | None, *, title: str | None = None, text: str | None = None) -> None:
        """Move the bar, and change the words before and beside it unless they are None."""
        fields: dict[str, Any] = {} if text is None else {"text": text}
        description = None if title is None else _title(title)
        self._progress.update(self._task, completed=done, total=total, description=description, **fields)


def _title(text: str) -> str:
    return one_line(text)[:_TITLE_CHARS]
