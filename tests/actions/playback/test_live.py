from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_cli.actions.playback.live import LivePlayback, PlaybackListener, prebuffer_s
from musicgen_cli.actions.playback.play import PlaybackQueue, Players
from musicgen_cli.audio import player
from musicgen_cli.engine.base import NullListener
from musicgen_cli.errors import PlayerError
from musicgen_cli.store import Artifact, ArtifactDraft, Store
from tests.support import fakes, players

RATE = 32_000
CHUNK = 20_480  # samples that an engine delivers at once, 0.64 s


def take(store: Store, seconds: float = 4.0) -> Artifact:
    return store.put(fakes.tone(seconds), ArtifactDraft(tags=(), prompt="x", params={}, creator="me", origin={}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


class Clock:
    """A clock that advances at each reading by the time in which an engine generates a chunk."""

    def __init__(self, speed: float) -> None:
        self.now = 0.0
        self._chunk_s = CHUNK / RATE / speed

    def __call__(self) -> float:
        self.now += self._chunk_s
        return self.now


class NoteListener(NullListener):
    """A listener that stores the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@settings(deadline=None)
@given(st.floats(0.5, 30), st.floats(0.05, 20))
def test_what_is_prebuffered_is_enough(duration: float, speed: float) -> None:
    """At any constant speed each chunk is there before it is due."""
    each = CHUNK / RATE
    ends = [min(duration, (i + 1) * each) for i in range(int(duration / each) + 1)]
    start = next(i for i, end in enumerate(ends) if end >= prebuffer_s(duration, speed))

    assert 0 < prebuffer_s(duration, speed) <= duration
    for i in range(start + 1, len(ends)):
        assert (i - start) * each / speed <= ends[i - 1]


def chunks_of(store: Store, artifact: Artifact) -> list[bytes]:
    """Return the samples of a take as an engine delivers them."""
    samples = store.read_blob(artifact)[44:]
    return [samples[start : start + 2 * CHUNK] for start in range(0, len(samples), 2 * CHUNK)]


def test_a_take_is_played_while_a_fast_engine_generates_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last chunk comes when the player has read some of the first; it gets all samples, in order, once."""
    bin_ = players.install(tmp_path / "bin", monkeypatch, aplay=players.ANSWERS)
    liveness = players.Liveness(bin_ / "aplay")
    speakers = Players(player.find(), warn=pytest.fail)
    playback = PlaybackQueue(speakers, warn=pytest.fail)
    listener = PlaybackListener(NullListener(), speakers, playback, 4.0, clock=Clock(10))
    artifact = take(store)
    *chunks, last = chunks_of(store, artifact)
    for chunk in chunks:
        listener.sound(chunk, RATE, 1)
    liveness.wait_until_started()
    listener.sound(last, RATE, 1)
    listener.end()
    playback.finish()

    assert (bin_ / "aplay.stdin").read_bytes() == store.read_blob(artifact)[44:]
    assert listener.has_played


def test_a_take_of_a_slow_engine_is_noted_and_not_played_yet(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At half of real time, playback that began at once would run out of samples."""
    players.install(tmp_path / "bin", monkeypatch, aplay=players.WORKS)
    notes = NoteListener()
    speakers = Players(player.find(), warn=pytest.fail)
    playback = PlaybackQueue(speakers, warn=pytest.fail)
    listener = PlaybackListener(notes, speakers, playback, 4.0, clock=Clock(0.5))
    for _ in range(3):
        listener.sound(bytes(2 * CHUNK), RATE, 1)
    listener.end()
    playback.finish()

    assert notes.notes == [
        "generating at 0.5 x real time, too slow to play it from the start: playback begins when 3 of 4 s are there"
    ]
    assert not listener.has_played


def play_live(store: Store, artifact: Artifact) -> list[str]:
    """Generate a take as a fast engine does, play it with what is on PATH, and return the warnings."""
    warnings: list[str] = []
    playback = LivePlayback(player.find(), store, warn=warnings.append, clock=Clock(10))
    with playback.listener(nullcontext(NullListener()), artifact.duration) as listener:
        for chunk in chunks_of(store, artifact):
            listener.sound(chunk, RATE, 1)
    playback.play_stored(artifact)
    playback.finish()
    return warnings


def test_a_take_that_was_played_while_it_was_generated_is_not_played_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The player is started once."""
    bin_ = players.install(tmp_path / "bin", monkeypatch, aplay=players.WORKS)
    warnings = play_live(store, take(store))

    assert players.words(bin_, "aplay").count("-q") == 1
    assert warnings == []


def test_where_a_player_fails_the_next_one_plays(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets all samples from the first one on."""
    bin_ = players.install(tmp_path / "bin", monkeypatch, paplay=players.FAILS, aplay=players.WORKS)
    artifact = take(store)
    warnings = play_live(store, artifact)

    assert (bin_ / "aplay.stdin").read_bytes() == store.read_blob(artifact)[44:]
    assert warnings == [r"paplay failed: no such \x1b[31mdevice"]


def test_where_no_player_can_stream_the_file_is_played(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is on macOS, and where the players that can stream fail."""
    bin_ = players.install(tmp_path / "bin", monkeypatch, afplay=players.WORKS)
    artifact = take(store)
    assert play_live(store, artifact) == []
    assert players.words(bin_, "afplay") == [str(store.blob_path(artifact))]

    players.install(bin_, monkeypatch, paplay=players.FAILS)
    warnings = play_live(store, artifact)
    assert len(players.words(bin_, "afplay")) == 2
    assert r"can't play the take: paplay failed: no such \x1b[31mdevice" in warnings


def test_that_no_player_works_is_a_warning(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generating goes on."""
    players.install(tmp_path / "bin", monkeypatch, aplay=players.FAILS)

    assert set(play_live(store, take(store))) == {r"can't play the take: aplay failed: no such \x1b[31mdevice"}


def test_a_repeated_take_has_no_gap(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its samples are played again and again in one stream."""
    bin_ = players.install(
        tmp_path / "bin", monkeypatch, aplay='exec /bin/head -c 300000 > "$0.stdin"', afplay=players.WORKS
    )
    artifact = take(store, 1.0)
    Players(player.find(), warn=pytest.fail).repeat([artifact], store)

    samples = store.read_blob(artifact)[44:]
    assert (bin_ / "aplay.stdin").read_bytes() == (samples * 5)[:300_000]
    assert not (bin_ / "afplay.words").exists()


def test_takes_of_different_formats_are_repeated_one_by_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is played as a file, until the player fails."""
    bin_ = players.install(tmp_path / "bin", monkeypatch, aplay=players.TWICE)
    stereo = store.put(fakes.tone(0.5, channels=2), ArtifactDraft(tags=(), prompt="", params={}, creator="", origin={}))
    mono = take(store, 0.5)
    with pytest.raises(PlayerError):
        Players(player.find(), warn=pytest.fail).repeat([mono, stereo], store)

    assert players.words(bin_, "aplay") == ["-q", str(store.blob_path(mono)), "-q", str(store.blob_path(stereo))]
