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


def test_players_are_found_best_first(bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PowerShell is used on Windows alone, and the package sounddevice only without any other player."""
    players.install(bin_, monkeypatch, mpv="", aplay="", pw_play="", powershell="")

    assert [each.program for each in player.find()] == [f"{bin_}/{name}" for name in ("pw-play", "aplay", "mpv")]


def test_without_a_player_program_the_package_plays(bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It plays in a process of its own; without the package, the error says what to install."""
    players.install(bin_, monkeypatch)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(PlayerAbsentError) as err:
        player.find()
    assert "alsa-utils" in (err.value.hint or "")

    monkeypatch.delitem(sys.modules, "sounddevice")
    if find_spec("sounddevice"):
        assert [each.program for each in player.find()] == [sys.executable]


def test_a_path_is_one_argument_whatever_is_in_it(bin_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes through no shell, and never starts with a dash."""
    players.install(bin_, monkeypatch, aplay=players.WORKS)
    monkeypatch.chdir(tmp_path)
    path = Path("-x $(touch pwned) `touch pwned` ; {rate} 'a\" *.wav")
    path.write_bytes(TONE)
    (aplay,) = player.find()
    with aplay.play(path) as playing:
        playing.wait(0.5)

    assert players.words(bin_, "aplay") == ["-q", f"{tmp_path}/{path}"]
    assert not (tmp_path / "pwned").exists()


def test_powershell_gets_the_path_in_the_environment(tmp_path: Path) -> None:
    """The path is not part of the code that PowerShell runs."""
    program = tmp_path / "powershell"
    program.write_text(f'#!/bin/sh\n{players.WORKS}printf %s "$MUSICGEN_SOUND" > "$0.env"\n')
    program.chmod(0o755)
    (powershell,) = (each for each in player.KNOWN_PLAYERS if each.program == "powershell")
    path = tmp_path / "$(evil)'.wav"
    with Player(str(program), powershell.file).play(path) as playing:
        playing.wait(0.5)

    assert not any("evil" in word for word in players.words(tmp_path, "powershell"))
    assert (tmp_path / "powershell.env").read_text() == str(path)


@pytest.mark.parametrize("name", ["pw-play", "paplay", "aplay", "ffplay", "mpv"])
def test_a_player_reads_the_samples_that_are_written(bin_: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It gets rate and channels as arguments, or a WAV header of unknown length before the samples."""
    players.install(bin_, monkeypatch, **{name: players.WORKS})
    (only,) = player.find()
    with only.stream(44_100, 2) as playing:
        assert playing.write(SAMPLES[:1000])
        assert playing.write(SAMPLES[1000:])
        playing.end()
        playing.wait(0.5)

    stdin = (bin_ / f"{name}.stdin").read_bytes()
    assert stdin[len(stdin) - len(SAMPLES) :] == SAMPLES
    if only.wants_header:
        header = bytearray(stdin[:44])
        header[4:8], header[40:44] = (36 + 4).to_bytes(4, "little"), (4).to_bytes(4, "little")
        info = inspect(bytes(header) + bytes(4))
        assert (info.sample_rate, info.channels, info.bits) == (44_100, 2, 16)
    else:
        assert "44100" in " ".join(players.words(bin_, name))
        assert stdin == SAMPLES


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (players.FAILS, r"aplay failed: no such \x1b[31mdevice"),
        (players.COMPLAINS, "aplay failed: audio open failed"),
        ("exit 9", "aplay failed: exit code 9"),
    ],
)
def test_a_failure_is_reported_with_the_last_line_of_stderr(
    bin_: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    """A failure is an exit code other than 0, or output on stderr long before the sound can be over."""
    players.install(bin_, monkeypatch, aplay=script)
    (aplay,) = player.find()
    with pytest.raises(PlayerError) as err, aplay.play(Path("x.wav")) as playing:
        playing.wait(1000)

    assert (str(err.value), err.value.exit_code) == (message, 1)


def test_a_program_that_cannot_be_started_is_a_player_error(tmp_path: Path) -> None:
    """The operating system's error becomes a message."""
    (tmp_path / "aplay").write_bytes(b"\x7fELF")
    (tmp_path / "aplay").chmod(0o755)
    with pytest.raises(PlayerError, match="aplay can't be started"):
        Player(str(tmp_path / "aplay")).play(Path("x.wav"))


def test_a_stopped_player_leaves_no_process(bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that it started have ended, too."""
    players.install(bin_, monkeypatch, aplay=players.HANGS)
    liveness = players.Liveness(bin_ / "aplay")
    (aplay,) = player.find()
    with aplay.play(Path("x.wav")) as playing:
        liveness.wait_until_started()
        playing.stop()
        liveness.wait_until_ended()


def test_a_player_that_ignores_signals_is_killed(bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL follows SIGTERM after half a second."""
    players.install(bin_, monkeypatch, aplay=players.HANGS)
    script = (bin_ / "aplay").read_text()
    (bin_ / "aplay").write_text(script.replace("exec 3>", "trap '' TERM\nexec 3>"))
    liveness = players.Liveness(bin_ / "aplay")
    (aplay,) = player.find()
    with aplay.play(Path("x.wav")):
        liveness.wait_until_started()
    liveness.wait_until_ended()


# Real players with a configuration file that makes them play to a null device.
REAL = {
    "aplay": (".asoundrc", "pcm.!default { type null }"),
    "ffplay": ("", ""),
    "mpv": (".config/mpv/mpv.conf", "ao=null"),
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_player_plays(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It plays a file, and samples from standard input."""
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
    (only,) = player.find()
    with only.play(tmp_path / "x.wav") as playing:
        playing.wait(0.5)
    with only.stream(32_000, 1) as playing:
        assert playing.write(SAMPLES)
        playing.end()
        playing.wait(0.5)


@pytest.mark.skipif(not find_spec("sounddevice"), reason="needs the extra audio")
def test_the_package_sounddevice_plays(tmp_path: Path, bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It plays through PortAudio and ALSA's null device."""
    try:
        import sounddevice  # noqa: F401
    except OSError:
        pytest.skip("PortAudio isn't installed")
    (Path(os.environ["HOME"]) / ".asoundrc").write_text("pcm.!default { type null }")
    players.install(bin_, monkeypatch)
    (tmp_path / "x.wav").write_bytes(fakes.tone(0.5, channels=2))
    (only,) = player.find()
    with only.play(tmp_path / "x.wav") as playing:
        playing.wait(0.5)
    (tmp_path / "x.wav").write_bytes(b"no sound")
    with pytest.raises(PlayerError, match="InvalidWavError"), only.play(tmp_path / "x.wav") as playing:
        playing.wait(0.5)
