"""Another user of this machine, who may do what any user may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.privileges import STRANGER
from tests.support.programs import environment

OWN_FOLDERS = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME", "MUSICGEN_STORE")


def run_as_stranger(home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """
    Run a command as a user with a home of their own.

    The process keeps the right to read every file, as Python itself may lie in a folder of root, but not to write one.
    """
    home.mkdir(mode=0o755, exist_ok=True)
    os.chown(home, STRANGER, STRANGER)
    user = ["--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups"]
    user += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = ["setpriv", *user, sys.executable, "-m", "musicgen_cli", *map(str, words)]
    env = {name: value for name, value in environment().items() if name not in OWN_FOLDERS} | {"HOME": str(home)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False, cwd="/")


def give_away(top: Path) -> None:
    """Make a folder and all that is in it another user's."""
    for path in (top, *top.rglob("*")):
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
