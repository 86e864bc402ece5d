from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from musicgen_cli.audio import player
from musicgen_cli.audio.player import Player
from musicgen_cli.audio.wav import inspect
from musicgen_cli.errors import PlayerAbsentError, PlayerError
from tests.support import fakes, players

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")

TONE = fakes.tone(0.5)
SAMPLES = TONE[44:]


@pytest.fixture
def bin_(tmp_path: Path) -> Path:
    return tmp_path / "bin"


def test_the_first_one_found_is_the_best(bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they fit a system; sounddevice only where there is none."""
    players.install(bin_, monkeypatch, mpv="", aplay="", pw_play="", powershell="")

    assert [found.program for found in player.find()] == [f"{bin_}/{name}" for name in ("pw-play", "aplay", "mpv")]


def test_without_a_program_the_package_plays(bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own; without it, too, the error says what to install."""
    players.install(bin_, monkeypatch)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(PlayerAbsentError) as err:
        player.find()
    assert "alsa-utils" in (err.value.hint or "")

    monkeypatch.delitem(sys.modules, "sounddevice")
    if find_spec("sounddevice"):
        assert [found.program for found in player.find()] == [sys.executable]


def test_a_path_is_one_word_whatever_is_in_it(bin_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell sees it, and it never starts with a dash."""
    players.install(bin_, monkeypatch, aplay=players.WORKS)
    monkeypatch.chdir(tmp_path)
    path = Path("-x $(touch pwned) `touch pwned` ; {rate} 'a\" *.wav")
    path.write_bytes(TONE)
    (aplay,) = player.find()
    with aplay.play(path) as playing:
        playing.wait(0.5)

    assert players.words(bin_, "aplay") == ["-q", f"{tmp_path}/{path}"]
    assert not (tmp_path / "pwned").exists()


def test_powershell_gets_the_path_beside_its_program(tmp_path: Path) -> None:
    """Through the environment."""
    program = tmp_path / "powershell"
    program.write_text(f'#!/bin/sh\n{players.WORKS}printf %s "$MUSICGEN_SOUND" > "$0.env"\n')
    program.chmod(0o755)
    (known,) = (each for each in player._PLAYERS if each.program == "powershell")
    path = tmp_path / "$(evil)'.wav"
    with Player(str(program), known.file).play(path) as playing:
        playing.wait(0.5)

    assert not any("evil" in word for word in players.words(tmp_path, "powershell"))
    assert (tmp_path / "powershell.env").read_text() == str(path)


@pytest.mark.parametrize("name", ["pw-play", "paplay", "aplay", "ffplay", "mpv"])
def test_samples_are_heard_as_they_are_written(bin_: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Bare, with rate and channels among the words, or after the header of a WAV without end."""
    players.install(bin_, monkeypatch, **{name: players.WORKS})
    (found,) = player.find()
    with found.stream(44_100, 2) as playing:
        assert playing.write(SAMPLES[:1000])
        assert playing.write(SAMPLES[1000:])
        playing.end()
        playing.wait(0.5)

    heard = (bin_ / f"{name}.stdin").read_bytes()
    assert heard[len(heard) - len(SAMPLES) :] == SAMPLES
    told = " ".join(players.words(bin_, name)) if not found.wants_header else ""
    if found.wants_header:
        header = bytearray(heard[:44])
        header[4:8], header[40:44] = (36 + 4).to_bytes(4, "little"), (4).to_bytes(4, "little")
        info = inspect(bytes(header) + bytes(4))
        assert (info.sample_rate, info.channels, info.bits) == (44_100, 2, 16)
    else:
        assert "44100" in told
        assert heard == SAMPLES


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (players.FAILS, r"aplay failed: no such \x1b[31mdevice"),
        (players.COMPLAINS, "aplay failed: audio open failed"),
        ("exit 9", "aplay failed: exit code 9"),
    ],
)
def test_a_failure_is_told_in_its_last_words(
    bin_: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    """An exit code, or words on stderr long before the sound can be over."""
    players.install(bin_, monkeypatch, aplay=script)
    (aplay,) = player.find()
    with pytest.raises(PlayerError) as err, aplay.play(Path("x.wav")) as playing:
        playing.wait(1000)

    assert (str(err.value), err.value.exit_code) == (said, 1)


def test_a_program_that_is_none_is_explained(tmp_path: Path) -> None:
    """It can't be started."""
    (tmp_path / "aplay").write_bytes(b"\x7fELF")
    (tmp_path / "aplay").chmod(0o755)
    with pytest.raises(PlayerError, match="aplay can't be started"):
        Player(str(tmp_path / "aplay")).play(Path("x.wav"))


def test_nothing_is_left_of_a_stopped_player(bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor of what it started."""
    players.install(bin_, monkeypatch, aplay=players.HANGS)
    liveness = players.Liveness(bin_ / "aplay")
    (aplay,) = player.find()
    with aplay.play(Path("x.wav")) as playing:
        liveness.wait_until_started()
        playing.stop()
        liveness.wait_until_ended()


def test_a_player_that_ignores_signals_is_killed(bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After half a second."""
    players.install(bin_, monkeypatch, aplay=players.HANGS)
    script = (bin_ / "aplay").read_text()
    (bin_ / "aplay").write_text(script.replace("exec 3>", "trap '' TERM\nexec 3>"))
    liveness = players.Liveness(bin_ / "aplay")
    (aplay,) = player.find()
    with aplay.play(Path("x.wav")):
        liveness.wait_until_started()
    liveness.wait_until_ended()


# Real players, into nowhere.
REAL = {
    "aplay": (".asoundrc", "pcm.!default { type null }"),
    "ffplay": ("", ""),
    "mpv": (".config/mpv/mpv.conf", "ao=null"),
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_player_plays(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, and samples from standard input."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} isn't installed")
    home = Path(os.environ["HOME"])
    file, content = REAL[name]
    if file:
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text(content)
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / name).symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "x.wav").write_bytes(TONE)
    (found,) = player.find()
    with found.play(tmp_path / "x.wav") as playing:
        playing.wait(0.5)
    with found.stream(32_000, 1) as playing:
        assert playing.write(SAMPLES)
        playing.end()
        playing.wait(0.5)


@pytest.mark.skipif(not find_spec("sounddevice"), reason="needs the extra audio")
def test_the_package_plays(tmp_path: Path, bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through PortAudio and ALSA's null device."""
    try:
        import sounddevice  # noqa: F401
    except OSError:
        pytest.skip("PortAudio isn't installed")
    (Path(os.environ["HOME"]) / ".asoundrc").write_text("pcm.!default { type null }")
    players.install(bin_, monkeypatch)
    (tmp_path / "x.wav").write_bytes(fakes.tone(0.5, channels=2))
    (found,) = player.find()
    with found.play(tmp_path / "x.wav") as playing:
        playing.wait(0.5)
    (tmp_path / "x.wav").write_bytes(b"no sound")
    with pytest.raises(PlayerError, match="InvalidWavError"), found.play(tmp_path / "x.wav") as playing:
        playing.wait(0.5)
