from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli.store import Store
from tests.support import players
from tests.support.command_line import MUSICGEN, Run
from tests.support.takes import damage, put_take

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


@pytest.fixture
def bin_(tmp_path: Path) -> Path:
    return tmp_path / "bin"


def test_takes_are_played_one_after_the_other(
    musicgen: Run, store: Store, bin_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any form of an id will do; nothing is on stdout, and each take is announced on stderr unless `-q`."""
    players.install(bin_, monkeypatch, afplay=players.WORKS)
    one, two = put_take(store, "rain\x1b[31m", seed=1), put_take(store, "snow", seed=2)
    done = musicgen("play", one.id[9:14], "last")

    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == [rf"{one.id}, 0.5 s: rain\x1b[31m", f"{two.id}, 0.5 s: snow"]
    assert players.words(bin_, "afplay") == [str(store.blob_path(take)) for take in (one, two)]
    assert musicgen("play", "-q").err == ""
    assert players.words(bin_, "afplay")[2:] == [str(store.blob_path(two))]
    assert musicgen("play", "nothing").code == 3


def test_a_set_is_played_in_its_order(musicgen: Run, store: Store, bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id stands for its takes."""
    players.install(bin_, monkeypatch, afplay=players.WORKS)
    takes = [put_take(store, seed=seed, variation_set_id="s", variation_index=2 - seed) for seed in range(3)]

    assert musicgen("play", "s").code == 0
    assert players.words(bin_, "afplay") == [str(store.blob_path(take)) for take in takes[::-1]]


def test_without_a_player_it_is_exit_8(
    musicgen: Run, store: Store, service: HTTPServer, bin_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint says what to install; `generate --play` checks this before anything is made."""
    players.install(bin_, monkeypatch)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    put_take(store)
    done = musicgen("play", "last")

    assert done.code == 8
    assert "hint: install one of" in done.err
    assert musicgen("generate", "x", "--play").code == 8
    assert service.log == []


def test_damaged_audio_is_never_played(
    musicgen: Run, store: Store, bin_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is exit 7, and no player is started."""
    players.install(bin_, monkeypatch, aplay=players.WORKS)
    damage(store, put_take(store))

    assert musicgen("play", "last").code == 7
    assert musicgen("play", "last", "--loop").code == 7
    assert not (bin_ / "aplay.words").exists()


def test_when_all_players_fail_it_is_exit_1(
    musicgen: Run, store: Store, bin_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure is reported in a line. A player that fails is not tried again, and the next one is used."""
    players.install(bin_, monkeypatch, paplay=players.FAILS, ffplay=players.COMPLAINS)
    take = put_take(store)
    done = musicgen("play", take.id)
    assert done.code == 1
    assert done.err.splitlines()[1:] == [
        r"warning: paplay failed: no such \x1b[31mdevice", "error: ffplay failed: audio open failed",
    ]  # fmt: skip

    players.install(bin_, monkeypatch, paplay=f'echo >> "$0.words"{players.FAILS}', mpv=players.WORKS)
    assert musicgen("play", take.id, take.id).code == 0
    assert players.words(bin_, "mpv").count(str(store.blob_path(take))) == 2
    assert len(players.words(bin_, "paplay")) == 1


@pytest.mark.parametrize("words", [["play", "last"], ["play", "last", "--loop"]])
def test_ctrl_c_stops_the_player(store: Store, bin_: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """It is what the help names, so it is no error: exit 130, and 0 for what has no other end. No process is left."""
    put_take(store)
    players.install(bin_, monkeypatch, aplay=players.HANGS)
    liveness = players.Liveness(bin_ / "aplay")
    child = subprocess.Popen([*MUSICGEN, *words], stderr=subprocess.PIPE, text=True)
    liveness.wait_until_started()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=players.WAIT_S)

    assert child.returncode == (0 if "--loop" in words else 130)
    assert "error" not in err
    liveness.wait_until_ended()


@pytest.mark.usefixtures("service")
def test_each_take_is_played_when_it_is_stored(
    musicgen: Run, store: Store, bin_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are played in their order; a failure to play is only a warning."""
    players.install(bin_, monkeypatch, aplay=players.WORKS)
    done = musicgen("generate", "x", "-d", "0.5", "-n", "3", "--play", "-q")

    assert done.code == 0
    assert [word for word in players.words(bin_, "aplay") if word != "-q"] == [
        str(store.blob_path(store.get(id_))) for id_ in done.lines
    ]
    players.install(bin_, monkeypatch, aplay=players.FAILS)
    done = musicgen("generate", "y", "-d", "0.5", "--play", "-q")
    assert (done.code, len(done.lines)) == (0, 1)
    assert done.err.splitlines() == [r"warning: can't play the take: aplay failed: no such \x1b[31mdevice"]


@pytest.mark.usefixtures("service")
def test_a_player_that_hangs_delays_no_take(store: Store, bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All takes are stored and printed meanwhile; Ctrl-C stops the player."""
    players.install(bin_, monkeypatch, aplay=players.HANGS)
    liveness = players.Liveness(bin_ / "aplay")
    child = subprocess.Popen(
        [*MUSICGEN, "generate", "x", "-d", "0.5", "-n", "3", "--play", "-q"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    give_up = Timer(players.WAIT_S, child.kill)  # a hanging player that delays takes leaves the pipe without a line
    give_up.start()
    ids = [child.stdout.readline().strip() for _ in range(3)]
    give_up.cancel()
    liveness.wait_until_started()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=players.WAIT_S)

    assert child.returncode == 130
    assert [store.get(id_).id for id_ in ids] == ids
    liveness.wait_until_ended()


def test_a_local_take_is_played_as_it_is_stored(
    musicgen: Run, store: Store, bin_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The player gets the samples of the blob, whether while they are made or afterwards."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    players.install(bin_, monkeypatch, aplay=players.WORKS)
    for words in (["drone"], ["--continue", "last"]):  # the second one with what it goes on from
        done = musicgen("generate", *words, "--local", "--model", "nano", "-d", "3", "--play", "-q")

        assert done.code == 0, done.err
        artifact = store.get(done.out.strip())
        played = players.words(bin_, "aplay")
        (bin_ / "aplay.words").unlink()
        if "raw" in played:  # fast enough
            sound = bin_ / "aplay.stdin"
            assert sound.read_bytes() == store.read_blob(artifact)[44:]
            sound.unlink()
        else:
            assert played == ["-q", str(store.blob_path(artifact))]
    assert artifact.duration == 6
