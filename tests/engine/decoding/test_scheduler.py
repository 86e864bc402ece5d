from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.scheduler import Scheduler
from musicgen_cli.engine.decoding.sequence import Sequence

VOCAB, CODEBOOKS = 32, 4


class Remembering:
    """A decoder whose logits depend on all that a row has read, and on its text."""

    def __init__(self, rows: int) -> None:
        self.read = np.zeros((rows, 64, CODEBOOKS), np.int64)
        self.texts: list[int | None] = [None] * rows
        self.looked: list[int | None] = []
        self.widths: list[int] = []
        self.before: Callable[[], None] = lambda: None

    def set_conditioning(self, row: int, text: int | None) -> None:
        self.texts[row] = text
        self.looked.append(text)

    def move(self, source: int, target: int, *, positions: int) -> None:
        self.read[target, :positions] = self.read[source, :positions]
        self.texts[target] = self.texts[source]

    def __call__(self, tokens: Any, positions: Any) -> Any:
        self.before()
        self.widths.append(len(tokens))
        logits = []
        for row, (newest, at) in enumerate(zip(tokens, positions, strict=True)):
            self.read[row, at] = newest
            words = [self.texts[row] or 0, *self.read[row, : at + 1].ravel()]
            logits.append(np.random.default_rng(words).normal(size=(CODEBOOKS, VOCAB)) * 3)
        self.read[len(tokens) :] = -1  # what others hold is of no account
        return np.stack(logits).astype(np.float32)


def take(seed: int, *, frames: int = 12, scale: float = 3.0) -> Sequence:
    return Sequence(
        DelayPattern(CODEBOOKS, 1, frames), Sampling(1.0, 0, 1.0, scale, do_sample=True, seed=seed), vocab=VOCAB
    )


def nothing(done: int, total: int) -> None:
    """Hear nothing."""


def alone(seed: int, text: int | None, **shape: Any) -> list[list[int]]:
    """Step one take by hand."""
    decoder, one = Remembering(2), take(seed, **shape)
    decoder.set_conditioning(0, text)
    while not one.done:
        one.advance(decoder(one.tokens, np.full(one.rows, one.position)))
    return one.codes.tolist()


def test_takes_of_many_threads_are_what_they_are_alone() -> None:
    """Of different length, guidance, text and seed; some are given up on their way."""
    decoder = Remembering(6)
    scheduler = Scheduler(decoder, 3)
    chance = random.Random(1)
    jobs = [
        (seed, chance.choice([None, 5, 9]), chance.randint(1, 40), chance.choice([1.0, 3.0]), chance.random() < 0.3)
        for seed in range(40)
    ]

    def make(job: tuple[int, int | None, int, float, bool]) -> Any:
        seed, text, frames, scale, given_up = job

        def heard(done: int, total: int) -> None:
            if given_up and done > frames // 2:
                raise KeyboardInterrupt

        try:
            return scheduler.run(take(seed, frames=frames, scale=scale), text, heard).tolist()
        except KeyboardInterrupt:
            return None

    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(make, jobs))

    for (seed, text, frames, scale, given_up), codes in zip(jobs, made, strict=True):
        assert codes == (None if given_up else alone(seed, text, frames=frames, scale=scale))
    assert max(decoder.widths) <= 6
    assert max(decoder.widths) > 2


def test_a_lone_take_computes_no_rows_but_its_own() -> None:
    """Two if it is guided, else one; also after others were there."""
    decoder = Remembering(8)
    scheduler = Scheduler(decoder, 4)
    scheduler.run(take(1), 5, nothing)
    scheduler.run(take(1, scale=1.0), 5, nothing)

    assert decoder.widths == [2] * 15 + [1] * 15


