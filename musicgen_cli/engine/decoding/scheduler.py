"""
Continuous batching: sequences join and leave the decoder batch at any step, each at its own position.

Every caller waits for its own sequence. One thread, which exists only while there is work, advances all running
sequences step by step. Rows are kept contiguous, so that a step computes the rows of running sequences and no others.
The scheduler manages sequences and threads; a `Decoder` computes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.engine.decoding.sequence import Sequence

PREFILL_POSITIONS = 128  # read at once: enough for matrices to be used well, and short enough for others to wait

Conditioning = TypeVar("Conditioning")
ConditioningIn = TypeVar("ConditioningIn", contravariant=True)


class Decoder(Protocol[ConditioningIn]):
    """
    A KV cache by row; a step computes the first n rows and ignores the rest.

    A row's result must not depend, not even in its last bit, on its index or on the other rows.
    """

    def set_conditioning(self, row: int, conditioning: ConditioningIn | None) -> None:
        """Set what a row's cross-attention reads from now on; None for an unconditional row, or for none at all."""

    def move(self, source: int, target: int, *, positions: int) -> None:
        """Move a row, with its first `positions` cache entries and its conditioning, to another index."""

    def prefill(
        self, row: int, start: int, *, tokens: IntArray | None = None, inputs: FloatArray | None = None
    ) -> object:
        """
        Read successive positions of one row, all at once where that is faster; the result isn't used.

        Args:
            row: Other rows are untouched.
            start: The first position; a row at position 0 starts over.
            tokens: Shape ``(positions, codebooks)``, at most PREFILL_POSITIONS; or
            inputs: Vectors that take the place of embedded tokens, shape ``(positions, width)``.
        """

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """Advance the first rows by one position, as `sequence.Step` does."""


def prefill(decoder: Decoder[Conditioning], sequence: Sequence, rows: list[int]) -> None:
    """
    Read the next of what a sequence has before its first step: at most PREFILL_POSITIONS.

    Args:
        rows: The sequence's.
    """
    position = sequence.decoder_position
    if (vectors := sequence.read_prefix(PREFILL_POSITIONS)).shape[1]:
        for row, inputs in zip(rows, vectors, strict=True):
            decoder.prefill(row, position, inputs=inputs)
    elif len(tokens := sequence.read_given(PREFILL_POSITIONS)):
        for row in rows:
            decoder.prefill(row, position, tokens=tokens)


@dataclass(eq=False, slots=True)
class _Entry(Generic[Conditioning]):
    """A sequence and its state in the scheduler."""

    sequence: Sequence
    conditioning: Conditioning | None
    rows: list[int] = field(default_factory=list)  # the conditional row first
    cancelled: bool = False
    finished: bool = False  # the loop will not touch it any more
    error: BaseException | None = None


class Scheduler(Generic[Conditioning]):
    """Decodes up to a fixed number of sequences at once; further ones wait, first come, first served."""

    def __init__(self, decoder: Decoder[Conditioning], slots: int) -> None:
        """
        Start without sequences.

        Args:
            decoder: With two rows for each slot.
            slots: Sequences that are decoded at once.
        """
        self._decoder = decoder
        self._slots = slots
        self._changed = threading.Condition()  # guards what follows
        self._waiting: deque[_Entry[Conditioning]] = deque()
        self._running: list[_Entry[Conditioning]] = []
        self._has_thread = False

    @property
    def num_waiting(self) -> int:
        """The number of sequences that wait for a slot."""
        with self._changed:
            return len(self._waiting)

    @property
    def num_running(self) -> int:
        """The number of sequences in the decoder batch."""
        with self._changed:
            return len(self._running)

    def run(
        self, sequence: Sequence, conditioning: Conditioning | None, on_step: Callable[[int, int], None]
    ) -> IntArray:
        """
        Decode one sequence. Safe to call from many threads at once.

        Args:
            sequence: A sequence that has not been run before.
            conditioning: What the cross-attention of its conditional row reads.
            on_step: Called on this thread with the steps done and their total, whenever there are more. An exception
                from it cancels this sequence, whose rows are free again when the exception comes out here.

        Returns:
            Codes, shape ``(codebooks, frames)``.

        Raises:
            Exception: Whatever the decoder or the sequence raised.
        """
        entry = _Entry(sequence, conditioning)
        with self._changed:
            self._waiting.append(entry)
            if not self._has_thread:
                self._has_thread = True
                threading.Thread(target=self._loop, name="decode", daemon=True).start()
        reported = 0
        try:
            while not sequence.done or reported < sequence.position:
                with self._changed:
                    while not entry.finished and reported == sequence.position:
                        self._changed.wait()
                if entry.error is not None:
                    raise entry.error
                reported = sequence.position
                on_step(reported, sequence.pattern.steps)
            return sequence.codes
        finally:
            with self._changed:
                entry.cancelled = True
                if entry in self._waiting:
                    self._waiting.remove(entry)
                else:
                    self._changed.wait_for(lambda: entry.finished)

    def _loop(self) -> None:
        while True:
            try:
                with self._changed:
                    self._remove_finished()
                    self._admit_waiting()
                    self._changed.notify_all()
                    if not self._running:
                        self._has_thread = False
                        return
                for entry in self._running:  # between two steps of the others
                    prefill(self._decoder, entry.sequence, entry.rows)
                self._step()
            except BaseException as err:  # noqa: BLE001  # every waiting caller must get it, whatever it is
                with self._changed:
                    for entry in self._running:
                        entry.error, entry.finished = err, True
                    self._running.clear()

    def _step(self) -> None:
        """
        Advance all running sequences by one step.

        A sequence that is still reading is computed as well, as its rows may lie among the others, but doesn't advance:
        what the step writes into its KV cache is written again when that position is read.
        """
        if all(entry.sequence.is_reading for entry in self._running):
            return
        tokens = np.empty((self._rows, self._running[0].sequence.pattern.codebooks), np.int64)
        positions = np.empty(self._rows, np.int64)
        for entry in self._running:
            tokens[entry.rows] = entry.sequence.tokens
            positions[entry.rows] = entry.sequence.decoder_position
        logits = self._decoder(tokens, positions)
        for entry in self._running:
            if entry.sequence.is_reading:
                continue
            try:
                entry.sequence.advance(logits[entry.rows])
            except BaseException as err:  # noqa: BLE001  # the caller of this sequence gets it
                entry.error, entry.cancelled = err, True

    @property
    def _rows(self) -> int:
        return sum(len(entry.rows) for entry in self._running)

    def _admit_waiting(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            entry = self._waiting.popleft()
            first = self._rows
            self._running.append(entry)
            entry.rows = list(range(first, first + entry.sequence.rows))
            for row in entry.rows:
                self._decoder.set_conditioning(row, entry.conditioning if row == first else None)

    def _remove_finished(self) -> None:
        """Remove sequences that are done or cancelled, and move the last rows into the gaps."""
        for entry in [entry for entry in self._running if entry.cancelled or entry.sequence.done]:
            last = self._rows - 1
            self._running.remove(entry)
            entry.finished = True  # its caller still needs the lock to return, so rows are moved before it does
            for row in sorted(entry.rows, reverse=True):
                if row != last:
                    owner = next(other for other in self._running if last in other.rows)
                    self._decoder.move(last, row, positions=owner.sequence.decoder_position)
                    owner.rows[owner.rows.index(last)] = row
                last -= 1
