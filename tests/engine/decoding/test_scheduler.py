from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.waiting import wait_until

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.scheduler import PREFILL_POSITIONS, Scheduler
from musicgen_cli.engine.decoding.sequence import Sequence
from tests.support.decoding import decode, sampling

VOCAB, CODEBOOKS = 32, 4
TIMEOUT_S = 30.0


class FakeDecoder:
    """A decoder whose logits depend on a row's conditioning and on every token that it has read."""

    def __init__(self, rows: int) -> None:
        self.cache = np.zeros((rows, 400, CODEBOOKS), np.int64)
        self.conditioning: list[int | None] = [None] * rows
        self.conditionings_set: list[int | None] = []
        self.batch_sizes: list[int] = []
        self.prefills: list[tuple[int, int]] = []  # position and number of each
        self.before_step: Callable[[], object] = lambda: None

    def set_conditioning(self, row: int, conditioning: int | None) -> None:
        self.conditioning[row] = conditioning
        self.conditionings_set.append(conditioning)

    def move(self, source: int, target: int, *, positions: int) -> None:
        self.cache[target, :positions] = self.cache[source, :positions]
        self.conditioning[target] = self.conditioning[source]

    def prefill(self, row: int, start: int, *, tokens: Any = None, inputs: Any = None) -> None:
        tokens = inputs if tokens is None else tokens
        assert 0 < len(tokens) <= PREFILL_POSITIONS
        self.prefills.append((start, len(tokens)))
        self.cache[row, start : start + len(tokens)] = tokens

    def __call__(self, tokens: Any, positions: Any) -> Any:
        self.before_step()
        self.batch_sizes.append(len(tokens))
        logits = []
        for row, (newest, position) in enumerate(zip(tokens, positions, strict=True)):
            self.cache[row, position] = newest
            seed = [self.conditioning[row] or 0, *self.cache[row, : position + 1].ravel()]
            logits.append(np.random.default_rng(seed).normal(size=(CODEBOOKS, VOCAB)) * 3)
        self.cache[len(tokens) :] = -1  # rows beyond the batch may hold anything
        return np.stack(logits).astype(np.float32)


