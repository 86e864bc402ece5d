"""
Stand-ins for audio players: shell scripts under a player's name, the only programs on PATH.

A script at `FOLDER/aplay` notes its arguments in `FOLDER/aplay.words` and its standard input in `FOLDER/aplay.stdin`.
"""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

WAIT_S = 60  # for what takes milliseconds, on a machine that is slow

WORKS = """
for word in "$@"; do printf '%s\\n' "$word" >> "$0.words"; done
/bin/cat >> "$0.stdin"
"""
FAILS = """
echo "opening the device" >&2
echo "no such $(printf '\\033')[31mdevice" >&2
exit 3
"""
# Works, and writes to a FIFO when it has read 100 bytes.
ANSWERS = """
/bin/dd bs=100 count=1 2>/dev/null >> "$0.stdin"
echo started > "$0.fifo"
/bin/cat >> "$0.stdin"
"""
# Works twice, then fails after 2 s.
TWICE = f"""
[ -e "$0.enough" ] && {{ /bin/sleep 2.1; exit 1; }}
[ -e "$0.words" ] && : > "$0.enough"
{WORKS}
"""
# Complains and exits with 0, as ffplay does without a sound device.
COMPLAINS = "echo 'audio open failed' >&2"
# Reads nothing and doesn't end. It writes to a FIFO when it starts, which stays open until it and its children end.
HANGS = """
exec 3> "$0.fifo"
echo "$$" >&3
/bin/sleep 600
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> Path:
    """Put scripts on an otherwise empty PATH; `pw_play` becomes pw-play."""
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{script}")
        program.chmod(0o755)
        if script in {HANGS, ANSWERS}:
            os.mkfifo(f"{program}.fifo")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def words(folder: Path, name: str) -> list[str]:
    """Return the arguments of all runs of a player."""
    return (folder / f"{name}.words").read_text().splitlines()


class Liveness:
    """Waits for a player to start, if it runs HANGS or ANSWERS, and to end, if it runs HANGS, through its FIFO."""

    def __init__(self, program: Path) -> None:
        self._fd = os.open(f"{program}.fifo", os.O_RDONLY | os.O_NONBLOCK)

    def wait_until_started(self) -> None:
        """Return when the player runs."""
        assert select.select([self._fd], [], [], WAIT_S)[0]
        assert os.read(self._fd, 100)

    def wait_until_ended(self) -> None:
        """Return when the player and all its children have ended."""
        assert select.select([self._fd], [], [], WAIT_S)[0]
        assert os.read(self._fd, 100) == b""
        os.close(self._fd)
