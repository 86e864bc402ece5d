"""Plays a take while it is generated, from the moment at which playback can no longer overtake the generation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from musicgen_cli.actions.playback.play import PlaybackQueue, Players
from musicgen_cli.audio.player import Player
from musicgen_cli.engine.base import ProgressListener
from musicgen_cli.errors import PlayerError
from musicgen_cli.store import Artifact, Store
from musicgen_cli.text import number

_BUFFER_S = 1.0  # engines deliver less than that at a time
_SPEED_MARGIN = 0.8  # of the measured speed, in case the engine becomes slower


class LivePlayback:
    """
    Plays takes while they are generated; playback failures are only warnings.

    Args:
        players: Best first.
        store: Where the takes go.
        warn: Called with a line about what can't be played.
        clock: In seconds, to measure the speed of the engine.
    """

    def __init__(
        self,
        players: Sequence[Player],
        store: Store,
        *,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._players = Players(players, warn=warn)
        self._queue = PlaybackQueue(self._players, warn=warn)
        self._store = store
        self._clock = clock
        self._live: PlaybackListener | None = None

    @contextmanager
    def listener(
        self, listener: AbstractContextManager[ProgressListener], duration: float
    ) -> Iterator[ProgressListener]:
        """
        Wrap the listener of the only take that is generated, so that the take is played meanwhile.

        It is played if a player can stream samples and the engine delivers them.

        Args:
            listener: Gets the same steps, notes and samples.
            duration: Length of the take in seconds.
        """
        with listener as inner:
            if not self._players.can_stream:
                yield inner
                return
            self._live = PlaybackListener(inner, self._players, self._queue, duration, clock=self._clock)
            try:
                yield self._live
            finally:
                self._live.end()

    def play_stored(self, artifact: Artifact) -> None:
        """Queue a stored take to be played, unless it was played while it was generated."""

        def play() -> None:
            if self._live is None or not self._live.has_played:
                self._players.play(artifact, self._store)

        self._queue.add(play)

    def finish(self) -> None:
        """Wait until all takes have been played; if the wait is interrupted, as by Ctrl-C, playback stops."""
        self._queue.finish()

    def stop(self) -> None:
        """Stop playback for good."""
        self._queue.stop()


def prebuffer_s(duration: float, speed: float) -> float:
    """
    Return how many seconds of a take must be there when playback starts, so that it doesn't run out of samples.

    Args:
        duration: Length of the whole take in seconds.
        speed: Seconds of sound that are generated per second.
    """
    return min(duration, _BUFFER_S + duration * max(0.0, 1 - _SPEED_MARGIN * speed))


class PlaybackListener:
    """
    A progress listener that plays a take while it is generated, and passes everything on to another listener.

    It never waits for a player: samples are only appended to a list, from which the queue's thread plays them.

    Args:
        listener: Gets the same steps, notes and samples.
        players: Play the samples.
        queue: Whose thread plays them.
        duration: Requested length of the take in seconds.
        clock: In seconds.
    """

    def __init__(
        self,
        listener: ProgressListener,
        players: Players,
        queue: PlaybackQueue,
        duration: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.has_played = False  # at least the beginning of the take
        self._listener = listener
        self._players, self._queue = players, queue
        self._duration = duration
        self._clock = clock
        self._first: tuple[float, float] | None = None  # when the first samples came, and their length in seconds
        self._generated_s = 0.0
        self._has_started = False
        self._has_noted = False
        self._changed = threading.Condition()  # guards what follows
        self._chunks: list[bytes] = []
        self._has_ended = False

    def step(self, done: int, total: int) -> None:
        """Pass a step on."""
        self._listener.step(done, total)

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._listener.note(text)

    def pause(self) -> None:
        """Pass a pause on."""
        self._listener.pause()

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Store samples, and start playback once there are enough of them."""
        self._listener.sound(pcm, sample_rate, channels)
        with self._changed:
            self._chunks.append(pcm)
            self._changed.notify_all()
        self._generated_s += len(pcm) / (2 * channels * sample_rate)
        if self._has_started:
            return
        now = self._clock()
        if self._first is None:
            self._first = (now, self._generated_s)
            return
        speed = (self._generated_s - self._first[1]) / max(now - self._first[0], 1e-6)
        needed_s = prebuffer_s(self._duration, speed)
        if self._generated_s >= needed_s:
            self._has_started = True
            self._queue.add(lambda: self._play(sample_rate, channels))
        elif needed_s > self._duration / 2 and not self._has_noted:
            self._has_noted = True
            self.note(
                f"generating at {number(round(speed, 1))} x real time, too slow to play it from the start: "
                f"playback begins when {needed_s:.0f} of {number(self._duration)} s are there"
            )

    def end(self) -> None:
        """Let playback end with the samples that are there."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _play(self, sample_rate: int, channels: int) -> None:
        try:
            self._players.stream(self._all_chunks, sample_rate=sample_rate, channels=channels)
        except PlayerError as err:
            self.has_played = not err.at_once
            raise
        self.has_played = True

    def _all_chunks(self) -> Iterator[bytes]:
        """Yield all samples from the first one, each chunk as soon as it is there."""
        index = 0
        while True:
            with self._changed:
                while index == len(self._chunks) and not self._has_ended:
                    self._changed.wait()
                if index == len(self._chunks):
                    return
                chunk = self._chunks[index]
            index += 1
            yield chunk
