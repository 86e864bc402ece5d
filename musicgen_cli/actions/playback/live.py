"""Let a take sound while it is still being made, as soon as it can't run dry any more."""

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
_STEADY = 0.8  # of the speed that was measured, in case the rest goes slower


class LivePlayback:
    """
    What is heard of takes that are being made. That a take can't be heard costs the take nothing: it is only told.

    Args:
        players: Best first.
        store: Where the takes go.
        warn: Called with a line about what can't be heard.
    """

    def __init__(self, players: Sequence[Player], store: Store, *, warn: Callable[[str], None]) -> None:
        self._players = Players(players, warn=warn)
        self._playback = PlaybackQueue(self._players, warn=warn)
        self._store = store
        self._live: PlaybackListener | None = None

    @contextmanager
    def listener(
        self, listener: AbstractContextManager[ProgressListener], duration: float
    ) -> Iterator[ProgressListener]:
        """Let the one take that is being made sound meanwhile, where a player and the engine allow it."""
        with listener as told:
            if not self._players.can_stream:
                yield told
                return
            self._live = PlaybackListener(told, self._players, self._playback, duration)
            try:
                yield self._live
            finally:
                self._live.over()

    def play_stored(self, artifact: Artifact) -> None:
        """Let a take sound after what sounds now, unless it was heard while it was made."""

        def play() -> None:
            if self._live is None or not self._live.has_played:
                self._players.play(artifact, self._store)

        self._playback.add(play)

    def finish(self) -> None:
        """Wait until everything was heard; leaving early, as Ctrl-C does, stops it."""
        self._playback.finish()

    def stop(self) -> None:
        """Let nothing sound any more."""
        self._playback.stop()


def prebuffer_s(duration: float, speed: float) -> float:
    """
    Reckon how much of a sound must be there when it begins to be heard, so that the rest comes in time.

    Args:
        duration: Of the whole sound, in seconds.
        speed: Seconds of sound that are made in a second.
    """
    return min(duration, _BUFFER_S + duration * max(0.0, 1 - _STEADY * speed))


class PlaybackListener:
    """
    A listener that lets a take sound while it is made, and passes on what it hears.

    Nothing here waits for a player: chunks are only kept, and the playback's own thread takes them.

    Args:
        duration: Of the take that was asked for, in seconds.
        now: A clock in seconds.
    """

    def __init__(
        self,
        listener: ProgressListener,
        players: Players,
        playback: PlaybackQueue,
        duration: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._players, self._playback = players, playback
        self._duration = duration
        self._now = now
        self._first: tuple[float, float] | None = None  # when it came, and how long it is
        self._is_told = False
        self._is_begun = False
        self.has_played = False  # some of it at least
        self._made = 0.0  # s
        self._changed = threading.Condition()  # guards what follows
        self._chunks: list[bytes] = []
        self._is_over = False

    def step(self, done: int, total: int) -> None:
        """Pass a step on."""
        self._listener.step(done, total)

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._listener.note(text)

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Keep samples, and begin to play when enough of them are there."""
        self._listener.sound(pcm, sample_rate, channels)
        with self._changed:
            self._chunks.append(pcm)
            self._changed.notify_all()
        self._made += len(pcm) / (2 * channels * sample_rate)
        if self._is_begun:
            return
        now = self._now()
        if self._first is None:
            self._first = (now, self._made)
            return
        speed = (self._made - self._first[1]) / max(now - self._first[0], 1e-6)
        wanted = prebuffer_s(self._duration, speed)
        if self._made >= wanted:
            self._is_begun = True
            self._playback.add(lambda: self._play(sample_rate, channels))
        elif wanted > self._duration / 2 and not self._is_told:
            self._is_told = True
            self.note(
                f"made at {number(round(speed, 1))} x real time, too slow to be heard at once: "
                f"it begins when {wanted:.0f} of {number(self._duration)} s are there"
            )

    def over(self) -> None:
        """Expect no more samples."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _play(self, sample_rate: int, channels: int) -> None:
        try:
            self._players.stream(self._each, sample_rate=sample_rate, channels=channels)
        except PlayerError as err:
            self.has_played = not err.at_once
            raise
        self.has_played = True

    def _each(self) -> Iterator[bytes]:
        """Yield all chunks from the first one, each as soon as it is there."""
        at = 0
        while True:
            with self._changed:
                while at == len(self._chunks) and not self._is_over:
                    self._changed.wait()
                if at == len(self._chunks):
                    return
                chunk = self._chunks[at]
            at += 1
            yield chunk
