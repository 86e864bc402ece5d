"""How fast the service is of late."""

import pytest

from musicgen_cli.service import throughput as module
from musicgen_cli.service.throughput import Throughput


@pytest.fixture
def clock(monkeypatch):
    """Set the time by hand."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def make(rate, clock, duration, seconds):
    with rate.at_work(duration):
        clock.now += seconds


def test_before_the_first_clip_nothing_is_known(clock):
    """Nobody is refused on a guess."""
    assert (Throughput().pace, Throughput().made) == (None, None)


def test_pauses_do_not_count(clock):
    """The rate is of work: two seconds of sound in four of work, whatever lies between."""
    rate = Throughput()
    make(rate, clock, 1.0, 2.0)
    clock.now += 3600
    make(rate, clock, 1.0, 2.0)

    assert rate.made == pytest.approx(0.5, rel=0.05)
    assert rate.pace == 2.0


def test_clips_side_by_side_add_up(clock):
    """Four clips that take four seconds each make one second of sound a second."""
    rate = Throughput()
    with rate.at_work(1.0), rate.at_work(1.0), rate.at_work(1.0):
        make(rate, clock, 1.0, 4.0)

    assert rate.made == pytest.approx(1.0)
    assert rate.pace == 4.0


def test_what_is_long_ago_counts_less(clock):
    """A service that became ten times as fast says so after some minutes of work."""
    rate = Throughput()
    for _ in range(100):
        make(rate, clock, 1.0, 10.0)
    for _ in range(300):
        make(rate, clock, 1.0, 1.0)

    assert rate.made == pytest.approx(1.0, rel=0.05)
    assert rate.pace == pytest.approx(1.0)


def test_a_clip_that_failed_says_nothing_of_the_pace(clock):
    """Its time was spent all the same."""
    rate = Throughput()
    make(rate, clock, 1.0, 2.0)

    def fail():
        with rate.at_work(30.0):
            clock.now += 2.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert rate.pace == 2.0
    assert rate.made == pytest.approx(0.25, rel=0.05)


def test_a_doubted_pace_becomes_better(clock):
    """Doubt before the first clip changes nothing."""
    rate = Throughput()
    rate.doubt()
    make(rate, clock, 1.0, 2.0)
    rate.doubt()

    assert rate.pace == pytest.approx(1.8)
