"""Users with less than the tests: one without a home directory, and one who may not read everything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import TOP

STRANGER = 54321  # a user id that no account has

needs_setpriv = pytest.mark.skipif(
    shutil.which("setpriv") is None or os.geteuid() != 0, reason="needs setpriv, and to be root"
)


def run_as_nobody(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """
    Run a command as a user that has no account, and so no home directory, with an empty environment.

    The process keeps the right to read every file, as Python itself may lie in a folder of root.
    """
    user = ["--reuid", str(STRANGER), "--clear-groups", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return _run(user, words, environment)


def run_with_permissions(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as root without root's right to read and write every file."""
    return _run(["--bounding-set=-dac_override,-dac_read_search"], words, {**os.environ, **environment})


def lock_away(folder: Path) -> None:
    """Make a folder one that only another user may enter."""
    os.chown(folder, STRANGER, STRANGER)
    folder.chmod(0o700)


def _run(
    options: list[str], words: tuple[object, ...], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    command = ["setpriv", *options, sys.executable, "-m", "musicgen_cli", *map(str, words)]
    env = {"PATH": os.defpath, "PYTHONPATH": str(TOP), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
