"""
Find the audio players of this machine, start them and stop them.

Players are separate programs. They are started with a list of arguments, never through a shell, and receive a path or
samples, never text such as a prompt.
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
_AT_ONCE_S = 2.0  # a player that finds no sound device fails within this time
_STOP_S = 0.5  # between SIGTERM and SIGKILL
_POLL_S = 0.2  # on Windows, Ctrl-C can't end a wait without a time-out
_HANGS_S = 30.0  # a player that runs this much longer than the clip counts as hung


@dataclass(frozen=True, slots=True)
class Player:
    """A program that plays audio, with its arguments for a file and for 16-bit samples on standard input."""

    program: str
    file: tuple[str, ...] = (_PATH,)
    samples: tuple[str, ...] = ()  # empty: it can't play from standard input
    wants_header: bool = False  # a WAV header before the samples

    @property
    def name(self) -> str:
        """The program's name without its folder and suffix."""
        return Path(self.program).stem

    def play(self, path: Path) -> PlayerProcess:
        """
        Start playing a WAV file.

        Raises:
            PlayerError: The player can't be started.
        """
        arguments = [str(path.absolute()) if argument == _PATH else argument for argument in self.file]
        return PlayerProcess(self, arguments, {"MUSICGEN_SOUND": str(path.absolute())})

    def stream(self, sample_rate: int, channels: int) -> PlayerProcess:
        """
        Start playing samples that are passed to `PlayerProcess.write`: 16-bit little-endian, channels interleaved.

        Raises:
            PlayerError: The player can't be started.
        """
        arguments = [argument.format(rate=sample_rate, channels=channels) for argument in self.samples]
        process = PlayerProcess(self, arguments, {}, is_piped=True)
        if self.wants_header:
            process.write(streaming_header(sample_rate=sample_rate, channels=channels))
        return process


KNOWN_PLAYERS = (  # best first
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
    # The argument of -Command is code, which must not contain a path: the path is passed in the environment.
    Player(
        "powershell",
        ("-NoProfile", "-NonInteractive", "-Command",
         "$ErrorActionPreference = 'Stop'; (New-Object System.Media.SoundPlayer $env:MUSICGEN_SOUND).PlaySync()"),
    ),
)  # fmt: skip


def find() -> list[Player]:
    """
    Return the players on PATH, best first; if there is none, one that uses the package sounddevice, if installed.

    Raises:
        PlayerAbsentError: There is no player.
    """
    players = [
        Player(program, player.file, player.samples, player.wants_header)
        for player in KNOWN_PLAYERS
        if (program := shutil.which(player.program)) and (player.program != "powershell" or sys.platform == "win32")
    ]
    if not players and find_spec("sounddevice"):
        players = [Player(sys.executable, ("-P", "-m", "musicgen_cli.audio.speaker", _PATH))]
    if not players:
        raise PlayerAbsentError(
            "there is no audio player on this machine",
            hint="install one of pipewire-bin, pulseaudio-utils, alsa-utils, ffmpeg, mpv; "
            f"or `{install_command('audio')}`",
        )
    return players


class PlayerProcess:
    """A running player; used as a context manager, it is stopped at the end."""

    def __init__(self, player: Player, arguments: list[str], env: dict[str, str], *, is_piped: bool = False) -> None:
        self._name = player.name
        self._started = time.monotonic()
        self._stderr: IO[bytes] = TemporaryFile()  # noqa: SIM115  # a pipe that is not read could fill up
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own list of arguments, and a path
                [player.program, *arguments],
                stdin=subprocess.PIPE if is_piped else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                bufsize=0,  # with a buffer, `stop` would wait for the lock of a thread that is in `write`
                env=os.environ | env,
                # Ctrl-C must not reach the player: `wait` would take its end for a failure.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as err:
            self._stderr.close()
            raise PlayerError(f"{self._name} can't be started: {err.strerror}", at_once=True) from err

    def __enter__(self) -> PlayerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._process.stdin is not None:
            self.end()
        self._stderr.close()

    def write(self, data: bytes) -> bool:
        """Write more samples, waiting while the player's pipe is full; return False if it reads no more."""
        assert self._process.stdin is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
        except OSError:  # the player has ended, or was stopped
            return False
        return True

    def end(self) -> None:
        """Tell the player that there are no more samples."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            return  # the player has ended; `wait` reports how

    def wait(self, duration: float) -> None:
        """
        Wait until the player has ended.

        Args:
            duration: Length of the clip in seconds.

        Raises:
            PlayerError: The player failed or hangs.
        """
        deadline = time.monotonic() + duration + _HANGS_S
        while True:
            try:
                code = self._process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise PlayerError(f"{self._name} hangs", at_once=False) from None
            else:
                break
        elapsed_s = time.monotonic() - self._started
        stderr_line = self._last_stderr_line()
        # ffplay exits with 0 when it can't open the sound device, but it says so on stderr.
        if code or (stderr_line and elapsed_s < duration / 2):
            raise PlayerError(
                f"{self._name} failed: {stderr_line or f'exit code {code}'}", at_once=elapsed_s < _AT_ONCE_S
            )

    def stop(self) -> None:
        """Stop the player; its process has ended when this returns."""
        if self._process.poll() is not None:
            return
        self._signal("SIGTERM")
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._signal("SIGKILL")
            self._process.wait()

    def _signal(self, name: str) -> None:
        """Send a signal to the player and the processes it started: some players are scripts around others."""
        if sys.platform == "win32":
            self._process.kill()
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, getattr(signal, name))

    def _last_stderr_line(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return one_line(lines[-1])[:200] if lines else ""