def test_more_takes_than_slots_come_in_their_order() -> None:
    """First come, first served."""
    decoder = Remembering(2)
    scheduler = Scheduler(decoder, 1)
    begun, go = threading.Event(), threading.Event()
    decoder.before = lambda: (begun.set(), go.wait())  # type: ignore[assignment, return-value]
    callers = [threading.Thread(target=scheduler.run, args=(take(number), number, nothing)) for number in range(5)]
    for number, caller in enumerate(callers):
        caller.start()
        while number and len(scheduler._waiting) < number:
            pass
        begun.wait()
    go.set()
    for caller in callers:
        caller.join()

    assert [text for text in decoder.looked if text is not None] == [0, 1, 2, 3, 4]


def test_what_a_listener_raises_reaches_its_caller_alone() -> None:
    """Its rows are free when it comes out; the other take goes on."""
    decoder = Remembering(4)
    scheduler = Scheduler(decoder, 2)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(scheduler.run, take(2, frames=50), 7, nothing)
        with pytest.raises(KeyboardInterrupt):
            scheduler.run(take(1, frames=50), 5, stop)
        assert len(scheduler._running) <= 1
        assert other.result().tolist() == alone(2, 7, frames=50)


def test_one_who_waits_can_give_up() -> None:
    """What is raised while there is nothing to hear yet takes the place in the queue along."""
    decoder = Remembering(2)
    scheduler = Scheduler(decoder, 1)
    begun, go = threading.Event(), threading.Event()
    decoder.before = lambda: (begun.set(), go.wait())  # type: ignore[assignment, return-value]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(scheduler.run, take(1), None, nothing)
        begun.wait()
        here, wait = threading.get_ident(), scheduler._changed.wait

        def interrupt(timeout: float | None = None) -> bool:
            if threading.get_ident() == here:  # the first take's thread may come to wait only now
                raise InterruptedError
            return wait(timeout)

        scheduler._changed.wait = interrupt  # type: ignore[method-assign]
        with pytest.raises(InterruptedError):
            scheduler.run(take(2), None, nothing)
        assert not scheduler._waiting
        go.set()
        assert first.result().tolist() == alone(1, None)


def test_a_decoder_that_fails_tells_everyone_and_goes_on() -> None:
    """The error reaches each caller; the next take is made."""
    decoder = Remembering(4)
    scheduler = Scheduler(decoder, 2)

    def fail() -> None:
        while len(scheduler._running) + len(scheduler._waiting) < 2:
            pass
        if len(scheduler._running) == 2:
            raise MemoryError("no room")

    decoder.before = fail

    def make(seed: int) -> str:
        with pytest.raises(MemoryError) as err:
            scheduler.run(take(seed), None, nothing)
        return str(err.value)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(make, [1, 2])) == ["no room", "no room"]
    decoder.before = lambda: None
    assert scheduler.run(take(3), 5, nothing).tolist() == alone(3, 5)


def test_a_take_that_fails_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one whose logits are no numbers."""
    scheduler = Scheduler(Remembering(4), 2)
    bad = take(1, frames=40)

    def broken(logits: Any) -> None:
        raise ValueError("bad")

    monkeypatch.setattr(bad, "advance", broken)
    with ThreadPoolExecutor(1) as pool:
        good = pool.submit(scheduler.run, take(2, frames=40), 7, nothing)
        with pytest.raises(ValueError, match="bad"):
            scheduler.run(bad, 5, nothing)
        assert good.result().tolist() == alone(2, 7, frames=40)


def test_a_move_that_fails_leaves_nobody_waiting() -> None:
    """Neither the one that leaves nor the one that should have moved."""
    decoder = Remembering(4)
    scheduler = Scheduler(decoder, 2)

    def fail(source: int, target: int, *, positions: int) -> None:
        raise MemoryError("no room")

    decoder.move = fail  # type: ignore[method-assign]

    def until_both_are_there() -> None:
        while not decoder.widths and len(scheduler._running) + len(scheduler._waiting) < 2:
            pass

    decoder.before = until_both_are_there
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(scheduler.run, take(1, frames=5), 5, nothing)
        while not scheduler._running:
            pass
        with pytest.raises(MemoryError):
            scheduler.run(take(2, frames=30), 7, nothing)
        assert first.result().tolist() == alone(1, 5, frames=5)
