from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_cli.actions.playback.live import LivePlayback, PlaybackListener, prebuffer_s
from musicgen_cli.actions.playback.play import PlaybackQueue, Players
from musicgen_cli.audio import player
from musicgen_cli.engine.base import NullListener
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
    """Goes on by what an engine of a certain speed needs for each chunk."""

    def __init__(self, speed: float) -> None:
        self.now = 0.0
        self._each = CHUNK / RATE / speed

    def __call__(self) -> float:
        self.now += self._each
        return self.now


class Noting(NullListener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@settings(deadline=None)
@given(st.floats(0.5, 30), st.floats(0.05, 20))
def test_a_head_start_never_runs_dry(duration: float, speed: float) -> None:
    """Each chunk is there before it is due, at any speed that stays the same."""
    each = CHUNK / RATE
    ends = [min(duration, (i + 1) * each) for i in range(int(duration / each) + 1)]
    begun = next(i for i, end in enumerate(ends) if end >= prebuffer_s(duration, speed))

    assert 0 < prebuffer_s(duration, speed) <= duration
    for i in range(begun + 1, len(ends)):
        assert (i - begun) * each / speed <= ends[i - 1]


def test_a_fast_engine_is_heard_while_it_makes(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last chunk is only made when the player has had the first; it gets all of them, in order, once."""
    bin_ = players.install(tmp_path / "bin", monkeypatch, aplay=players.WORKS)
    started = threading.Event()
    speakers = Players(player.find(), warn=lambda _: None)
    stream = speakers.stream

    def watched(chunks, **form):
        def each():
            for chunk in chunks():
                yield chunk
                started.set()

        stream(each, **form)

    speakers.stream = watched  # type: ignore[method-assign]
    playback = PlaybackQueue(speakers, warn=pytest.fail)
    live = PlaybackListener(NullListener(), speakers, playback, 4.0, now=Clock(10))
    artifact = take(store)
    samples = store.read_blob(artifact)[44:]
    chunks = [samples[at : at + 2 * CHUNK] for at in range(0, len(samples), 2 * CHUNK)]
    for chunk in chunks[:-1]:
        live.sound(chunk, RATE, 1)
    assert started.wait(players.WAIT_S)
    live.sound(chunks[-1], RATE, 1)
    live.over()
    playback.finish()

    assert (bin_ / "aplay.heard").read_bytes() == samples
    assert live.has_played


def test_a_slow_engine_says_so_and_is_heard_in_the_end(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At half of real time a take can't sound at once."""
    players.install(tmp_path / "bin", monkeypatch, aplay=players.WORKS)
    listener = Noting()
    speakers = Players(player.find(), warn=pytest.fail)
    playback = PlaybackQueue(speakers, warn=pytest.fail)
    live = PlaybackListener(listener, speakers, playback, 4.0, now=Clock(0.5))
    for _ in range(3):
        live.sound(bytes(2 * CHUNK), RATE, 1)
    live.over()
    playback.finish()

    assert listener.notes == [
        "made at 0.5 x real time, too slow to be heard at once: it begins when 3 of 4 s are there"
    ]
    assert not live.has_played


def heard_of(store: Store, artifact: Artifact, warned: list[str]) -> None:
    """Make a take as an engine does that is fast, with what is on PATH."""
    sounding = LivePlayback(player.find(), store, warn=warned.append)
    with sounding.listener(nullcontext(NullListener()), artifact.duration) as listener:
        if isinstance(listener, PlaybackListener):
            listener._now = Clock(10)
        samples = store.read_blob(artifact)[44:]
        for at in range(0, len(samples), 2 * CHUNK):
            listener.sound(samples[at : at + 2 * CHUNK], RATE, 1)
    sounding.play_stored(artifact)
    sounding.finish()


def test_what_was_heard_meanwhile_is_not_heard_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One player, started once."""
    bin_ = players.install(tmp_path / "bin", monkeypatch, aplay=players.WORKS)
    heard_of(store, take(store), warned := [])

    assert players.words(bin_, "aplay").count("-q") == 1
    assert warned == []


def test_a_player_that_fails_has_a_successor(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one gets the samples from the first one on."""
    bin_ = players.install(tmp_path / "bin", monkeypatch, paplay=players.FAILS, aplay=players.WORKS)
    artifact = take(store)
    heard_of(store, artifact, warned := [])

    assert (bin_ / "aplay.heard").read_bytes() == store.read_blob(artifact)[44:]
    assert warned == [r"paplay failed: no such \x1b[31mdevice"]


def test_where_none_takes_samples_the_file_is_played(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, and where those that do have failed."""
    bin_ = players.install(tmp_path / "bin", monkeypatch, afplay=players.WORKS)
    artifact = take(store)
    heard_of(store, artifact, warned := [])
    assert players.words(bin_, "afplay") == [str(store.blob_path(artifact))]
    assert warned == []

    players.install(bin_, monkeypatch, paplay=players.FAILS)
    heard_of(store, artifact, warned)
    assert len(players.words(bin_, "afplay")) == 2
    assert r"it can't be heard: paplay failed: no such \x1b[31mdevice" in warned


def test_that_nothing_can_be_heard_is_told(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is no error."""
    players.install(tmp_path / "bin", monkeypatch, aplay=players.FAILS)
    heard_of(store, take(store), warned := [])

    assert set(warned) == {r"it can't be heard: aplay failed: no such \x1b[31mdevice"}


def test_a_repeated_take_has_no_gap(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its samples, and again, in one stream."""
    bin_ = players.install(
        tmp_path / "bin", monkeypatch, aplay='exec /bin/head -c 300000 > "$0.heard"', afplay=players.WORKS
    )
    artifact = take(store, 1.0)
    Players(player.find(), warn=pytest.fail).repeat([artifact], store)

    samples = store.read_blob(artifact)[44:]
    assert (bin_ / "aplay.heard").read_bytes() == (samples * 5)[:300_000]
    assert not (bin_ / "afplay.words").exists()


def test_takes_of_different_forms_are_repeated_one_by_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until a player fails for good."""
    bin_ = players.install(tmp_path / "bin", monkeypatch, aplay=players.TWICE)
    stereo = store.put(fakes.tone(0.5, channels=2), ArtifactDraft(tags=(), prompt="", params={}, creator="", origin={}))
    mono = take(store, 0.5)
    with pytest.raises(player.PlayerError):
        Players(player.find(), warn=pytest.fail).repeat([mono, stereo], store)

    assert players.words(bin_, "aplay") == ["-q", str(store.blob_path(mono)), "-q", str(store.blob_path(stereo))]