class PausedDecoder(FakeDecoder):
    """A decoder whose first step lasts until `proceed` is set."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.started, self.proceed = threading.Event(), threading.Event()
        self.before_step = self._pause

    def _pause(self) -> None:
        self.started.set()
        assert self.proceed.wait(TIMEOUT_S)


def new_sequence(seed: int, *, frames: int = 12, scale: float = 3.0, given: Any = None, prefix: Any = None) -> Sequence:
    pattern = DelayPattern(CODEBOOKS, 1, frames)
    return Sequence(pattern, sampling(guidance_scale=scale, seed=seed), vocab=VOCAB, given=given, prefix=prefix)


def ignore(done: int, total: int) -> None:
    """Ignore the progress."""


def given_codes(seed: int, frames: int) -> Any:
    """Return random codes to begin with; None for none."""
    return np.random.default_rng(seed).integers(0, VOCAB, (CODEBOOKS, frames)) if frames else None


def decoded_alone(
    seed: int, conditioning: int | None, *, frames: int = 12, scale: float = 3.0, given: Any = None
) -> Any:
    """Return the codes of a sequence that has a decoder for itself."""
    decoder = FakeDecoder(2)
    decoder.set_conditioning(0, conditioning)
    return decode(new_sequence(seed, frames=frames, scale=scale, given=given), decoder).tolist()


def test_sequences_from_many_threads_are_what_they_are_alone() -> None:
    """Whatever their length, guidance, conditioning and seed, and although some are cancelled on their way."""
    decoder = FakeDecoder(6)
    scheduler = Scheduler(decoder, 3)
    rng = random.Random(1)
    jobs = [
        (seed, rng.choice([None, 5, 9]), rng.randint(1, 40), rng.choice([1.0, 3.0]), rng.random() < 0.3)
        for seed in range(40)
    ]

    def run(job: tuple[int, int | None, int, float, bool]) -> Any:
        seed, conditioning, frames, scale, cancel = job

        def on_step(done: int, total: int) -> None:
            if cancel and done > frames // 2:
                raise KeyboardInterrupt

        try:
            return scheduler.run(new_sequence(seed, frames=frames, scale=scale), conditioning, on_step).tolist()
        except KeyboardInterrupt:
            return None

    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(run, jobs))

    for (seed, conditioning, frames, scale, cancel), codes in zip(jobs, results, strict=True):
        assert codes == (None if cancel else decoded_alone(seed, conditioning, frames=frames, scale=scale))
    assert max(decoder.batch_sizes) <= 6
    assert max(decoder.batch_sizes) > 2


def test_sequences_with_given_codes_are_what_they_are_alone() -> None:
    """They are read in several parts, while others run; some are cancelled while they are read."""
    decoder = FakeDecoder(6)
    scheduler = Scheduler(decoder, 3)
    rng = random.Random(2)
    jobs = [
        (seed, rng.choice([None, 5]), rng.choice([0, 1, 127, 128, 129, 300]), rng.choice([1.0, 3.0]), seed % 6 == 5)
        for seed in range(30)
    ]

    def run(job: tuple[int, int | None, int, float, bool]) -> Any:
        seed, conditioning, given, scale, cancel = job

        def on_step(done: int, total: int) -> None:
            if cancel:
                raise KeyboardInterrupt

        try:
            sequence = new_sequence(seed, frames=given + 9, scale=scale, given=given_codes(seed, given))
            return scheduler.run(sequence, conditioning, on_step).tolist()
        except KeyboardInterrupt:
            return None

    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(run, jobs))

    for (seed, conditioning, given, scale, cancel), codes in zip(jobs, results, strict=True):
        begin = given_codes(seed, given)
        assert codes == (
            None if cancel else decoded_alone(seed, conditioning, frames=given + 9, scale=scale, given=begin)
        )
    assert {(0, 128), (128, 128), (256, 44), (128, 1), (0, 127), (0, 1)} <= set(decoder.prefills)


def test_sequences_with_a_prefix_are_what_they_are_alone() -> None:
    """Each row reads its own, of any length and before given codes; rows are moved with all of it."""
    decoder = FakeDecoder(6)
    scheduler = Scheduler(decoder, 3)
    rng = random.Random(3)
    jobs = [(seed, rng.choice([0, 1, 128, 250]), rng.choice([0, 20]), rng.choice([1.0, 3.0])) for seed in range(24)]

    def new(job: tuple[int, int, int, float]) -> Sequence:
        seed, positions, given, scale = job
        vectors = np.random.default_rng(seed).integers(0, 99, (2, positions, CODEBOOKS)).astype(np.float32)
        codes = given_codes(seed, given)
        return new_sequence(seed, frames=given + 4 + seed, scale=scale, given=codes, prefix=vectors)

    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda job: scheduler.run(new(job), None, ignore), jobs))

    assert all(
        np.array_equal(decode(new(job), FakeDecoder(2)), codes) for job, codes in zip(jobs, results, strict=True)
    )
    assert {(0, 128), (128, 122), (0, 1), (128, 20), (250, 20)} <= set(decoder.prefills)


def test_others_go_on_while_given_codes_are_read() -> None:
    """One step between two parts, so that a long beginning holds nobody up."""
    decoder = FakeDecoder(4)
    scheduler = Scheduler(decoder, 2)
    steps_at: list[int] = []
    prefill = decoder.prefill

    def recorded(row: int, start: int, *, tokens: Any = None, inputs: Any = None) -> None:
        if row % 2:
            steps_at.append(len(decoder.batch_sizes))
        prefill(row, start, tokens=tokens, inputs=inputs)

    decoder.prefill = recorded  # type: ignore[method-assign]
    reading = new_sequence(2, frames=310, given=given_codes(2, 300))
    with ThreadPoolExecutor(1) as pool:
        decoder.before_step = lambda: wait_until(lambda: scheduler.num_running + scheduler.num_waiting == 2)
        other = pool.submit(scheduler.run, new_sequence(1, frames=50), 7, ignore)
        wait_until(lambda: scheduler.num_running == 1)
        decoder.before_step = lambda: None
        codes = scheduler.run(reading, 5, ignore).tolist()
        assert other.result(TIMEOUT_S).tolist() == decoded_alone(1, 7, frames=50)

    assert codes == decoded_alone(2, 5, frames=310, given=given_codes(2, 300))
    assert len(steps_at) == 3
    assert steps_at == [steps_at[0], steps_at[0] + 1, steps_at[0] + 2]


def test_a_lone_sequence_computes_only_its_own_rows() -> None:
    """Two rows with guidance and one without, also after other sequences were decoded."""
    decoder = FakeDecoder(8)
    scheduler = Scheduler(decoder, 4)
    scheduler.run(new_sequence(1), 5, ignore)
    scheduler.run(new_sequence(1, scale=1.0), 5, ignore)

    assert decoder.batch_sizes == [2] * 15 + [1] * 15


def test_sequences_beyond_the_slots_wait_in_order() -> None:
    """First come, first served."""
    decoder = PausedDecoder(2)
    scheduler = Scheduler(decoder, 1)
    callers = [
        threading.Thread(target=scheduler.run, args=(new_sequence(number), number, ignore), daemon=True)
        for number in range(5)
    ]
    for number, caller in enumerate(callers):
        caller.start()
        assert decoder.started.wait(TIMEOUT_S)
        wait_until(lambda number=number: scheduler.num_waiting == number)  # type: ignore[misc]
    decoder.proceed.set()
    for caller in callers:
        caller.join(TIMEOUT_S)
        assert not caller.is_alive()

    assert [each for each in decoder.conditionings_set if each is not None] == [0, 1, 2, 3, 4]


def test_an_exception_of_a_callback_cancels_its_sequence_alone() -> None:
    """Its rows are free when the exception comes out; the other sequence goes on."""
    decoder = FakeDecoder(4)
    scheduler = Scheduler(decoder, 2)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(scheduler.run, new_sequence(2, frames=50), 7, ignore)
        with pytest.raises(KeyboardInterrupt):
            scheduler.run(new_sequence(1, frames=50), 5, stop)
        assert scheduler.num_running <= 1
        assert other.result(TIMEOUT_S).tolist() == decoded_alone(2, 7, frames=50)


def test_ctrl_c_cancels_a_waiting_sequence() -> None:
    """An exception in a thread that waits for a slot takes its sequence out of the queue."""
    decoder = PausedDecoder(2)
    scheduler = Scheduler(decoder, 1)

    def press_ctrl_c() -> None:
        wait_until(lambda: scheduler.num_waiting == 1)
        time.sleep(0.1)  # by now the main thread waits for the next step
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(scheduler.run, new_sequence(1), None, ignore)
        assert decoder.started.wait(TIMEOUT_S)
        pressed = pool.submit(press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            scheduler.run(new_sequence(2), None, ignore)
        pressed.result(TIMEOUT_S)
        assert scheduler.num_waiting == 0
        decoder.proceed.set()
        assert first.result(TIMEOUT_S).tolist() == decoded_alone(1, None)


def test_an_error_of_the_decoder_reaches_every_caller() -> None:
    """Afterwards the scheduler decodes the next sequence."""
    decoder = FakeDecoder(4)
    scheduler = Scheduler(decoder, 2)

    def fail_with_two() -> None:
        wait_until(lambda: scheduler.num_running + scheduler.num_waiting == 2)
        if scheduler.num_running == 2:
            raise MemoryError("no room")

    decoder.before_step = fail_with_two

    def run(seed: int) -> str:
        with pytest.raises(MemoryError) as err:
            scheduler.run(new_sequence(seed), None, ignore)
        return str(err.value)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, [1, 2])) == ["no room", "no room"]
    decoder.before_step = lambda: None
    assert scheduler.run(new_sequence(3), 5, ignore).tolist() == decoded_alone(3, 5)


def test_an_error_of_a_sequence_reaches_its_caller_alone() -> None:
    """Such as logits that are not numbers."""

    class BrokenSequence(Sequence):
        def advance(self, logits: Any) -> None:
            raise ValueError("bad")

    scheduler = Scheduler(FakeDecoder(4), 2)
    broken = BrokenSequence(DelayPattern(CODEBOOKS, 1, 40), sampling(guidance_scale=3.0), vocab=VOCAB)
    with ThreadPoolExecutor(1) as pool:
        good = pool.submit(scheduler.run, new_sequence(2, frames=40), 7, ignore)
        with pytest.raises(ValueError, match="bad"):
            scheduler.run(broken, 5, ignore)
        assert good.result(TIMEOUT_S).tolist() == decoded_alone(2, 7, frames=40)


def test_a_move_that_fails_leaves_no_caller_waiting() -> None:
    """Neither that of the finished sequence nor that of the sequence whose row was to be moved."""

    class ImmovableDecoder(FakeDecoder):
        def move(self, source: int, target: int, *, positions: int) -> None:
            raise MemoryError("no room")

    decoder = ImmovableDecoder(4)
    scheduler = Scheduler(decoder, 2)

    def wait_for_both() -> None:
        if not decoder.batch_sizes:
            wait_until(lambda: scheduler.num_running + scheduler.num_waiting == 2)

    decoder.before_step = wait_for_both
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(scheduler.run, new_sequence(1, frames=5), 5, ignore)
        wait_until(lambda: scheduler.num_running == 1)
        with pytest.raises(MemoryError):
            scheduler.run(new_sequence(2, frames=30), 7, ignore)
        assert first.result(TIMEOUT_S).tolist() == decoded_alone(1, 5, frames=5)
