"""The recent pace and rate of the service."""

from __future__ import annotations

import pytest

from musicgen_cli.service.throughput import Throughput


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throughput(clock: Clock) -> Throughput:
    return Throughput(clock)


def generate(throughput: Throughput, clock: Clock, duration: float, seconds: float) -> None:
    """Generate a clip of `duration` in so many seconds."""
    with throughput.measure(duration):
        clock.now += seconds


def test_before_the_first_clip_nothing_is_known(throughput: Throughput) -> None:
    """Neither the pace nor the rate is guessed."""
    assert (throughput.pace, throughput.rate) == (None, None)


def test_pauses_do_not_count(throughput: Throughput, clock: Clock) -> None:
    """The rate is per second of work: two seconds of sound in four of work, whatever time lies between."""
    generate(throughput, clock, 1.0, 2.0)
    clock.now += 3600
    generate(throughput, clock, 1.0, 2.0)

    assert throughput.rate == pytest.approx(0.5, rel=0.05)
    assert throughput.pace == 2.0


def test_clips_generated_at_the_same_time_add_up(throughput: Throughput, clock: Clock) -> None:
    """Four clips that take four seconds each make one second of sound per second."""
    with throughput.measure(1.0), throughput.measure(1.0), throughput.measure(1.0):
        generate(throughput, clock, 1.0, 4.0)

    assert throughput.rate == pytest.approx(1.0)
    assert throughput.pace == 4.0


def test_recent_clips_count_more(throughput: Throughput, clock: Clock) -> None:
    """A service that has become ten times as fast reports it after some minutes of work."""
    for _ in range(100):
        generate(throughput, clock, 1.0, 10.0)
    for _ in range(300):
        generate(throughput, clock, 1.0, 1.0)

    assert throughput.rate == pytest.approx(1.0, rel=0.05)
    assert throughput.pace == pytest.approx(1.0)


def test_a_clip_that_failed_does_not_change_the_pace(throughput: Throughput, clock: Clock) -> None:
    """Its time counts as work nevertheless, so the rate falls."""
    generate(throughput, clock, 1.0, 2.0)

    def fail() -> None:
        with throughput.measure(30.0):
            clock.now += 2.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert throughput.pace == 2.0
    assert throughput.rate == pytest.approx(0.25, rel=0.05)


def test_a_relaxed_pace_is_a_tenth_lower(throughput: Throughput, clock: Clock) -> None:
    """Before the first clip there is nothing to lower."""
    throughput.relax()
    assert throughput.pace is None
    generate(throughput, clock, 1.0, 2.0)
    throughput.relax()

    assert throughput.pace == pytest.approx(1.8)
