"""Plays stored takes, whose bytes are checked first, with the first player that works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from queue import SimpleQueue

from musicgen_cli.audio.player import Player, PlayerProcess
from musicgen_cli.audio.wav import inspect
from musicgen_cli.errors import MusicgenError, PlayerError
from musicgen_cli.store import Artifact, Store

_WAIT_S = 0.2  # on Windows, Ctrl-C can't interrupt a wait without a time limit
_BLOCK = 1 << 14  # bytes written at a time


class Players:
    """
    The players of this machine, tried in order; one that fails at once is not tried again.

    Args:
        players: Best first.
        warn: Called with a line about each player that failed before another one played.
    """

    def __init__(self, players: Sequence[Player], *, warn: Callable[[str], None]) -> None:
        self._players = list(players)
        self._warn = warn
        self._changing = threading.Lock()  # guards what follows
        self._playing: PlayerProcess | None = None
        self._is_stopped = False

    @property
    def can_stream(self) -> bool:
        """Whether there is a player that can play samples from a pipe."""
        return any(player.samples for player in self._players)

    def play(self, artifact: Artifact, store: Store) -> None:
        """
        Play a take to its end.

        Raises:
            DamagedError: The stored bytes are damaged; nothing was played.
            PlayerError: Every player failed.
        """
        store.read_blob(artifact)
        path = store.blob_path(artifact)

        def play(player: Player) -> None:
            with self._started(lambda: player.play(path)) as playing:
                playing.wait(artifact.duration)

        self._try([*self._players], play)

    def stream(self, chunks: Callable[[], Iterable[bytes]], *, sample_rate: int, channels: int) -> None:
        """
        Play samples as they become available.

        Args:
            chunks: Returns all samples from the first one; called once for each player that is tried. 16-bit
                little-endian, channels interleaved.
            sample_rate: In Hz.

        Raises:
            PlayerError: Every player failed.
        """

        def play(player: Player) -> None:
            with self._started(lambda: player.stream(sample_rate, channels)) as playing:
                size = 0
                for chunk in chunks():
                    if not playing.write(chunk):
                        break
                    size += len(chunk)
                playing.end()
                playing.wait(size / (2 * channels * sample_rate))

        self._try([player for player in self._players if player.samples], play)

    def repeat(self, artifacts: Sequence[Artifact], store: Store) -> None:
        """
        Play takes one after the other, again and again, until stopped.

        There are no gaps between them if all have the same format, 16-bit, and a player can stream samples.

        Raises:
            DamagedError, PlayerError: As `play`.
        """
        sounds = [store.read_blob(artifact) for artifact in artifacts]
        formats = {(info.sample_rate, info.channels, info.bits) for info in map(inspect, sounds)}
        (rate, channels, bits), *others = formats
        if bits == 16 and not others and self.can_stream:
            try:
                self.stream(lambda: _blocks(cycle(sounds)), sample_rate=rate, channels=channels)
            except PlayerError as err:
                if not err.at_once:
                    raise
            else:
                return  # the user closed the player
        for artifact in cycle(artifacts):
            self.play(artifact, store)

    def stop(self) -> None:
        """Stop playback for good."""
        with self._changing:
            self._is_stopped = True
            if self._playing is not None:
                self._playing.stop()

    def _try(self, players: Sequence[Player], play: Callable[[Player], None]) -> None:
        """Play with the first player that doesn't fail at once, and drop those that did."""
        failures: list[tuple[Player, PlayerError]] = []
        for player in players:
            try:
                play(player)
            except PlayerError as err:
                if self._is_stopped:
                    return
                if not err.at_once:
                    raise
                failures.append((player, err))
            else:
                break
        else:
            for _, failure in failures[:-1]:
                self._warn(str(failure))
            raise failures[-1][1]
        for player, failure in failures:
            self._players.remove(player)
            self._warn(str(failure))

    @contextmanager
    def _started(self, start: Callable[[], PlayerProcess]) -> Iterator[PlayerProcess]:
        with self._changing:
            if self._is_stopped:
                raise PlayerError("stopped", at_once=False)
            self._playing = start()
        with self._playing as playing:
            yield playing


class PlaybackQueue:
    """
    Plays one take after the other in a thread of its own, so that the caller never waits for a player.

    Args:
        players: Stopped with the queue.
        warn: Called with a line about each take that can't be played.
    """

    def __init__(self, players: Players, *, warn: Callable[[str], None]) -> None:
        self._players = players
        self._warn = warn
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="playback", daemon=True)
        self._thread.start()

    def add(self, play: Callable[[], None]) -> None:
        """Call `play` once everything that was added before has been played."""
        self._waiting.put(play)

    def finish(self) -> None:
        """Wait until all has been played; if the wait is interrupted, as by Ctrl-C, playback stops."""
        self._waiting.put(None)
        try:
            while self._thread.is_alive():
                self._thread.join(_WAIT_S)
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop playback for good."""
        self._players.stop()

    def _run(self) -> None:
        while (play := self._waiting.get()) is not None:
            try:
                play()
            except MusicgenError as err:
                self._warn(f"can't play the take: {err}")


def _blocks(sounds: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the samples of WAV files, a block at a time."""
    for sound in sounds:
        info = inspect(sound)
        for start in range(info.data_start, end := info.data_start + info.data_bytes, _BLOCK):
            yield sound[start : min(start + _BLOCK, end)]
