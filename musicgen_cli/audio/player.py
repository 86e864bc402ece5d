"""
Find what plays sound on this machine, start it, stop it.

Players are other programs. They are started from lists of words, never through a shell, and are given a path or
samples, never a text that somebody wrote.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from musicgen_cli.audio.wav import streaming_header
from musicgen_cli.errors import PlayerAbsentError, PlayerError
from musicgen_cli.extras import install_command
from musicgen_cli.text import one_line

_PATH = "{path}"
_AT_ONCE_S = 2.0  # a player without a sound device has given up by then
_STOP_S = 0.5
_LOOK_S = 0.2  # Windows doesn't let Ctrl-C end a wait without a limit
_HANGS_S = 30.0  # longer than its sound, and nobody knows what it is waiting for


@dataclass(frozen=True, slots=True)
class Player:
    """A program, and its words for playing a file and for playing 16-bit samples from standard input."""

    program: str
    file: tuple[str, ...] = (_PATH,)
    samples: tuple[str, ...] = ()  # none: it can't
    wants_header: bool = False  # of a WAV, before the samples

    @property
    def name(self) -> str:
        """What it is called."""
        return Path(self.program).stem

    def play(self, path: Path) -> PlayerProcess:
        """
        Start playing a WAV.

        Raises:
            PlayerError: It can't be started.
        """
        words = [str(path.absolute()) if word == _PATH else word for word in self.file]
        return PlayerProcess(self, words, {"MUSICGEN_SOUND": str(path.absolute())})

    def stream(self, sample_rate: int, channels: int) -> PlayerProcess:
        """
        Start playing what will be written to `PlayerProcess.input`.

        Raises:
            PlayerError: It can't be started.
        """
        words = [word.format(rate=sample_rate, channels=channels) for word in self.samples]
        playing = PlayerProcess(self, words, {}, is_piped=True)
        if self.wants_header:
            playing.write(streaming_header(sample_rate=sample_rate, channels=channels))
        return playing


_PLAYERS = (
    Player("pw-play", samples=("--rate", "{rate}", "--channels", "{channels}", "--format", "s16", "-")),
    Player("paplay", samples=("--raw", "--format=s16le", "--rate={rate}", "--channels={channels}")),
    Player("aplay", ("-q", _PATH), ("-q", "-t", "raw", "-f", "S16_LE", "-r", "{rate}", "-c", "{channels}", "-")),
    Player("afplay"),
    Player(
        "ffplay",
        (*(_quiet := ("-nodisp", "-autoexit", "-loglevel", "error")), "-i", _PATH),
        (*_quiet, "-f", "wav", "-i", "-"),
        wants_header=True,
    ),
    Player(
        "mpv",
        (*(_plain := ("--no-video", "--input-terminal=no", "--msg-level=all=error", "--loop-file=no")), "--", _PATH),
        (*_plain, "-"),
        wants_header=True,
    ),
    # What it is told is a program, which a path must not become part of: it comes through the environment.
    Player(
        "powershell",
        ("-NoProfile", "-NonInteractive", "-Command",
         "$ErrorActionPreference = 'Stop'; (New-Object System.Media.SoundPlayer $env:MUSICGEN_SOUND).PlaySync()"),
    ),
)  # fmt: skip


def find() -> list[Player]:
    """
    Find the players on PATH, best first; the package sounddevice, if it is installed, where there are none.

    Raises:
        PlayerAbsentError: There is nothing.
    """
    found = [
        Player(program, player.file, player.samples, player.wants_header)
        for player in _PLAYERS
        if (program := shutil.which(player.program)) and (player.program != "powershell" or sys.platform == "win32")
    ]
    if not found and find_spec("sounddevice"):
        found = [Player(sys.executable, ("-m", "musicgen_cli.audio.speaker", _PATH))]
    if not found:
        raise PlayerAbsentError(
            "there is no player on this machine",
            hint="install one of pipewire-bin, pulseaudio-utils, alsa-utils, ffmpeg, mpv; "
            f"or `{install_command('audio')}`",
        )
    return found


class PlayerProcess:
    """A player that was started, and is stopped when this is left."""

    def __init__(self, player: Player, words: list[str], env: dict[str, str], *, is_piped: bool = False) -> None:
        self._name = player.name
        self._started = time.monotonic()
        self._said: IO[bytes] = TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads could fill up
        try:
            self._process = subprocess.Popen(  # noqa: S603  # a list of words of ours, and a path
                [player.program, *words],
                stdin=subprocess.PIPE if is_piped else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                bufsize=0,  # a buffer's lock would let who stops it wait for who writes to it
                env=os.environ | env,
                # Ctrl-C is for us: whoever waits for a player that it ended would take it for one that failed.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as err:
            self._said.close()
            raise PlayerError(f"{self._name} can't be started: {err.strerror}", at_once=True) from err

    def __enter__(self) -> PlayerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._process.stdin is not None:
            self.end()
        self._said.close()

    def write(self, data: bytes) -> bool:
        """Give it more samples, as soon as it has room for them; False if it takes no more."""
        assert self._process.stdin is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
        except OSError:  # it has ended, or was stopped
            return False
        return True

    def end(self) -> None:
        """Tell it that there are no more samples."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            return  # it has ended; `wait` tells how

    def wait(self, duration: float) -> None:
        """
        Wait until it has played.

        Args:
            duration: Of what it plays, in seconds.

        Raises:
            PlayerError: It failed, or hangs.
        """
        give_up = time.monotonic() + duration + _HANGS_S
        while True:
            try:
                code = self._process.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > give_up:
                    raise PlayerError(f"{self._name} hangs", at_once=False) from None
            else:
                break
        took = time.monotonic() - self._started
        said = self._last_words()
        # ffplay says that it can't open the sound device, and exits with 0.
        if code or (said and took < duration / 2):
            raise PlayerError(f"{self._name} failed: {said or f'exit code {code}'}", at_once=took < _AT_ONCE_S)

    def stop(self) -> None:
        """Let it sound no more; nothing of it is left when this returns."""
        if self._process.poll() is not None:
            return
        self._signal("SIGTERM")
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._signal("SIGKILL")
            self._process.wait()

    def _signal(self, name: str) -> None:
        """Send a signal to the player and to what it started, for some are scripts around others."""
        if sys.platform == "win32":
            self._process.kill()
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, getattr(signal, name))

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return one_line(lines[-1])[:200] if lines else ""
