"""Shows the progress of a batch: on a terminal a bar for all of it and one for each take that is being made."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack

from musicgen_cli.actions.batch.batch import Batch
from musicgen_cli.actions.batch.outcome import Outcome, Tally
from musicgen_cli.actions.batch.worklist import BatchItem
from musicgen_cli.cli.output import Output
from musicgen_cli.cli.progress import Bar, follow
from musicgen_cli.engine.base import ProgressListener
from musicgen_cli.errors import TargetError
from musicgen_cli.text import clock, one_line

_NOTED = 500_000  # takes: without a terminal, their number is noted every so many
_PROMPT_CHARS = 28  # beside a take's bar


class PreparationView:
    """Shows how many takes a batch's rows have come to, once they are many: with a sweep that takes a while."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._exit = ExitStack()
        self._bar: Bar | None = None

    def __enter__(self) -> PreparationView:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def added(self, takes: int) -> None:
        """Show the number of takes so far: beside a bar, or now and then in a line."""
        bars = self._out.bars()
        if bars is None:
            if takes % _NOTED == 0:
                self._out.note(f"{takes:,} takes so far")
            return
        if self._bar is None:
            self._bar = self._exit.enter_context(bars.bar("reading the rows"))
        self._bar.update(takes, None, text=f"{takes:,} takes")


class BatchView:
    """
    Shows a batch as it runs; at its end removes the bars and prints a summary.

    Args:
        tally: Counts the takes that have ended.
    """

    def __init__(self, out: Output, tally: Tally) -> None:
        self._out = out
        self._tally = tally
        self._exit = ExitStack()
        self._overall: Bar | None = None
        self._has_begun = False
        self._takes = 0
        self._started = 0.0
        self._ended_before = 0  # exports that failed before any take was begun

    def __enter__(self) -> BatchView:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()
        if self._has_begun:
            self._print_summary()

    def begin(self, takes: int, audio_s: float) -> None:
        """
        Show how many takes are to be made; called once.

        Args:
            audio_s: Their length in all, in seconds.
        """
        self._has_begun = True
        stored = f", {self._tally.skipped} are in the store" if self._tally.skipped else ""
        if not takes:
            return
        self._out.note(f"{takes} to make, {_duration(audio_s)} of sound{stored}")
        bars = self._out.bars()
        if bars is not None:
            self._overall = self._exit.enter_context(bars.bar(f"0/{takes}", total=takes))
            self._takes = takes
            self._started = time.monotonic()
            self._ended_before = self._ended

    def making(self, item: BatchItem) -> AbstractContextManager[ProgressListener]:
        """Show one take while it is made."""
        prompt = one_line(item.request.prompt or "(unconditional)")[:_PROMPT_CHARS]
        return follow(self._out.bars(), f"  {prompt}", note=self._out.note_always, text=f"line {item.line}")

    def ended(self, outcome: Outcome) -> None:
        """Show one more take that has ended: its line unless stdout is a terminal, its warnings and its failure."""
        if outcome.artifact is not None and not self._out.is_table:
            self._out.artifact(outcome.artifact, line=outcome.item.line)
        if outcome.path is not None:
            self._out.note(f"wrote {outcome.path}{f', {outcome.loop}' if outcome.loop else ''}")
        for text in outcome.warnings:
            self._out.warn(text)
        if outcome.error is not None:
            self._out.failed(outcome.item.line, outcome.error)
        if self._overall is not None:
            self._advance(self._overall)

    def _print_summary(self) -> None:
        tally = self._tally
        parts = [f"made {tally.made}"]
        if tally.skipped:
            parts.append(f"skipped {tally.skipped} that are in the store")
        if tally.exported:
            parts.append(f"exported {tally.exported} of these")
        if tally.failed:
            causes = ", ".join(f"{count} {code}" for code, count in tally.failed.most_common())
            parts.append(f"failed {tally.failed.total()} ({causes})")
        if tally.foreign:
            kept = f"{tally.foreign} files, which are not as a batch wrote them; --force replaces them"
            if tally.foreign == 1:
                kept = "1 file, which is not as a batch wrote it; --force replaces it"
            self._out.note(f"kept {kept}")
        self._out.note(f"{'; '.join(parts)}; {_duration(tally.audio_s)} of sound in {_duration(tally.elapsed_s)}")

    @property
    def _ended(self) -> int:
        return self._tally.made + self._tally.failed.total()

    def _advance(self, overall: Bar) -> None:
        ended = self._ended - self._ended_before
        rate = ended / max(time.monotonic() - self._started, 0.001)
        failed = f"{self._tally.failed.total()} failed, " if self._tally.failed else ""
        left = _duration((self._takes - ended) / rate) if ended else "?"
        overall.update(
            ended,
            self._takes,
            title=f"{ended}/{self._takes}",
            text=f"{failed}{60 * rate:.1f} a minute, {left} left",
        )


def preview(batch: Batch, takes: int, out: Output) -> None:
    """
    Print what a batch would do: one line for each take that would be made or exported, then a summary.

    Raises:
        TargetError: Some takes would fail.
    """
    counts = {"make": 0, "export": 0, "fail": 0}
    audio_s = 0.0
    in_the_way = 0
    for each in batch.preview():
        counts[each.action] += 1
        request = each.item.request
        if each.error is not None:
            in_the_way += each.error.exists
            out.failed(each.item.line, each.error)
            continue
        audio_s += request.duration if each.action == "make" else 0
        if out.as_json:
            out.json({"action": each.action, "line": each.item.line, "row": batch.row_of(each.item)})
        else:
            fields = (each.action, str(each.item.line), f"{request.duration:g}", each.item.row.output, request.prompt)
            out.line("\t".join(one_line(text or "") for text in fields))
    stored = takes - counts["make"] - counts["fail"]
    parts = [f"{counts['make']} to make, {_duration(audio_s)} of sound"]
    parts += [f"{stored} are in the store"] if stored > 0 else []
    parts += [f"{counts['export']} of these to export"] if counts["export"] else []
    foreign = batch.tally.foreign
    parts += ["1 file is not as a batch wrote it and stays"] if foreign == 1 else []
    parts += [f"{foreign} files are not as a batch wrote them and stay"] if foreign > 1 else []
    out.note("; ".join(parts))
    if counts["fail"]:
        hint = "`--force` replaces files" if in_the_way else "other values of `output` help"
        raise TargetError(f"{counts['fail']} of {takes} would fail", hint=hint, exists=in_the_way > 0)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else clock(seconds)
