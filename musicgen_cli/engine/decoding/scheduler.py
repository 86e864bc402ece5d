"""
Many takes in one loop: each joins and leaves at any step, at a position of its own.

A `Slots` knows takes, threads and a `Decoder`, and nothing of what computes. Each caller waits for its own take; one
thread, which is there only while there is work, takes all of them step by step. Rows are kept close together, so that a
step computes those of living takes alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from musicgen_cli.engine.decoding.sequence import FloatArray, IntArray, Take

Text = TypeVar("Text")
Read = TypeVar("Read", contravariant=True)


class Decoder(Protocol[Read]):
    """
    Rows of keys and values, of which a step computes the first ones; what the others hold is of no account.

    A row's result must not depend, not even in its last bit, on which row it is and on what is in the others.
    """

    def look_at(self, row: int, text: Read | None) -> None:
        """Let a row look at a text from now on, or at none."""

    def move(self, source: int, target: int, *, positions: int) -> None:
        """Put a row, which has so many positions, in another's place; it looks at the same text there."""

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """Take the first rows one position further, as a `decode.Step` does."""


@dataclass(eq=False, slots=True)
class _Seat(Generic[Text]):
    """A take, and how it is getting on."""

    take: Take
    text: Text | None
    rows: list[int] = field(default_factory=list)  # that with the text first
    unwanted: bool = False
    over: bool = False  # the loop won't touch it any more
    error: BaseException | None = None


class Slots(Generic[Text]):
    """Room for some takes at once; more wait, first come first served."""

    def __init__(self, decoder: Decoder[Text], count: int) -> None:
        """
        Begin.

        Args:
            decoder: With two rows for each slot.
            count: Takes at once.
        """
        self._decoder = decoder
        self._count = count
        self._changed = threading.Condition()  # guards what follows
        self._waiting: deque[_Seat[Text]] = deque()
        self._living: list[_Seat[Text]] = []
        self._looping = False

    def run(self, take: Take, text: Text | None, heard: Callable[[int, int], None]) -> IntArray:
        """
        Make one take; from many threads at once.

        Args:
            take: A new one.
            text: What the first of its rows looks at.
            heard: Called on this thread with the steps made and their total, whenever there are more. What it raises
                ends this take, whose rows are free when it comes out here.

        Returns:
            Codes, shape ``(codebooks, frames)``.

        Raises:
            Exception: What the decoder raised, or the take.
        """
        seat = _Seat(take, text)
        with self._changed:
            self._waiting.append(seat)
            if not self._looping:
                self._looping = True
                threading.Thread(target=self._loop, name="decode", daemon=True).start()
        told = 0
        try:
            while not take.done or told < take.position:
                with self._changed:
                    while not seat.over and told == take.position:
                        self._changed.wait()
                if seat.error is not None:
                    raise seat.error
                told = take.position
                heard(told, take.pattern.steps)
            return take.codes
        finally:
            with self._changed:
                seat.unwanted = True
                if seat in self._waiting:
                    self._waiting.remove(seat)
                else:
                    self._changed.wait_for(lambda: seat.over)

    def _loop(self) -> None:
        while True:
            try:
                with self._changed:
                    self._let_leave()
                    self._let_join()
                    self._changed.notify_all()
                    if not self._living:
                        self._looping = False
                        return
                self._step()
            except BaseException as err:  # noqa: BLE001  # whatever it is, those who wait must hear of it
                with self._changed:
                    for seat in self._living:
                        seat.error, seat.over = err, True
                    self._living.clear()

    def _step(self) -> None:
        """Take everyone one step further."""
        tokens = np.empty((self._rows, self._living[0].take.pattern.codebooks), np.int64)
        positions = np.empty(self._rows, np.int64)
        for seat in self._living:
            tokens[seat.rows] = seat.take.tokens
            positions[seat.rows] = seat.take.position
        logits = self._decoder(tokens, positions)
        for seat in self._living:
            try:
                seat.take.advance(logits[seat.rows])
            except BaseException as err:  # noqa: BLE001  # it is this take's own
                seat.error, seat.unwanted = err, True

    @property
    def _rows(self) -> int:
        return sum(len(seat.rows) for seat in self._living)

    def _let_join(self) -> None:
        while self._waiting and len(self._living) < self._count:
            seat = self._waiting.popleft()
            first = self._rows
            self._living.append(seat)
            seat.rows = list(range(first, first + seat.take.rows))
            for row in seat.rows:
                self._decoder.look_at(row, seat.text if row == first else None)

    def _let_leave(self) -> None:
        """Close the gaps that takes leave, with the last rows."""
        for seat in [seat for seat in self._living if seat.unwanted or seat.take.done]:
            last = self._rows - 1
            self._living.remove(seat)
            seat.over = True  # though its caller comes out only when all have moved, for it needs the lock
            for row in sorted(seat.rows, reverse=True):
                if row != last:
                    owner = next(other for other in self._living if last in other.rows)
                    self._decoder.move(last, row, positions=owner.take.position)
                    owner.rows[owner.rows.index(last)] = row
                last -= 1
