"""Programs that stand in for players: shell scripts under a player's name, the only ones on PATH."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

WAIT_S = 60  # for what happens at once, on a machine that is slow

# Notes its words and what it reads from standard input, as a player that works.
WORKS = """
for word in "$@"; do printf '%s\\n' "$word" >> "$0.words"; done
/bin/cat >> "$0.heard"
"""
FAILS = """
echo "opening the device" >&2
echo "no such $(printf '\\033')[31mdevice" >&2
exit 3
"""
# Says through a FIFO that it has heard something, then goes on as one that works.
ANSWERS = """
/bin/dd bs=100 count=1 2>/dev/null >> "$0.heard"
echo heard > "$0.fifo"
/bin/cat >> "$0.heard"
"""
# Works twice, then fails, and not at once.
TWICE = f"""
[ -e "$0.enough" ] && {{ /bin/sleep 2.1; exit 1; }}
[ -e "$0.words" ] && : > "$0.enough"
{WORKS}
"""
# As ffplay does without a sound device.
COMPLAINS = "echo 'audio open failed' >&2"
# Says that it is there through a FIFO, which is open as long as it or what it started lives; reads nothing.
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
    """Return the words that a player was started with."""
    return (folder / f"{name}.words").read_text().splitlines()


class Life:
    """The other end of what HANGS holds open."""

    def __init__(self, program: Path) -> None:
        self._fd = os.open(f"{program}.fifo", os.O_RDONLY | os.O_NONBLOCK)

    def began(self) -> None:
        """Wait until it runs."""
        assert select.select([self._fd], [], [], WAIT_S)[0]
        assert os.read(self._fd, 100)

    def ended(self) -> None:
        """Wait until nothing of it is left."""
        assert select.select([self._fd], [], [], WAIT_S)[0]
        assert os.read(self._fd, 100) == b""
        os.close(self._fd)
