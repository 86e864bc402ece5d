"""How a batch is getting on: on a terminal a bar for all of it and one for each take that is being made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from musicgen_cli.actions.batch.batch import Outcome, Tally
from musicgen_cli.actions.batch.worklist import BatchItem
from musicgen_cli.cli.output import Notes, Output
from musicgen_cli.engine.base import ProgressListener
from musicgen_cli.text import clock, one_line

_WORDS = 36  # of a prompt, beside its bar


class BatchView:
    """
    Shows a batch; leaving it takes the bars away and says what came of it.

    Args:
        tally: What has ended so far.
    """

    def __init__(self, out: Output, tally: Tally) -> None:
        self._out = out
        self._tally = tally
        self._bars: Any = None
        self._is_begun = False

    def __enter__(self) -> BatchView:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()
        if self._is_begun:
            self._summary()

    def begin(self, takes: int, audio_s: float) -> None:
        """Show that so many takes are to be made; called once."""
        self._is_begun = True
        there = f", {self._tally.skipped} are in the store" if self._tally.skipped else ""
        if takes:
            self._out.note(f"{takes} to make, {_duration(audio_s)} of sound{there}")
        if not takes or not self._out.has_bars:
            return
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._begun = time.monotonic()
        self._before = self._ended
        self._takes = takes
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[says]}", markup=False),
            console=self._out.console(),
            transient=True,
            redirect_stdout=False,  # data goes where it was sent
        )
        self._all = self._bars.add_task(f"0/{takes}", total=takes, says="")
        self._bars.start()

    @contextmanager
    def making(self, item: BatchItem) -> Iterator[ProgressListener]:
        """Show one take while it is made."""
        if self._bars is None:
            yield Notes(self._out.insist)
            return
        what = one_line(item.request.prompt or "(unconditional)")[:_WORDS]
        bar = self._bars.add_task(f"  {what}", total=None, says=f"line {item.line}")
        try:
            yield _Steps(self._out, self._bars, bar)
        finally:
            self._bars.remove_task(bar)

    def ended(self, outcome: Outcome) -> None:
        """Show one more take that has ended, as a line where no table of people's is."""
        if outcome.artifact is not None and not self._out.is_table:
            self._out.artifact(outcome.artifact, line=outcome.item.line)
        if outcome.path is not None:
            self._out.note(f"wrote {outcome.path}")
        for text in outcome.warnings:
            self._out.warn(text)
        if outcome.error is not None:
            self._out.failed(outcome.item.line, outcome.error)
        if self._bars is not None:
            self._advance()

    def _summary(self) -> None:
        """Say what came of it all."""
        tally = self._tally
        parts = [f"made {tally.made}"]
        if tally.skipped:
            parts.append(f"skipped {tally.skipped} that are in the store")
        if tally.failed:
            causes = ", ".join(f"{count} {code}" for code, count in tally.failed.most_common())
            parts.append(f"failed {tally.failed.total()} ({causes})")
        self._out.note(f"{'; '.join(parts)}; {_duration(tally.audio_s)} of sound in {_duration(tally.elapsed_s)}")

    @property
    def _ended(self) -> int:
        return self._tally.made + self._tally.failed.total()

    def _advance(self) -> None:
        ended = self._ended - self._before
        speed = ended / max(time.monotonic() - self._begun, 0.001)
        failed = f"{self._tally.failed.total()} failed, " if self._tally.failed else ""
        left = _duration((self._takes - ended) / speed) if ended else "?"
        self._bars.update(
            self._all,
            completed=ended,
            description=f"{ended}/{self._takes}",
            says=f"{failed}{60 * speed:.1f} a minute, {left} left",
        )


class _Steps(Notes):
    """A listener with a bar."""

    def __init__(self, out: Output, bars: Any, bar: Any) -> None:
        super().__init__(out.insist)
        self._bars = bars
        self._bar = bar

    def step(self, done: int, total: int) -> None:
        """Move the bar."""
        self._bars.update(self._bar, completed=done, total=total)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else clock(seconds)
