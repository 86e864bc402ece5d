"""Let stored takes sound: hashed first, then through the first player that works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from queue import SimpleQueue

from musicgen_cli.audio.player import Player, Playing
from musicgen_cli.audio.wav import inspect
from musicgen_cli.errors import MusicgenError, PlayerError
from musicgen_cli.store import Artifact, Store

_LOOK_S = 0.2  # Windows doesn't let Ctrl-C end a wait without a limit
_BLOCK = 1 << 14  # bytes written at once


class Players:
    """
    The players of this machine; one that fails at once is not asked again.

    Args:
        players: Best first.
        warn: Called with a line about each that failed and has a successor.
    """

    def __init__(self, players: Sequence[Player], *, warn: Callable[[str], None]) -> None:
        self._players = list(players)
        self._warn = warn
        self._changing = threading.Lock()  # guards what follows
        self._playing: Playing | None = None
        self._is_stopped = False

    @property
    def can_stream(self) -> bool:
        """Whether there is a player that plays samples while they come."""
        return any(player.samples for player in self._players)

    def play(self, artifact: Artifact, store: Store) -> None:
        """
        Play a take to its end.

        Raises:
            DamagedError: Its sound isn't what was stored; nothing was heard.
            PlayerError: No player could.
        """
        store.read_blob(artifact)
        path = store.blob_path(artifact)

        def play(player: Player) -> None:
            with self._started(lambda: player.play(path)) as playing:
                playing.wait(artifact.duration)

        self._try([*self._players], play)

    def stream(self, chunks: Callable[[], Iterable[bytes]], *, sample_rate: int, channels: int) -> None:
        """
        Play samples while they come.

        Args:
            chunks: Gives them from the beginning, for each player anew; 16-bit little-endian, channels interleaved.

        Raises:
            PlayerError: No player could.
        """

        def play(player: Player) -> None:
            with self._started(lambda: player.listen(sample_rate, channels)) as playing:
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
        Play takes one after the other, again and again; without a gap where they have one form and a player allows it.

        Raises:
            DamagedError, PlayerError: As `play`.
        """
        sounds = [store.read_blob(artifact) for artifact in artifacts]
        forms = {(info.sample_rate, info.channels, info.bits) for info in map(inspect, sounds)}
        (rate, channels, bits), *others = forms
        if bits == 16 and not others and self.can_stream:
            try:
                self.stream(lambda: _blocks(cycle(sounds)), sample_rate=rate, channels=channels)
            except PlayerError as err:
                if not err.at_once:
                    raise
            else:
                return  # somebody closed the player
        for artifact in cycle(artifacts):
            self.play(artifact, store)

    def stop(self) -> None:
        """Stop what sounds, and let nothing sound from now on."""
        with self._changing:
            self._is_stopped = True
            if self._playing is not None:
                self._playing.stop()

    def _try(self, players: Sequence[Player], play: Callable[[Player], None]) -> None:
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
        for failed, failure in failures:
            self._players.remove(failed)
            self._warn(str(failure))

    @contextmanager
    def _started(self, start: Callable[[], Playing]) -> Iterator[Playing]:
        with self._changing:
            if self._is_stopped:
                raise PlayerError("stopped", at_once=False)
            self._playing = start()
        with self._playing as playing:
            yield playing


class PlaybackQueue:
    """
    What is to be heard, one after the other, in a thread of its own: nothing waits for a player.

    Args:
        warn: Called with a line if something can't be played.
    """

    def __init__(self, players: Players, *, warn: Callable[[str], None]) -> None:
        self._players = players
        self._warn = warn
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="playback", daemon=True)
        self._thread.start()

    def add(self, play: Callable[[], None]) -> None:
        """Let this sound after what was added before."""
        self._waiting.put(play)

    def finish(self) -> None:
        """Wait until everything was heard; leaving early, as Ctrl-C does, stops it."""
        self._waiting.put(None)
        try:
            while self._thread.is_alive():
                self._thread.join(_LOOK_S)
        finally:
            self.stop()

    def stop(self) -> None:
        """Let nothing sound any more."""
        self._players.stop()

    def _run(self) -> None:
        while (play := self._waiting.get()) is not None:
            try:
                play()
            except MusicgenError as err:
                self._warn(f"it can't be heard: {err}")


def _blocks(sounds: Iterable[bytes]) -> Iterator[bytes]:
    for sound in sounds:
        info = inspect(sound)
        for start in range(info.data_start, end := info.data_start + info.data_bytes, _BLOCK):
            yield sound[start : min(start + _BLOCK, end)]
